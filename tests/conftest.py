"""Fixtures and settings that all tests share."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from hwr_utils.data import CATALOG, Dataset, load

# `make test` draws the same examples every time; `make test-all` sets HWR_FUZZ_EXAMPLES and draws new ones
EXAMPLES = os.environ.get("HWR_FUZZ_EXAMPLES")
settings.register_profile("hwr", max_examples=int(EXAMPLES or 300), deadline=None, derandomize=EXAMPLES is None)
settings.load_profile("hwr")


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
