"""`python -m rethread` is `rethread`."""

import sys

from rethread.cli import main

if __name__ == "__main__":
    sys.exit(main())
