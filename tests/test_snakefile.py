"""The Snakefile makes what a profile lacks, goes on after a kill, and nothing but a record decides what it makes.

Everything runs as users run it, in a copy of the checkout with a tiny profile and a notebook that only trains.
"""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from helpers import LIMIT, copy_checkout, load_tool, until
from hwr_utils import records

PROFILE = """
data:
  digits-synthetic: {seed: 0, n_train: 40, n_test: 20}
  letters-synthetic: {seed: 0, n_train: 500, n_test: 30}
train:
  - {architecture: simple_cnn, recipe: quick, dataset: digits-synthetic, device: cpu, epochs: 1}
  - {architecture: simple_cnn, recipe: quick, dataset: letters-synthetic, device: cpu, epochs: 8}
"""
TRAINING = """
from hwr_utils import recipes, runs

config = recipes.configure(dataset, "simple_cnn", recipe, seed, dropout=dropout, epochs=epochs)
runs.load_or_train(config, results_dir, data_root, device)
"""


class Checkout:
    """A copy of the checkout with a tiny profile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_checkout(folder)
        self.write_profile("tiny", PROFILE)
        path = folder / "notebooks" / "02_simple_cnn.ipynb"
        notebook = json.loads(path.read_text(encoding="utf-8"))
        (parameters,) = (cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
        training = {"cell_type": "code", "id": "train", "metadata": {}, "outputs": [], "source": TRAINING}
        notebook["cells"] = [parameters, training | {"execution_count": None}]
        path.write_text(json.dumps(notebook), encoding="utf-8")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HWR_")} | {
            "PYTHONPATH": str(folder),
            "XDG_CACHE_HOME": str(folder / "_build" / "cache"),
            "HWR_DATA_ROOT": str(self.data_root),
            "HWR_GIT_REVISION": "a test",
        }

    @property
    def data_root(self) -> Path:
        return self.folder / "_build" / "study" / "data"

    @property
    def results(self) -> Path:
        return self.folder / "_build" / "study" / "results"

    def write_profile(self, name: str, text: str) -> None:
        (self.folder / "config" / f"{name}.yaml").write_text(text)

    def start(self, *words: str, config: str = "profile=tiny") -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *words, "--config", config],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, config: str = "profile=tiny", code: int = 0) -> str:
        """Run snakemake and return what it prints."""
        process = self.start(*words, config=config)
        printed, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == code, printed
        return printed

    def scheduled(self) -> list[str]:
        """Return the datasets whose runs a dry run schedules."""
        printed = self.run("--dry-run")
        found = re.findall(r"wildcards: name=\S+-dataset-(\w+)-synthetic-", printed)
        assert bool(found) != ("Nothing to be done" in printed), printed
        return sorted(found)

    def folder_of(self, start: str) -> Path:
        (folder,) = self.results.glob(f"{start}*")
        return folder

    def training(self, start: str) -> int:
        """Return the number of the process that trains a run, or did."""
        (lock,) = (self.results / ".locks").glob(f"{start}*")
        return int(lock.read_text())

    def written(self) -> dict[str, int]:
        """Run id -> when its record was written; all records are valid."""
        return {run.name: (run / "record.json").stat().st_mtime_ns for run, _ in records.read_all(self.results)}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout whose runs have all been made, after snakemake and its job were killed in the middle."""
    made = Checkout(tmp_path_factory.mktemp("snakefile") / "a checkout")
    killed = made.start("--cores", "2")
    until(lambda: any(made.results.glob("letters-*/checkpoint.pt")) or killed.poll() is not None)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=LIMIT)
    run = made.folder_of("letters-synthetic")
    # the kernel of a notebook has a process group of its own
    with suppress(ProcessLookupError):
        os.kill(made.training("letters-"), signal.SIGKILL)
    assert (run / "checkpoint.pt").exists() and not (run / "record.json").exists()

    made.run("--cores", "2")
    assert len(made.written()) == 2
    return made


def test_a_killed_run_goes_on(checkout: Checkout) -> None:
    run = checkout.folder_of("letters-synthetic")
    record = records.read(run / "record.json")
    assert record["timing"]["sessions"] == 2
    assert len(record["history"]) == len(record["timing"]["epoch_seconds"])
    assert not (run / "checkpoint.pt").exists()


