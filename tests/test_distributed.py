"""Several processes that train one run: real ones, started by torchrun, connected by gloo."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from helpers import LIMIT, environment, tiny, train_argv, until
from hwr_utils import records, runs
from hwr_utils.distributed import ALONE, Processes, parallel
from hwr_utils.errors import InputError
from hwr_utils.recipes import RunConfig
from hwr_utils.results import Run
from hwr_utils.training import _seed, choose_execution

# neither 17 images a step nor 40 test images divide by three
PLAIN = tiny(epochs=2, batch_size=17, dropout=False)


def torchrun(count: int, config: RunConfig, root: Path, results: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "hwr_utils", *train_argv(config, root, results)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def only_run(results: Path) -> Run:
    (found,) = records.read_all(results)
    return Run(*found)


@pytest.fixture(scope="module")
def one(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the run of one process."""
    return runs.train_run(PLAIN, tmp_path_factory.mktemp("one"), root, "cpu")


def test_processes_that_share_a_batch_do_what_one_does_with_the_whole(root: Path, tmp_path: Path, one: Run) -> None:
    process = torchrun(3, PLAIN, root, tmp_path)
    said, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    run = only_run(tmp_path)
    assert run.folder.name == one.folder.name and run.record["environment"]["processes"] == 3
    assert run.record["weights"]["sha256"] != one.record["weights"]["sha256"]  # sums in another order: it was shared
    assert len(run.history) == 2
    assert np.allclose(run.history, one.history, rtol=1e-4)
    for part in ("test", "test_last_epoch"):
        assert run.record[part]["n"] == one.record[part]["n"] == 40
    assert np.array_equal(run.predictions["labels"], one.predictions["labels"])
    assert np.array_equal(run.predictions["validation_indices"], one.predictions["validation_indices"])
    # score by score, so every image was seen once and stands in its place
    order, other = (np.argsort(found.predictions["classes"], axis=1) for found in (run, one))
    scores, expected = (
        np.take_along_axis(found.predictions["scores"], by, axis=1).astype(float)
        for found, by in ((run, order), (one, other))
    )
    assert np.allclose(scores, expected, atol=2e-3)
    assert said.count("test accuracy") == 1  # one of them talks
    assert not (run.folder / "checkpoint.pt").exists() and not list(tmp_path.rglob("*.tmp*"))


def test_a_process_that_dies_stops_all_and_the_run_goes_on(root: Path, tmp_path: Path, one: Run) -> None:
    """Kill the second of two processes after the first epoch; then let a single one finish the run."""
    config = tiny(epochs=40, batch_size=17, dropout=False)
    process = torchrun(2, config, root, tmp_path)
    until(lambda: bool(list(tmp_path.glob("*/checkpoint.pt"))) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]
    workers = psutil.Process(process.pid).children()
    next(worker for worker in workers if worker.environ().get("RANK") == "1").kill()
    process.communicate(timeout=60)  # nobody hangs
    assert process.returncode != 0
    assert psutil.wait_procs(workers, LIMIT)[1] == []
    assert not list(tmp_path.glob("*/record.json"))
    run = runs.train_run(config, tmp_path, root, "cpu")
    assert run.record["timing"]["sessions"] == 2
    assert np.allclose(run.history["train_loss"][:2], one.history["train_loss"], rtol=1e-4)  # the first is the two's


def test_no_two_processes_and_epochs_draw_alike() -> None:
    def draw(rank: int, epoch: int) -> list[float]:
        torch.manual_seed(_seed(0, rank, epoch))
        return torch.rand(2).tolist()

    drawn = [draw(rank, epoch) for rank in (1, 2, 3) for epoch in (1, 2, 3)]
    assert all(first not in drawn[:place] for place, first in enumerate(drawn)) and draw(1, 1) == drawn[0]


@pytest.mark.parametrize(("batch_size", "message"), [(64, "SyncBatchNorm works on CUDA only"), (3, "Use 4 or more")])
def test_batch_normalisation_is_not_split_over_cpus(batch_size: int, message: str) -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(1))
    with pytest.raises(InputError, match=message):
        parallel(network, batch_size, torch.device("cpu"), Processes(0, 2))
    assert parallel(network, 2, torch.device("cpu"), ALONE) is network


def test_a_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    for asked, found in (("auto", "cuda:3"), ("cuda", "cuda:3"), ("cuda:1", "cuda:3"), ("cpu", "cpu")):
        assert choose_execution(asked).device == torch.device(found)
