"""Measure exported files: each is run by the interpreter of its format, and compared with the network itself."""

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm.auto import tqdm

from hwr_utils import conversion, evaluation, models
from hwr_utils.tflite import Network, quiet

ROUNDS, TURN = 20, 10  # the formats take turns, of so many inferences, so many times
REFERENCE, CLOCK = "safetensors", "fp32.tflite"  # what answers, and what times, are compared with

Interpreter = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (1, 1, H, W) image -> (C,) logits


def interpreter(name: str, path: Path, model: nn.Module) -> Interpreter:
    """Open a file by the program that its format is made for, on one thread.

    Args:
        name: the format.
        path: the file; PyTorch takes `model` instead, which holds its weights.
        model: the network.
    """
    if name.endswith(".tflite"):
        return Network(path)
    if name.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with quiet():
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        def run_onnx(image: NDArray[np.float32]) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = session.run(None, {conversion.ONNX_INPUT: image})[0][0]
            return logits

        return run_onnx

    def run_torch(image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(torch.from_numpy(image))[0].numpy()
        return logits

    return run_torch


def measure(
    folder: Path,
    names: list[str],
    model: nn.Module,
    size: int,
    images: torch.Tensor,
    labels: NDArray[np.int64],
    reference: NDArray[np.float32],
) -> dict[str, dict[str, Any]]:
    """Run the files of a run over images, then let them take turns before the clock.

    Args:
        folder: where the files lie, as model.<format>.
        names: their formats, `REFERENCE` and `CLOCK` among them.
        model: the network that they were made of.
        size: side of its input in pixels.
        images: (N, H, W) uint8.
        labels: (N,) their true classes.
        reference: (N, C) the network's logits.

    Returns:
        For each format what `compare` says, and its `latency`.
    """
    interpreters = {name: interpreter(name, folder / f"model.{name}", model) for name in names}
    results = {}
    for name, run in interpreters.items():
        logits = reference
        if name != REFERENCE:
            logits = np.empty_like(reference)
            for index in tqdm(range(len(images)), desc=name, unit="image"):
                logits[index] = run(models.to_input(images[index : index + 1], size).numpy())
        results[name] = compare(labels, reference, logits)
    times = latencies(interpreters, models.to_input(images[:TURN], size).contiguous().numpy())
    return {name: results[name] | {"latency": times[name]} for name in names}


def compare(labels: NDArray[np.int64], reference: NDArray[np.float32], logits: NDArray[np.float32]) -> dict[str, Any]:
    """Compare the answers of a file with those of the network that it was made of.

    Args:
        labels: (N,) true classes.
        reference: (N, C) the network's logits.
        logits: (N, C) the file's.

    Returns:
        test: n, correct, accuracy, and low and high of its 95 % interval (Wilson's);
        change: the difference of the accuracies; mcnemar: images that only fp32, and only this file, gets right, and p;
        top1_agreement: share of the images that get the same answer; top5_agreement: mean share of the network's five
        best classes that are among the file's five best; largest_logit_difference.
    """
    ranked, expected = (np.argsort(-values, axis=1, kind="stable")[:, :5] for values in (logits, reference))
    correct, n = int((ranked[:, 0] == labels).sum()), len(labels)
    low, high = evaluation.wilson_interval(correct, n)
    only_fp32, only_this, p = evaluation.mcnemar(labels, expected[:, 0], ranked[:, 0])
    return {
        "test": {"n": n, "correct": correct, "accuracy": correct / n, "low": low, "high": high},
        "change": (only_this - only_fp32) / n,
        "mcnemar": {"only_fp32": only_fp32, "only_this": only_this, "p": p},
        "top1_agreement": float((ranked[:, 0] == expected[:, 0]).mean()),
        "top5_agreement": float((ranked[:, :, None] == expected[:, None, :]).any(axis=1).mean()),
        "largest_logit_difference": float(np.abs(logits - reference).max()),
    }


def latencies(interpreters: Mapping[str, Interpreter], images: NDArray[np.float32]) -> dict[str, dict[str, Any]]:
    """Time interpreters by turns, so that what slows one slows all; the first round warms up and does not count.

    Args:
        interpreters: by the names of their formats, `CLOCK` among them.
        images: (N, 1, H, W), of which each round runs `TURN`.

    Returns:
        For each: p50_ms and p95_ms of n single inferences, and ratio: by how much the median of a round was longer than
        that of `CLOCK` in the same round: median, low and high over the rounds.
    """
    seconds: dict[str, list[list[float]]] = {name: [] for name in interpreters}
    for _ in tqdm(range(ROUNDS + 1), desc="latency", unit="round"):
        for name, run in interpreters.items():
            turn = []
            for index in range(TURN):
                image = images[index % len(images)][None]
                start = time.perf_counter()
                run(image)
                turn.append(time.perf_counter() - start)
            seconds[name].append(turn)
    medians = {name: [statistics.median(turn) for turn in turns[1:]] for name, turns in seconds.items()}
    found = {}
    for name, turns in seconds.items():
        p50, p95 = np.percentile(1000 * np.array(turns[1:]), (50, 95))
        ratios = [own / clock for own, clock in zip(medians[name], medians[CLOCK], strict=True)]
        found[name] = {
            "p50_ms": round(float(p50), 4),
            "p95_ms": round(float(p95), 4),
            "n": ROUNDS * TURN,
            "ratio": {
                "median": round(statistics.median(ratios), 4),
                "low": round(min(ratios), 4),
                "high": round(max(ratios), 4),
            },
        }
    return found
