"""A profile is checked before anything runs; an edition is made once, goes on where it stopped, keeps nothing old."""

import fcntl
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers import LIMIT, write_easy
from hwr_utils import cli, notebooks, recipes, records, results, runs, study
from hwr_utils.errors import InputError

PROFILE = """
data:
  digits-synthetic: {seed: 0, n_train: 30, n_test: 20}
  letters-synthetic: {seed: 0, n_train: 60, n_test: 30}
train:
  - architecture: simple_cnn
    recipe: quick
    dataset: digits-synthetic
    seed: [0, 1]
    epochs: 1
  - architecture: simple_cnn
    recipe: quick
    dataset: letters-synthetic
    epochs: 1
pages: [09_comparison]
"""
FIRST = ["runs", "runs", "02_simple_cnn", "09_comparison"]


class Edition:
    """An edition of a tiny profile, whose notebooks train in this process and show nothing."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.config, self.out = folder / "config", folder / "out"
        self.executed: list[str] = []  # since the last make: notebook, or "runs" for a further run
        self.built = 0
        self.fail_at = ""
        self.config.mkdir()
        self.write(PROFILE)
        monkeypatch.setattr(study, "CONFIG", self.config)
        monkeypatch.setattr(study, "_execute", self.execute)
        monkeypatch.setattr(study, "_workers", lambda: 1)  # so that the order is known
        monkeypatch.setattr(study, "SECONDS", dict.fromkeys(study.SECONDS, 0.0))
        monkeypatch.setattr(study, "_build_book", self.build)
        monkeypatch.setenv("HWR_GIT_REVISION", "none")  # git is slow to ask for each of so many runs

    def write(self, text: str) -> None:
        (self.config / "tiny.yaml").write_text(text)

    def execute(self, name: Path, values: Mapping[str, Any], output: Path) -> None:
        assert notebooks.check(name, values) == values
        what = "runs" if output.parent.name == "runs" else output.stem
        if what == self.fail_at:
            raise notebooks.NotebookError("it was stopped")
        self.executed.append(what)
        if "dataset" in values:
            given = {key: value for key, value in values.items() if key not in study.PLACES}
            config = recipes.configure(architecture="simple_cnn", **given)
            runs.train_run(config, values["results_dir"], values["data_root"], "cpu")
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(dict(values)))

    def build(self, profile: str, out: Path) -> Path:
        self.built += 1
        return out / "html" / "index.html"

    def make(self) -> list[str]:
        """Make what is to be made; return what was executed."""
        self.executed.clear()
        study.study("tiny", self.out)
        return list(self.executed)

    @property
    def results(self) -> Path:
        return self.out / "results"

    @property
    def created(self) -> dict[str, str]:
        """Run id -> when its record was written."""
        return {
            folder.name: str((folder / "record.json").stat().st_mtime_ns)
            for folder, _ in records.read_all(self.results)
        }


@pytest.fixture
def edition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edition:
    return Edition(tmp_path, monkeypatch)


def test_an_edition_is_made_once(edition: Edition) -> None:
    page = study.study("tiny", edition.out)
    assert page == edition.out / "html" / "index.html"
    assert edition.executed == FIRST
    assert len(edition.created) == 3
    assert sorted(path.name for path in (edition.out / "notebooks").iterdir()) == [
        *("02_simple_cnn.ipynb", "09_comparison.ipynb", "runs"),
    ]
    before = edition.created
    assert edition.make() == []
    assert edition.created == before
    assert edition.built == 2, "the book's own command knows whether it is up to date"


def test_it_goes_on_where_it_was_stopped(edition: Edition) -> None:
    edition.fail_at = "02_simple_cnn"
    with pytest.raises(notebooks.NotebookError):
        edition.make()
    before = edition.created
    assert len(before) == 2 and edition.built == 0
    edition.fail_at = ""
    assert edition.make() == FIRST[2:]
    assert before.items() <= edition.created.items()


def test_steps_run_side_by_side_but_not_before_what_they_need(
    edition: Edition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs meet in their work, which one after the other they could not; when one fails the other is finished."""
    monkeypatch.setattr(study, "_workers", lambda: 2)
    meeting, finished = threading.Barrier(2, timeout=LIMIT), []

    def execute(name: Path, values: Mapping[str, Any], output: Path) -> None:
        if "dataset" in values:
            meeting.wait()
        if "letters" in output.stem:
            raise notebooks.NotebookError("it was stopped")
        finished.append(output.stem)

    monkeypatch.setattr(study, "_execute", execute)
    with pytest.raises(notebooks.NotebookError, match="it was stopped"):
        edition.make()
    (other,) = finished
    assert "digits-synthetic-seed-1" in other
    assert [path.stem for path in (edition.out / "stamps").glob("02*")] == [other]


