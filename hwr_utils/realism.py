"""Judge drawn hanzi by two figures: can a classifier tell them from real ones, and does a model trained on them read?

Both sides are of the same characters and go through the same import. Real samples never enter a record: numbers do.
"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from hwr_utils import evaluation, files, models, records, runs, synthesis
from hwr_utils.data import gnt, hwdb
from hwr_utils.errors import InputError
from hwr_utils.synthesis import hanzi
from hwr_utils.training import choose_execution

SCHEMA_VERSION = 1
SIZE = 56  # pixels a side
A_CLASS = 60  # samples of a class, real and drawn, that the classifier telling them apart sees, or is tested on
MOST = 150  # real samples of a class that are read
BATCH = 64
TRIALS = 3  # networks that tell real from drawn, each from other samples


def measure(
    real: str | Path,
    note: str,
    writers: int = 100,
    seed: int = 0,
    device: str = "auto",
    results_dir: str | Path | None = None,
) -> dict[str, Any]:
    """Measure the generator against real samples, and append that to `benchmarks/hanzi-realism.json`.

    Small networks are trained, each with a budget that is always the same:

    - `TRIALS` of them tell real samples from drawn ones, of each class equally many of both, so that the class tells
      nothing. Each learns from two thirds and is measured on the rest: there the drawn ones are by other writers. Its
      AUC is 1 where it always can, and 0.5 where nothing tells them apart. The budget is too small for it to converge,
      so the AUC differs by some hundredths between trainings: the mean counts, and the deviation tells how much;
    - one more learns the classes from the drawn samples alone, and reads real ones, at most `MOST` of a class.

    Args:
        real: GNT files, as `gnt.find` takes them; their characters are those that are drawn.
        note: what has changed in the generator since the last measurement.
        writers: drawn samples of each class.
        seed: of the writers and the networks.
        device: see `training.choose_device`.
        results_dir: None is `runs.RESULTS_DIR`.

    Returns:
        The record: schema_version, benchmark, measurements; each of these has created, generator_version, note,
        environment, real (name, sha256 and samples of each file, and classes), config (seed, writers, size,
        batch_size), auc (value, the mean of values, one a network; deviation of these, with n - 1; low
        and high of a 95 % interval of one network by Hanley and McNeil, which knows of the test samples alone; n_train
        and n_test of each network) and accuracy (value, correct, n, low and high of Wilson's 95 % interval, n_train).

    Raises:
        InputError: the real files are absent, hold fewer than two classes or too few samples of one; too few writers;
            an empty note; the device is absent; the results folder cannot be written.
    """
    if not note.strip():
        raise InputError("note is empty; a sentence on what has changed in the generator was expected.")
    if writers < A_CLASS:
        raise InputError(f"writers is {writers}; {A_CLASS} or more was expected.")
    execution = choose_execution(device)
    path = Path(results_dir or runs.RESULTS_DIR) / "benchmarks" / "hanzi-realism.json"
    record = records.read_json(path) if path.exists() else {"measurements": []}
    with tempfile.TemporaryDirectory() as scratch:
        manifest = hwdb.import_gnt([real], Path(scratch) / "real", hwdb.Options(SIZE, drop_others=True))
        images, labels, _ = _load(Path(scratch) / "real")
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) < 2 or counts.min() < A_CLASS:
            raise InputError(f"{real}: two classes or more with {A_CLASS} samples each were expected.")
        characters = "".join(gnt.LEVEL_1[label] for label in classes)
        drawn = _load(synthesis.write(synthesis.HANZI, scratch, seed, writers=writers, classes=characters) / "arrays")
    rng = np.random.Generator(np.random.PCG64(seed))
    few = [rng.permutation(np.flatnonzero(labels == label))[:MOST] for label in classes]
    chosen = np.sort(np.concatenate(few))
    images, labels = images[chosen], labels[chosen]
    labels, drawn_labels = np.searchsorted(classes, labels), np.searchsorted(classes, drawn[1])
    trials = [
        _tell_apart(images, labels, *drawn[::2], drawn_labels, seed + trial, execution.device)
        for trial in range(TRIALS)
    ]
    values = [trial["value"] for trial in trials]
    auc = {
        **{name: float(np.mean([trial[name] for trial in trials])) for name in ("value", "low", "high")},
        "values": values,
        "deviation": float(np.std(values, ddof=1)),
        "n_train": trials[0]["n_train"],
        "n_test": trials[0]["n_test"],
    }
    accuracy = _read(drawn[0], drawn_labels, images, labels, len(classes), seed, execution.device)
    measurement = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "generator_version": hanzi.VERSION,
        "note": note.strip(),
        "environment": runs.describe_environment(execution),
        "real": {
            "files": [
                {"name": Path(real).name, "sha256": files.sha256(Path(real)), "samples": manifest["samples"]}
                if Path(real).is_file()
                else {"name": source["name"], "sha256": source["sha256"], "samples": source["kept"]}
                for source in manifest["sources"][: 1 if Path(real).is_file() else None]
            ],
            "classes": characters,
        },
        "config": {"seed": seed, "writers": writers, "size": SIZE, "batch_size": BATCH},
        "auc": auc,
        "accuracy": accuracy,
    }
    record = {
        "schema_version": SCHEMA_VERSION,
        "benchmark": "hanzi-realism",
        "measurements": [*record["measurements"], measurement],
    }
    files.write_json(path, record)
    return record


def table(record: dict[str, Any]) -> str:
    """Return the measurements of a record as lines of text."""
    rows = [f"{'version':>7}{'AUC':>8}{'accuracy':>10}  {'95 %':17}{'n':>8}  on"]
    for done in record["measurements"]:
        auc, accuracy = done["auc"], done["accuracy"]
        interval = f"{accuracy['low']:.4f} to {accuracy['high']:.4f}"
        where = ", ".join(file["name"] for file in done["real"]["files"])
        rows.append(
            f"{done['generator_version']:7}{auc['value']:8.4f}{accuracy['value']:10.4f}  {interval:17}"
            f"{accuracy['n']:8,}  {where}: {done['note']}"
        )
    return "\n".join(rows)


def area_under_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return the area under the ROC curve, and the ends of its 95 % interval.

    It is the share of pairs, one of each kind, in which the positive one has the higher score; equal scores count one
    half. The interval is Hanley and McNeil's (Radiology 143, 1982).

    Args:
        scores: (N,) higher for what looks positive.
        positive: (N,) what is; at least one is, and one is not.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    p, q = int(positive.sum()), int((~positive).sum())
    area = float((ranks[positive].sum() - p * (p + 1) / 2) / (p * q))
    first, second = area / (2 - area), 2 * area * area / (1 + area)
    variance = (area * (1 - area) + (p - 1) * (first - area * area) + (q - 1) * (second - area * area)) / (p * q)
    half = 1.96 * max(variance, 0.0) ** 0.5
    return area, max(0.0, area - half), min(1.0, area + half)


def _load(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return images, labels and writers of an import, in memory."""
    images, labels, writers = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in hwdb.COLUMNS)
    return images, labels.astype(np.int64), writers.astype(np.int64)


