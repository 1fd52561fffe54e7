"""The command `hwr`: thin, one function call a subcommand.

Modules that take seconds to import, by torch or papermill, are imported where they are used.
"""

import argparse
import io
import json
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hwr_utils import data, files, notebooks, recipes
from hwr_utils.errors import DeviceError, InputError


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, for instance epochs=3")
    return name, notebooks.parse(value)


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
    manifest = hwdb.import_gnt(arguments.sources, arguments.out, options)
    dropped = sum(sum(source["others"].values()) for source in manifest["sources"])
    print(f"{arguments.out}: {manifest['samples']:,} samples of {len(manifest['sources'])} files", end="")
    print(f"; {dropped:,} of other characters left out" if dropped else "")


def _import_images(arguments: argparse.Namespace) -> None:
    from hwr_utils.data import convert

    counts = convert.import_images(arguments.sources, arguments.out)
    print(f"{arguments.out}: {counts['train']:,} training and {counts['test']:,} test images")


def _synthesize(arguments: argparse.Namespace) -> None:
    from hwr_utils import synthesis

    names = ("n_train", "n_test", "writers", "classes", "per_font")
    sizes = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    folder = synthesis.write(arguments.name, arguments.data_root, seed=arguments.seed, **sizes)
    print(f"{arguments.name}: drawn into {folder}")


def _describe(arguments: argparse.Namespace) -> None:
    from hwr_utils import facts

    print(f"{arguments.name}: {facts.record(arguments.name, arguments.results_dir, arguments.data_root)}")


def _compare(arguments: argparse.Namespace) -> None:
    from hwr_utils import evaluation, records, results

    runs = [results.Run(folder, records.read(folder / "record.json")) for folder in arguments.runs]
    first, second = results.paired(*runs)
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = evaluation.paired_interval(lost, won, len(first))
    print(f"{runs[0].folder.name}: {first.mean():.2%} of {len(first):,} images")
    print(f"{runs[1].folder.name}: {second.mean():.2%} of the same images; {won} gained, {lost} lost")
    print(
        f"difference: {100 * (second.mean() - first.mean()):+.2f} points, 95 % interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}. It speaks of these two networks; whether the methods differ takes several seeds."
    )


def _notebook(arguments: argparse.Namespace) -> None:
    values = {name: notebooks.parse(value) for name, value in arguments.parameter}
    figures = "svg" if arguments.svg else "png"
    if arguments.each is None:
        print(notebooks.execute(arguments.name, values, arguments.output, figures=figures))
        return
    parameter, *each = arguments.each
    folder = arguments.output or notebooks.OUTPUT / Path(arguments.name).stem
    notebooks.execute_each(arguments.name, parameter, each, values, folder, figures)
    print(folder)


def _runs(arguments: argparse.Namespace) -> None:
    from hwr_utils import results

    if arguments.missing:
        from hwr_utils import grid

        for job in grid.missing(arguments.missing, arguments.results_dir):
            print(job.command)
        return
    table = results.frame(arguments.results_dir)
    for name in arguments.filter:
        table = table[table.index.str.contains(name, regex=False)]
    if arguments.format:
        print(results.as_text(table, arguments.format), end="")
    elif arguments.remove:
        for folder in table["folder"] if arguments.filter else []:
            shutil.rmtree(folder)
            print(f"{folder}: removed")
    elif len(table):
        print(table[["accuracy", "n", "seconds", "created"]].to_string())


def _quantize(arguments: argparse.Namespace) -> None:
    if (arguments.run_folder is None) == (arguments.untrained is None):
        raise InputError("quantize takes the folder of a run, or --untrained ARCHITECTURE: one of the two.")
    from hwr_utils.device import quantization

    formats = {"formats": arguments.formats} if arguments.formats else {}
    if arguments.untrained:
        record = quantization.untrained_sizes(arguments.untrained, results_dir=arguments.results_dir, **formats)
    else:
        places = {"images": arguments.images, "data_root": arguments.data_root}
        record = quantization.quantize(arguments.run_folder, **formats, **places)
    print(quantization.text(record))


