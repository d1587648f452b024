"""`python -m specdistill`: the same as the command."""

from specdistill.cli.app import main

if __name__ == "__main__":
    main()
