"""Put the playground into a built book: its files, LiteRT, the committed models, and the list of these as JSON.

All of it lies beside the page, in `book/playground-app/`: the service worker's scope is whatever begins with
`book/playground`, which are the page and the files of its worker, and no other page of the book.
"""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hwr_utils import evaluation, files, records, results
from hwr_utils.data import catalog
from hwr_utils.device import recognizer
from hwr_utils.errors import InputError

REPOSITORY = files.REPOSITORY
RESULTS = REPOSITORY / "results"
MODEL = "model.dynamic_int8.tflite"
APP, WORKER = "playground-app", "playground-service-worker.js"  # in book/
# What the modules take from npm: from node_modules -> under the app. Of LiteRT's WebAssemblies the two that need no
# cross-origin isolation: which one runs depends on the browser.
LITERT = {
    "@litertjs/core/dist/index.js": "litert/core.js",
    "@litertjs/wasm-utils/dist/index.js": "litert/wasm-utils.js",
    "@litertjs/core/wasm/litert_wasm_internal.js": "litert/litert_wasm_internal.js",
    "@litertjs/core/wasm/litert_wasm_internal.wasm": "litert/litert_wasm_internal.wasm",
    "@litertjs/core/wasm/litert_wasm_compat_internal.js": "litert/litert_wasm_compat_internal.js",
    "@litertjs/core/wasm/litert_wasm_compat_internal.wasm": "litert/litert_wasm_compat_internal.wasm",
}
HONEST = 0.05  # greatest calibration error on real images with which the page shows scores
BARE = b'"@litertjs/wasm-utils"'  # the one import in LiteRT that only a bundler or an import map could resolve


@dataclass(frozen=True)
class Model:
    """A model of the playground.

    Attributes:
        entry: of config/playground.yaml.
        file: the network.
        description: its run's model.json.
        record: its run's record.json.
        test: `n`, `correct`, `declined` and the scores' `ece` on real images, of which the last two may lack; or None
            where that was not measured.
        also: what it reads of KanjiVG's strokes, a row of what tools/pen_strokes.py wrote; None where it lacks.
    """

    entry: Mapping[str, Any]
    file: Path
    description: Mapping[str, Any]
    record: Mapping[str, Any]
    test: Mapping[str, Any] | None
    also: Mapping[str, Any] | None


def entries() -> list[dict[str, Any]]:
    """Return the models that config/playground.yaml lists."""
    listed: list[dict[str, Any]] = yaml.safe_load((REPOSITORY / "config" / "playground.yaml").read_text("utf-8"))
    return listed


def models(results: Path = RESULTS) -> list[Model]:
    """Return the playground's models, in the order of the page.

    Args:
        results: folder of runs. Every edition has the committed ones: those of a quick study have seen too little data.

    Raises:
        InputError: a file of such a run is missing or damaged.
    """
    found, path = [], RESULTS / "benchmarks" / "pen-strokes.json"
    strokes = records.read_json(path)["rows"] if path.exists() else []
    for entry in entries():
        folder = results / entry["run"]
        file, description = folder / MODEL, folder / recognizer.DESCRIPTION
        if not file.is_file():
            raise InputError(f"{file} is missing: config/playground.yaml names it. Make it by `{entry['command']}`.")
        about = recognizer.read_description(description)
        if files.sha256(file) != about["files"].get(MODEL, {}).get("sha256"):
            raise InputError(
                f"{file} is not the file that {description} was written for. Restore both, or make them again with "
                f"`hwr quantize {folder}`."
            )
        record = records.read_json(folder / "record.json")
        also = next((row for row in strokes if (row["run"], row["source"]) == (entry["run"], "KanjiVG")), None)
        found.append(Model(entry, file, about, record, _test(folder, record, entry["accuracy_on"]), also))
    return found


def _test(folder: Path, record: Mapping[str, Any], dataset: str) -> dict[str, Any] | None:
    if record["config"]["dataset"] != dataset:
        return _measured(records.evaluation_path(folder, dataset))
    scores = (_measured(folder / "quantization.json") or {}).get("scores", {})
    told = {"declined": scores.get("declined", {}).get("test"), "ece": scores.get("ece", {}).get("after", 1)}
    return record["test"] | told


def _measured(path: Path) -> dict[str, Any] | None:
    return records.read(path) if path.exists() else None


