"""From a dataset ID to TRL trainers: thin, pinned, and checked on the rendered tokens."""
