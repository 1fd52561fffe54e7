"""What `pytest --nbval notebooks` needs: chapters read records and train none, and print no bars that move."""

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Set the environment of the kernel that a chapter's first cell starts, and no other test's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWR_TRAIN", "never")
        patch.setenv("TQDM_DISABLE", "1")
        return (yield)
