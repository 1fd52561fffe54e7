"""Put the playground into a built book: its modules, LiteRT, the models, and what keeps it on a device.

All of it lies beside the page, in `book/playground-app/`: the service worker's scope is whatever begins with
`book/playground`, which are the page and the files of its worker, and no other page of the book.
"""

import base64
import hashlib
import io
import json
import posixpath
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import yaml
from bs4 import BeautifulSoup
from PIL import Image, ImageDraw

from hwr_utils import evaluation, files, prediction, quantization, records, transfer
from hwr_utils.comparison import percent
from hwr_utils.data import catalog
from hwr_utils.errors import InputError

REPOSITORY = files.REPOSITORY
CONFIG = "config/playground.yaml"
MODEL = "model.dynamic_int8.tflite"
PAGE, APP, WORKER = "playground.html", "playground-app", "playground-service-worker.js"  # in book/
SOURCES = ("*.js", "*.css")  # of book/playground, which go into the app
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
BARE = b'"@litertjs/wasm-utils"'  # the one import in LiteRT that only a bundler or an import map could resolve
ICONS = (180, 192, 512)


@dataclass(frozen=True)
class Model:
    """A model of the playground that is there.

    Attributes:
        entry: of config/playground.yaml.
        file: the network.
        description: its run's model.json.
        record: its run's record.json.
        test: `dataset`, `n` and `correct` on real images, or None where that was not measured.
    """

    entry: Mapping[str, Any]
    file: Path
    description: Mapping[str, Any]
    record: Mapping[str, Any]
    test: Mapping[str, Any] | None


def entries() -> list[dict[str, Any]]:
    """Return the models that config/playground.yaml lists."""
    listed: list[dict[str, Any]] = yaml.safe_load((REPOSITORY / CONFIG).read_text(encoding="utf-8"))
    return listed


def models(results: Path) -> list[Model]:
    """Return the models whose runs are in a results folder, in the order of the page.

    Raises:
        InputError: a file of such a run is damaged.
    """
    found = []
    for entry in entries():
        folder = results / entry["run"]
        file, description, record = folder / MODEL, folder / prediction.DESCRIPTION, folder / "record.json"
        if not all(path.is_file() for path in (file, description, record)):
            continue
        about = prediction.read_description(description)
        if files.sha256(file) != about["files"].get(MODEL, {}).get("sha256"):
            raise InputError(
                f"{file} is not the file that {description} was written for. Restore both, or make them again with "
                f"`hwr quantize {folder}`."
            )
        of_run = records.read_json(record)
        found.append(Model(entry, file, about, of_run, _test(folder, of_run, entry["accuracy_on"])))
    return found


def _test(folder: Path, record: Mapping[str, Any], dataset: str) -> dict[str, Any] | None:
    if record["config"]["dataset"] == dataset:
        costs = quantization.read(folder)
        declined = costs and costs.get("scores", {}).get("declined", {}).get("test")
        return {
            "dataset": dataset,
            "n": record["test"]["n"],
            "correct": record["test"]["correct"],
            "declined": declined,
        }
    measured = transfer.read(folder, dataset)
    return measured and {"dataset": dataset} | {name: measured[name] for name in ("n", "correct", "declined")}


def accuracy(model: Model) -> str:
    """Say how accurate a model is on real images, and how sure that is."""
    test = model.test
    if test is None:
        return "Its accuracy on real images has not been measured."
    low, high = evaluation.wilson_interval(test["correct"], test["n"])
    share = percent(test["correct"] / test["n"])
    return (
        f"Right on {share} % of {test['n']:,} real images that it had not seen ({title(test['dataset'])}; "
        f"95 % interval {percent(low)} to {percent(high)})."
        + (f" It takes {percent(test['declined'])} % of them for no character." if test["declined"] is not None else "")
        + (f" {model.entry['note']}" if "note" in model.entry else "")
    )


def trained_on(model: Model) -> str:
    """Say what a model learned from."""
    dataset = model.record["dataset"]
    drawn = " drawn by the project" if model.record["config"]["dataset"].endswith("-synthetic") else ""
    name = title(model.record["config"]["dataset"])
    return (
        f"Trained on {dataset['n_train']:,} images{drawn} of {len(model.description['classes']):,} characters ({name})."
    )


def title(dataset: str) -> str:
    """Return a data set's title."""
    return catalog.CATALOG[dataset].title if dataset in catalog.CATALOG else dataset