def _tell_apart(
    real: NDArray[np.uint8],
    real_labels: NDArray[np.int64],
    drawn: NDArray[np.uint8],
    drawn_writers: NDArray[np.int64],
    drawn_labels: NDArray[np.int64],
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    rng = np.random.Generator(np.random.PCG64(seed))
    learn = A_CLASS * 2 // 3
    parts: list[tuple[list[Any], list[Any]]] = [([], []), ([], [])]  # of learning and test: indices real and drawn
    hands = rng.permutation(int(drawn_writers.max()) + 1)[:A_CLASS]  # the same for each class
    for label in range(int(real_labels.max()) + 1):
        mine = rng.permutation(np.flatnonzero(real_labels == label))[:A_CLASS]
        of_class = np.flatnonzero(drawn_labels == label)
        theirs = of_class[np.argsort(drawn_writers[of_class])][hands]
        for (ours, others), share in zip(parts, (slice(0, learn), slice(learn, None)), strict=True):
            ours.append(mine[share])
            others.append(theirs[share])
    images, kinds = [], []
    for ours, others in parts:
        chosen = np.concatenate([real[np.concatenate(ours)], drawn[np.concatenate(others)]])
        images.append(torch.from_numpy(chosen).to(device))
        kinds.append(np.arange(len(chosen)) < len(chosen) // 2)  # True for real
    torch.manual_seed(seed)
    model = nn.Sequential(*_block(1, 16), *_block(16, 32), *_block(32, 64), _Average(), nn.Linear(64, 2)).to(device)
    _fit(model, images[0], torch.from_numpy(kinds[0].astype(np.int64)).to(device), epochs=4, title="telling apart")
    logits = evaluation.predict_logits(model, images[1], SIZE).double().cpu().numpy()
    value, low, high = area_under_curve(logits[:, 1] - logits[:, 0], kinds[1])
    return {"value": value, "low": low, "high": high, "n_train": len(images[0]), "n_test": len(images[1])}


def _read(
    drawn: NDArray[np.uint8],
    drawn_labels: NDArray[np.int64],
    real: NDArray[np.uint8],
    labels: NDArray[np.int64],
    n_classes: int,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    torch.manual_seed(seed)
    blocks = [*_block(1, 16), *_block(16, 32), *_block(32, 64), *_block(64, 128)]
    model = nn.Sequential(*blocks, _Average(), nn.Linear(128, n_classes)).to(device)
    images, targets = (torch.from_numpy(array).to(device) for array in (drawn, drawn_labels))
    _fit(model, images, targets, epochs=6, title="learning to read")
    logits = evaluation.predict_logits(model, torch.from_numpy(real).to(device), SIZE)
    correct = int((logits.argmax(1).cpu().numpy() == labels).sum())
    low, high = evaluation.wilson_interval(correct, len(labels))
    value = correct / len(labels)
    return {"value": value, "correct": correct, "n": len(labels), "low": low, "high": high, "n_train": len(images)}


class _Average(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3))


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolve (3x3, stride 2), normalise, ReLU: half the side."""
    return [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def _fit(model: nn.Module, images: Tensor, labels: Tensor, epochs: int, title: str) -> None:
    """Train by AdamW and one cycle of the rate, with label smoothing."""
    steps = epochs * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    model.train()
    with tqdm(total=steps, unit="step", desc=title) as bar:
        for _ in range(epochs):
            order = torch.randperm(len(images)).to(images.device)
            for chosen in order[: len(images) // BATCH * BATCH].split(BATCH):
                optimizer.zero_grad()
                logits = model(models.to_input(images[chosen], SIZE))
                cross_entropy(logits, labels[chosen], label_smoothing=0.1).backward()
                optimizer.step()
                schedule.step()
                bar.update()