def test_a_notebook_runs_in_a_process_of_its_own_and_tells_what_failed(tmp_path: Path) -> None:
    output = tmp_path / "done.ipynb"
    study._execute(notebooks.find("09_comparison"), {"results_dir": str(tmp_path / "none")}, output)
    assert str(tmp_path / "none") in output.read_text(encoding="utf-8")
    with pytest.raises(notebooks.NotebookError, match=r"^09_comparison\.ipynb: parameter 'result' is unknown"):
        study._execute(notebooks.find("09_comparison"), {"result": "x"}, output)


def test_what_is_lost_is_made_again_with_all_that_shows_it(edition: Edition) -> None:
    edition.make()
    (edition.out / "notebooks" / "09_comparison.ipynb").unlink()
    assert edition.make() == ["09_comparison"]
    next(edition.results.glob("letters-*/record.json")).unlink()
    assert edition.make() == ["runs", "09_comparison"]
    (edition.out / "data/synthetic/digits-synthetic/raw/train-labels-idx1-ubyte.gz").unlink()
    assert edition.make() == ["runs", "02_simple_cnn", "09_comparison"]


def test_other_sizes_replace_the_data_and_its_runs(edition: Edition) -> None:
    edition.make()
    before = edition.created
    facts = edition.results / "datasets" / "digits-synthetic" / "facts.json"
    facts.parent.mkdir(parents=True)
    facts.write_text("{}")
    edition.write(PROFILE.replace("n_train: 30", "n_train: 40"))
    assert edition.make() == ["runs", "02_simple_cnn", "09_comparison"]
    assert not facts.exists()
    assert len(edition.created) == 3
    assert [name.split("-")[0] for name in before if edition.created.get(name) == before[name]] == ["letters"]


def test_a_smaller_grid_leaves_no_old_record(edition: Edition) -> None:
    edition.make()
    edition.write(PROFILE.replace("seed: [0, 1]", "seed: 0"))
    assert edition.make() == ["02_simple_cnn", "09_comparison"], "the chapter has one run less to show"
    assert len(edition.created) == 2


def test_other_code_trains_anew(edition: Edition, monkeypatch: pytest.MonkeyPatch) -> None:
    edition.make()
    before = edition.created
    monkeypatch.setattr(study, "_hash", lambda folder: f"edited {folder.name}" if folder.name == "hwr_utils" else "")
    assert edition.make() == FIRST, "the drawing code is another as well"
    assert set(before) == set(edition.created) and not set(before.items()) & set(edition.created.items())


def test_code_that_does_not_train_only_executes_anew(edition: Edition, monkeypatch: pytest.MonkeyPatch) -> None:
    edition.make()
    before, same = edition.created, study._hash
    monkeypatch.setattr(study, "_hash", lambda folder: "edited" if folder.name == "hwr_utils" else same(folder))
    assert edition.make() == FIRST
    assert edition.created == before
    monkeypatch.setattr(runs, "source_hash", lambda: "edited")
    monkeypatch.setattr(study, "_hash", lambda folder: "again" if folder.name == "hwr_utils" else same(folder))
    with pytest.raises(InputError, match="source_hash"):
        edition.make()  # the made-up hash breaks the schema, after the older record has gone
    assert len(edition.created) < len(before)