def listing(found: Iterable[Model]) -> dict[str, Any]:
    """Return models.json: all that the page needs to know besides the networks themselves."""
    return {
        "models": [
            {
                "name": model.entry["name"],
                "title": model.entry["title"],
                "lang": model.entry["lang"],
                "pen": model.entry["pen"],
                "file": f"models/{model.entry['name']}/{MODEL}",
                "bytes": model.file.stat().st_size,
                "sha256": files.sha256(model.file),
                "classes": model.description["classes"],
                "shape": model.description["input"]["shape"],
                "image": model.description["image"],
                "scores": model.description.get("scores", {"temperature": 1}),
                "accuracy": accuracy(model),
                "trained_on": trained_on(model),
                "run": model.entry["run"],
            }
            for model in found
        ]
    }


def missing(found: Iterable[Model]) -> str:
    """Return Markdown that names the models that have not been trained, with their commands."""
    there = [model.entry["name"] for model in found]
    absent = [entry for entry in entries() if entry["name"] not in there]
    if not absent:
        return ""
    lines = [f"- **{entry['title']}**: `{entry['command']}`, then `hwr quantize` on its folder" for entry in absent]
    return "Not trained yet, and so not among the models here:\n\n" + "\n".join(lines) + "\n"


def speed(results: Path) -> str:
    """Return Markdown of the times that tools/playground_speed.py measured, or that says that there are none."""
    path = results / "benchmarks" / "playground.json"
    if not path.is_file():
        return "It has not been measured yet: `python tools/playground_speed.py` does it.\n"
    record = records.read_json(path)
    titles = {entry["name"]: entry["title"] for entry in entries()}
    rows: list[list[str]] = [
        [
            titles.get(row["model"], row["model"]),
            f"{row['throttling']}x",
            f"{row['ready_ms']['median']:,.0f}",
            f"{row['stroke_ms']['median']:,.0f}",
            f"{row['stroke_ms']['worst']:,.0f}",
        ]
        for row in record["rows"]
    ]
    environment = record["environment"]
    caption = (
        f"Milliseconds in {environment['browser']} on {environment['cpu']}: from a load of the kept page until the "
        f"model is ready, median of {record['loads']}; and from the end of a stroke until its candidates stand there, "
        f"median and worst of {record['strokes']}. {record['throttled']}"
    )
    header = ["Model", "Slowed down", "Ready", "Stroke to candidates", "Worst"]
    lines = ["| " + " | ".join(row) + " |" for row in (header, [":---", ":---", *["---:"] * 3], *rows)]
    return "\n".join([f":::{{table}} {caption}", ":name: tab-playground-speed", ":align: left", "", *lines, ":::", ""])


def install(html: Path, found: Iterable[Model]) -> None:
    """Write the app into a built book, and the service worker that keeps it and what its page uses of the theme.

    Raises:
        InputError: node_modules lacks LiteRT, or holds another version than this was written for.
    """
    app = html / "book" / APP
    app.mkdir(parents=True)
    for pattern in SOURCES:
        for path in (REPOSITORY / "book" / "playground").glob(pattern):
            if path.name != "service-worker.js":
                shutil.copy2(path, app / path.name)
    _litert(app)
    for model in (found := list(found)):
        target = app / "models" / model.entry["name"] / MODEL
        target.parent.mkdir(parents=True)
        shutil.copyfile(model.file, target)
    files.write_json(app / "models.json", listing(found))
    shutil.copy2(REPOSITORY / "book" / "_static" / "favicon.svg", app / "icon.svg")
    for size in ICONS:
        files.write_bytes(app / f"icon-{size}.png", icon(size))
    files.write_json(app / "manifest.webmanifest", manifest())
    files.write_text(html / "book" / WORKER, service_worker(html))


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


def manifest() -> dict[str, Any]:
    """Return the web app's manifest; its paths are relative to itself."""
    return {
        "id": f"../{PAGE}",
        "name": "Handwriting playground",
        "short_name": "Handwriting",
        "description": "Draw a character and see which it may be; nothing that you draw leaves the device.",
        "start_url": f"../{PAGE}",
        "scope": "../playground",
        "display": "standalone",
        "background_color": "#ffffff",
        "theme_color": "#123a5c",
        "icons": [
            {"src": "icon.svg", "type": "image/svg+xml", "sizes": "any"},
            *({"src": f"icon-{size}.png", "type": "image/png", "sizes": f"{size}x{size}"} for size in ICONS[1:]),
            {"src": "icon-512.png", "type": "image/png", "sizes": "512x512", "purpose": "maskable"},
        ],
    }


