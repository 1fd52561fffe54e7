"""The command `hwr`: each subcommand calls one function here, which takes the arguments that `cli.toml` lists.

Modules that take seconds to import, by torch or papermill, are imported where they are used.
"""

import argparse
import io
import json
import os
import shutil
import signal
import sys
import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwr_utils import data, files, notebooks, processes, recipes
from hwr_utils.errors import DeviceError, InputError, printable


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, for instance epochs=3")
    found = notebooks.parse(value, recipes.PARAMETERS.get(name, {}).get("type"))
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: a run without a value of its own has the recipe's. Leave it out")
    return name, found


def _run_folder(text: str) -> Path:
    """Return the folder of a run by its path, by that of its record, or by its name."""
    path = Path(text)
    if path.name == text and not os.path.exists(path):  # os.path takes a name of any length
        path = files.REPOSITORY / "results" / text
    return path.parent if os.path.isfile(path) else path


def _train(results_dir: Path, data_root: Path, device: str, precision: str | None, set: Any, **run: Any) -> None:
    from hwr_utils import runs, training

    execution = training.choose_execution(device, precision)
    made = runs.train_run(recipes.configure(**run | dict(set)), results_dir, data_root, execution)
    test = made.record["test"]
    if os.environ.get("RANK", "0") == "0":  # of several processes one talks
        told = f"{made.folder}: test accuracy {test['accuracy']:.4f} ({test['correct']} of {test['n']})"
        print(f"{told}, with the weights of epoch {made.record['best_epoch']} of {len(made.record['history'])}")


def _download(name: str, data_root: Path) -> None:
    dataset = data.load(name, data_root, download=True)
    print(f"{name}: {len(dataset.train_labels):,} training and {len(dataset.test_labels):,} test images")


def _import_hwdb(sources: list[str], out: Path, **options: Any) -> None:
    from hwr_utils.data import hwdb

    manifest = hwdb.import_gnt(sources, out, **options)
    dropped = sum(sum(source["others"].values()) for source in manifest["sources"])
    told = f"{manifest['samples']:,} samples of {len(manifest['sources'])} files"
    print(f"{out}: {told}; {dropped:,} of other characters left out")


def _import_images(sources: list[str], out: Path) -> None:
    from hwr_utils.data import convert

    counts = convert.import_images(sources, out)
    told = f"In custom/ of the data root it is custom:{out.absolute().name}"
    found = f"{counts['train']:,} training and {counts['test']:,} test images of {counts['classes']} classes"
    print(f"{out}: {found}. {told}.")


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
    values, figures = dict(parameter), "svg" if svg else "png"
    if each is None:
        print(notebooks.execute(name, values, output, figures))
    else:
        folder = output or notebooks.OUTPUT / Path(name).stem
        notebooks.execute_each(name, each[0], each[1:], values, folder, figures)
        print(folder)


def _runs(results_dir: Path, filter: list[str], missing: str | None, format: str | None, remove: bool) -> None:
    from hwr_utils import results

    if remove:  # runs that have not ended, and damaged ones too
        place = results_dir.absolute()
        found = {path.parent for kind in ("record.json", "checkpoint.pt*") for path in place.glob(f"*/{kind}")}
        chosen = {place / name if name == Path(name).name else Path(name).absolute() for name in filter}
        if format or missing or not chosen or not chosen <= found:  # before any is removed
            told = f"{min(chosen - found)} is none" if chosen - found else "give some, and no --format or --missing"
            raise InputError(f"--remove takes names or folders of runs that `hwr runs` lists in {results_dir}: {told}.")
        for folder in sorted(chosen):
            with files.only_one(results_dir / ".locks" / f"{folder.name}.lock", f"training {folder.name}"):
                folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)
            print(f"{folder}: removed")
        return
    if missing:
        from hwr_utils import grid

        for job in grid.missing(missing, results_dir):
            if all(text in job.command for text in filter):
                print(job.command)
        return
    table = results.frame(results_dir, filter)
    if table.empty:
        named = f" whose name has {' and '.join(filter)}" if filter else ""
        raise InputError(f"{results_dir} holds no run{named}.")
    if format:
        print(results.as_text(table, format), end="")
    else:
        print(table[["accuracy", "n", "seconds", "created"]].to_string())


