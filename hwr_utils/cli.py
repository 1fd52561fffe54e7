"""The command `hwr`: thin, one function call a subcommand.

Modules that need torch or papermill are imported where they are used: they take seconds, and half of the commands do
without.
"""

import argparse
import ast
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwr_utils import data, files, recipes
from hwr_utils.errors import DeviceError, InputError


def _train(arguments: argparse.Namespace) -> None:
    from hwr_utils import runs

    values = dict(arguments.set)
    for name in ("dataset", "architecture", "recipe", "seed"):
        if name in values:
            raise InputError(f"--set {name}={values[name]} is no value of a recipe. Use --{name} {values[name]}.")
    config = recipes.configure(arguments.dataset, arguments.architecture, arguments.recipe, arguments.seed, **values)
    places = (arguments.results_dir, arguments.data_root)
    run = runs.train_run(config, *places, arguments.device, arguments.precision, arguments.compile)
    test = run.record["test"]
    if os.environ.get("RANK", "0") == "0":  # of several processes one talks
        print(f"{run.folder}: test accuracy {test['accuracy']:.4f} ({test['correct']} of {test['n']})")


def _download(arguments: argparse.Namespace) -> None:
    dataset = data.load(arguments.name, arguments.data_root, download=True)
    print(f"{dataset.name}: {len(dataset.train_labels):,} training and {len(dataset.test_labels):,} test images")


def _import_hwdb(arguments: argparse.Namespace) -> None:
    from hwr_utils.data import hwdb

    options = hwdb.Options(arguments.size, arguments.margin, arguments.drop_others)
    manifest = hwdb.import_gnt(arguments.sources, arguments.out, options, arguments.png)
    dropped = sum(sum(source["others"].values()) for source in manifest["sources"])
    print(f"{arguments.out}: {manifest['samples']:,} samples of {len(manifest['sources'])} files", end="")
    print(f"; {dropped:,} of other characters left out" if dropped else "")


def _synthesize(arguments: argparse.Namespace) -> None:
    from hwr_utils import synthesis

    names = ("n_train", "n_test", "writers", "classes", "per_font")
    sizes = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    folder = synthesis.write(arguments.name, arguments.data_root, seed=arguments.seed, **sizes)
    print(f"{arguments.name}: drawn into {folder}")


def _describe(arguments: argparse.Namespace) -> None:
    from hwr_utils import runs

    print(f"{arguments.name}: {runs.describe_dataset(arguments.name, arguments.results_dir, arguments.data_root)}")


def _notebook(arguments: argparse.Namespace) -> None:
    from hwr_utils import notebooks

    values = {name: notebooks.parse(value) for name, value in arguments.parameter}
    print(notebooks.execute(arguments.name, values, arguments.output))


def _study(arguments: argparse.Namespace) -> None:
    from hwr_utils import study

    if arguments.list:
        absent = study.missing(arguments.profile)
        for job in study.grid(arguments.profile):
            print(f"{'missing ' if job in absent else 'recorded'}  {job.command}")
    elif page := study.study(arguments.profile):
        print(f"The book of your own runs is ready. Open {page}")


def _benchmark(arguments: argparse.Namespace) -> None:
    if arguments.what == "realism":
        from hwr_utils import realism

        if arguments.real is None:
            raise InputError("realism compares with real handwriting. Give its GNT files: --real SOURCE.")
        wanted = (arguments.real, arguments.note, arguments.writers, arguments.seed, arguments.device)
        print(realism.table(realism.measure(*wanted, arguments.results_dir)))
        return
    from hwr_utils import benchmark

    measure = {"training": benchmark.training, "attempts": benchmark.attempts}[arguments.what]
    places = (arguments.results_dir, arguments.data_root)
    record = measure(arguments.images, arguments.rounds, arguments.device, arguments.architecture, *places)
    print(benchmark.table(record))


