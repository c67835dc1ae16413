"""``python -m segic_d2``: the command line ``segic``."""

import sys

from segic_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
