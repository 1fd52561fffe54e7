"""What `pytest --nbval` needs, in whatever folder it is started."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Name the file of what may differ between two executions of a notebook."""
    config.option.nbval_sanitize_with = str(config.rootpath / "tests" / "nbval_sanitize.cfg")
