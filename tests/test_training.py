"""Training: it learns, keeps what it says it keeps, repeats itself, and trusts a checkpoint only when it is whole."""

import hashlib
import itertools
import math
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers import N_CLASSES, STEPS, easy_images, tiny
from hwr_utils import models, recipes, training
from hwr_utils.errors import DeviceError, InputError
from hwr_utils.recipes import RunConfig
from hwr_utils.training import FitResult

CPU = torch.device("cpu")
TRAIN, VALIDATION = easy_images(144, 0), easy_images(16, 1)
PLAIN = {"dropout": False}


def fit(config: RunConfig, checkpoint: Path | None = None) -> FitResult:
    return training.fit(config, N_CLASSES, TRAIN, VALIDATION, training.Execution(), checkpoint)


def same(first: FitResult, second: FitResult) -> bool:
    """Tell whether two results are the same bit for bit, times and sessions apart."""

    def bits(result: FitResult) -> tuple[Any, ...]:
        weights = [
            (name, value.numpy().tobytes()) for part in (result.best, result.last) for name, value in part.items()
        ]
        return weights, result.history, result.best_epoch

    return bits(first) == bits(second)


@pytest.fixture(scope="module")
def whole() -> FitResult:
    """Return the tiny run as it goes when nothing stops it."""
    return fit(tiny())


class Stop(Exception):
    """Stands for whatever ends a process."""


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Let the bar raise at that step."""
    made = itertools.count(1)

    class Bar(training.tqdm):  # type: ignore[misc,name-defined]
        def update(self, n: float | None = 1) -> None:
            if next(made) == steps:
                raise Stop

    monkeypatch.setattr(training, "tqdm", Bar)


# it learns


def test_the_engine_agrees_with_the_textbook_loop() -> None:
    """Compare with a loop that shares nothing with `fit` but the seed: plain Adam, plain layout, plain floats.

    It turns red when the optimizer does not step, the labels are mixed up, or the gradients are not cleared.
    """
    config = tiny(epochs=2, batch_size=50, **PLAIN)  # which leaves a smaller last batch
    result = fit(config)

    torch.manual_seed(config.seed)
    model = models.build("simple_cnn", N_CLASSES, 16, PLAIN)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.training["learning_rate"])

    def batch(images: np.ndarray) -> torch.Tensor:
        pixels = torch.tensor(images / 255, dtype=torch.float32)[:, None]
        return F.interpolate(pixels, size=(16, 16), mode="bilinear")

    for row in result.history:
        model.train()
        loss_sum, right, order = 0.0, 0, torch.randperm(144).numpy()
        for start in range(0, 144, 50):
            index = order[start : start + 50]
            logits, labels = model(batch(TRAIN[0][index])), torch.tensor(TRAIN[1][index])
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss_sum += float(loss.detach()) * len(index)
            right += int((logits.argmax(1) == labels).sum())
        assert row["train_loss"] == pytest.approx(loss_sum / 144, rel=1e-4)
        assert row["train_accuracy"] == pytest.approx(right / 144, abs=2 / 144)
        with torch.no_grad():
            logits, labels = model.eval()(batch(VALIDATION[0])), torch.tensor(VALIDATION[1])
        assert row["validation_loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-4)
        assert row["validation_accuracy"] == float((logits.argmax(1) == labels).float().mean())


def test_a_fault_is_in_training_and_in_what_is_read() -> None:
    images = torch.rand(3, 1, 16, 16)

    def answers(given: torch.Tensor, **options: Any) -> torch.Tensor:
        torch.manual_seed(0)
        with torch.no_grad():
            found: torch.Tensor = training.build(tiny(**PLAIN, **options), N_CLASSES).eval()(given)
        return found

    assert torch.allclose(answers(images, fault="raw_input"), answers(images * 255), rtol=1e-4)
    assert torch.allclose(answers(images, fault="double_softmax"), answers(images).softmax(1))
    # by hand: the loss of probabilities that are taken for logits cannot fall below that of (1, 0, 0, ...)
    least = math.log(math.e + N_CLASSES - 1) - 1
    assert fit(tiny(epochs=8, fault="double_softmax", **PLAIN)).history[-1]["validation_loss"] >= least


def test_adadelta_takes_the_step_of_its_paper() -> None:
    """Zeiler, algorithm 1: the first step is sqrt(eps / (0.05 g² + eps)) g, which is nearly the same for every g."""
    learner = training.begin(tiny(optimizer="adadelta", learning_rate=1.0, **PLAIN), N_CLASSES, training.Execution())
    weight = next(learner.network.parameters())
    before = weight.detach().clone()
    weight.grad = torch.full_like(weight, 0.5)
    learner.optimizer.step()
    expected = math.sqrt(1e-7 / (0.05 * 0.25 + 1e-7)) * 0.5
    assert torch.allclose(before - weight.detach(), torch.full_like(weight, expected), rtol=1e-3)


# what it keeps


def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> list[torch.Tensor]:
    """Let each epoch's validation end with a given loss; return the weights that each is given, as it is called."""
    given: list[torch.Tensor] = []

    def predict(model: torch.nn.Module, images: torch.Tensor, image_size: int) -> torch.Tensor:
        right = math.exp(-losses[len(given)])
        given.append(next(model.parameters()).detach().clone())
        row = torch.full((N_CLASSES,), (1 - right) / (N_CLASSES - 1))
        logits = row.repeat(len(images), 1)
        logits[torch.arange(len(images)), torch.from_numpy(VALIDATION[1])] = right
        return logits.log()

    monkeypatch.setattr(models, "predict_logits", predict)
    return given