def _quantize(arguments: argparse.Namespace) -> None:
    if (arguments.run_folder is None) == (arguments.untrained is None):
        raise InputError("quantize takes the folder of a run, or --untrained ARCHITECTURE: one of the two.")
    from hwr_utils import quantization

    formats = {"formats": arguments.formats} if arguments.formats else {}
    if arguments.untrained:
        record = quantization.untrained_sizes(arguments.untrained, results_dir=arguments.results_dir, **formats)
    else:
        places = {"images": arguments.images, "data_root": arguments.data_root}
        record = quantization.quantize(arguments.run_folder, **formats, **places)
    print(quantization.table(record))


def _evaluate(arguments: argparse.Namespace) -> None:
    from hwr_utils import transfer

    print(transfer.text(transfer.evaluate(arguments.run_folder, arguments.on, arguments.images, arguments.data_root)))


def _predict(arguments: argparse.Namespace) -> None:
    from hwr_utils import prediction

    answers = []
    for found in prediction.predict(arguments.pictures, arguments.model, arguments.top_k):
        candidates = [{"character": one.character, "score": round(one.score, 6)} for one in found.candidates]
        answers.append({"file": found.picture, "likely": found.likely, "candidates": candidates})
        if not arguments.json:
            told = ", ".join(f"{one.character} {one.score:.2%}" for one in found.candidates)
            print(f"{found.picture}:", told if found.likely else f"no likely character ({told})")
    if arguments.json:
        print(json.dumps(answers, ensure_ascii=False, indent=1))


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() else text


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, for instance epochs=3")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that literal_eval raises
        return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hwr", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    root = argparse.ArgumentParser(add_help=False)
    root.add_argument("--data-root", type=Path, default=data.default_root(), help="default: $HWR_DATA_ROOT, else data/")
    results = argparse.ArgumentParser(add_help=False)
    results.add_argument("--results-dir", type=Path, default=files.REPOSITORY / "results", help="default: results/")

    train = commands.add_parser(
        "train", parents=[root, results], help="train one run, or go on with it, and write its record"
    )
    train.add_argument("--dataset", required=True, help="a name of the catalogue, or custom:NAME")
    train.add_argument("--architecture", default="simple_cnn")
    train.add_argument("--recipe", default="paper")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--set",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a value of the recipe, or an option of the architecture",
    )
    train.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    train.add_argument("--precision", help="float32, bfloat16 or float16; default: bfloat16 on CUDA, float32 elsewhere")
    train.add_argument(
        "--compile", metavar="MODE", help="torch.compile's mode, for instance default or reduce-overhead"
    )
    train.set_defaults(run=_train)

    download = commands.add_parser("download", parents=[root], help="get a published dataset, and check it")
    download.add_argument("name", metavar="NAME", help="mnist, emnist-letters or kmnist")
    download.set_defaults(run=_download)

    synthesize = commands.add_parser(
        "synthesize", parents=[root], help="draw a dataset: as IDX files, hanzi as GNT files"
    )
    synthesize.add_argument("name", metavar="NAME", help="digits-, letters-, hiragana- or hanzi-synthetic")
    synthesize.add_argument("--seed", type=int, default=0)
    synthesize.add_argument("--n-train", type=int, help="training images")
    synthesize.add_argument("--n-test", type=int, help="test images")
    synthesize.add_argument("--writers", type=int, help="of hanzi: how many draw each character once; default: 300")
    synthesize.add_argument(
        "--classes", type=_number, help="of hanzi: how many characters, or which; default: all 3,755 of level 1"
    )
    synthesize.add_argument("--per-font", type=int, help="of hanzi: how many writers copy each font; default: 0")
    synthesize.set_defaults(run=_synthesize)

    hwdb = commands.add_parser(
        "import-hwdb", help="make arrays of CASIA-HWDB's GNT files: dark on light becomes white on black, of one size"
    )
    hwdb.add_argument("sources", nargs="+", metavar="SOURCE", help="a .gnt file, a folder of them, or a zip archive")
    hwdb.add_argument("--out", type=Path, required=True, help="the folder to make; an import that was stopped goes on")
    hwdb.add_argument("--size", type=int, default=56, help="pixels a side")
    hwdb.add_argument("--margin", type=int, default=3, help="pixels left free on each side of the ink")
    hwdb.add_argument("--drop-others", action="store_true", help="leave out all but the 3,755 level-1 characters")
    hwdb.add_argument(
        "--png", type=Path, metavar="DIR", help="write the images as PNG files, too, a folder a character"
    )
    hwdb.set_defaults(run=_import_hwdb)

    describe = commands.add_parser(
        "describe", parents=[root, results], help="count and measure a dataset, as a record that pages show"
    )
    describe.add_argument("name", metavar="NAME", help="a name of the catalogue, custom:NAME, or emnist-letters-labels")
    describe.set_defaults(run=_describe)

    notebook = commands.add_parser("notebook", help="run a notebook with other parameters, checked")
    notebook.add_argument("name", metavar="NAME", help="of notebooks/, or a path")
    notebook.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    notebook.add_argument("--output", type=Path, help="default: _build/notebooks/NAME-PARAMETERS.ipynb")
    notebook.set_defaults(run=_notebook)

    study = commands.add_parser("study", help="do what a profile of config/ asks for, and go on where that stopped")
    study.add_argument("--profile", default="quick", help="quick (the default) or paper")
    study.add_argument("--list", action="store_true", help="only show which runs are recorded, and their commands")
    study.set_defaults(run=_study)

    quantize = commands.add_parser(
        "quantize", parents=[root, results], help="write a run's network as TFLite and ONNX files, and measure them"
    )
    quantize.add_argument("run_folder", nargs="?", metavar="RUN", help="the folder of a run that has its weights")
    quantize.add_argument(
        "--formats", nargs="+", metavar="FORMAT", help="for instance dynamic_int8.tflite; default: all"
    )
    quantize.add_argument("--images", type=int, help="measure on so many test images, stratified; default: all")
    quantize.add_argument(
        "--untrained", metavar="ARCHITECTURE", help="instead of a run: sizes alone, with random weights, as a record"
    )
    quantize.set_defaults(run=_quantize)

    evaluate = commands.add_parser(
        "evaluate", parents=[root], help="test a run on another dataset, as a record: one of drawn images on real ones"
    )
    evaluate.add_argument("run_folder", metavar="RUN", help="the folder of a run that `hwr quantize` has been given")
    evaluate.add_argument("--on", required=True, metavar="DATASET", help="its test images; a name of the catalogue")
    evaluate.add_argument("--images", type=int, help="take so many of them, stratified; default: all")
    evaluate.set_defaults(run=_evaluate)

    predict = commands.add_parser("predict", help="read characters in pictures; needs LiteRT, and no torch")
    predict.add_argument("pictures", nargs="+", metavar="IMAGE", help="PNG or JPEG files, a character each")
    predict.add_argument("--model", required=True, help="a .tflite file; the model.json of its run lies beside it")
    predict.add_argument("--top-k", type=int, default=10, help="candidates for each picture")
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.set_defaults(run=_predict)

    benchmark = commands.add_parser(
        "benchmark", parents=[root, results], help="measure speed, or how real drawn hanzi are, as a record"
    )
    benchmark.add_argument(
        "what",
        choices=["training", "attempts", "realism"],
        help="training: our loop against the usual one; attempts: ours in other precisions, and compiled; "
        "realism: drawn hanzi against real ones",
    )
    benchmark.add_argument("--real", type=Path, metavar="SOURCE", help="realism: GNT files, as of import-hwdb")
    benchmark.add_argument("--note", default="", help="realism: what has changed in the drawings")
    benchmark.add_argument("--writers", type=int, default=100, help="realism: drawn samples of each character")
    benchmark.add_argument("--seed", type=int, default=0, help="realism: of the writers and the networks")
    benchmark.add_argument("--architecture", default="simple_cnn")
    benchmark.add_argument("--images", type=int, help="images a round; default: 12,800 on a CPU, 60,000 on a GPU")
    benchmark.add_argument("--rounds", type=int, default=5, help="timed rounds of each loop")
    benchmark.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    benchmark.set_defaults(run=_benchmark)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; return 0, 2 after bad input, which is told in one message, or 130 where it was stopped."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (InputError, FloatingPointError, DeviceError) as error:
        print(f"hwr: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hwr: stopped. The same command goes on from here.", file=sys.stderr)
        return 130
    return 0