def _evaluate(arguments: argparse.Namespace) -> None:
    from hwr_utils.device import transfer

    print(transfer.text(transfer.evaluate(arguments.run_folder, arguments.on, arguments.images, arguments.data_root)))


def _predict(arguments: argparse.Namespace) -> None:
    from hwr_utils.device import recognizer

    answers = []
    try:
        for found in recognizer.predict(arguments.pictures, arguments.model, arguments.top_k):
            candidates = [{"character": one, "score": round(score, 6)} for one, score in found.candidates]
            flags = {"likely": found.likely, "several": found.several}
            answers.append({"file": found.picture, **flags, "candidates": candidates})
            if not arguments.json:
                told = ", ".join(f"{one} {score:.2%}" for one, score in found.candidates)
                fault = "several characters, where one was expected" if found.several else "no likely character"
                print(f"{found.picture}:", told if found.likely else f"{fault} ({told})")
    finally:  # also where some pictures could not be read
        if arguments.json and answers:
            print(json.dumps(answers, ensure_ascii=False, indent=1))


def _completion(arguments: argparse.Namespace) -> None:
    import shtab

    parser = _parser()
    groups = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    for action in (action for group in groups.values() for action in group._actions):
        if action.type is Path or action.metavar in ("IMAGE", "SOURCE") or action.dest == "model":
            action.complete = shtab.FILE
    print(shtab.complete(parser, arguments.shell))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hwr", description="Train, measure and use readers of handwriting.", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    root, results = argparse.ArgumentParser(add_help=False), argparse.ArgumentParser(add_help=False)
    root.add_argument("--data-root", type=Path, default=data.default_root(), help="default: $HWR_DATA_ROOT, else data/")
    results.add_argument("--results-dir", type=Path, default=files.REPOSITORY / "results", help="default: results/")

    def command(
        run: Callable[[argparse.Namespace], None], summary: str, *places: argparse.ArgumentParser
    ) -> Callable[..., argparse.Action]:
        """Add a subcommand that calls `run` and has its name, and return what adds arguments to it."""
        made = commands.add_parser(run.__name__[1:].replace("_", "-"), parents=places, help=summary, allow_abbrev=False)
        made.set_defaults(run=run)
        return made.add_argument

    add = command(_train, "train one run, or go on with it, and write its record", root, results)
    add("--dataset", required=True, help="a name of the catalogue, or custom:NAME")
    add("--architecture", default="simple_cnn")
    add("--recipe", default="paper")
    add("--seed", type=int, default=0)
    add("--set", type=_assignment, action="append", default=[], metavar="NAME=VALUE", help="of the recipe or network")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--precision", help="float32, bfloat16 or float16; default: bfloat16 on CUDA, float32 elsewhere")
    add("--compile", metavar="MODE", help="torch.compile's mode, for instance default or reduce-overhead")

    add = command(_download, "get a published dataset, and check it", root)
    add("name", metavar="NAME", help="mnist, emnist-letters or kmnist")

    add = command(
        _import_hwdb, "make arrays of CASIA-HWDB's GNT files: dark on light becomes white on black, of one size"
    )
    add("sources", nargs="+", metavar="SOURCE", help="a .gnt file, a folder of them, or a zip archive")
    add("--out", type=Path, required=True, help="the folder to make")
    add("--size", type=int, default=56, help="pixels a side")
    add("--margin", type=int, default=3, help="pixels left free on each side of the ink")
    add("--drop-others", action="store_true", help="leave out all but the 3,755 level-1 characters")

    add = command(_import_images, "make IDX files of CSV, npz, Parquet or class folders")
    add("sources", nargs="+", metavar="SOURCE", help="a file of these kinds, or a folder of them")
    add("--out", type=Path, required=True, help="the folder of the set, such as data/custom/NAME")

    add = command(_synthesize, "draw a dataset: as IDX files, hanzi as GNT files", root)
    add("name", metavar="NAME", help="digits-, letters-, hiragana- or hanzi-synthetic")
    add("--seed", type=int, default=0)
    add("--n-train", type=int, help="training images")
    add("--n-test", type=int, help="test images")
    add("--writers", type=int, help="of hanzi: how many draw each character once; default: 300")
    add("--classes", type=notebooks.parse, help="of hanzi: how many characters, or which; default: all of level 1")
    add("--per-font", type=int, help="how many hands copy each handwriting font; default: 0")

    add = command(_describe, "count and measure a dataset, as a record that pages show", root, results)
    add("name", metavar="NAME", help="a name of the catalogue, custom:NAME, or emnist-letters-labels")

    add = command(_compare, "compare two runs on the test images that both have read")
    add("runs", nargs=2, type=Path, metavar="RUN", help="the folders of two runs on the same test images")

    add = command(_notebook, "run a notebook with other parameters, checked")
    add("name", metavar="NAME", help="of notebooks/, or a path")
    add("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    add("--output", type=Path, help="default: _build/notebooks/NAME-PARAMETERS.ipynb; with --each a folder")
    add("--each", nargs="+", metavar=("NAME", "VALUE"), help="run it for each value of a parameter, in one process")
    add("--svg", action="store_true", help="draw the figures as SVG, which stays sharp in print, instead of PNG")

    add = command(_runs, "list the recorded runs, or those that a profile lacks", results)
    add("filter", nargs="*", metavar="TEXT", help="only runs whose name holds it")
    add("--missing", metavar="PROFILE", help="the commands of the runs that a file of config/ asks for")
    add("--format", choices=("csv", "latex"), help="print a table for other programs: of everything, or for a paper")
    add("--remove", action="store_true", help="remove the folders of the runs that TEXT names")

    add = command(_quantize, "write a run's network as TFLite and ONNX files, and measure them", root, results)
    add("run_folder", nargs="?", metavar="RUN", help="the folder of a run that has its weights")
    add("--formats", nargs="+", metavar="FORMAT", help="for instance dynamic_int8.tflite; default: all")
    add("--images", type=int, help="measure on so many test images, stratified; default: all")
    add("--untrained", metavar="ARCHITECTURE", help="instead of a run: record sizes alone, with random weights")

    add = command(_evaluate, "test a run on another dataset, as a record: one of drawn images on real ones", root)
    add("run_folder", metavar="RUN", help="the folder of a run that `hwr quantize` has been given")
    add("--on", required=True, metavar="DATASET", help="its test images; a name of the catalogue")
    add("--images", type=int, help="take so many of them, stratified; default: all")

    add = command(_predict, "read characters in pictures; needs LiteRT, and no torch")
    add("pictures", nargs="+", metavar="IMAGE", help="pictures of one character each, folders of them, or patterns")
    add("--model", required=True, help="a .tflite file; the model.json of its run lies beside it")
    add("--top-k", type=int, default=10, help="candidates for each picture")
    add("--json", action="store_true", help="print JSON")

    add = command(_completion, "print a script with which a shell completes commands, options and files")
    add("shell", choices=("bash", "zsh"), help="write it where yours looks for such scripts")

    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        0; 2 after bad input or an output that cannot be written, told in one message; 130 where it was stopped.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that a terminal does not have are told by their number
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    warnings.formatwarning = lambda message, *_, **__: f"hwr: warning: {message}\n"
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except (InputError, FloatingPointError, DeviceError) as error:
        print(f"hwr: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if str(error.name).startswith("hwr_utils"):
            raise
        print(f"hwr: error: {error.name} is not installed. It is in `pip install '.[book,device]'`.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("hwr: stopped. The same command goes on from here; an import or a drawing starts again.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again when it ends
        print(f"hwr: error: {error.filename or 'the output'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    return 0
