"""`python -m specdistill`, and the command itself: Ctrl-C is a stop from the first import on."""

import sys


def main() -> None:
    """Load the command line and run it."""
    try:
        from specdistill.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