def _quantize(
    run_folder: Path, formats: list[str] | None, images: int | None, data_root: Path, calibrate_on: str | None
) -> None:
    import pandas as pd

    from hwr_utils.device import export, quantization

    record = quantization.quantize(run_folder, data_root, formats or export.FORMATS, images, calibrate_on)
    table, n = pd.json_normalize(record["formats"]).set_index("format"), record["test_images"]
    print(table.filter(["bytes", "test.accuracy", "change", "latency.p50_ms"]).to_string())
    print(f"on {n['n']:,} of {n['of']:,} test images. {run_folder / 'quantization.json'} says more, also of the scores")


def _evaluate(run_folder: Path, on: str, images: int | None, data_root: Path) -> None:
    from hwr_utils.device import transfer

    found = transfer.evaluate(run_folder, on, data_root, images)
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
            if not json_:
                told = ", ".join(f"{one['character']} {one['score']:.2%}" for one in found["candidates"])
                fault = "several characters, where one was expected" if found["several"] else "no likely character"
                print(printable(f"{found['file']}: {told if found['likely'] else f'{fault} ({told})'}"))
            for one in found["candidates"]:
                one["score"] = round(one["score"], 6)
            answers.append(found)
    finally:  # also where some pictures could not be read
        if json_ and answers:
            plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"  # other encodings lack characters
            print(json.dumps(answers, ensure_ascii=plain, indent=1))


def _completion(shell: str) -> None:
    import shtab

    print(shtab.complete(_parser(shtab.FILE), shell))


def _parser(complete: Any = None) -> argparse.ArgumentParser:
    """Make the parser of what `cli.toml` lists; by `complete`, shtab knows which arguments are names of files."""
    about = "Train, measure and use readers of handwriting."
    parser = argparse.ArgumentParser(prog="hwr", description=about, allow_abbrev=False)
    of_files: dict[str, Any] = {"path": Path, "run": _run_folder, "file": str}
    types = of_files | {"int": int, "value": notebooks.parse, "assignment": _assignment}
    places: dict[str, dict[str, Any]] = {
        "--data-root": {"default": data.default_root(), "help": "default: $HWR_DATA_ROOT, else data/"},
        "--results-dir": {"default": files.REPOSITORY / "results", "help": "default: results/"},
    }
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, content in tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8")).items():
        made = commands.add_parser(name, help=content.pop("help"), allow_abbrev=False)
        made.set_defaults(run=globals()["_" + name.replace("-", "_")])
        for flags, given in content.items():
            options = {"type": "path"} | places[flags] if flags in places else given
            if "type" in options:
                options["type"] = types[options["type"]]
            if isinstance(options.get("metavar"), list):
                options["metavar"] = tuple(options["metavar"])
            action: Any = made.add_argument(*flags.split(), **options)
            if action.type in of_files.values():
                action.complete = complete
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Returns:
        0; or 2 after bad input, or if the output cannot be written, with a message that says so.
    """
    # a shell may have closed the standard streams
    sys.stdout, sys.stderr = (one or open(os.devnull, "w") for one in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that a terminal does not have are told by their number
            stream.reconfigure(errors="backslashreplace")
    arguments = vars(_parser().parse_args(argv))
    warnings.formatwarning = lambda message, *_, **__: f"hwr: warning: {message}\n"
    processes.end_with_snakemake()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clusters end a job so
    try:
        arguments.pop("run")(**arguments)
        sys.stdout.flush()
        return 0
    except (InputError, FloatingPointError, DeviceError) as error:
        told = str(error)
    except MemoryError:
        told = "there is not enough memory for this. Give smaller files, or use a machine with more memory."
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries again when it ends
        if isinstance(error, BrokenPipeError):  # the reader of our output has seen enough, as `head` has
            return 0
        told = f"{error.filename or 'the output'}: {error.strerror or error}."
    print(f"hwr: error: {told}", file=sys.stderr)
    return 2
