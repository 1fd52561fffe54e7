"""Run `hwr`, also as `python -m hwr_utils` where the package is not installed."""

import sys


def main() -> int:
    """Return what `cli.main` does, 1 where a library is missing, and 130 if stopped while they are loaded."""
    try:
        from hwr_utils import cli
    except ModuleNotFoundError as error:
        told = f"{error.name} is not installed. Run `pip install .` here, or use the Python in .venv/bin."
        print(f"hwr: error: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hwr: stopped.", file=sys.stderr)
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
