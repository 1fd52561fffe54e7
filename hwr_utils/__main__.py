"""Run `hwr` as `python -m hwr_utils`, where the package is not installed."""

import sys

from hwr_utils.cli import main

sys.exit(main())
