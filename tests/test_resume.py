"""A run killed at any moment goes on, and ends with the bits of one that was never stopped.

Every process here is a real one and dies of SIGKILL. The run has dropout, so its random state matters at every step.
"""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import STEPS, ended, start, tiny, train_argv, until
from hwr_utils import cli, files, records
from hwr_utils.results import Run, find
from hwr_utils.runs import train_run
from hwr_utils.training import Execution

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the run that nothing stopped, made in this process."""
    return train_run(tiny(), tmp_path_factory.mktemp("whole"), root, Execution())


def check_same(results_dir: Path, whole: Run) -> Run:
    """Check that a results folder holds one run with the bits of the whole one, and nothing of its troubles."""
    run = find(tiny(), results_dir)
    assert run is not None and run.folder.name == whole.folder.name
    assert {path.name for path in run.folder.iterdir()} == {path.name for path in whole.folder.iterdir()}
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run.folder, whole.folder)]
    assert weights[0] == weights[1]
    for key in ("history", "best_epoch", "stopped_early", "validation", "test", "test_last_epoch", "weights"):
        assert run.record[key] == whole.record[key]
    for name in ("predictions.npz", "errors.npz"):
        found, expected = (records.read_arrays(folder / name) for folder in (run.folder, whole.folder))
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[key], expected[key]) for key in found)
    return run


def epochs_kept(results_dir: Path, whole: Run) -> int:
    """Return how many epochs the checkpoint holds, 0 where there is none."""
    path = results_dir / whole.folder.name / "checkpoint.pt"
    return len(torch.load(path, weights_only=True)["result"]["history"]) if path.exists() else 0


def test_a_run_killed_again_and_again_gets_there(root: Path, tmp_path: Path, whole: Run) -> None:
    """A run writes four checkpoints, the weights, its line of the log, predictions and errors, and then the record."""
    argv = train_argv(tiny(), root, tmp_path)
    for place, count, safe in (  # how-many-th passage there, epochs that are safe then
        *(("step", 3, 0), ("step", STEPS, 0)),  # the epoch is done, and not yet kept
        *(("before replace", 1, 0), ("before replace", 2, 1), ("step", STEPS + 4, 2)),
        *(("after replace", 1, 3), ("before replace", 1, 3), ("after replace", 1, 4), ("before replace", 4, 4)),
    ):
        assert ended(start(argv, place, count)) == KILLED
        assert find(tiny(), tmp_path) is None and epochs_kept(tmp_path, whole) == safe
        unfinished = list((tmp_path / whole.folder.name).glob(f"*{files.UNFINISHED}"))
        assert bool(unfinished) == (place == "before replace"), "or the test would not be what it says"
    assert ended(start(argv, "after replace", 5)) == KILLED
    record = (tmp_path / whole.folder.name / "record.json").read_bytes()
    assert ended(start(argv)) == 0
    assert (tmp_path / whole.folder.name / "record.json").read_bytes() == record
    assert check_same(tmp_path, whole).record["timing"]["sessions"] == 5  # four kept an epoch, and one ended


def test_two_processes_on_one_run(root: Path, tmp_path: Path, whole: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Let one process wait in the middle of an epoch, and start another on the same run."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    results = tmp_path / "results"
    argv = train_argv(tiny(), root, results)
    first = start(argv, "step", STEPS + 3, gate)
    ends: list[int] = []

    def waits_at_gate() -> bool:
        try:
            ends.append(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads yet
            return False
        return True

    until(waits_at_gate)
    before = (results / whole.folder.name / "checkpoint.pt").read_bytes()
    assert ended(start(argv)) == 2
    assert cli.main(argv) == 2
    message = capsys.readouterr().err
    assert f"another process is training {whole.folder.name}" in message
    assert "Traceback" not in message
    assert (results / whole.folder.name / "checkpoint.pt").read_bytes() == before
    # another run is free to go on beside it
    assert ended(start(train_argv(tiny(seed=1, epochs=1), root, results))) == 0
    os.close(ends[0])
    assert ended(first) == 0
    check_same(results, whole)
    # and the lock is gone with its holder
    assert ended(start(argv)) == 0
