"""Turn any picture of a character into what a network takes: a square of uint8, white ink on black.

It is plain arithmetic, so that the playground can do the same in JavaScript, and a test can compare the two.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from hwr_utils.errors import InputError, kind, reading

MAX_PIXELS = 50_000_000  # more than a telephone's camera makes; decoded, with colours and transparency, under 1 GB
MAX_SIDE = 20_000  # the weights that scale a side grow with it, too
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
ENOUGH = 1500  # pixels a side that are enough: in larger pictures, whole blocks of pixels are averaged first
MIN_CONTRAST = 16  # grey levels between paper and ink, below which an image counts as blank
INK = 64  # the level above which a pixel counts as ink when the character is cropped
# As parts of the ink's height: the least width of several characters side by side, the least gap between two, and their
# least height. Chosen on training images of MNIST and letters, on one writer's hanzi, and so that い is one character.
WIDE, GAP, PIECE = 1.5, 0.1, 0.5


def fit(gray: NDArray[np.uint8], size: int = 28, margin: int = 4) -> NDArray[np.uint8]:
    """Return (H, W) as `prepare` does, centred by its box; an image of this size keeps its place and its light."""
    if gray.shape == (size, size):
        return 255 - gray if is_dark_on_light(gray) else gray
    return prepare(_ink(gray), size, margin, "box")


def from_picture(path: str | Path, size: int, margin: int, centre: str) -> NDArray[np.uint8]:
    """Return the character in a picture as `prepare` does, whatever border, light and ruled lines are around it.

    A picture whose ink already lies as in the dataset's images is not moved or scaled. Raises an InputError as
    `read_gray`, or where the picture shows nothing.
    """
    gray = read_gray(path)
    if np.ptp(gray) >= MIN_CONTRAST:
        gray = _without_border(gray)
        upright = 255 - gray if is_dark_on_light(gray) else gray
        if _is_prepared(upright, size, margin, centre):
            return _stretched(upright)
        if (ink := _ink(gray)).any():
            return prepare(ink, size, margin, centre)
    raise InputError(f"{path} is blank: no ink was found on its paper. Give a picture of one character.")


def _ink(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) white on black, without what its light and ruled lines add, unless it was cut to its ink."""
    ink = white_on_black(gray)
    if all(len(span) > 0.8 * side for span, side in zip(_spans(ink, 192), ink.shape, strict=True)):
        return ink
    return _without_lines(white_on_black(_evenly_lit(gray)))


