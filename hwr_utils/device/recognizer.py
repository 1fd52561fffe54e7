"""Read characters in pictures with an exported network: what `hwr predict` does, with LiteRT, NumPy and Pillow alone.

Beside the exported files of a run lies `model.json`, which says what they take and what their outputs mean:

- `classes`: the character of each logit.
- `input`: `shape` [1, 1, H, W] float32; 0 is paper and 1 is ink. With one channel, (1, H, W, 1) is the same bytes.
- `image`: the `size`, `margin` and `centre` with which `preprocessing.from_picture` makes an image of a picture. Then
  `preprocessing.to_input` divides by 255 and scales to H and W.
- `files`: bytes and SHA-256 of each file that it holds for, by name.
- `scores`: the logits are divided by `temperature` before the softmax, and a `Rejector` of the `weights`, `hidden` and
  `output` in `rejector` says whether the picture shows a character at all. Without them nothing is divided or declined.
- `run_id`, `dataset`, `architecture`, `weights_sha256`: where they come from.

LiteRT's interpreter may end the process on a damaged file. So a file comes to it only after its checksum has been
compared with model.json.
"""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import files, preprocessing, records, sources
from hwr_utils.errors import InputError, reading, warn

SCHEMA_VERSION = 3
DESCRIPTION = "model.json"
RANKED, DRAWN = 10, 16  # the greatest logits that a rejector sees in their order, and what it sees of the image
AGAIN = "Copy the file and its model.json anew together, or make both again with `hwr quantize RUN`."


