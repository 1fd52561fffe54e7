"""Read characters in pictures with an exported network: what `hwr predict` does, without torch.

Beside the exported files of a run lies `model.json`, which says what they take and what their outputs mean:

- `classes`: the character of each logit.
- `input`: `shape` [1, 1, H, W] float32; 0 is paper and 1 is ink. With one channel, (1, H, W, 1) is the same bytes.
- `image`: how a picture becomes that: `preprocessing.from_file` with this `size` and `margin`; where `centre` is "mass"
  and not "box", also `preprocessing.centre_mass`; then `to_input`, which divides by 255 and scales to H and W where the
  network takes another size than the dataset's images have.
- `files`: bytes and SHA-256 of each file that it holds for, by name.
- `scores`: how sure the network is, see `calibration`. Its logits are divided by `temperature` before the softmax; and
  where `rejector` is there, a `Rejector` by its `weights` and `bias` says whether the picture shows a character at all.
  Without `scores`, the temperature is 1 and nothing is declined.
- `run_id`, `dataset`, `architecture`, `weights_sha256`: where they come from.
"""

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwr_utils import files, preprocessing, tflite
from hwr_utils.errors import InputError

SCHEMA_VERSION = 1
DESCRIPTION = "model.json"
RANKED = 10  # greatest logits that a rejector sees in their order


@dataclass(frozen=True)
class Candidate:
    """A character that a picture may show, and its score: its probability by the network, 0..1."""

    character: str
    score: float


@dataclass(frozen=True)
class Reading:
    """What was read in a picture.

    Attributes:
        picture: the file.
        candidates: the likeliest characters, best first.
        likely: does the picture show a character? If not, all candidates are guesses.
    """

    picture: str
    candidates: list[Candidate]
    likely: bool


@dataclass(frozen=True)
class Rejector:
    """A linear classifier of characters against scribbles, by a network's logits.

    Attributes:
        weights: (F,) float64, of `features`.
        bias: the limit is in it: 0 separates the two.
    """

    weights: NDArray[np.float64]
    bias: float

    def accepts(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Say of (..., C) logits whether they are those of a character (...)."""
        accepted: NDArray[np.bool_] = features(logits) @ self.weights + self.bias >= 0
        return accepted


def features(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return what a rejector sees of (..., C) logits: they, their squares, and the `RANKED` greatest, greatest first.

    Returns:
        (..., F), where F is 2 C + min(RANKED, C).
    """
    wide = logits.astype(np.float64)
    return np.concatenate([wide, wide**2, -np.sort(-wide, axis=-1)[..., :RANKED]], axis=-1)


@dataclass(frozen=True)
class Recognizer:
    """A network with what is needed to use it.

    Attributes:
        network: takes one image.
        classes: the C characters.
        size: of the prepared image, in pixels a side.
        margin: pixels that it leaves free around the ink.
        centre: what is in its middle: "box", the ink's, or "mass", its centre of mass.
        temperature: by which logits are divided.
        rejector: says which pictures show no character; None declines none.
    """

    network: tflite.Network
    classes: tuple[str, ...]
    size: int
    margin: int
    centre: str
    temperature: float = 1.0
    rejector: Rejector | None = None

    def read(self, picture: str | Path, k: int = 10) -> Reading:
        """Return the k likeliest characters of a PNG or JPEG file, and whether there is a likely one.

        Raises:
            InputError: the file cannot be read, is animated, is damaged, too large, or blank.
        """
        image = read_picture(picture, self.size, self.margin, self.centre)
        logits = self.network(to_input(image, self.network.input_shape))
        scores = softmax(logits, self.temperature)
        best = np.argsort(-scores, kind="stable")[:k]
        found = [Candidate(self.classes[label], float(scores[label])) for label in best]
        return Reading(str(picture), found, bool(self.accepts(logits)))

    def accepts(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Say of (..., C) logits whether they are those of a character (...)."""
        return np.ones(logits.shape[:-1], np.bool_) if self.rejector is None else self.rejector.accepts(logits)


def predict(pictures: Sequence[str | Path], model: str | Path, k: int = 10) -> Iterator[Reading]:
    """Yield what is read in each picture.

    Args:
        pictures: PNG or JPEG files.
        model: a .tflite file, with the model.json of its run beside it.
        k: how many candidates, at least 1.

    Raises:
        InputError: k is not positive; the network or a picture is missing, damaged or does not fit.
    """
    if k < 1:
        raise InputError(f"top-k={k} is out of range, expected 1 or more.")
    recognizer = load(model)
    for picture in pictures:
        yield recognizer.read(picture, k)


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Turn (..., C) logits, divided by a temperature, into (..., C) scores, each 0..1, that sum to 1."""
    wide = logits.astype(np.float64) / temperature
    scores: NDArray[np.float64] = np.exp(wide - wide.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def load(path: str | Path) -> Recognizer:
    """Open a .tflite file by the model.json beside it.

    Raises:
        InputError: one of the two is missing, damaged, or not made for the other.
    """
    path = Path(path)
    digest = files.sha256(tflite.read(path))
    place = path.with_name(DESCRIPTION)
    description = read_description(place)
    known = {entry["sha256"]: name for name, entry in description["files"].items()}
    if digest not in known:
        raise InputError(
            f"{path}: its SHA-256 is {digest[:12]}..., and {place} knows {len(known)} files, none of them this one. "
            "It is damaged, or of another run. Copy it anew together with its model.json, or make both again with "
            "`hwr quantize RUN`."
        )
    network = tflite.Network(path)
    shape, classes = tuple(description["input"]["shape"]), tuple(description["classes"])
    if network.input_shape != shape:
        raise InputError(f"{path} takes an image of {network.input_shape}, and {place} says {shape}. {_AGAIN}")
    if network.n_outputs != len(classes):
        raise InputError(
            f"{path} has {network.n_outputs} outputs, and {place} lists {len(classes)} classes; as many were expected. "
            f"{_AGAIN}"
        )
    image, scores = description["image"], description.get("scores", {"temperature": 1.0})
    framing = image["size"], image["margin"], image["centre"]
    given = scores.get("rejector")
    rejector = given and Rejector(np.array(given["weights"], np.float64), given["bias"])
    return Recognizer(network, classes, *framing, scores["temperature"], rejector)


_AGAIN = "Copy the model.json of its own run, or make both again with `hwr quantize RUN`."


def read_description(path: Path) -> dict[str, Any]:
    """Read and check a model.json.

    Raises:
        InputError: missing, no JSON, of another version, or without what this module's docstring lists.
    """
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}. It lies beside a .tflite file and names its classes. {_AGAIN}"
        ) from error
    except ValueError as error:  # broken UTF-8 too
        raise InputError(f"{path} is not JSON: {error}. {_AGAIN}") from error
    if wrong := _fault(description):
        raise InputError(f"{path}: {wrong}. {_AGAIN}")
    return dict(description)


def _fault(found: Any) -> str | None:
    """Say what a description lacks, or None. By hand: the schema library is not there where only LiteRT is."""
    if not isinstance(found, dict):
        return f"found a {type(found).__name__}, expected an object"
    if found.get("schema_version") != SCHEMA_VERSION:
        return f"schema_version is {found.get('schema_version')!r}, expected {SCHEMA_VERSION}"
    classes = found.get("classes")
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(one, str) and one for one in classes):
        return "the list of classes is missing or holds something else than two or more characters"
    given, image, listed = (_part(found, name) for name in ("input", "image", "files"))
    shape, size, margin = given.get("shape"), image.get("size"), image.get("margin")
    if not isinstance(shape, list) or len(shape) != 4 or shape[:2] != [1, 1] or not all(_whole(n, 1) for n in shape):
        return f"input/shape is {shape!r}, expected [1, 1, height, width]"
    if not (_whole(size, 1) and _whole(margin, 0) and 2 * margin < size):
        return f"image has size {size!r} and margin {margin!r}, expected whole numbers of pixels that leave room"
    if image.get("centre") not in ("box", "mass"):
        return f"image has centre {image.get('centre')!r}, expected 'box' or 'mass'"
    entries = [_part(listed, name).get("sha256") for name in listed]
    if not entries or not all(isinstance(digest, str) for digest in entries):
        return "files is missing, or one of them has no sha256"
    if "scores" in found:
        scores = _part(found, "scores")
        temperature, rejector = scores.get("temperature"), scores.get("rejector")
        if not (_real(temperature) and temperature > 0):
            return f"scores has temperature {temperature!r}, expected a number above 0"
        if rejector is not None:
            weights, bias = (_part(scores, "rejector").get(name) for name in ("weights", "bias"))
            n = 2 * len(classes) + min(RANKED, len(classes))
            if not isinstance(weights, list) or len(weights) != n or not all(map(_real, [*weights, bias])):
                return f"the rejector of scores is damaged, expected {n} numbers as weights and one as bias"
    return None


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = found.get(name)
    return value if isinstance(value, dict) else {}


