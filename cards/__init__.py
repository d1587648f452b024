"""From numbers to a report, a dataset card and a release: the only home of writes to the Hugging Face Hub."""
