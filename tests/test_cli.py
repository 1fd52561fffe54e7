"""The command `hwr`: its arguments, its answers, and one clear message for bad input."""

import io
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from helpers import TINY, tiny, train_argv
from hwr_utils import cli, data, files, models, runs, training
from hwr_utils.__main__ import main
from hwr_utils.results import frame


def test_arguments_reach_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def watch(*arguments: Any) -> None:
        given.extend(arguments)
        raise cli.InputError("enough")

    monkeypatch.setattr(runs, "train_run", watch)
    monkeypatch.setattr(training, "choose_execution", lambda *how: how)
    argv = ["train", "--dataset", "custom:easy", "--recipe", "quick", "--seed", "3", "--device", "cuda:1"]
    argv += ["--precision", "bfloat16"]
    argv += [word for name, value in (TINY | {"classes": "012"}).items() for word in ("--set", f"{name}={value}")]
    assert cli.main([*argv, "--data-root", "d", "--results-dir", "r"]) == 2
    assert given == [tiny(seed=3, classes="012"), Path("r"), Path("d"), ("cuda:1", "bfloat16")]
    given.clear()
    assert cli.main(["train", "--dataset", "mnist"]) == 2
    config, results, data_root, how = given
    assert (config.architecture, config.recipe, config.seed) == ("simple_cnn", "paper", 0)
    assert (results, data_root, how) == (files.REPOSITORY / "results", data.default_root(), ("auto", None))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "mnits"], "'mnits'.*did you mean 'mnist'"),
        (["--set", "epochs="], "epochs=''"),
        (["--device", "cuda"], "device='cuda'"),
    ],
)
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
    assert output.err.startswith("hwr: error: ") and output.err.count("\n") == 1
    assert re.search(message, output.err)
    assert not list(results.glob("custom*"))


@pytest.mark.parametrize(
    ("raised", "code", "told"), [(FloatingPointError("step 9"), 2, "step 9"), (KeyboardInterrupt(), 130, "goes on")]
)
def test_a_run_that_does_not_end_is_told(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    told: str,
) -> None:
    def fail(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(models, "predict_logits", fail)
    assert main(train_argv(tiny(), root, tmp_path)) == code
    assert told in capsys.readouterr().err


def test_the_runs_are_printed_for_other_programs(capsys: pytest.CaptureFixture[str]) -> None:
    table = frame()
    assert cli.main(["runs", "mnist-", "--format", "csv"]) == 0
    read = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col="run")
    of_mnist = table[table.index.str.contains("mnist-")]
    assert list(read["accuracy"]) == list(of_mnist["accuracy"])
    assert list(read.columns) == [name for name in table.columns if name != "folder"]
