"""What runs inside the Argilla server's own environment: plain scripts, which nothing of ours imports."""