@pytest.mark.parametrize(
    ("losses", "patience", "best", "ended"),
    [
        ([1.0, 0.5, 0.7, 0.6, 0.5, 0.1], 3, 2, 5),  # the same loss again is not a better one
        ([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], 5, 1, 6),  # patience and epochs run out together
        ([1.0, 0.5, 0.7, 0.2, 0.5, 0.6], None, 6, 6),  # images are held out to calibrate the scores, and choose nothing
    ],
)
def test_patience(
    monkeypatch: pytest.MonkeyPatch, losses: list[float], patience: int | None, best: int, ended: int
) -> None:
    given, config = scripted(monkeypatch, losses), tiny(epochs=6)
    result = fit(replace(config, training={**config.training, "patience": patience}))
    assert [row["validation_loss"] for row in result.history] == pytest.approx(losses[:ended], rel=1e-5)
    assert (result.best_epoch, len(given)) == (best, ended)
    assert len(result.epoch_seconds) == ended
    first = next(iter(result.best))
    assert torch.equal(result.best[first], given[best - 1])
    assert torch.equal(result.last[first], given[ended - 1])
    assert best == ended or not torch.equal(result.best[first], result.last[first])


def test_patience_outlasts_a_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    losses = [1.0, 0.5, 0.7, 0.6, 0.8, 0.1]
    config, checkpoint = tiny(epochs=6, patience=3), tmp_path / "checkpoint.pt"
    with monkeypatch.context() as patch:
        scripted(patch, losses)
        stop_after(patch, STEPS * 2 + 1)
        with pytest.raises(Stop):
            fit(config, checkpoint)
    scripted(monkeypatch, losses[2:])
    result = fit(config, checkpoint)
    assert (result.best_epoch, len(result.history)) == (2, 5)
    # and once more, from a checkpoint that is out of patience: nothing is trained any more
    monkeypatch.setattr(training, "train_one_epoch", None)
    assert same(fit(config, checkpoint), result)


# it repeats itself; test_resume.py kills it


def test_the_config_decides_every_bit(whole: FitResult) -> None:
    torch.rand(7)  # what was drawn before does not matter
    assert same(fit(tiny()), whole)
    for changed in ({"seed": 1}, {"schedule": "cosine"}):
        other = fit(tiny(**changed))
        assert not any(torch.equal(whole.last[name], other.last[name]) for name in whole.last)
    mean = fit(tiny(ema=0.9))  # of the weights, which a run then keeps: close to them, and the training is the same
    assert whole.history[0]["train_loss"] == mean.history[0]["train_loss"]
    assert 0 < max((whole.last[name] - mean.last[name]).abs().max() for name in whole.last) < 0.1


