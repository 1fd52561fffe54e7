"""The benchmark compares like with like. Nothing here depends on time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwr_utils import benchmark, cli, data, models, recipes
from hwr_utils.errors import InputError

IMAGES, ROUNDS = 200, 5


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Time 200 digits that are drawn for it, as where MNIST is not at hand."""
    folder = tmp_path_factory.mktemp("benchmark")
    arguments = ["benchmark", "training", "--images", str(IMAGES), "--rounds", str(ROUNDS), "--device", "cpu"]
    places = ["--results-dir", str(folder / "results"), "--data-root", str(folder / "data")]
    with pytest.MonkeyPatch.context() as patch:
        # both loops' images are counted where they enter the network
        counts = {"channels_last": 0, "usual": 0}
        build = benchmark.models.build

        def counting(*args: Any) -> torch.nn.Module:
            model = build(*args)

            def count(_: Any, inputs: tuple[torch.Tensor]) -> None:
                weight = next(
                    parameter for parameter in model.parameters() if parameter.ndim == 4 and parameter.shape[1] > 1
                )
                ours = not weight.is_contiguous()
                counts["channels_last" if ours else "usual"] += len(inputs[0])

            model.register_forward_pre_hook(count)
            return model

        patch.setattr(benchmark.models, "build", counting)
        assert cli.main([*arguments, *places]) == 0
    assert counts == {"channels_last": IMAGES * (ROUNDS + 1), "usual": IMAGES * (ROUNDS + 1)}
    assert not (folder / "data").exists()
    found: dict[str, Any] = json.loads((folder / "results" / "benchmarks" / "training-cpu.json").read_text())
    return found


def test_the_record_says_what_was_timed(record: dict[str, Any]) -> None:
    assert record["schema_version"] == benchmark.SCHEMA_VERSION
    assert set(record) == {
        *("schema_version", "benchmark", "created", "environment", "config", "ours", "usual", "ratio"),
    }
    config = record["config"]
    assert (config["dataset"], config["published"]) == ("digits-synthetic", False)
    assert (config["images"], config["rounds"], config["batch_size"], config["steps"]) == (IMAGES, ROUNDS, 64, 4)
    assert {"device", "device_name", "torch", "torchvision", "cores", "threads", "load"} <= set(record["environment"])


def test_its_numbers_agree_with_each_other(record: dict[str, Any]) -> None:
    for name in ("ours", "usual"):
        loop = record[name]
        median = sorted(loop["seconds"])[ROUNDS // 2]
        assert len(loop["seconds"]) == ROUNDS
        assert loop["images_per_second"] == pytest.approx(IMAGES / median, rel=0.01)
        assert loop["milliseconds_per_step"] == pytest.approx(1000 * median / 4, rel=0.01)
    ratio = record["ratio"]
    pairs = zip(record["usual"]["seconds"], record["ours"]["seconds"], strict=True)
    assert ratio["rounds"] == pytest.approx([usual / ours for usual, ours in pairs], rel=0.02)
    assert (ratio["low"], ratio["high"]) == (min(ratio["rounds"]), max(ratio["rounds"]))
    assert ratio["median"] == sorted(ratio["rounds"])[ROUNDS // 2]


def test_both_loops_learn_alike(record: dict[str, Any]) -> None:
    ours, usual = record["ours"]["loss"], record["usual"]["loss"]
    for loss in (ours, usual):
        assert loss == sorted(loss, reverse=True), "the loss falls from round to round"
        assert loss[-1] < 0.95 * loss[0]
    # from the same weights; only the order of the images differs
    assert ours == pytest.approx(usual, rel=0.15)


def test_the_table_shows_the_record(record: dict[str, Any]) -> None:
    table = benchmark.table(record)
    assert f"{record['ratio']['median']:.2f} times as fast" in table
    assert all(f"{record[name]['milliseconds_per_step']:.2f}" in table for name in ("ours", "usual"))


@pytest.mark.parametrize("name", ["images", "rounds"])
def test_impossible_sizes_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name}=0 is out of range"):
        benchmark.training(**{name: 0}, device="cpu", results_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mnist_is_taken_where_it_is(data_root: Path) -> None:
    if not any((data_root / folder).is_dir() for folder in data.entry("mnist").folders):
        pytest.skip(f"mnist is not under {data_root}: set HWR_DATA_ROOT to the folder that holds MNIST/raw")
    assert benchmark._digits(64, data_root, Path("unused")).name == "mnist"


def test_attempts_are_compared_to_the_first_and_a_failure_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(model: torch.nn.Module, mode: str) -> torch.nn.Module:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", broken)
    places = ["--results-dir", str(tmp_path), "--data-root", str(tmp_path / "data")]
    assert cli.main(["benchmark", "attempts", "--images", "128", "--rounds", "3", "--device", "cpu", *places]) == 0
    record = json.loads((tmp_path / "benchmarks" / "attempts-cpu.json").read_text())
    assert [way["predicted"] for way in record["attempts"]] == [way.predicted for way in benchmark.ATTEMPTS["cpu"]]
    first, half, compiled = record["attempts"]
    assert (first["precision"], half["precision"], compiled["compile"]) == ("float32", "bfloat16", "default")
    assert first["ratio"]["rounds"] == [1.0] * 3
    pairs = zip(first["seconds"], half["seconds"], strict=True)
    assert half["ratio"]["rounds"] == pytest.approx([slow / fast for slow, fast in pairs], rel=0.02)
    assert half["loss"] == pytest.approx(first["loss"], rel=0.05) and half["loss"] != first["loss"]
    assert "no compiler here" in compiled["failed"] and "ratio" not in compiled
    table = capsys.readouterr().out
    assert "failed" in table and f"{half['ratio']['median']:.2f}" in table


def test_the_usual_loop_takes_the_size_that_ours_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = recipes.configure("digits-synthetic", "simple_cnn", image_size=32)
    images, labels = np.zeros((4, 28, 28), np.uint8), np.arange(4)
    build, seen = models.build, []

    def watched(*args: Any) -> torch.nn.Module:
        model = build(*args)
        model.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
        return model

    monkeypatch.setattr(benchmark.models, "build", watched)
    benchmark._usual(config, images, labels, torch.device("cpu"), 1, tmp_path)()
    assert seen == [(4, 1, 32, 32)]


def test_the_bytes_of_a_step_are_counted_by_hand() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, stride=2, padding=1),  # 8 x 8 in, 4 x 4 x 4 out
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 10),
    )
    values = 3 * (64 + 64) + 8 * 64 + 5 * 64 + 5 * 64 + 3 * (64 + 10)
    assert benchmark.activation_bytes(network, 8) == 2 * values
    assert benchmark.activation_bytes(network, 8, value_bytes=4) == 4 * values


def test_resnet50_is_bound_by_batch_normalisation_and_not_by_its_products() -> None:
    moved = benchmark.activation_bytes(models.build("resnet50", 10, 224, {"pooling": "global"}), 224)
    assert 450e6 < moved < 550e6  # MB; 4.8 TB/s through it are about 10,000 images a second