@dataclass(frozen=True)
class Rejector:
    """A classifier of characters against scribbles, which looks at `features` in two steps.

    `weights` (F - DRAWN,) sum up what the logits say. The sum, the greatest logits and what is seen of the image go
    into the units of `hidden` (U, 1 + 1 + RANKED + DRAWN), whose first column is added to each; `output` (1 + U,) sums
    up the units that are above 0, and adds its first number. All are float64.
    """

    weights: NDArray[np.float64]
    hidden: NDArray[np.float64]
    output: NDArray[np.float64]

    def accepts(self, logits: NDArray[np.floating], images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Tell (...) which of the prepared images (..., H, W), with logits (..., C), show a character."""
        return self.judge(features(logits, images)) >= 0

    def judge(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a number (...) for features (..., F): 0 or more for a character."""
        told = rows[..., :-DRAWN] @ self.weights
        seen = np.concatenate([told[..., None], rows[..., -RANKED - DRAWN :]], axis=-1)
        units = np.maximum(self.hidden[:, 0] + seen @ self.hidden[:, 1:].T, 0)
        return np.asarray(self.output[0] + units @ self.output[1:])


def features(logits: NDArray[np.floating], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the features (..., F) that a rejector sees of prepared images (..., H, W) and their logits (..., C).

    Of the logits it sees all, their squares, and the `RANKED` greatest in order; where there are fewer, the least
    stands for those that are missing. Of an image it sees what `_look` returns, and the squares of that.
    """
    wide, shape = logits.astype(np.float64), images.shape
    drawn = np.array([_look(image) for image in images.reshape(-1, *shape[-2:])]).reshape(*shape[:-2], DRAWN // 2)
    ranked = -np.sort(-wide, axis=-1)[..., np.minimum(np.arange(RANKED), wide.shape[-1] - 1)]
    return np.concatenate([wide, wide**2, ranked, drawn, drawn**2], axis=-1)


def _look(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how much ink and edge (counted twice) an image (H, W) has, in sides, and which ways its edges run (8,).

    The ways are the means of the cosine and of the sine, the latter without its sign, of two, four and eight times the
    angle at which brightness grows. Hatching runs in fewer ways than characters do, and a coil in all.
    """
    light = image.astype(np.float64)
    across = np.diff(light[:-1] + light[1:], axis=1)  # in each square of four pixels
    down = np.diff(light[:, :-1] + light[:, 1:], axis=0)
    steep, angle = np.hypot(across, down), np.arctan2(down, across)
    amounts = np.array([light.sum(), steep.sum()]) / (255 * image.shape[1])
    turned = [(steep * np.exp(1j * fold * angle)).sum() / (steep.sum() + 1) for fold in (2, 4, 8)]
    return np.concatenate([amounts, np.real(turned), np.abs(np.imag(turned))])


class Network:
    """A network from a TFLite file, on one thread, that takes an image of `input_shape`.

    Raises an InputError where the interpreter refuses the file.
    """

    def __init__(self, path: str | Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._path = path
        with reading(path, "a file that LiteRT's interpreter takes", AGAIN), quiet():  # it greets on stderr
            self._interpreter: Any = Interpreter(model_content=Path(path).read_bytes(), num_threads=1)
            self._interpreter.allocate_tensors()
            taken, given = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self.input_shape = tuple(map(int, taken["shape"]))
        self._input, self._output = taken["index"], given["index"]

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (C,) logits of an image; an InputError where one of them is not a finite number."""
        self._interpreter.set_tensor(self._input, image)
        self._interpreter.invoke()
        logits: NDArray[np.float32] = self._interpreter.get_tensor(self._output)[0]
        if not np.isfinite(logits).all():
            raise InputError(f"{self._path} answers with numbers that are not finite, so it is damaged. {AGAIN}")
        return logits


@dataclass(frozen=True)
class Recognizer:
    """A network with what is needed to use it."""

    network: Network
    classes: tuple[str, ...]
    form: dict[str, Any]  # size, margin and centre of the images that it learned from
    temperature: float  # by which logits are divided
    rejector: Rejector  # says which pictures show no character
    weights_sha256: str | None  # of the weights that it was made of

    def read(self, picture: str | Path, k: int = 10) -> dict[str, Any]:
        """Return what is read in a picture, as `hwr predict --json` prints it; errors as `preprocessing.from_picture`.

        The k `candidates` are the likeliest characters, the best first, each with its probability by the network, 0..1.
        They are guesses if the picture is not `likely` to show a character, or shows `several`.
        """
        image = preprocessing.from_picture(picture, **self.form)
        logits, several = self.logits(image), preprocessing.is_several(image, self.classes)
        scores = softmax(logits, self.temperature)
        best = np.argsort(-scores, kind="stable")[:k]
        candidates = [{"character": self.classes[label], "score": float(scores[label])} for label in best]
        likely = not several and bool(self.rejector.accepts(logits, image))
        return {"file": str(picture), "likely": likely, "several": several, "candidates": candidates}

    def logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the (C,) logits of a prepared image: (size, size) uint8, white on black."""
        return self.network(preprocessing.to_input(image, self.network.input_shape))


def predict(pictures: Iterable[str | Path], model: str | Path, k: int = 10) -> Iterator[dict[str, Any]]:
    """Yield what `Recognizer.read` returns for each picture.

    Pictures are files, and folders at any depth; the model is a .tflite file, with the model.json of its run beside it.
    Raises an InputError where k is not positive, or the network is missing, damaged or does not fit; or, after all
    others have been read, for the pictures that could not be.
    """
    if k < 1:
        raise InputError(f"top-k={k} is out of range, expected 1 or more.")
    recognizer, found, faults = load(model), [], []
    for given in pictures:
        try:
            inside = {str(one.path) for one in sources.walk(Path(given))} if os.path.isdir(given) else {str(given)}
            if not inside:
                raise InputError(f"{given} holds no picture. Give pictures, or folders of them.")
            found += sorted(inside, key=sources.natural)
        except InputError as error:
            faults.append(str(error))
    n = len(found) + len(faults)
    for picture in found:
        try:
            yield recognizer.read(picture, k)
        except InputError as error:
            faults.append(str(error))
    if len(faults) == 1:
        raise InputError(f"1 of {n} pictures could not be read: {faults[0]}" if n > 1 else faults[0])
    for fault in faults:
        warn(fault)
    if faults:
        raise InputError(f"{len(faults)} of {n} pictures could not be read. The warnings say why.")


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Turn (..., C) logits, divided by a temperature, into (..., C) scores, each 0..1, that sum to 1."""
    wide = logits.astype(np.float64) / temperature
    scores: NDArray[np.float64] = np.exp(wide - wide.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def load(path: str | Path) -> Recognizer:
    """Open a .tflite file by the model.json beside it; an InputError where they are missing or do not match."""
    path, place = Path(path), Path(path).with_name(DESCRIPTION)
    with reading(path, "a .tflite file", "Make it with `hwr quantize RUN`."):
        digest = files.sha256(path)
    found = read_description(place)
    with reading(place, "the description of a model", AGAIN):
        known = [entry["sha256"] for name, entry in found["files"].items() if name.endswith(".tflite")]
        classes, form = tuple(found["classes"]), {name: found["image"][name] for name in ("size", "margin", "centre")}
        nothing = {"weights": np.zeros(2 * len(classes) + RANKED), "hidden": np.zeros((1, 2 + RANKED + DRAWN))}
        scores = {"temperature": 1.0, "rejector": nothing | {"output": np.zeros(2)}} | found.get("scores", {})
        heat = float(scores["temperature"])
        rejector = Rejector(**{name: np.array(given, np.float64) for name, given in scores["rejector"].items()})
        if not (0 <= 2 * form["margin"] < form["size"] <= preprocessing.MAX_SIDE and 1e-3 <= heat <= 1e3):
            raise ValueError(f"found {form} and a temperature of {heat}")
    if digest not in known:
        raise InputError(f"{path} is no file that {place} knows as .tflite: it is damaged, or another one. {AGAIN}")
    network = Network(path)
    with reading(place, "the description of a model", AGAIN):  # all is used once, which tells what does not fit
        image = preprocessing.prepare(np.ones((1, 1), np.uint8), **form)
        logits = network(np.zeros(network.input_shape, np.float32))
        if len(set(filter(str.strip, classes))) != len(logits):
            raise ValueError(f"found the classes {', '.join(classes[:5])}, and the network has {len(logits)}")
        rejector.accepts(logits, image)
    return Recognizer(network, classes, form, heat, rejector, found.get("weights_sha256"))


def read_description(path: Path) -> dict[str, Any]:
    """Read a model.json; an InputError where it is missing, is not JSON or is of another edition of hwr."""
    found = records.read_json(path, AGAIN)
    if (version := found.get("schema_version")) != SCHEMA_VERSION:
        raise InputError(f"{path} is of another edition: schema_version {version}, not {SCHEMA_VERSION}. {AGAIN}")
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries print and warn, even from C++, off the terminal; this silences all threads of the process."""
    with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null), ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings(action="ignore"))
        undo.callback(logging.disable, logging.root.manager.disable)
        logging.disable()
        undo.callback(os.close, copy := os.dup(2))  # of what C++ writes to
        undo.callback(os.dup2, copy, 2)
        os.dup2(null.fileno(), 2)
        yield
