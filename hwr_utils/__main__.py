"""Run `hwr` as `python -m hwr_utils`, where the package is not installed."""

import sys

try:
    from hwr_utils.cli import main
except ModuleNotFoundError as error:
    sys.exit(f"hwr: error: {error.name} is not installed. Run `pip install .` here, or use the Python in .venv/bin.")

sys.exit(main())