@pytest.mark.parametrize("status", [0, 2])
def test_the_book_is_built_by_its_own_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    commands = []

    def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(study.subprocess, "run", run)
    if status:
        with pytest.raises(InputError, match="the book was not built"):
            study._build_book("quick", tmp_path)
    else:
        assert study._build_book("quick", tmp_path) == tmp_path / "html" / "index.html"
    assert commands[0][1:] == [
        *("book/build.py", "--edition", "quick", "--results", str(tmp_path / "results")),
        *("--notebooks", str(tmp_path / "notebooks"), "--out", str(tmp_path / "html")),
    ]


def test_two_at_once_are_refused(edition: Edition) -> None:
    edition.out.mkdir()
    with (edition.out / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another `hwr study` is at work"):
            edition.make()
    assert not edition.results.exists()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("\ntrain:", "\ntrian:", "key 'trian' is unknown, expected one of data, train, pages; did you mean 'train'?"),
        ("digits-synthetic: {", "digit-synthetic: {", "did you mean 'digits-synthetic'?"),
        ("n_train: 30", "ntrain: 120", "did you mean 'n_train'?"),
        ("n_train: 30", "n_train: -1", "digits-synthetic: n_train=-1 is not a whole number from 0"),
        ("n_train: 30", "n_train: many", "n_train='many' is not a whole number from 0"),
        ("architecture: simple_cnn", "architecture: simpel_cnn", "did you mean 'simple_cnn'?"),
        ("  - architecture: simple_cnn\n", "  - nothing\n  - architecture: simple_cnn\n", "found 'nothing'"),
        ("dataset: digits-synthetic", "dataset: digits", "Did you mean"),
        ("dataset: digits-synthetic", "dataset: hiragana-synthetic", "'hiragana-synthetic' is unknown"),
        ("recipe: quick", "recipe: quikc", "did you mean 'quick'?"),
        ("epochs: 1", "epoch: 1", "did you mean 'epochs'?"),
        ("epochs: 1", "epochs: 0", "epochs=0 is out of range"),
        ("epochs: 1", "epochs: one", "epochs='one' is of type str, expected int"),
        ("epochs: 1", "results_dir: elsewhere", "key 'results_dir' is unknown"),
        ("[09_comparison]", "[09_comparsion]", "did you mean '09_comparison'?"),
        ("[09_comparison]", "09_comparison", "pages: found '09_comparison', expected a list"),
        (PROFILE, "- a list", "the file: found ['a list']"),
        (PROFILE, "a: [", "not readable as YAML"),
        (PROFILE, "data: [digits-synthetic]", "data: found ['digits-synthetic']"),
    ],
)
def test_a_wrong_profile_is_refused_before_anything_runs(edition: Edition, old: str, new: str, told: str) -> None:
    assert old in PROFILE
    edition.write(PROFILE.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        edition.make()
    assert told in str(caught.value) and "tiny.yaml" in str(caught.value)
    assert not edition.out.exists()


def test_an_unknown_profile_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["study", "--profile", "papr"]) == 2
    assert "did you mean 'paper'?" in capsys.readouterr().err


def test_the_paper_grid_holds_what_the_study_claims() -> None:
    everything = study.grid("paper")
    hanzi = [job for job in everything if job.config.architecture == "inception_hccr"]
    jobs = [job for job in everything if job not in hanzi]
    assert {job.config.dataset for job in jobs} == {
        *("mnist", "kmnist", "emnist-letters", "kmnist-sample", "emnist-letters-sample"),
    }
    splits = {
        (job.config.dataset, job.config.training["split"], job.needs_gpu, job.config.training["epochs"])
        for job in hanzi
    }
    assert splits == {
        *(("hwdb1.1", split, True, 20) for split in ("random", "writer", "official")),
        *(("hanzi-synthetic", split, True, 20) for split in ("random", "writer")),
        *(("hwdb-subset", "random", True, 20), ("hwdb-subset", "random", False, 3)),
        *(("hanzi-synthetic", split, False, 3) for split in ("random", "writer")),
    }
    assert len(hanzi) == 3 * (len(splits) - 2) + 3, "of what two cores make of drawn hanzi there are three runs"
    assert {job.config.seed for job in hanzi} == {0, 1, 2}
    options = {"simple_cnn": ("dropout", [False, True]), "resnet50": ("pooling", ["global", "avg4"])}
    for architecture, (option, values) in options.items():
        for dataset in {job.config.dataset for job in jobs}:
            chosen = [job for job in jobs if (job.config.dataset, job.config.architecture) == (dataset, architecture)]
            found = [(job.config.model[option], job.config.seed) for job in chosen]
            assert sorted(found) == sorted((value, seed) for value in values for seed in (0, 1, 2))
            assert all(job.needs_gpu == (architecture == "resnet50") for job in chosen)
    assert {job.config.recipe for job in jobs} == {"paper"}
    assert all(notebooks.check(notebooks.find(job.notebook), job.parameters) == job.parameters for job in everything)


