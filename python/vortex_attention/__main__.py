"""`python -m vortex_attention` and the console script `vortex`."""

import sys

from vortex_attention.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
