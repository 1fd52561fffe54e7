"""Several processes that train one run: real ones, started by torchrun, connected by gloo."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import helpers
from helpers import LIMIT, STEPS, environment, tiny, train_argv, write_easy
from hwr_utils import runs
from hwr_utils.distributed import Processes, parallel
from hwr_utils.errors import InputError
from hwr_utils.results import Run, load_all
from hwr_utils.training import Execution, choose_execution

PLAIN = tiny(epochs=2, batch_size=17, dropout=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root whose test images, like the batches, are not to be halved."""
    folder = tmp_path_factory.mktemp("data")
    write_easy(folder, n_test=41)
    return folder


def torchrun(root: Path, results: Path, **stop: Any) -> "subprocess.CompletedProcess[str]":
    """Let two processes train a run; `stop` says where one of them dies, as `helpers.start` has it."""
    request = {"argv": train_argv(PLAIN, root, results), "where": "", "gate": None} | stop
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [helpers.__file__, json.dumps(request)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT)


def only_run(results: Path) -> Run:
    (found,) = load_all(results)
    return found


@pytest.fixture(scope="module")
def one(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the run of one process."""
    return runs.train_run(PLAIN, tmp_path_factory.mktemp("one"), root, Execution())


def test_processes_that_share_a_batch_do_what_one_does_with_the_whole(root: Path, tmp_path: Path, one: Run) -> None:
    done = torchrun(root, tmp_path)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    assert run.folder.name == one.folder.name and run.record["environment"]["processes"] == 2
    assert run.record["weights"]["sha256"] != one.record["weights"]["sha256"]  # sums in another order: it was shared
    assert len(run.history) == 2
    assert np.allclose(run.history, one.history, rtol=1e-4)
    for part in ("test", "test_last_epoch"):
        assert run.record[part]["n"] == one.record[part]["n"] == 41
    assert np.array_equal(run.predictions["labels"], one.predictions["labels"])
    assert np.array_equal(run.predictions["validation_indices"], one.predictions["validation_indices"])
    # score by score, so every image was seen once and stands in its place
    order, other = (np.argsort(found.predictions["classes"], axis=1) for found in (run, one))
    scores, expected = (
        np.take_along_axis(found.predictions["scores"], by, axis=1).astype(float)
        for found, by in ((run, order), (one, other))
    )
    assert np.allclose(scores, expected, atol=2e-3)
    assert done.stdout.count("test accuracy") == 1  # one of them talks
    assert not (run.folder / "checkpoint.pt").exists() and not list(tmp_path.rglob("*.tmp*"))


def test_a_process_that_dies_stops_all_and_the_run_goes_on(root: Path, tmp_path: Path, one: Run) -> None:
    """Kill the second of two processes in the second epoch; then let a single one finish the run."""
    done = torchrun(root, tmp_path, where="step", count=STEPS + 3, rank="1")  # which returns: nobody hangs
    assert done.returncode != 0 and "SIGKILL" in done.stderr
    assert not list(tmp_path.glob("*/record.json"))
    run = runs.train_run(PLAIN, tmp_path, root, Execution())
    assert run.record["timing"]["sessions"] == 2
    assert np.allclose(run.history, one.history, rtol=1e-4)  # the first epoch is the two's


@pytest.mark.parametrize(("batch_size", "message"), [(64, "SyncBatchNorm works on CUDA only"), (3, "Use 4 or more")])
def test_batch_normalisation_is_not_split_over_cpus(batch_size: int, message: str) -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(1))
    with pytest.raises(InputError, match=message):
        parallel(network, batch_size, torch.device("cpu"), Processes(0, 2))
    assert parallel(network, 2, torch.device("cpu"), Processes()) is network


def test_a_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    for asked, found in (("auto", "cuda:3"), ("cuda", "cuda:3"), ("cuda:1", "cuda:3"), ("cpu", "cpu")):
        assert choose_execution(asked).device == torch.device(found)