def test_the_quick_grid_trains_on_what_it_draws() -> None:
    plan = study.read_profile("quick")
    assert {job.config.dataset for job in plan.jobs} == set(plan.data)
    assert {job.config.architecture for job in plan.jobs} == set(recipes.MODEL_OPTIONS), "every network really trains"


def test_what_is_missing_is_listed_with_its_command(
    edition: Edition, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study, "OUT", edition.out)
    assert len(study.missing("tiny")) == 3
    edition.make()
    assert study.missing("tiny") == study.missing("tiny", edition.results) == []
    next(edition.results.glob("letters-*/record.json")).unlink()
    (job,) = study.missing("tiny")
    assert job.command == results.command(job.config)
    capsys.readouterr()
    assert cli.main(["study", "--profile", "tiny", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["recorded", "recorded", "missing"]
    assert lines[-1].endswith(job.command)


def test_runs_wait_for_a_gpu_and_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWR_DATA_ROOT", str(tmp_path))
    write_easy(tmp_path)
    simple, deep, absent = (
        study.Job("02_simple_cnn", {"dataset": dataset} | device, recipes.configure(dataset, "simple_cnn"))
        for dataset, device in zip(
            ("custom:easy", "custom:easy", "mnist"), ({}, {"device": "cuda:1"}, {"device": "cpu"}), strict=True
        )
    )
    able, reasons = study.runnable([simple, deep, absent], gpu=False)
    assert able == [simple] and len(reasons) == 2
    assert reasons[0] == "1 runs wait for a CUDA GPU." and reasons[1].startswith("1 runs wait for their data. ")
    assert study.runnable([simple, deep], gpu=True) == ([simple, deep], [])
    # without being told, it asks for NVIDIA's driver
    monkeypatch.setattr(study.shutil, "which", lambda name: "/bin/true" if name == "nvidia-smi" else None)
    assert study.runnable([deep]) == ([deep], [])


def break_config(folder: Path) -> None:
    record = records.read_json(folder / "record.json")
    record["config"]["seed"] = 7
    (folder / "record.json").write_text(json.dumps(record))


DAMAGES: list[Callable[[Path], object]] = [
    lambda folder: (folder / "record.json").write_text("{"),
    lambda folder: (folder / "record.json").write_text('{"schema_version": 1}'),
    lambda folder: (folder / "record.json").write_bytes(b"\xff"),
    lambda folder: (folder / "predictions.npz").unlink(),
    lambda folder: (folder / "predictions.npz").write_bytes((folder / "predictions.npz").read_bytes()[:-30]),
    break_config,
]


def test_invalid_records_are_found_with_their_run(edition: Edition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "OUT", edition.out)
    todo, invalid = study.unrecorded("tiny")
    assert (len(todo), invalid) == (3, [])
    edition.make()
    assert study.unrecorded("tiny") == ([], [])
    folder = next(edition.results.glob("digits-synthetic-simple_cnn-custom-s1-*"))
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    stranger = edition.results / "mnist-simple_cnn-paper-s0-01234567"
    stranger.mkdir()
    (stranger / "record.json").write_text("{")
    for damage in DAMAGES:
        damage(folder)
        (job,), (path,) = study.unrecorded("tiny")
        assert (job.config.dataset, job.config.seed, path) == ("digits-synthetic", 1, folder / "record.json")
        for file, content in kept.items():
            file.write_bytes(content)
    assert study.unrecorded("tiny") == ([], [])
    assert study.set_aside(folder / "record.json") == folder / "record.json.damaged"
    assert [job.config.seed for job in study.unrecorded("tiny")[0]] == [1]


def test_what_the_snakefile_makes_is_what_the_study_takes(edition: Edition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "OUT", edition.out)
    assert study.undrawn("tiny") == ["digits-synthetic", "letters-synthetic"]
    for name in study.undrawn("tiny"):
        study.draw("tiny", name)
    assert study.undrawn("tiny") == []
    plan = study.read_profile("tiny")
    assert len({job.name for job in plan.jobs}) == 3
    for job in plan.jobs:
        command, name, *words = plan.notebook_arguments(job)
        assert (command, name, words.pop(0)) == ("notebook", job.notebook, "--output")
        assert Path(words.pop(0)).parent == edition.out / "notebooks" / "runs"
        values = {key: notebooks.parse(value) for key, value in zip(words[1::3], words[2::3], strict=True)}
        assert {key: value for key, value in values.items() if key not in study.PLACES} == job.parameters
        runs.train_run(job.config, values["results_dir"], values["data_root"], "cpu")
    before = edition.created
    assert edition.make() == FIRST, "the pages are made, and find the records"
    assert edition.created == before


def test_data_that_was_lost_is_drawn_again_for_its_records(edition: Edition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "OUT", edition.out)
    edition.make()
    before = edition.created
    labels = edition.out / "data/synthetic/digits-synthetic/raw/train-labels-idx1-ubyte.gz"
    drawn = labels.read_bytes()
    labels.unlink()
    assert study.undrawn("tiny") == ["digits-synthetic"]
    study.draw("tiny", "digits-synthetic")
    assert labels.read_bytes() == drawn and edition.created == before
    edition.write(PROFILE.replace("n_train: 30", "n_train: 40"))
    study.draw("tiny", "digits-synthetic")
    assert [name.split("-")[0] for name in edition.created] == ["letters"], "they speak of other images"
    with pytest.raises(InputError, match="'hiragana-synthetic' is unknown"):
        study.draw("tiny", "hiragana-synthetic")


def test_a_profile_without_data_adds_to_the_records(
    edition: Edition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train where the data is, and say what waits for its data."""
    done: list[dict[str, Any]] = []
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("HWR_DATA_ROOT", str(edition.out / "data"))
    monkeypatch.setattr(notebooks, "execute", lambda name, values, **_: done.append(values))
    edition.write("train:\n  - {architecture: simple_cnn, dataset: [digits-synthetic, kmnist], seed: [4, 5]}")
    folder = edition.out / "data"
    assert (
        cli.main(["synthesize", "digits-synthetic", "--n-train", "50", "--n-test", "20", "--data-root", str(folder)])
        == 0
    )
    assert study.study("tiny") is None
    assert done == [{"dataset": "digits-synthetic", "seed": seed} for seed in (4, 5)]
    assert "2 runs wait for their data. kmnist:" in capsys.readouterr().out


def test_nothing_to_do_needs_neither_torch_nor_papermill() -> None:
    """These take seconds to import."""
    code = (
        "import sys; from hwr_utils import cli, study; study.read_profile('quick');"
        "print({'torch', 'papermill'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_dataset_is_described_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--data-root", str(tmp_path / "data"), "--results-dir", str(tmp_path / "results")]
    assert cli.main(["describe", "digits-synthetic", *places]) == 2
    assert "hwr synthesize digits-synthetic" in capsys.readouterr().err
    for n_train in (60, 70):
        sizes = ["--n-train", str(n_train), "--n-test", "30", "--seed", "1"]
        assert cli.main(["synthesize", "digits-synthetic", *places[:2], *sizes]) == 0
        assert cli.main(["describe", "digits-synthetic", *places]) == 0
        folder = tmp_path / "results" / "datasets" / "digits-synthetic"
        facts = json.loads((folder / "facts.json").read_text())
        assert (facts["train"]["n"], facts["test"]["n"]) == (n_train, 30), "it is measured anew each time"
        assert records.read_arrays(folder / "samples.npz")["samples"].shape == (10, 10, 28, 28)
