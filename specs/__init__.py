"""The policy: documents, loader, rendering, diff; the packaged libraries are the folders beside this file."""