def facts(model: Model) -> dict[str, str]:
    """Return what fills the blanks of the page's sentences; what was not measured is absent."""
    trained = model.record["config"]["dataset"]
    n_classes = f"{len(model.description['classes']):,}"
    told = {
        "characters": n_classes,
        "megabytes": f"{model.file.stat().st_size / 1e6:.2f}",
        "trained": f"{_images(model.file.parent):,}",
        "set": title(trained),
        **_sentences(model, model.entry),
    }
    if model.test is not None:
        n, correct, declined = (model.test[name] for name in ("n", "correct", "declined"))
        low, high = evaluation.wilson_interval(correct, n)
        told |= {"test": title(model.entry["accuracy_on"]), "n": f"{n:,}", "accuracy": f"{100 * (correct / n):.2f}"}
        told |= {"low": f"{100 * (low):.2f}", "high": f"{100 * (high):.2f}"}
        told |= {"declined": f"{100 * (declined):.2f}"} if declined is not None else {}
    return told


def _images(folder: Path) -> int:
    """Return how many images a run has learned from, with those of the runs whose weights it began with."""
    counted: dict[str, int] = {}  # by the data, of which a later run may have taken a part again
    todo = [folder]
    while todo:
        run = results.open_run(todo.pop())
        data, n = str(run.record["dataset"]["files"]), run.record["dataset"]["n_train"]
        counted[data] = max(counted.get(data, 0), n)
        todo += [folder.parent / name for name in run.config.origins]
    return sum(counted.values())


def _sentences(model: Model, texts: Mapping[str, str]) -> dict[str, str]:
    """Return what an entry says of a model in words, with its numbers; what was not measured is absent."""
    numbers = {"knows": {"n": f"{len(model.description['classes']):,}"}, "note": model.test, "also": model.also}
    return {name: texts[name].format(**of) for name, of in numbers.items() if name in texts and of is not None}


def title(dataset: str) -> str:
    """Return a data set's title."""
    return catalog.CATALOG[dataset].title if dataset in catalog.CATALOG else dataset


def listing(found: Iterable[Model]) -> dict[str, Any]:
    """Return models.json: all that the page needs to know besides the networks themselves."""
    listed = [
        {name: model.entry[name] for name in ("name", "title", "lang", "pen", "run")}
        | {name: model.description[name] for name in ("classes", "image")}
        | {
            "file": f"models/{model.entry['name']}/{MODEL}",
            "bytes": model.file.stat().st_size,
            "sha256": files.sha256(model.file),
            "shape": model.description["input"]["shape"],
            "scores": model.description.get("scores", {"temperature": 1}),
            "told": model.test is not None and model.test.get("ece", 1) <= HONEST,
            "facts": facts(model),
            "ko": {"title": model.entry["ko"]["title"], "facts": _sentences(model, model.entry["ko"])},
        }
        for model in found
    ]
    return {"models": listed, "speed": speed(records.read_json(RESULTS / "benchmarks" / "playground.json"))}


def speed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the times that tools/playground_speed.py measured, as the page's table shows them."""
    shown = {name: record["environment"][name] for name in ("browser", "cpu")}
    shown |= {name: str(record[name]) for name in ("loads", "strokes", "throttled")}
    rows = []
    for row in record["rows"]:
        times = (row["ready_ms"]["median"], row["stroke_ms"]["median"], row["stroke_ms"]["worst"])
        rows.append({"model": row["model"], "times": [f"{row['throttling']}x", *(f"{time:,.0f}" for time in times)]})
    return {"facts": shown, "rows": rows}


def install(html: Path, found: Iterable[Model]) -> None:
    """Write the app into a built book, and the service worker that keeps it beside the page.

    Raises:
        InputError: node_modules lacks LiteRT, or holds another version than this was written for.
    """
    app = html / "book" / APP
    shutil.copytree(REPOSITORY / "book" / "playground", app, ignore=shutil.ignore_patterns("tsconfig*", "*.html"))
    (app / "service-worker.js").rename(html / "book" / WORKER)
    _litert(app)
    for model in (found := list(found)):
        target = app / "models" / model.entry["name"] / MODEL
        target.parent.mkdir(parents=True)
        shutil.copyfile(model.file, target)
    files.write_json(app / "models.json", listing(found))
    parts = [*sorted(html.glob("book/playground*.html")), *sorted(path for path in app.rglob("*") if path.is_file())]
    files.write_json(app / "version.json", {"version": files.sha256("".join(map(files.sha256, parts)).encode())})


def _litert(app: Path) -> None:
    packages = REPOSITORY / "node_modules"
    for source, target in LITERT.items():
        try:
            content = (packages / source).read_bytes()
        except OSError as error:
            raise InputError(
                f"{packages / source} is missing: the playground runs networks with it. Run `make setup`."
            ) from error
        if target == "litert/core.js":
            if content.count(BARE) != 1:
                raise InputError(
                    f"{packages / source} imports {BARE.decode()} {content.count(BARE)} times, expected once. "
                    "package-lock.json names the version that fits: run `make setup`."
                )
            content = content.replace(BARE, b'"./wasm-utils.js"')
        files.write_bytes(app / target, content)