def test_nothing_but_records_schedules_a_run(checkout: Checkout) -> None:
    """Every file that could be touched or edited is."""
    before = checkout.written()
    for pattern in ("notebooks/*.ipynb", "hwr_utils/**/*.py", "config/*.yaml", "profiles/*/*", "Snakefile"):
        for path in checkout.folder.glob(pattern):
            if path.suffix == ".ipynb":
                notebook = json.loads(path.read_text(encoding="utf-8"))
                notebook["cells"].append({"cell_type": "markdown", "id": "more", "metadata": {}, "source": "More."})
                path.write_text(json.dumps(notebook), encoding="utf-8")
            else:
                path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    for path in checkout.data_root.rglob("*.gz"):
        path.touch()
    assert checkout.scheduled() == []

    record = checkout.folder_of("letters-") / "record.json"
    record.rename(record.with_name("elsewhere"))
    assert checkout.scheduled() == ["letters"]
    record.with_name("elsewhere").rename(record)

    record = checkout.folder_of("digits-") / "record.json"
    damaged = record.read_text(encoding="utf-8")[:-20]
    record.write_text(damaged, encoding="utf-8")
    assert checkout.scheduled() == ["digits"]
    assert record.read_text(encoding="utf-8") == damaged, "a dry run changes nothing"
    printed = checkout.run("--cores", "2")
    assert f"{record} is not valid. It is kept as record.json.damaged" in printed
    assert record.with_name("record.json.damaged").read_text(encoding="utf-8") == damaged
    after = checkout.written()
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {record.parent.name}
    executed = checkout.folder / "_build" / "study" / "notebooks" / "runs"
    assert len(list(executed.glob("*.ipynb"))) == 2


def test_what_waits_for_its_data_is_told_and_the_rest_goes_on(checkout: Checkout) -> None:
    checkout.write_profile(
        "waits", "train: [{architecture: simple_cnn, dataset: [kmnist, digits-synthetic], seed: [4, 5]}]"
    )
    printed = checkout.run("--dry-run", config="profile=waits")
    assert printed.count("2 runs wait for their data. kmnist:") == 1
    assert sorted(re.findall(r"wildcards: name=\S+?-dataset-(\S+)", printed)) == [
        *("digits-synthetic-seed-4", "digits-synthetic-seed-5"),
    ]


@pytest.mark.parametrize(
    ("config", "told"), [("profile=tinny", "did you mean 'tiny'?"), ("profil=tiny", "expected profile=NAME")]
)
def test_wrong_settings_are_told(checkout: Checkout, config: str, told: str) -> None:
    assert told in checkout.run("--dry-run", config=config, code=1)


def slurm_jobs(key: str) -> list[str]:
    """Return one property of all jobs that SLURM knows."""
    shown = subprocess.run(["scontrol", "show", "job"], capture_output=True, text=True, check=True).stdout
    return re.findall(rf"\b{key}=(\S+)", shown)


@pytest.mark.slow
def test_on_slurm_a_job_killed_for_time_is_submitted_again_and_goes_on(tmp_path: Path) -> None:
    """On a real SLURM, with its one node on this machine."""
    slurm = load_tool("slurm")
    with ExitStack() as stack:
        try:
            slurm.install()
            stack.enter_context(slurm.running())
        except slurm.NoSlurm as error:
            pytest.skip(f"no SLURM to try: {error}")
        checkout = Checkout(tmp_path / "checkout")
        process = checkout.start(
            *("--workflow-profile", "profiles/slurm", "--slurm-no-account", "--slurm-status-command", "squeue"),
            *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
            *("--latency-wait", "5"),
        )
        stack.callback(process.kill)
        until(lambda: any(checkout.results.glob("letters-*/checkpoint.pt")) or process.poll() is not None)
        # hold the training after its first epoch, until its time is over: SLURM counts in whole minutes
        training = checkout.training("letters-")
        os.kill(training, signal.SIGSTOP)
        (log,) = checkout.folder.glob(".snakemake/slurm_logs/rule_run/*letters*/*.log")
        subprocess.run(["scontrol", "update", f"JobId={log.stem}", "TimeLimit=1"], check=True)
        until(lambda: "TimeLimit" in slurm_jobs("Reason"))
        # a kernel sees that its parents have gone and ends; a stopped one does not, and here are no control groups
        os.kill(training, signal.SIGKILL)
        printed, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, printed
        assert sorted(slurm_jobs("JobState")) == ["COMPLETED", "COMPLETED", "TIMEOUT"]
    sessions = {
        record["config"]["dataset"]: record["timing"]["sessions"] for _, record in records.read_all(checkout.results)
    }
    assert sessions == {"digits-synthetic": 1, "letters-synthetic": 2}
