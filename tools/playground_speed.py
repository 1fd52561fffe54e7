"""Measure the playground of a built book in a browser, as results/benchmarks/playground.json, which its page shows.

    python tools/playground_speed.py [--html _build/html]

For each model it takes the time from loading the page, which has been visited before, until the model is ready, and the
time from the end of a stroke until its candidates are shown; each at full speed and at a sixth of it. DevTools slows
down the page and not its worker, where the network runs. So here both are stopped for five sixths of the time.
"""

import argparse
import os
import platform
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))

from browser import MISSING, find  # noqa: E402
from browsing import Site  # noqa: E402
from hwr_utils import files  # noqa: E402

LOADS, CHARACTERS = 5, 10
PERIOD = 0.012  # seconds, of which a slowed-down process runs a part
THROTTLED = (
    "Slowed down 6x, the process of the page and its worker runs 2 of every 12 milliseconds; the rest of the browser "
    "is not slowed down."
)
# a plus, a zigzag and a curve: strokes as (x, y) in 0..1
STROKES = [
    [(0.2, 0.5), (0.8, 0.5)],
    [(0.5, 0.15), (0.5, 0.85)],
    [(0.3, 0.3), (0.7, 0.35), (0.3, 0.7), (0.75, 0.75)],
    [(0.2 + 0.06 * i, 0.8 - 0.006 * i * i) for i in range(11)],
]


@contextmanager
def slowed(browser: Browser, rate: int) -> Iterator[None]:
    """Let the browser's pages and workers run only a part of the time, 1 / rate."""
    if rate == 1:
        yield
        return
    found = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    processes = [one["id"] for one in found if one["type"] == "renderer"]
    ended = threading.Event()

    def tell(number: int) -> None:
        for process in processes:
            try:
                os.kill(process, number)
            except ProcessLookupError:  # a page was closed
                continue

    def alternate() -> None:
        while not ended.is_set():
            tell(signal.SIGSTOP)
            time.sleep(PERIOD * (1 - 1 / rate))
            tell(signal.SIGCONT)
            time.sleep(PERIOD / rate)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell(signal.SIGCONT)


def ready(page: Page, model: str) -> float:
    """Wait until a model is ready; return the milliseconds since the load began."""
    page.wait_for_selector(f"#playground-app[data-ready={model}]", timeout=120_000)
    return float(page.evaluate("performance.getEntriesByName('playground-ready').at(-1).startTime"))


def strokes(page: Page) -> list[float]:
    """Draw, and return the milliseconds from the end of each stroke until its candidates."""
    pad = page.locator("#playground-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    assert box
    spent = []
    for number in range(CHARACTERS):
        for stroke in STROKES:
            page.evaluate("delete document.getElementById('playground-app').dataset.milliseconds")
            places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
            page.mouse.move(*places[0])
            page.mouse.down()
            for place in places[1:]:
                page.mouse.move(*place, steps=5)
            page.mouse.up()
            page.wait_for_selector("#playground-app[data-milliseconds]", timeout=60_000)
            if number:  # the first warms up
                spent.append(float(page.get_attribute("#playground-app", "data-milliseconds") or "nan"))
        page.evaluate("document.getElementById('playground-clear').click()")
    return spent


def summary(values: list[float]) -> dict[str, float]:
    """Return the median and the largest of some milliseconds."""
    return {"median": round(statistics.median(values), 1), "worst": round(max(values), 1)}


def measure(browser: Browser, address: str) -> list[dict[str, Any]]:
    """Return a row for each model and speed."""
    rows = []
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.goto(address)
    page.wait_for_selector("#playground-offline[data-ready]", timeout=120_000)
    listed = page.evaluate("async () => (await (await fetch('playground-app/models.json')).json()).models")
    for model in listed:
        for rate in (1, 6):
            loads = []
            for _ in range(LOADS + 1):
                page.goto("about:blank")
                with slowed(browser, rate):
                    page.goto(f"{address}#{model['name']}")
                    loads.append(ready(page, model["name"]))
            with slowed(browser, rate):
                spent = strokes(page)
            rows.append(
                {
                    "model": model["name"],
                    "run": model["run"],
                    "bytes": model["bytes"],
                    "throttling": rate,
                    "ready_ms": summary(loads[1:]),  # the first compiles what the browser then keeps
                    "stroke_ms": summary(spent),
                }
            )
            print(rows[-1], flush=True)
    return rows


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    """Measure and write the record; return 1 where there is no browser or no book."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--html", type=Path, default=ROOT / "_build" / "html", help="a built book")
    parser.add_argument("--results-dir", type=Path, default=ROOT / "results")
    arguments = parser.parse_args()
    if not (arguments.html / "book" / "playground.html").is_file():
        print(f"{arguments.html} holds no playground: run `make book` first.", file=sys.stderr)
        return 1
    path = find()
    if path is None:
        print(MISSING, file=sys.stderr)
        return 1
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        rows = measure(browser, Site(arguments.html.resolve()).address + "book/playground.html")
        version = browser.version
        browser.close()
    record = {
        "schema_version": 1,
        "what": "the playground's page in a headless browser",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {
            "browser": f"Chromium {version}",
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2),
            "platform": platform.system(),
        },
        "loads": LOADS,
        "strokes": (CHARACTERS - 1) * len(STROKES),
        "throttled": THROTTLED,
        "rows": rows,
    }
    files.write_json(arguments.results_dir / "benchmarks" / "playground.json", record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
