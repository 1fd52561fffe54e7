"""The command `hwr`: thin, one function call a subcommand."""

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwr_utils import data, recipes, runs
from hwr_utils.errors import InputError


def _train(arguments: argparse.Namespace) -> None:
    config = recipes.configure(
        arguments.dataset, arguments.architecture, arguments.recipe, arguments.seed, **dict(arguments.set)
    )
    run = runs.train_run(config, arguments.results_dir, arguments.data_root, arguments.device)
    test = run.record["test"]
    print(f"{run.folder}: test accuracy {test['accuracy']:.4f} ({test['correct']} of {test['n']})")


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, for instance epochs=3")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hwr", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train one run, or go on with it, and write its record")
    train.add_argument("--dataset", required=True, help="a name of the catalogue, or custom:NAME")
    train.add_argument("--architecture", default="simple_cnn")
    train.add_argument("--recipe", default="paper")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--set", type=_assignment, action="append", default=[], metavar="NAME=VALUE", help="change a value of the recipe"
    )
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    train.add_argument("--data-root", type=Path, default=data.default_root(), help="default: $HWR_DATA_ROOT, else data/")
    train.add_argument("--results-dir", type=Path, default=runs.RESULTS_DIR)
    train.set_defaults(run=_train)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return 0, or 2 after bad input, which is told in one message."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (InputError, FloatingPointError) as error:
        print(f"hwr: error: {error}", file=sys.stderr)
        return 2
    return 0
