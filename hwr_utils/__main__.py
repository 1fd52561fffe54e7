"""Run `hwr`, also as `python -m hwr_utils` where the package is not installed."""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Return what `cli.main` does, 2 where a library is missing, and 130 if stopped, also while they are loaded."""
    try:
        from hwr_utils import cli

        return cli.main(argv)
    except ModuleNotFoundError as error:
        told = "Run `pip install .` here, with '.[book,device]' for all commands, or use the Python in .venv/bin"
        print(f"hwr: error: {error.name} is not installed. {told}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        told = "The same command goes on from the last checkpoint; other work starts again."
        print(f"hwr: stopped. {told}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
