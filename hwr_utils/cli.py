"""The command `hwr`: thin, one function call a subcommand; the functions take what the parser names so.

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
from hwr_utils.errors import DeviceError, InputError, printable


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, for instance epochs=3")
    return name, notebooks.parse(value)


def _run_folder(text: str) -> Path:
    return Path(text) if os.path.exists(text) else files.REPOSITORY / "results" / text


def _train(
    results_dir: Path, data_root: Path, device: str, precision: str | None, compile: str | None, set: Any, **run: Any
) -> None:
    from hwr_utils import runs

    made = runs.train_run(recipes.configure(**run | dict(set)), results_dir, data_root, device, precision, compile)
    test = made.record["test"]
    if os.environ.get("RANK", "0") == "0":  # of several processes one talks
        print(f"{made.folder}: test accuracy {test['accuracy']:.4f} ({test['correct']} of {test['n']})")


def _download(name: str, data_root: Path) -> None:
    dataset = data.load(name, data_root, download=True)
    print(f"{name}: {len(dataset.train_labels):,} training and {len(dataset.test_labels):,} test images")


def _import_hwdb(sources: list[str], out: Path, **options: Any) -> None:
    from hwr_utils.data import hwdb

    manifest = hwdb.import_gnt(sources, out, hwdb.Options(**options))
    dropped = sum(sum(source["others"].values()) for source in manifest["sources"])
    told = f"{manifest['samples']:,} samples of {len(manifest['sources'])} files"
    print(f"{out}: {told}; {dropped:,} of other characters left out")


def _import_images(sources: list[str], out: Path) -> None:
    from hwr_utils.data import convert

    counts = convert.import_images(sources, out)
    print(f"{out}: {counts['train']:,} training and {counts['test']:,} test images")


def _synthesize(name: str, data_root: Path, seed: int, **sizes: Any) -> None:
    from hwr_utils import synthesis

    given = {name: value for name, value in sizes.items() if value is not None}
    print(f"{name}: drawn into {synthesis.write(name, data_root, seed=seed, **given)}")


def _describe(name: str, results_dir: Path, data_root: Path) -> None:
    from hwr_utils import facts

    print(f"{name}: {facts.record(name, results_dir, data_root)}")


def _compare(runs: list[Path]) -> None:
    from hwr_utils import evaluation, results

    first, second = results.paired(*map(results.open_run, runs))
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = evaluation.paired_interval(lost, won, len(first))
    print(f"{runs[0].name}: {first.mean():.2%} of {len(first):,} images")
    print(f"{runs[1].name}: {second.mean():.2%} of the same images; {won} gained, {lost} lost")
    print(
        f"difference: {100 * (second.mean() - first.mean()):+.2f} points, 95 % interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}. It speaks of these two networks; whether the methods differ takes several seeds."
    )


def _notebook(name: str, parameter: list[list[str]], output: Path | None, each: list[str] | None, svg: bool) -> None:
    values, figures = {name: notebooks.parse(value) for name, value in parameter}, "svg" if svg else "png"
    if each is None:
        print(notebooks.execute(name, values, output, figures=figures))
    else:
        folder = output or notebooks.OUTPUT / Path(name).stem
        notebooks.execute_each(name, each[0], each[1:], values, folder, figures)
        print(folder)


def _runs(results_dir: Path, filter: list[str], missing: str | None, format: str | None, remove: bool) -> None:
    from hwr_utils import grid, results

    if missing:
        for job in grid.missing(missing, results_dir):
            print(job.command)
        return
    table = results.frame(results_dir)
    for name in filter:
        table = table[[name in run for run in table.index]]
    if table.empty:
        raise InputError(f"{results_dir} holds no run{' that is called so' if filter else ''}.")
    if format:
        print(results.as_text(table, format), end="")
    elif remove:
        for folder in table["folder"] if filter else []:
            shutil.rmtree(folder)
            print(f"{folder}: removed")
    else:
        print(table[["accuracy", "n", "seconds", "created"]].to_string())


def _quantize(
    run_folder: Path, formats: list[str] | None, images: int | None, data_root: Path, calibrate_on: str | None
) -> None:
    import pandas as pd

    from hwr_utils.device import export, quantization

    record = quantization.quantize(run_folder, formats or export.FORMATS, images, data_root, calibrate_on)
    table, n = pd.json_normalize(record["formats"]).set_index("format"), record["test_images"]
    print(table.filter(["bytes", "test.accuracy", "change", "latency.p50_ms"]).to_string())
    print(f"on {n['n']:,} of {n['of']:,} test images. {run_folder / 'quantization.json'} says more, also of the scores")


def _evaluate(run_folder: Path, on: str, images: int | None, data_root: Path) -> None:
    from hwr_utils.device import transfer

    found = transfer.evaluate(run_folder, on, images, data_root)
    print(
        f"{run_folder.name} on {on}: test accuracy {found['accuracy']:.4f} ({found['correct']:,} of {found['n']:,}; "
        f"95 % interval {found['low']:.4f} to {found['high']:.4f}), among the best ten {found['top10']:.4f}; "
        f"{found['dataset']['left_out']:,} images of other characters left out"
    )


def _predict(pictures: list[str], model: str, top_k: int, json_: bool) -> None:
    from hwr_utils.device import recognizer

    answers = []
    try:
        for found in recognizer.predict(pictures, model, top_k):
            candidates = [{"character": one, "score": round(score, 6)} for one, score in found.candidates]
            flags = {"likely": found.likely, "several": found.several}
            answers.append({"file": found.picture, **flags, "candidates": candidates})
            if not json_:
                told = ", ".join(f"{one} {score:.2%}" for one, score in found.candidates)
                fault = "several characters, where one was expected" if found.several else "no likely character"
                print(printable(f"{found.picture}: {told if found.likely else f'{fault} ({told})'}"))
    finally:  # also where some pictures could not be read
        if json_ and answers:
            print(json.dumps(answers, ensure_ascii=False, indent=1))


def _completion(shell: str) -> None:
    import shtab

    parser = _parser()
    groups = next(action.choices for action in parser._actions if isinstance(action.choices, dict))
    for action in (action for group in groups.values() for action in group._actions):
        if action.type in (Path, _run_folder) or action.metavar in ("IMAGE", "SOURCE") or action.dest == "model":
            action.complete = shtab.FILE
    print(shtab.complete(parser, shell))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hwr", description="Train, measure and use readers of handwriting.", allow_abbrev=False
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    root, results = argparse.ArgumentParser(add_help=False), argparse.ArgumentParser(add_help=False)
    root.add_argument("--data-root", type=Path, default=data.default_root(), help="default: $HWR_DATA_ROOT, else data/")
    results.add_argument("--results-dir", type=Path, default=files.REPOSITORY / "results", help="default: results/")

    def command(
        run: Callable[..., None], summary: str, *places: argparse.ArgumentParser
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
    add("--precision", help="float32 or bfloat16; default: bfloat16 on CUDA, float32 elsewhere")
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
    add("name", metavar="NAME", help="a name of the catalogue, or custom:NAME")

    add = command(_compare, "compare two runs on the test images that both have read")
    add("runs", nargs=2, type=_run_folder, metavar="RUN", help="the folders or names of two runs")

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

    add = command(_quantize, "write a run's network as TFLite and ONNX files, and measure them", root)
    add("run_folder", type=_run_folder, metavar="RUN", help="the folder of a run that has its weights")
    add("--formats", nargs="+", metavar="FORMAT", help="for instance dynamic_int8.tflite; default: all")
    add("--images", type=int, help="measure on so many test images, stratified; default: all")
    add(
        "--calibrate-on",
        metavar="DATASET",
        help="calibrate the scores on the test images of this dataset",
    )

    add = command(_evaluate, "test a run on another dataset, as a record: one of drawn images on real ones", root)
    add("run_folder", type=_run_folder, metavar="RUN", help="the folder of a run that `hwr quantize` has been given")
    add("--on", required=True, metavar="DATASET", help="its test images; a name of the catalogue")
    add("--images", type=int, help="take so many of them, stratified; default: all")

    add = command(_predict, "read characters in pictures; needs LiteRT, and no torch")
    add("pictures", nargs="+", metavar="IMAGE", help="pictures of one character each, folders of them, or patterns")
    add("--model", required=True, help="a .tflite file; the model.json of its run lies beside it")
    add("--top-k", type=int, default=10, help="candidates for each picture")
    add("--json", dest="json_", action="store_true", help="print JSON")

    add = command(_completion, "print a script with which a shell completes commands, options and files")
    add("shell", choices=("bash", "zsh"), help="write it where yours looks for such scripts")

    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        0; 2 after bad input or an output that cannot be written, told in one message; 130 where it was stopped.
    """
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # a shell may have closed it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that a terminal does not have are told by their number
            stream.reconfigure(errors="backslashreplace")
    arguments = vars(_parser().parse_args(argv))
    warnings.formatwarning = lambda message, *_, **__: f"hwr: warning: {message}\n"
    try:
        arguments.pop("run")(**arguments)
        sys.stdout.flush()
        return 0
    except (InputError, FloatingPointError, DeviceError) as error:
        told = str(error)
    except ModuleNotFoundError as error:
        told = f"{error.name} is not installed. It is in `pip install '.[book,device]'`."
    except KeyboardInterrupt:
        print("hwr: stopped. The same command goes on from here; an import or a drawing starts again.", file=sys.stderr)
        return 130
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again when it ends
        if isinstance(error, BrokenPipeError):  # the reader of our output has seen enough, as `head` has
            return 0
        told = f"{error.filename or 'the output'}: {error.strerror or error}."
    print(f"hwr: error: {told}", file=sys.stderr)
    return 2
