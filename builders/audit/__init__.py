"""The human audit: which rows people see, how they get to Argilla and back, and what their answers say."""