def _whole(value: Any, low: int) -> TypeGuard[int]:
    return type(value) is int and low <= value <= 10_000


def _real(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(value)  # not isinstance, for which True is a number


def read_picture(path: str | Path, size: int, margin: int, centre: str = "box") -> NDArray[np.uint8]:
    """Return the character in a PNG or JPEG file as (size, size) uint8, white on black.

    Args:
        path: the file; a picture of this size is taken to be prepared.
        size: see `Recognizer`, as the next two.
        margin: pixels.
        centre: "box" or "mass".

    Raises:
        InputError: as `preprocessing.from_file`; and the file is animated, or shows nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # too large is an error below
        try:
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                prepared = picture.size == (size, size)
                frames = getattr(picture, "n_frames", 1) if picture.format == "PNG" else 1  # JPEGs may hold previews
        except Image.DecompressionBombError as error:
            raise InputError(f"{path} is too large: {error}. Scale it down.") from error
        except Exception:
            prepared, frames = False, 1  # what is wrong with it is said by from_file
        if frames > 1:
            raise InputError(f"{path} is animated: it has {frames} pictures, and one was expected. Save one alone.")
        image = preprocessing.from_file(path, size, margin)
    if int(image.max()) - int(image.min()) < preprocessing.MIN_CONTRAST:
        raise InputError(f"{path} is blank: no ink was found on its paper. Give a picture of one character.")
    return preprocessing.centre_mass(image) if centre == "mass" and not prepared else image


def to_input(image: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.float32]:
    """Turn a prepared image into what a network takes: `models.to_input`, in NumPy.

    Args:
        image: (H, W) uint8, white on black.
        shape: (1, 1, height, width) of the result, which is float32 in 0..1.
    """
    rows, columns = (_bilinear(old, new) for old, new in zip(image.shape, shape[2:], strict=True))
    return (rows @ (image / 255.0) @ columns.T).astype(np.float32).reshape(tuple(shape))


def _bilinear(old: int, new: int) -> NDArray[np.float64]:
    """Return the (new, old) weights of linear interpolation between pixel centres, edges repeated."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    weights: NDArray[np.float64] = np.clip(1 - np.abs(place[:, None] - np.arange(old)), 0, None)
    return weights