def icon(size: int) -> bytes:
    """Draw the book's mark, favicon.svg, as a PNG without round corners, which devices cut themselves."""
    unit = 4 * size / 64  # drawn large and scaled down, which smooths it
    image = Image.new("RGB", (4 * size, 4 * size), "#123a5c")
    pencil = ImageDraw.Draw(image)
    x, y = 20.0, 21.0
    path = []
    for ax, ay, bx, by, cx, cy in (  # the curves of its path, relative as there
        (3, -9, 22, -11, 23, 1),
        (1, 8, -8, 9, -13, 10),
        (8, -1, 17, 3, 15, 12),
        (-2, 11, -21, 12, -26, 3),
    ):
        for step in range(65):
            t = step / 64
            u = 1 - t
            weights = (3 * u * u * t, 3 * u * t * t, t**3)
            path.append(
                (
                    x + weights[0] * ax + weights[1] * bx + weights[2] * cx,
                    y + weights[0] * ay + weights[1] * by + weights[2] * cy,
                )
            )
        x, y = x + cx, y + cy
    for px, py in path:
        pencil.ellipse([unit * (px - 3.25), unit * (py - 3.25), unit * (px + 3.25), unit * (py + 3.25)], fill="#fff")
    pencil.ellipse([unit * 45.5, unit * 7.5, unit * 56.5, unit * 18.5], fill="#e69f00")
    content = io.BytesIO()
    image.resize((size, size), Image.Resampling.LANCZOS).save(content, "PNG", optimize=True)
    return content.getvalue()


def service_worker(html: Path) -> str:
    """Return the service worker with the list of what it keeps: URLs relative to book/, and their checksums."""
    kept: dict[str, dict[str, str]] = {"always": {}, "relaxed": {}, "compatible": {}}
    for url, path in sorted(_of_page(html)):
        group = "compatible" if "_compat_" in path.name else "relaxed" if "litert_wasm" in path.name else "always"
        digest = base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()
        kept[group][url] = f"sha256-{digest}"
    listed = files.sha256(repr(kept).encode())
    source = (REPOSITORY / "book" / "playground" / "service-worker.js").read_text(encoding="utf-8")
    for name, value in (("FILES", json.dumps({"page": PAGE} | kept, indent=1)), ("VERSION", f'"{listed[:16]}"')):
        # value by value and not as a pattern: it may hold backslashes
        source, count = re.subn(
            rf"(?<=const {name} = ).*?(?=;$)", value.replace("\\", r"\\"), source, flags=re.MULTILINE
        )
        if count != 1:
            raise InputError(
                f"book/playground/service-worker.js has {count} lines `const {name} = ...;`, expected one."
            )
    return source


def _of_page(html: Path) -> Iterator[tuple[str, Path]]:
    """Yield (URL relative to book/, file) of all that the page needs: its app, and what it and its styles refer to."""
    yield PAGE, html / "book" / PAGE
    seen = {PAGE}
    for path in (html / "book" / APP).rglob("*"):
        if path.is_file():
            url = path.relative_to(html / "book").as_posix()
            seen.add(url)
            yield url, path
    page = BeautifulSoup((html / "book" / PAGE).read_text(encoding="utf-8"), "html.parser")
    links = page.select("link[href]:is([rel~=stylesheet], [rel~=preload], [rel~=icon], [rel~=manifest])")
    wanted = [str(tag.get("src") or tag.get("href")) for tag in [*page.select("script[src], img[src]"), *links]]
    while wanted:
        url = wanted.pop()
        parsed = urlparse(url)
        path = html / "book" / unquote(parsed.path)
        if url in seen or parsed.scheme or parsed.netloc or not path.is_file():
            continue
        if path.suffix == ".ttf":  # the same glyphs as the .woff2 beside it, which every browser that runs this reads
            continue
        seen.add(url)
        yield url, path
        if path.suffix == ".css":
            style = path.read_text(encoding="utf-8")
            inner = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", style)
            # not urljoin, which takes leading ".." for the top of a site and drops them
            folder = posixpath.dirname(parsed.path)
            found = [one or other for one, other in inner]
            wanted += [posixpath.normpath(posixpath.join(folder, one)) for one in found if not urlparse(one).scheme]
