"""What several test modules share: small data that is easy to learn, and processes that die where a test wants.

Run as a program, as torchrun does, this file is `hwr` with a request of where it stops.
"""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from hwr_utils import files, recipes
from hwr_utils.data import gnt
from hwr_utils.data.hwdb import import_gnt
from hwr_utils.data.idx import write_idx
from hwr_utils.device import recognizer
from hwr_utils.recipes import RunConfig

torch.set_num_threads(1)  # as in the processes below: how many there are may change the order of sums

N_CLASSES = 4
LIMIT = 300  # seconds after which a process that should have answered is given up


def easy_images(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw (n, 28, 28) uint8 images of a faint bar in noise, and its place (0 to 3), which is the class, as int64."""
    rng = np.random.Generator(np.random.PCG64(seed))
    labels = np.arange(n) % N_CLASSES
    images = rng.integers(0, 180, (n, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[3 + 6 * label : 7 + 6 * label, 4:24] += 60
    return images, labels


def write_easy(data_root: Path, name: str = "easy", n_train: int = 160, n_test: int = 40, seed: int = 0) -> str:
    """Write easy images as the IDX files of a data set of one's own; return its name for a config."""
    folder = data_root / "custom" / name
    for prefix, n, part in (("train", n_train, 0), ("t10k", n_test, 1)):
        images, labels = easy_images(n, 2 * seed + part)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels.astype(np.uint8))
    return f"custom:{name}"


def write_hands(data_root: Path, name: str = "hands", writers: int = 10) -> str:
    """Write easy images as GNT files, 16 a writer, and import them at 28x28; return the set's name for a config."""
    sources = data_root / "gnt" / name
    sources.mkdir(parents=True)
    for number in range(writers):
        images, labels = easy_images(16, number)
        images[:, [2, -3], 2:-2] = images[:, 2:-2, [2, -3]] = 255  # a frame, so that all are cropped alike
        samples = zip((gnt.encode("啊阿埃挨"[label]) for label in labels), 255 - images, strict=True)
        (sources / f"{number}.gnt").write_bytes(gnt.serialize(samples))
    import_gnt([sources], data_root / "custom" / name, size=28, margin=2, workers=1)
    return f"custom:{name}"


# small enough for a second, and with dropout, so that a run depends on the random state at every step
TINY: dict[str, Any] = {"epochs": 4, "batch_size": 16, "learning_rate": 5e-4, "image_size": 16, "dropout": True}
STEPS = 9  # an epoch: 160 images, less a tenth for validation, by 16


def tiny(dataset: str = "custom:easy", seed: int = 0, **changed: Any) -> RunConfig:
    """Return the config of a run that takes a second."""
    return recipes.configure(dataset, "simple_cnn", "quick", seed, **TINY | changed)


def train_argv(config: RunConfig, data_root: Path, results_dir: Path) -> list[str]:
    """Return the arguments of `hwr` that train a tiny config."""
    given = dict(config.training) | dict(config.model)
    values = [f"{name}={value}" for name, value in given.items() if value is not None]
    return [
        *("train", "--dataset", config.dataset, "--recipe", "quick", "--seed", str(config.seed), "--device", "cpu"),
        *("--data-root", str(data_root), "--results-dir", str(results_dir)),
        *(word for value in values for word in ("--set", value)),
    ]


def environment() -> dict[str, str]:
    """Return the environment of a process that trains in a test."""
    return dict(os.environ) | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


# processes of `hwr` are forked from one that has spent the seconds of importing torch
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["hwr_utils.cli", "hwr_utils.runs", "torch._dynamo", "fastjsonschema"])


def start(argv: list[str], where: str = "", count: int = 0, gate: Path | None = None) -> BaseProcess:
    """Start `hwr` in a process of its own.

    Args:
        argv: arguments of `hwr`.
        where: "step", "before replace", "after replace", or nothing.
        count: the how-many-th passage there stops it, from 1.
        gate: a FIFO to wait at when stopped, until its writer closes it; without one, it kills itself there.
    """
    request = {"argv": argv, "where": where, "count": count, "gate": gate}
    process = FORKS.Process(target=_child, args=(request,), daemon=True)
    process.start()
    return process


