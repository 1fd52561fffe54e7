"""The command `hwr`: its arguments, its answers, and one clear message for bad input."""

import io
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from helpers import TINY, tiny, train_argv, write_easy
from hwr_utils import cli, data, distributed, files, records, runs, training
from hwr_utils.results import find, frame


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data root with a small data set of one's own."""
    folder = tmp_path_factory.mktemp("data")
    write_easy(folder)
    return folder


def test_train_trains_and_says_where(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = train_argv(tiny(epochs=1), root, tmp_path)
    assert cli.main(argv) == 0
    run = find(tiny(epochs=1), tmp_path)
    assert run is not None
    test = run.record["test"]
    expected = f"{run.folder}: test accuracy {test['accuracy']:.4f} ({test['correct']} of 40)\n"
    assert capsys.readouterr().out == expected
    assert cli.main(argv) == 0  # which finds the record
    assert capsys.readouterr().out == expected


def test_arguments_reach_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def watch(*arguments: Any) -> None:
        given.extend(arguments)
        raise cli.InputError("enough")

    monkeypatch.setattr(runs, "train_run", watch)
    argv = ["train", "--dataset", "custom:easy", "--recipe", "quick", "--seed", "3", "--device", "cuda:1"]
    argv += ["--precision", "bfloat16", "--compile", "default"]
    argv += [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    assert cli.main([*argv, "--data-root", "d", "--results-dir", "r"]) == 2
    assert given == [tiny(seed=3), Path("r"), Path("d"), "cuda:1", "bfloat16", "default"]
    given.clear()
    assert cli.main(["train", "--dataset", "mnist"]) == 2
    config, results, data_root, *how = given
    assert (config.architecture, config.recipe, config.seed) == ("simple_cnn", "paper", 0)
    assert (results, data_root, how) == (files.REPOSITORY / "results", data.default_root(), ["auto", None, None])


BAD = [
    (["--dataset", "mnits"], "'mnits' is unknown, .*did you mean 'mnist'"),
    (["--dataset", "custom:../../etc"], "after 'custom:' come letters"),
    (["--dataset", "custom:absent"], "lacks train-images-idx3-ubyte.gz"),
    (["--architecture", "simple-cnn"], "architecture='simple-cnn' is unknown, .*did you mean 'simple_cnn'"),
    (["--recipe", "quik"], "recipe='quik' is unknown, .*did you mean 'quick'"),
    (["--seed", "-1"], "seed=-1 is not a whole number"),
    (["--set", "epoch=3"], "parameter 'epoch' is unknown for simple_cnn, .*did you mean 'epochs'"),
    (["--set", "epochs=0"], "epochs=0 is out of range, expected 1 to 10000"),
    (["--set", "epochs=three"], "epochs='three' is of type str, expected int"),
    (["--set", "epochs="], "epochs='' is of type str, expected int"),
    (["--set", "epochs=True"], "epochs=True is of type bool, expected int"),
    (["--set", "batch_size=-64"], "batch_size=-64 is out of range"),
    (["--set", "train_size=-1"], "train_size=-1 is out of range"),
    (["--set", "train_size=1000"], "train_size=1000 is more than the 144 training images"),
    (["--set", "learning_rate=nan"], "learning_rate=nan is out of range"),
    (["--set", "learning_rate=1e999"], "learning_rate=inf is out of range"),
    (["--set", "dropout=1"], "dropout=1 is of type int, expected bool"),
    (["--set", "=3"], "parameter '' is unknown"),
    (["--device", "gpu"], "device='gpu' is not there: torch sees cpu"),
    (["--device", "cuda"], "device='cuda' is not there: torch sees cpu"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=lambda value: " ".join(value) if type(value) is list else "")
def test_bad_input_is_told_in_one_message(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(training, "fit", None)
    results = tmp_path / "results"
    argv = ["train", "--dataset", "custom:easy", "--data-root", str(root), "--results-dir", str(results), *words]
    assert cli.main(argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("hwr: error: ") and "Traceback" not in output.err
    assert output.err.count("\n") == 1
    assert re.search(message, output.err)
    assert not list(results.glob("custom*"))


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["tran"],
        ["train"],  # --dataset is required
        ["train", "--dataset", "mnist", "--epoch", "3"],
        ["train", "--data", "mnist"],  # no abbreviations
        ["train", "--dataset", "mnist", "--seed", "1.5"],
        ["train", "--dataset", "mnist", "--set", "epochs"],
    ],
)
def test_wrong_usage_is_told(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_loss_that_is_no_number_is_told(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distributed, "predict_logits", lambda *_: torch.full((16, 4), torch.nan))
    assert cli.main(train_argv(tiny(), root, tmp_path)) == 2
    assert "the loss is no longer finite at step 9" in capsys.readouterr().err


def test_a_run_that_is_stopped_by_hand_says_so(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(distributed, "predict_logits", stop)
    assert cli.main(train_argv(tiny(), root, tmp_path)) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_an_assignment_is_a_name_and_a_value() -> None:
    assert cli._assignment("split=a=b") == ("split", "a=b")
    assert cli._assignment("learning_rate=1e-4") == ("learning_rate", 1e-4)


def test_every_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["train", "--help"], ["evaluate", "--help"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(argv)
        assert ended.value.code == 0
    output = capsys.readouterr().out
    assert "import-hwdb" in output and "--dataset" in output and "--on DATASET" in output


def test_the_runs_are_printed_for_other_programs(capsys: pytest.CaptureFixture[str]) -> None:
    table = frame()
    assert cli.main(["runs", "mnist-", "--format", "csv"]) == 0
    read = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col="run")
    of_mnist = table[table.index.str.contains("mnist-")]
    assert list(read["accuracy"]) == list(of_mnist["accuracy"])
    assert list(read.columns) == [name for name in table.columns if name != "folder"]
    assert cli.main(["runs", "mnist-", "--format", "latex"]) == 0
    told = capsys.readouterr().out
    assert told.count("\\\\\n") == 1 + len(of_mnist) and r"image\_size=32" in told


def test_bash_completes_commands_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    (tmp_path / "picture.png").touch()
    ask = 'eval "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_hwr; echo "${COMPREPLY[@]}"'
    for words, expected in ((["hwr", "comple"], "completion"), (["hwr", "predict", "pic"], "picture.png")):
        command = ["bash", "-c", ask, "bash", script, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.stdout.strip() == expected


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