def _without_border(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cut off a thin border of (H, W), as scanners and frames leave it: it contrasts with the paper as ink does."""
    limit = min(gray.shape) // 16 + 1
    if min(gray.shape) <= 4 * limit:
        return gray
    other = gray > (float(gray.min()) + float(gray.max())) / 2
    if np.median(other[limit:-limit, limit:-limit]):  # most of the inside is paper
        other = ~other
    shares = [float(edge(other[n : len(other) - n, n : other.shape[1] - n]).mean()) for n in range(limit + 1)]
    if shares[0] < 0.9 or shares[-1] > 0.25:
        return gray
    n = next(n for n, share in enumerate(shares) if share <= 0.25) + 1  # and one more row, which may be blurred
    inside = gray[n:-n, n:-n]
    return inside if np.ptp(inside) >= MIN_CONTRAST else gray  # the border was the character


def _spans(image: NDArray[np.uint8], level: int = INK) -> list[NDArray[np.int64]]:
    """Return the rows and the columns of (H, W) white on black that have ink above a level."""
    ink = image > level
    return [np.flatnonzero(ink.any(axis)) for axis in (1, 0)]


def _placing(image: NDArray[np.uint8]) -> tuple[int, dict[str, list[float]]]:
    """Return the longer side of the ink, and how far its middle, by "box" and by "mass", is from the image's."""
    distances: dict[str, list[float]] = {"box": [], "mass": []}
    spans = _spans(image)
    for axis, span in enumerate(spans):
        middle = (image.shape[axis] - 1) / 2
        weights = image.sum(1 - axis, dtype=np.int64)
        distances["box"].append(abs((span[0] + span[-1]) / 2 - middle))
        distances["mass"].append(abs(np.average(np.arange(len(weights)), weights=weights) - middle))
    return max(int(np.ptp(span)) + 1 for span in spans), distances


def _is_prepared(image: NDArray[np.uint8], size: int, margin: int, centre: str) -> bool:
    """Tell whether (H, W) white on black holds its ink as `prepare` places it, but for a pixel."""
    if image.shape != (size, size) or not (image > INK).any():
        return False
    longer, distances = _placing(image)
    return abs(longer - (size - 2 * margin)) <= 1 and max(distances[centre]) <= 1


def _evenly_lit(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Divide (H, W) by the light of its paper, where that differs along the edges, as on a telephone's photo.

    Each small block has the light of its brightest pixel; blocks that a stroke covers get it from those around them.
    """
    low, high = np.percentile(edge(gray), (10, 90))
    if high - low < MIN_CONTRAST or min(gray.shape) < 32:
        return gray
    paper = gray if is_dark_on_light(gray) else 255 - gray
    side = min(gray.shape) // 16
    padded = np.pad(paper, [(0, -length % side) for length in gray.shape], mode="edge")
    blocks = padded.reshape(len(padded) // side, side, -1, side).max((1, 3))
    near = Image.fromarray(np.pad(blocks, 4, mode="edge"))  # Pillow's filters skip the outermost pixels
    near = near.filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.MinFilter(5))
    near = near.crop((4, 4, *(n + 4 for n in blocks.T.shape))).resize(padded.shape[::-1], Image.Resampling.BILINEAR)
    return _round(255.0 * paper / np.maximum(np.asarray(near)[: gray.shape[0], : gray.shape[1]], 1))


def _without_lines(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Remove from (H, W) white ink what goes from edge to edge and is fainter than the pen, as ruled lines are."""
    for level in range(INK, 192, 8):
        strong = ink > level
        if not (strong[:, 0].any() and strong[:, -1].any()) and not (strong[0].any() and strong[-1].any()):
            return ink if level == INK else _round((ink - float(level)) * 255 / (255 - level))
    return ink


def read_gray(path: str | Path) -> NDArray[np.uint8]:
    """Decode a picture file into (H, W) uint8, upright, in the polarity it has.

    Raises an InputError where the file is missing, damaged, of none of `FORMATS`, or larger than `MAX_PIXELS` or
    `MAX_SIDE`.
    """
    with reading(path, "a picture", "Check its name, save it anew as PNG, or remove it."):
        return decode(Path(path).read_bytes(), path)


def decode(content: bytes, where: object) -> NDArray[np.uint8]:
    """Decode the content of a picture file as `read_gray`; `where` names it in messages."""
    try:
        with patch.object(Image, "MAX_IMAGE_PIXELS", None):  # what is too large is an error below
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        told = f"an undamaged picture was expected, in one of the formats {', '.join(FORMATS)}"
        raise InputError(f"{where} is {kind(content)}; {told}. Save it as PNG, or remove it.") from error
    with image:
        width, height = image.size  # known from the header, before anything is decoded
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            most = f"{MAX_PIXELS:,} were expected, and {MAX_SIDE:,} a side"
            raise InputError(f"{where} has {width} x {height} pixels; at most {most}. Scale it down.")
        frames = 1 if image.format == "JPEG" else getattr(image, "n_frames", 1)  # JPEGs may hold previews
        if frames > 1:
            raise InputError(f"{where} has {frames} pages or frames, and one was expected. Save one alone.")
        gray = to_gray(ImageOps.exif_transpose(image))
    return np.asarray(Image.fromarray(gray).reduce(max(1, max(gray.shape) // ENOUGH)))


def to_gray(image: Image.Image) -> NDArray[np.uint8]:
    """Return the brightness of an image of any mode as (H, W) uint8; what is transparent becomes paper."""
    if image.mode.startswith("I"):  # 16 bits: 65535 becomes 255
        return ((np.asarray(image).clip(0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.mode == "F":  # floats, of 0 to 1 or to 255
        values: NDArray[np.float32] = np.nan_to_num(np.asarray(image))
        return _round(values * (255 if values.max() <= 1 else 1))
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB").convert("L"))
    layers = image.convert("RGBA")
    alpha, gray = layers.getchannel("A"), layers.convert("RGB").convert("L")
    # the paper under it is the opposite of the ink: white strokes drawn on nothing would be lost on white
    seen = np.einsum("ij,ij", np.asarray(gray), np.asarray(alpha), dtype=np.int64)
    paper = Image.new("L", image.size, 0 if seen > 127.5 * np.asarray(alpha).sum(dtype=np.int64) else 255)
    return np.asarray(Image.composite(gray, paper, alpha))


def is_dark_on_light(images: NDArray[np.uint8]) -> bool:
    """Tell by the border's brightness whether (..., H, W) images have dark ink on light paper."""
    low, high = float(images.min()), float(images.max())
    middle = (low + high) / 2 if high - low >= MIN_CONTRAST else 127.5
    return bool(np.median(edge(images)) > middle)


def edge(images: NDArray) -> NDArray:
    """Return the outermost pixels of (..., H, W) images, which ink seldom reaches, as a flat array."""
    sides = (images[..., 0, :], images[..., -1, :], images[..., 1:-1, 0], images[..., 1:-1, -1])
    return np.concatenate([side.ravel() for side in sides])


def white_on_black(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W) uint8 whose paper is 0 and whose strongest ink is 255; a blank image becomes all 0."""
    upright = 255 - image if is_dark_on_light(image) else image
    ink = upright.astype(np.float64) - np.median(edge(upright))
    if ink.max() < MIN_CONTRAST:
        return np.zeros_like(image)
    return _round(ink * 255 / ink.max())


def to_square(image: NDArray[np.uint8], size: int = 28, margin: int = 4) -> NDArray[np.uint8]:
    """Crop (H, W) white on black to its ink and fit that, keeping its shape, into the middle of (size, size).

    On each side `margin` pixels, less than half of the size, are left free; 4 of 28 is what MNIST leaves.
    """
    room = size - 2 * margin
    square = np.zeros((size, size), np.uint8)
    rows, columns = _spans(image)
    if len(rows) == 0:
        return square
    crop = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = room / max(crop.shape)
    height, width = (max(1, int(side * scale + 0.5)) for side in crop.shape)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = resize(crop, height, width)
    return square


def prepare(image: NDArray[np.uint8], size: int, margin: int, centre: str) -> NDArray[np.uint8]:
    """Bring (H, W) white on black into the form of a data set's images: (size, size) uint8, white on black.

    `margin` pixels are left free on each side, and the "box" around the ink or its centre of "mass" is in the middle.
    """
    square = _stretched(to_square(image, size, margin))  # a thin pen would fade
    return centre_mass(square) if centre == "mass" else square


def _stretched(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale the brightness so that the brightest ink is white."""
    return _round(image.astype(np.float64) * 255 / max(int(image.max()), 1))


def is_several(image: NDArray[np.uint8], classes: Sequence[str]) -> bool:
    """Tell whether (H, W) white on black shows several characters side by side; a network that reads one cannot tell.

    It does if a gap parts the ink into two pieces and neither is small, as the dot of an i would be. No digit or Latin
    letter has such a gap. With other classes, for instance い, the ink must also be much wider than high.
    """
    rows, columns = _spans(image)
    height = np.ptp(rows) + 1 if len(rows) else 1
    latin = all(one.isascii() and one.isalnum() for one in classes)
    if len(columns) == 0 or (not latin and np.ptp(columns) + 1 < WIDE * height):
        return False
    gaps = np.flatnonzero(np.diff(columns) - 1 >= GAP * height)
    pieces = ((image[:, : columns[gap] + 1], image[:, columns[gap + 1] :]) for gap in gaps)
    return any(min(np.ptp(_spans(piece)[0]) + 1 for piece in pair) >= PIECE * height for pair in pieces)


def centre_mass(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Move (H, W) white on black by whole pixels until its centre of mass is in the middle, as MNIST's images have it.

    Ink that reaches an edge goes no further, so none is lost. A blank image stays.
    """
    if not image.any():
        return image
    moved = image
    for axis in (0, 1):
        sums = moved.sum(1 - axis, dtype=np.int64)
        ink, side = np.flatnonzero(sums), len(sums)
        wanted = (side - 1) / 2 - float(np.arange(side) @ sums) / float(sums.sum())
        step = min(max(int(np.floor(wanted + 0.5)), -int(ink[0])), side - 1 - int(ink[-1]))
        moved = np.roll(moved, step, axis)  # what goes round is empty
    return moved


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Scale (H, W) uint8 to (height, width): linear between pixels when it grows, averaging when it shrinks."""
    wide = image.astype(np.float64)  # once: NumPy multiplies mixed types a third slower
    return _round(_weights(image.shape[0], height) @ wide @ _weights(image.shape[1], width).T)


def _round(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.floor(np.clip(values, 0, 255) + 0.5).astype(np.uint8)  # halves go up


def _weights(old: int, new: int) -> NDArray[np.float64]:
    """Return the (new, old) weights of a triangle filter, scaled to the larger of input and output pixels."""
    step = old / new
    centres = (np.arange(new) + 0.5) * step
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / max(step, 1.0)
    weights = np.clip(1 - distance, 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True))


def to_input(image: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.float32]:
    """Turn (H, W) uint8 into a network's input, (1, 1, height, width) float32 in 0..1, as `models.to_input` does."""
    rows, columns = (_bilinear(old, new) for old, new in zip(image.shape, shape[2:], strict=True))
    return (rows @ (image / 255.0) @ columns.T).astype(np.float32).reshape(tuple(shape))


def _bilinear(old: int, new: int) -> NDArray[np.float64]:
    """Return the (new, old) weights of linear interpolation between pixel centres, edges repeated."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    weights: NDArray[np.float64] = np.clip(1 - np.abs(place[:, None] - np.arange(old)), 0, None)
    return weights


def framing(images: NDArray[np.uint8]) -> dict[str, Any]:
    """Measure how the (N, H, W) images of a dataset hold their ink, as `prepare` takes it: size, margin and centre."""
    side = images.shape[1]
    placings = [_placing(image) for image in images if (image > INK).any()]
    margin = int((side - np.median([longer for longer, _ in placings])) // 2) if placings else 0
    box, mass = (sum(sum(distances[name]) for _, distances in placings) for name in ("box", "mass"))
    return {"size": side, "margin": margin, "centre": "mass" if mass < box else "box"}
