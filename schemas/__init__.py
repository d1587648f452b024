"""The contract of every row and file, versioned. Imports nothing of the other rooms."""
