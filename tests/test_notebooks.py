"""Notebooks are run with other parameters by one command, which refuses wrong ones; papermill's own runs them too."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import LIMIT
from hwr_utils import notebooks
from hwr_utils.errors import InputError

TINY = """\
seed = 0  # a whole number
rate = 0.5  # any number
name = "a"  # text
flag = False  # true or false
epochs = None  # of recipes.PARAMETERS
place = None  # text where it is not None
"""
BODY = (
    "import os\n"
    'assert seed != 13, "thirteen"\n'
    "if seed == 14:\n    os._exit(1)\n"
    'print(seed, rate, name, flag, epochs, place, os.environ.get("TQDM_DISABLE"), os.getcwd())'
)


def write(folder: Path, *tagged: str, body: str = BODY) -> Path:
    """Write a notebook with a parameters cell for each text of `tagged`."""
    cells = [nbformat.v4.new_code_cell(text, metadata={"tags": ["parameters"]}) for text in tagged]
    cells.append(nbformat.v4.new_code_cell(body))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "tiny.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path, TINY)


def printed(path: Path) -> str:
    """Return what an executed notebook printed."""
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def test_it_runs_with_the_given_values_on_a_bare_account(tiny: Path, tmp_path: Path) -> None:
    """Execute it without a home that can be written, with ASCII alone, and with another kernel first on the path."""
    foreign = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text(json.dumps({"argv": ["false", "{connection_file}"], "display_name": "", "language": "python"}))
    environment = {"HOME": str(tiny / "none"), "LC_ALL": "C", "JUPYTER_PATH": str(tmp_path / "jupyter")}
    source, output = tiny.read_bytes(), tmp_path / "out" / "手.ipynb"
    values = {"seed": "3", "rate": "1", "flag": "true", "name": "手"}
    command = [sys.executable, "-m", "hwr_utils", "notebook", str(tiny), "--output", str(output)]
    command += [word for name, value in values.items() for word in ("-p", name, value)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr.decode()
    assert printed(output) == f"3 1.0 手 True None None 1 {Path.cwd()}\n"
    assert tiny.read_bytes() == source
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert str(tmp_path) not in output.read_text(), "the executed notebook tells where it was made"


def test_the_same_work_makes_the_same_file(tiny: Path, tmp_path: Path) -> None:
    done = [notebooks.execute(tiny, {}, tmp_path / place / "done.ipynb").read_text() for place in "ab"]
    assert done[0] == done[1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_shows_a_cells_own_bar_and_an_interrupt_is_told_in_one_line(
    how: signal.Signals, tmp_path: Path
) -> None:
    """Stop a training that lasts for ever, as a user does who has seen its bar, or a cluster whose time is over."""
    body = "import time\nfrom tqdm import tqdm\nfor _ in tqdm(range(3), desc='training'):\n    time.sleep(LIMIT)"
    path = write(tmp_path, "LIMIT = 30  # seconds", body=body)
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "hwr_utils", "notebook", str(path), "--output", str(tmp_path / "done.ipynb")]
    environment = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also where the tests run in the background
    process = subprocess.Popen(command, stdout=end, stderr=end, env=environment, preexec_fn=heard)
    os.close(end)
    told = b""
    while b"training:   0%" not in told:
        told += os.read(terminal, 1000)
    process.send_signal(how)
    assert process.wait(LIMIT) == 130
    os.set_blocking(terminal, False)
    told += os.read(terminal, 10_000)
    os.close(terminal)
    assert b"hwr: stopped." in told and b"Traceback" not in told


def test_a_failing_cell_is_named_and_what_ran_is_kept(tiny: Path, tmp_path: Path) -> None:
    output = tmp_path / "done.ipynb"
    output.write_text("the older one")
    before = dict(os.environ)
    for seed, told in ((13, "In [3] failed: AssertionError: thirteen"), (14, "the kernel died")):
        with pytest.raises(InputError) as caught:
            notebooks.execute(tiny, {"seed": seed}, output)
        assert "tiny.ipynb" in str(caught.value) and told in str(caught.value)
        kept = tmp_path / "done.failed.ipynb"
        assert str(kept) in str(caught.value)
        assert f"seed = {seed}" in kept.read_text()
    assert output.read_text() == "the older one"
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("sed", 3, "did you mean 'seed'?"),
        ("seed", "three", "seed='three' is of type str, expected int"),
        ("seed", True, "seed=True is of type bool, expected int"),
        ("epochs", 2.5, "expected int"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(
    tiny: Path, tmp_path: Path, name: str, value: Any, told: str
) -> None:
    with pytest.raises(InputError) as caught:
        notebooks.execute(tiny, {name: value}, tmp_path / "done.ipynb")
    assert told in str(caught.value) and "tiny.ipynb" in str(caught.value)
    assert list(tmp_path.iterdir()) == [tiny]


def test_text_becomes_what_a_parameter_takes(tmp_path: Path) -> None:
    path = write(tmp_path, "name = 'a'\nseed = 0\nrate = 0.1\nyes = True\nother = None")
    given = {"name": "007", "seed": "010", "rate": "1e-4", "yes": "false", "other": "12"}
    assert notebooks.check(path, given) == {"name": "007", "seed": 10, "rate": 1e-4, "yes": False, "other": "12"}
    with pytest.raises(InputError, match="cannot be shown"):
        notebooks.check(path, {"name": "caf\udce9"})
    with pytest.raises(InputError, match="--each seed 1 2"):
        notebooks.execute_each(path, "seed", [], {}, tmp_path, "png")


def test_a_default_that_must_be_computed_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a = print(1)")
    with pytest.raises(InputError, match=rf"{path} is damaged"):
        notebooks.check(path, {})
    path.write_text('{"cells": [{}]}')
    with pytest.raises(InputError, match=r"tiny\.ipynb is damaged"):
        notebooks.parameters(path)


@given(value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False)))
def test_values_survive_the_command_line(value: Any) -> None:
    parsed = notebooks.parse(str(value))
    assert parsed == value and type(parsed) is type(value)
    assert value is None or notebooks.parse(str(value), str) == str(value)


@given(text=st.text())
def test_other_text_stays_text_and_gives_a_file_name(text: str) -> None:
    parsed = notebooks.parse(text)
    assert not isinstance(parsed, str) or parsed == text
    name, other = (notebooks.label(Path("tiny.ipynb"), {"place": value}) for value in (text, text + "é"))
    assert name == Path(name).name and len(name.encode()) <= 120
    assert name != other, "the second would overwrite the first"


@pytest.mark.slow  # nbval executes it without a timed round
def test_the_performance_notebook_measures_where_it_is_asked_to(tmp_path: Path) -> None:
    """Time one round on few images; the record holds what was timed, and both loops had the same loss."""
    values = {"images": 128, "rounds": 1, "workers": 0, "device": "cpu", "results_dir": str(tmp_path)}
    output = notebooks.execute("06_performance", values, tmp_path / "done.ipynb")
    record = json.loads((tmp_path / "benchmarks" / "training-simple_cnn-cpu.json").read_text())
    assert (record["config"]["images"], record["config"]["steps"], record["config"]["rounds"]) == (128, 2, 1)
    seconds = {name: record[name]["seconds"][0] for name in ("usual", "ours")}
    assert record["ratio"]["median"] == pytest.approx(seconds["usual"] / seconds["ours"], rel=0.05)
    assert record["ours"]["images_per_second"] == pytest.approx(128 / seconds["ours"], rel=0.01)
    assert "✓ **After one epoch in the same order, both loops have the same mean loss.**" in output.read_text("utf-8")
