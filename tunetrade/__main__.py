"""`python -m tunetrade` is the command `tunetrade`."""

import sys

from tunetrade.cli import main

sys.exit(main())
