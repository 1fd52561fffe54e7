"""A profile is checked before anything runs, and tells which of its runs have no valid record."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from helpers import write_easy
from hwr_utils import cli, files, grid, recipes, results
from hwr_utils.errors import InputError

PROFILE = """
data:
  digits-synthetic: {seed: 0, n_train: 30, n_test: 20}
train:
  - {architecture: simple_cnn, recipe: quick, dataset: digits-synthetic, seed: [0, 1], epochs: 1}
pages: [02_simple_cnn]
"""
COMMITTED = sorted(path.parent for path in results.RESULTS_DIR.glob("mnist-simple_cnn-paper-*/record.json"))[:2]


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of profiles with one, tiny.yaml, whose edition is beside it."""
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(PROFILE)
    monkeypatch.setattr(grid, "CONFIG", folder)
    monkeypatch.setattr(grid, "OUT", tmp_path / "out")
    return folder


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("\ntrain:", "\ntrian:", "'trian'"),
        ("n_train: 30", "n_train: -1", "n_train=-1"),
        ("dataset: digits-synthetic", "dataset: hiragana-synthetic", "'hiragana-synthetic'"),
        ("epochs: 1", "epochs: 0", "epochs=0"),
        ("epochs: 1", "epochs: 1, epochs: 2", "twice"),
        ("epochs: 1", "epochs: {a: 1}", "epochs must be"),
        ("architecture: simple_cnn, ", "", "architecture"),
        (PROFILE, "a: [", "is damaged"),
    ],
)
def test_a_wrong_profile_is_refused(profiles: Path, old: str, new: str, told: str) -> None:
    assert old in PROFILE
    (profiles / "tiny.yaml").write_text(PROFILE.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        grid.read("tiny")
    assert told in str(caught.value) and "tiny.yaml" in str(caught.value)


def test_values_are_read_as_they_are_meant(profiles: Path) -> None:
    """To YAML, 1e-4 is a text and 010 is eight."""
    (profiles / "tiny.yaml").write_text(PROFILE.replace("seed: [0, 1], epochs: 1", "seed: 010, learning_rate: 1e-4"))
    (job,) = grid.read("tiny").jobs
    assert (job.config.seed, job.config.training["learning_rate"]) == (10, 1e-4)


def test_an_experiment_is_planned_before_it_is_run() -> None:
    """What the plan must say of one experiment is not taken from the next."""
    plan = (files.REPOSITORY / "book" / "plan.md").read_text(encoding="utf-8")
    sections = {part.partition(":")[0]: part for part in plan.split("\n## ")}
    for block in yaml.safe_load((grid.CONFIG / "plan.yaml").read_text(encoding="utf-8"))["train"]:
        for row in ("Margin", "Stopping rule"):
            assert re.search(rf"^\| {row} \|.*\w.*\|$", sections[block["experiment"]], re.M), block["experiment"]


def test_runs_wait_for_a_gpu_and_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWR_DATA_ROOT", str(tmp_path))
    write_easy(tmp_path)
    simple, deep, absent = (
        grid.Job(recipes.configure(dataset, "simple_cnn"), device)
        for dataset, device in (("custom:easy", "auto"), ("custom:easy", "cuda:1"), ("mnist", "cpu"))
    )
    able, reasons = grid.runnable([simple, deep, absent], gpu=False)
    assert able == [simple] and len(reasons) == 2
    assert grid.runnable([simple, deep], gpu=True) == ([simple, deep], [])


def test_the_command_line_lists_and_removes_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in COMMITTED:
        shutil.copytree(folder, tmp_path / folder.name)
    place = ["--results-dir", str(tmp_path)]
    first, second = (folder.name for folder in COMMITTED)
    assert cli.main(["runs", *place]) == 0
    assert {first, second} <= set(capsys.readouterr().out.split())
    for unsure in (
        ["--remove"],
        ["", "--remove"],
        [first, first[:5], "--remove"],
        [first, "--remove", "--format", "csv"],
    ):
        assert cli.main(["runs", *unsure, *place]) == 2
    assert {path.name for path in tmp_path.iterdir()} == {first, second}
    (tmp_path / first / "record.json").write_text("{")  # a damaged run stands in nobody's way, and can be removed
    assert [cli.main(["runs", *part, *place]) for part in ([second], [first], [])] == [0, 2, 2]
    assert cli.main(["runs", "--remove", str(tmp_path / first), *place]) == 0
    assert [path.parent.name for path in tmp_path.glob("*/record.json")] == [second]
    capsys.readouterr()
    assert cli.main(["runs", "--missing", "plan", *place]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(grid.read("plan").jobs) > 0
    assert all(line.startswith("hwr train --dataset ") for line in lines)