def test_a_run_that_was_stopped_amid_an_epoch_goes_on_from_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With all that the recipe `best` has: the mean of the weights, growing images, and new variants of them."""
    best = {"augmentation": "warp", "ema": 0.9, "label_smoothing": 0.1, "weight_decay": 0.02, "schedule": "cosine"}
    config, checkpoint = tiny(epochs=3, start_size=16, **best), tmp_path / "checkpoint.pt"
    whole = fit(config)
    monkeypatch.setattr(training, "SAVE_SECONDS", -1.0)  # after every step
    with monkeypatch.context() as patch:
        stop_after(patch, STEPS + 3)
        with pytest.raises(Stop):
            fit(config, checkpoint)
    step = Mock(wraps=torch.optim.AdamW.step)
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *arguments: step(*arguments))
    assert same(fit(config, checkpoint), whole)
    assert step.call_count == 3 * STEPS - (STEPS + 2), "no step is taken twice but the one that was stopped"


def test_images_grow_over_the_epochs() -> None:
    config = tiny(epochs=9, image_size=56, start_size=32)
    assert [training.input_size(config, epoch) for epoch in range(1, 10)] == [32, 32, 40, 40, 48, 48, 56, 56, 56]
    for size in (28, 56):
        assert {training.input_size(tiny(epochs=3, image_size=size), epoch) for epoch in (1, 2, 3)} == {size}


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    """Of 100 steps five warm up; of the 95 after them the first is at the top, and the middle one at the half."""
    rates = [training.cosine(step, 100) for step in range(101)]
    assert rates[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert (rates[52] + rates[53]) / 2 == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0, abs=1e-15)
    assert all(earlier > later for earlier, later in itertools.pairwise(rates[5:]))
    assert [training.cosine(step, 2) for step in range(2)] == [1, 1]


def test_each_step_has_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    config, taken, step = tiny(epochs=3, schedule="cosine"), list[float](), torch.optim.AdamW.step

    def noted(optimizer: torch.optim.AdamW, *arguments: Any) -> Any:
        taken.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    fit(config)
    expected = [config.training["learning_rate"] * training.cosine(step, 3 * STEPS) for step in range(3 * STEPS)]
    assert taken == pytest.approx(expected)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_good_epoch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: FitResult
) -> None:
    checkpoint, predict, factors = tmp_path / "checkpoint.pt", models.predict_logits, iter([1, 1, math.nan, 1, 1])
    monkeypatch.setattr(models, "predict_logits", lambda *arguments: predict(*arguments) * next(factors))
    with pytest.raises(FloatingPointError, match=r"step 27, in epoch 3 .*epoch 2"):
        fit(tiny(), checkpoint)
    assert same(fit(tiny(), checkpoint), whole)


# failures of a GPU


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB.\nMore."), r"2 GiB\. .* try batch_size=8"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure\nMore."), "epoch 3: CUDA error"),
    ],
)
def test_a_gpu_that_fails_is_told_and_the_run_goes_on_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    whole: FitResult,
    raised: Exception,
    message: str,
) -> None:
    train, epochs = training.train_one_epoch, itertools.count(1)

    def fail(*arguments: Any) -> Any:
        if next(epochs) == 3:
            raise raised
        return train(*arguments)

    checkpoint = tmp_path / "checkpoint.pt"
    monkeypatch.setattr(training, "train_one_epoch", fail)
    with pytest.raises(DeviceError, match=message):
        fit(tiny(), checkpoint)
    assert same(fit(tiny(), checkpoint), whole)


def test_half_precision_learns_nearly_the_same(tmp_path: Path) -> None:
    config, execution = tiny(epochs=3, **PLAIN), training.Execution(precision="bfloat16")
    plain = fit(config)
    result = training.fit(config, N_CLASSES, TRAIN, VALIDATION, execution, tmp_path / "checkpoint.pt")
    assert result.history[-1]["train_loss"] == pytest.approx(plain.history[-1]["train_loss"], rel=0.05)
    assert result.history != plain.history  # it was in half precision
    assert all(value.dtype == torch.float32 for value in result.best.values())
    again = training.fit(config, N_CLASSES, TRAIN, VALIDATION, execution, tmp_path / "checkpoint.pt")
    assert same(again, result)


# steps


@pytest.mark.parametrize(
    ("n", "batch_size", "processes", "sizes"),
    [
        (130, 64, 1, [64, 64, 2]),
        (129, 64, 1, [64, 65]),  # one image is no batch
        (131, 64, 2, [64, 67]),  # three are none for two processes
        (50, 64, 1, [50]),
        (5, 1, 1, [1, 1, 1, 1, 1]),
    ],
)
def test_steps_take_every_image_and_leave_no_batch_of_one(
    n: int, batch_size: int, processes: int, sizes: list[int]
) -> None:
    assert training.step_sizes(n, batch_size, processes) == sizes


def test_resnet50_trains_where_one_image_would_be_left_over() -> None:
    def trained(batch_size: int) -> FitResult:
        small = {"image_size": 32, "epochs": 1, "batch_size": batch_size}
        config = recipes.configure("custom:easy", "resnet50", "quick", **small)
        return training.fit(config, N_CLASSES, easy_images(33, 0), VALIDATION, training.Execution())

    assert math.isfinite(trained(16).history[0]["train_loss"])
    with pytest.raises(InputError, match="batch_size=1 is too small"):
        trained(1)


# checkpoints


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the checkpoint of the tiny run after its second epoch."""
    checkpoint = tmp_path_factory.mktemp("half") / "checkpoint.pt"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2 * STEPS + 1)
        with pytest.raises(Stop):
            fit(tiny(), checkpoint)
    return checkpoint.read_bytes()


