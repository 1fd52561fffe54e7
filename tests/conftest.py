"""Fixtures and settings that all tests share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock
from hypothesis import settings

from hwr_utils.data import CATALOG, Dataset, load
from hwr_utils.files import REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

# `make test` draws the same examples every time; `make test-all` sets HWR_FUZZ_EXAMPLES and draws new ones
EXAMPLES = os.environ.get("HWR_FUZZ_EXAMPLES")
settings.register_profile("hwr", max_examples=int(EXAMPLES or 60), deadline=None, derandomize=EXAMPLES is None)
settings.load_profile("hwr")

LONGEST = {f"test_{name}.py" for name in ("book", "distributed", "playground", "quantization", "readme", "snakefile")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first, so that no worker is left alone with one of them in the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of the real data; skip where there is none."""
    root = Path(os.environ.get("HWR_DATA_ROOT") or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data at {root}: set HWR_DATA_ROOT to the folder that holds MNIST/raw and so on")
    return root


@pytest.fixture(scope="session")
def real(data_root: Path) -> Callable[[str], Dataset]:
    """Return a function that loads a real dataset once; it skips where its files are absent."""

    @cache
    def load_once(name: str) -> Dataset:
        if not any((data_root / folder).is_dir() for folder in CATALOG[name].folders):
            pytest.skip(f"{name} is not under {data_root}")
        return load(name, data_root)

    return load_once


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root with a small data set of one's own."""
    from helpers import write_easy  # imports torch, which other modules' tests do without

    folder = tmp_path_factory.mktemp("data")
    write_easy(folder)
    return folder


@pytest.fixture(scope="module")
def few_scribbles() -> Iterator[None]:
    """Let networks be calibrated with few scribbles: drawing one takes milliseconds."""
    from hwr_utils.device import calibration

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "LEARNED", (20, 0))
        patch.setattr(calibration, "CHOOSING", (10, 1))
        patch.setattr(calibration, "COUNTED", (10, 2))
        patch.setattr(calibration, "WRITTEN", 200)
        yield


@pytest.fixture(scope="session")
def book() -> Path:
    """Return the HTML of the committed tree, built by the Snakefile where it is not up to date."""
    command = [sys.executable, "-m", "snakemake", "book", "--config", "profile=paper"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    (REPOSITORY / "_build").mkdir(exist_ok=True)
    with FileLock(REPOSITORY / "_build" / "book.lock"):  # of two workers, the second finds it built
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return REPOSITORY / "_build" / "html"


@pytest.fixture(scope="module")  # and not longer: it leaves a running event loop, which other tests could not bear
def browser() -> "Iterator[Browser]":
    """Return a Chromium; skip where there is none, but fail where CI requires it."""
    from playwright.sync_api import sync_playwright

    import browser as tools

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = tools.find() or (own if Path(own).exists() else None)
        if path is None:
            if os.environ.get("CI"):
                pytest.fail(tools.MISSING)
            pytest.skip(tools.MISSING)
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def new_page(browser: "Browser") -> "Iterator[Callable[..., Page]]":
    """Return a function that opens an empty page in a window of its own, after `before` was done to the window."""
    contexts: list[BrowserContext] = []

    def new(before: "Callable[[BrowserContext], object]" = lambda _: None, **options: Any) -> "Page":
        # without motion, or a colour could be read on its way to another
        options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(60_000)
        before(contexts[-1])
        return contexts[-1].new_page()

    yield new
    for context in contexts:
        context.close()