def ended(process: BaseProcess) -> int | None:
    """Return the exit status of a process when it has ended; minus the signal that killed it."""
    process.join(LIMIT)
    return process.exitcode


def write_network(path: Path, weights: np.ndarray, shape: tuple[int, ...]) -> None:
    """Write a TFLite file of one layer: (C, K) float32 weights over the K pixels of an image of this shape."""
    model = schema.ModelT()
    model.version = 3
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    model.operatorCodes = [code]
    graph = schema.SubGraphT()
    model.subgraphs, model.buffers, graph.tensors = [graph], [schema.BufferT()], []
    for name, sides in ((b"image", shape), (b"weights", weights.shape), (b"logits", (1, len(weights)))):
        tensor, buffer = schema.TensorT(), schema.BufferT()
        tensor.name, tensor.shape, tensor.type = name, list(sides), schema.TensorType.FLOAT32
        tensor.buffer = len(model.buffers)
        if name == b"weights":
            buffer.data = np.frombuffer(weights.astype("<f4").tobytes(), np.uint8)
        model.buffers.append(buffer)
        graph.tensors.append(tensor)
    layer = schema.OperatorT()
    layer.inputs, layer.outputs = [0, 1, -1], [2]
    layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    layer.builtinOptions = schema.FullyConnectedOptionsT()
    graph.inputs, graph.outputs, graph.operators = [0], [2], [layer]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())


def describe_network(path: Path, size: int, **parts: Any) -> None:
    """Write the model.json of a network's file that takes images of a size; `parts` are at least classes and image."""
    description = {
        "schema_version": recognizer.SCHEMA_VERSION,
        "input": {"shape": [1, 1, size, size]},
        "files": {path.name: {"sha256": files.sha256(path)}},
    }
    files.write_json(path.with_name("model.json"), description | parts)


MADE_HERE = {".git", ".venv", "_build", "data", "node_modules", ".hypothesis", ".snakemake"}


def copy_checkout(target: Path) -> None:
    """Copy the checkout without what was made in it."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        made_here = MADE_HERE if Path(folder) == files.REPOSITORY else set()  # hwr_utils/data is another
        return {name for name in names if name in made_here or name == "__pycache__" or name.endswith("_cache")}

    shutil.copytree(files.REPOSITORY, target, ignore=left_out)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "the other process did not do it"
        time.sleep(0.01)


# What follows runs in the processes.


def _patch(where: str, stop: Callable[[], None], count: int) -> None:
    """Call `stop` after the `count`-th step of the optimizer, or before or after the `count`-th file is replaced."""
    from hwr_utils import training

    passages = itertools.count(1)
    replace = os.replace

    class Bar(training.tqdm):  # type: ignore[misc,name-defined]
        def update(self, n: float | None = 1) -> None:
            super().update(n)
            if next(passages) == count:
                stop()

    def replace_or_stop(source: str, target: str) -> None:
        here = next(passages) == count
        if here and where == "before replace":
            stop()
        replace(source, target)
        if here:
            stop()

    if where == "step":
        training.tqdm = Bar  # type: ignore[misc]
    else:
        os.replace = replace_or_stop  # type: ignore[assignment]


def _child(request: dict[str, Any]) -> None:
    from hwr_utils.__main__ import main

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def wait() -> None:
        with open(request["gate"], "rb") as gate:
            gate.read()

    if request["where"] and request.get("rank") in (None, os.environ.get("RANK")):
        _patch(request["where"], wait if request["gate"] else die, request["count"])
    sys.exit(main(request["argv"]))


if __name__ == "__main__":
    _child(json.loads(sys.argv[1]))