class Trap:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> Any:
        """Name what to call."""
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[:5000] + bytes([content[5000] ^ 16]) + content[5001:]]
)
def test_training_begins_anew_after_a_damaged_checkpoint_which_is_kept(
    tmp_path: Path, half: bytes, whole: FitResult, damage: Callable[[bytes], bytes]
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(damaged := damage(half))
    with pytest.warns(UserWarning, match=r"checkpoint\.pt is damaged"):
        result = fit(tiny(), checkpoint)
    assert same(result, whole) and result.sessions == 1
    assert (tmp_path / "checkpoint.pt.damaged").read_bytes() == damaged
    assert same(fit(tiny(), checkpoint), whole)  # and its own checkpoint is a whole one


def test_a_checkpoint_runs_no_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"config": Trap()}, protocol=2)
    (tmp_path / "checkpoint.pt").write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(pickle.UnpicklingError):
        fit(tiny(), tmp_path / "checkpoint.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_checkpoint_of_another_config_is_refused_and_left(tmp_path: Path, half: bytes) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(half)
    with pytest.raises(InputError, match="belongs to another run"):
        fit(tiny(seed=1), checkpoint)
    assert checkpoint.read_bytes() == half
    assert list(tmp_path.iterdir()) == [checkpoint]


# devices


def test_a_device_that_is_absent_or_unknown_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training.choose_execution("cpu").device == CPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training.choose_execution("cuda:1").device == torch.device("cuda:1")
    for device in ("cuda:2", "gpu", "", "meta"):
        with pytest.raises(InputError, match=f"device='{device}' is unknown to torch"):
            training.choose_execution(device)
    monkeypatch.setenv("LOCAL_RANK", "3")  # the fourth process of torchrun, on a machine of two GPUs
    for device in ("auto", "cuda:0"):
        with pytest.raises(InputError, match="device='cuda:3' is unknown to torch"):
            training.choose_execution(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none")
def test_a_tiny_run_learns_on_cuda(tmp_path: Path) -> None:
    execution, checkpoint = training.choose_execution("cuda"), tmp_path / "checkpoint.pt"
    config = tiny(epochs=8, **PLAIN)
    result = training.fit(config, N_CLASSES, TRAIN, VALIDATION, execution, checkpoint)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"] / 5
    assert all(value.device == CPU for value in result.best.values())
    again = training.fit(config, N_CLASSES, TRAIN, VALIDATION, execution, checkpoint)
    assert again.history == result.history and again.sessions == 2
