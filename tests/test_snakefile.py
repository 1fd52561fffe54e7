"""The Snakefile makes what a profile lacks, goes on after a kill, and nothing but a record decides what it trains.

Everything runs as users run it, in a copy of the checkout with a tiny profile. The folder of the checkout has a name
that a shell, Snakemake and a regular expression would each like to read otherwise.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

import slurm
from helpers import LIMIT, copy_checkout, until
from hwr_utils import notebooks, records, results

PROFILE = """
data:
  digits-synthetic: {seed: 0, n_train: 40, n_test: 20}
  letters-synthetic: {seed: 0, n_train: 500, n_test: 30}
train:
  - {architecture: simple_cnn, recipe: quick, dataset: digits-synthetic, device: cpu, epochs: 1}
  - {architecture: simple_cnn, recipe: quick, dataset: letters-synthetic, device: cpu, epochs: 8}
"""


class Checkout:
    """A copy of the checkout with a tiny profile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_checkout(folder)
        (folder / "config" / "tiny.yaml").write_text(PROFILE)
        self.study = folder / "_build" / "study"
        self.data_root, self.results = self.study / "data", self.study / "results"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("HWR_")} | {
            "PYTHONPATH": str(folder),
            "XDG_CACHE_HOME": str(folder / "_build" / "cache"),
            "HWR_DATA_ROOT": str(self.data_root),
        }

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
        return sorted(re.findall(r"Training (\w+)-synthetic-", self.run("--dry-run")))

    def folder_of(self, start: str) -> Path:
        (folder,) = self.results.glob(f"{start}*")
        return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout whose runs have all been made, after snakemake and its job were killed in the middle."""
    made = Checkout(tmp_path_factory.mktemp("snakefile") / 'it\'s a {check}out: "[two]"')
    killed = made.start("runs", "--cores", "2")
    until(lambda: any(made.results.glob("letters-*/checkpoint.pt")) or killed.poll() is not None)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(timeout=LIMIT)
    killed.communicate(timeout=LIMIT)  # returns when the job, which writes to the same pipe, has ended too
    run = made.folder_of("letters-synthetic")
    assert (run / "checkpoint.pt").exists() and not (run / "record.json").exists()

    made.run("runs", "--cores", "2")
    assert len(results.load_all(made.results)) == 2
    return made


def test_a_killed_run_goes_on(checkout: Checkout) -> None:
    run = checkout.folder_of("letters-synthetic")
    record = records.read(run / "record.json")
    assert record["timing"]["sessions"] == 2
    assert len(record["history"]) == len(record["timing"]["epoch_seconds"])
    assert not (run / "checkpoint.pt").exists()


def test_nothing_but_records_schedules_a_run(checkout: Checkout) -> None:
    """Every file that could be touched or edited is; then one record is taken away, and the other damaged."""
    patterns = "notebooks/*.ipynb book/*.md hwr_utils/**/*.py config/*.yaml profiles/*/* Snakefile"
    for pattern in patterns.split():
        for path in checkout.folder.glob(pattern):
            path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    for path in checkout.data_root.rglob("*.gz"):
        path.touch()
    assert checkout.scheduled() == []

    record = checkout.folder_of("digits-") / "record.json"
    whole = record.read_text(encoding="utf-8")
    record.write_text(whole[:-20], encoding="utf-8")
    assert f"{record.relative_to(checkout.folder)} is damaged" in checkout.run("runs", "--cores", "2", code=1)
    record.unlink()
    assert checkout.scheduled() == ["digits"]
    record.write_text(whole, encoding="utf-8")


def test_what_waits_for_its_data_is_told_and_the_rest_goes_on(checkout: Checkout) -> None:
    profile = "train: [{architecture: simple_cnn, dataset: [kmnist, digits-synthetic], seed: [4, 5]}]"
    (checkout.folder / "config" / "waits.yaml").write_text(profile)
    printed = checkout.run("--dry-run", config="profile=waits")
    assert printed.count("2 runs wait for their data. kmnist:") == 1
    scheduled = sorted(re.findall(r"Training (\S+)-simple_cnn-paper-(s\d)", printed))
    assert scheduled == [("digits-synthetic", "s4"), ("digits-synthetic", "s5")]


def test_a_chapter_is_given_the_first_run_of_its_network(checkout: Checkout) -> None:
    (checkout.folder / "config" / "paged.yaml").write_text(f"{PROFILE}pages: [02_simple_cnn]\n")
    printed = checkout.run("--dry-run", "--printshellcmds", config="profile=paged")
    (command,) = re.findall(r"hwr_utils notebook 02_simple_cnn (.*) --output", printed)
    given = dict(zip((words := shlex.split(command))[1::3], words[2::3], strict=True))
    assert notebooks.check(notebooks.find("02_simple_cnn"), given)["epochs"] == 1
    assert {name: given[name] for name in ("dataset", "recipe", "seed", "results_dir")} == {
        **{"dataset": "digits-synthetic", "recipe": "paper", "seed": "0", "results_dir": "_build/study/results"},
    }


def test_a_page_is_executed_again_for_its_own_record(checkout: Checkout) -> None:
    """`make book` executes such pages, those of a network together; here it is asked which would be made anew."""
    other = next(results.RESULTS_DIR.glob("mnist-resnet50-*"))
    shutil.copytree(other, checkout.results / other.name)
    for architecture in ("simple_cnn", "resnet50"):
        (checkout.study / "book" / "runs" / architecture).mkdir(parents=True)
    checkout.run("pages_of_runs", "--touch", "--cores", "1")
    record = checkout.folder_of("digits-") / "record.json"
    record.write_text(record.read_text() + "\n")  # another date alone would not do: Snakemake compares small files
    printed = checkout.run("pages_of_runs", "--dry-run")
    shutil.rmtree(checkout.results / other.name)
    assert re.findall(r"Executing the pages of the runs of (\w+)", printed) == ["simple_cnn"]


def test_runs_on_other_images_go_when_a_set_is_drawn_anew(checkout: Checkout) -> None:
    (checkout.folder / "config" / "tiny.yaml").write_text(PROFILE.replace("n_train: 40", "n_train: 50"))
    checkout.run("runs", "--cores", "2")
    found = {
        run.config.dataset: run.record["dataset"]["drawn"]["n_train"] for run in results.load_all(checkout.results)
    }
    assert found == {"digits-synthetic": 50, "letters-synthetic": 500}


def slurm_jobs(key: str) -> list[str]:
    """Return one property of all jobs that SLURM knows."""
    shown = subprocess.run(["scontrol", "show", "job"], capture_output=True, text=True, check=True).stdout
    return re.findall(rf"\b{key}=(\S+)", shown)


@pytest.mark.slow
def test_on_slurm_a_job_killed_for_time_is_submitted_again_and_goes_on(tmp_path: Path) -> None:
    """On a real SLURM, with its one node on this machine."""
    with ExitStack() as stack:
        try:
            slurm.install()
            stack.enter_context(slurm.running())
        except slurm.NoSlurm as error:
            pytest.skip(f"no SLURM to try: {error}")
        checkout = Checkout(tmp_path / "checkout")
        process = checkout.start(
            *("runs", "--workflow-profile", "profiles/slurm", "--slurm-no-account", "--slurm-status-command", "squeue"),
            *("--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2"),
            *("--latency-wait", "5"),
        )
        stack.callback(process.kill)
        until(lambda: any(checkout.results.glob("letters-*/checkpoint.pt")) or process.poll() is not None)
        # hold the training after its first epoch, until its time is over: SLURM counts in whole minutes
        words = ["-m", "hwr_utils", "train", "--dataset", "letters-synthetic"]
        (training,) = (one.pid for one in psutil.process_iter(["cmdline"]) if (one.info["cmdline"] or [])[1:6] == words)
        os.kill(training, signal.SIGSTOP)
        (log,) = checkout.folder.glob(".snakemake/slurm_logs/rule_run/*letters*/*.log")
        subprocess.run(["scontrol", "update", f"JobId={log.stem}", "TimeLimit=1"], check=True)
        until(lambda: "TimeLimit" in slurm_jobs("Reason"))
        with suppress(ProcessLookupError):  # here are no control groups, which would have ended it
            os.kill(training, signal.SIGKILL)
        printed, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, printed
        assert sorted(slurm_jobs("JobState")) == ["COMPLETED", "COMPLETED", "TIMEOUT"]
    sessions = {run.config.dataset: run.record["timing"]["sessions"] for run in results.load_all(checkout.results)}
    assert sessions == {"digits-synthetic": 1, "letters-synthetic": 2}
