"""Several processes that train one run: real ones, started by torchrun, connected by gloo."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import LIMIT, environment, tiny, train_argv, until
from hwr_utils import records, runs
from hwr_utils.distributed import ALONE, Processes, parallel
from hwr_utils.errors import InputError
from hwr_utils.records import RunConfig
from hwr_utils.results import Run
from hwr_utils.training import _seed, choose_execution

# 17 images a step do not divide by two, nor do 40 test images by three
PLAIN = tiny(epochs=2, batch_size=17, dropout=False)


def torchrun(count: int, config: RunConfig, root: Path, results: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    command += ["-m", "hwr_utils", *train_argv(config, root, results)]
    # a session of its own, so that a test can tell whether all of it ended
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def only_run(results: Path) -> Run:
    (found,) = records.read_all(results)
    return Run(*found)


@pytest.fixture(scope="module")
def one(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the run of one process."""
    return runs.train_run(PLAIN, tmp_path_factory.mktemp("one"), root, "cpu")


@pytest.mark.parametrize("count", [2, 3])
def test_processes_that_share_a_batch_do_what_one_does_with_the_whole(
    root: Path, tmp_path: Path, one: Run, count: int
) -> None:
    process = torchrun(count, PLAIN, root, tmp_path)
    said, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    run = only_run(tmp_path)
    assert run.folder.name == one.folder.name and run.record["environment"]["processes"] == count
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

    again = torchrun(count, PLAIN, root, tmp_path)  # finds the record and trains nothing
    assert again.wait(LIMIT) == 0
    assert only_run(tmp_path).record == run.record


def test_a_process_that_dies_stops_all_and_the_run_goes_on(root: Path, tmp_path: Path, one: Run) -> None:
    """Kill the second of two processes after the first epoch; then let a single one finish the run."""
    config = tiny(epochs=40, batch_size=17, dropout=False)
    process = torchrun(2, config, root, tmp_path)
    until(lambda: bool(list(tmp_path.glob("*/checkpoint.pt"))) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]
    second = children(process.pid)[1]
    os.kill(second, signal.SIGKILL)
    process.communicate(timeout=60)  # nobody hangs
    assert process.returncode != 0
    until(lambda: not alive(process.pid))
    assert not list(tmp_path.glob("*/record.json"))
    run = runs.train_run(config, tmp_path, root, "cpu")
    assert run.record["timing"]["sessions"] == 2
    assert np.allclose(run.history["train_loss"][:2], one.history["train_loss"], rtol=1e-4)  # the first is the two's


def children(parent: int) -> list[int]:
    """Return the workers of torchrun, in the order of their ranks."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sorted(map(int, found), key=lambda child: rank(child))


def rank(process: int) -> int:
    variables = Path(f"/proc/{process}/environ").read_text().split("\0")
    return next((int(value[5:]) for value in variables if value.startswith("RANK=")), -1)


def alive(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, *_, number = stat.read_text().rsplit(")", 1)[1].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(number) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


def test_parts_join_to_the_whole_without_processes() -> None:
    whole = torch.arange(7)
    parts = [Processes(rank, 3).share(whole).tolist() for rank in range(3)]
    assert parts == [[0, 1, 2], [3, 4], [5, 6]]
    for same in (ALONE.share, ALONE.gather, ALONE.sum):
        assert torch.equal(same(whole), whole)
    assert ALONE.first and ALONE.agree(True) and not ALONE.agree(False)


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


def test_each_process_needs_an_image() -> None:
    with pytest.raises(InputError, match="batch_size=2 is too small for 3 process"):
        parallel(torch.nn.Linear(1, 1), 2, torch.device("cpu"), Processes(0, 3))


def test_a_process_takes_the_gpu_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    for asked, found in (("auto", "cuda:3"), ("cuda", "cuda:3"), ("cuda:1", "cuda:3"), ("cpu", "cpu")):
        assert choose_execution(asked).device == torch.device(found)
