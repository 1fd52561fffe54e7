"""Any picture becomes a square of white ink on black, and what is no picture is named."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from hwr_utils import data, preprocessing, synthesis
from hwr_utils.errors import InputError

# a stroke with a foot, so that no turn or mirror image of it equals it; ink 255 on 0
SHAPE = np.zeros((60, 50), np.uint8)
SHAPE[10:50, 20:26] = 255
SHAPE[44:50, 20:40] = 255
FORM: dict[str, Any] = {"size": 28, "margin": 4, "centre": "box"}
WANTED = preprocessing.to_square(SHAPE)


def close(found: np.ndarray, wanted: np.ndarray = WANTED, tolerance: int = 3) -> bool:
    return bool((np.abs(found.astype(int) - wanted.astype(int)) <= tolerance).all())


def test_a_character_fills_its_box_and_keeps_its_shape() -> None:
    rows, columns = np.flatnonzero(WANTED.any(1)), np.flatnonzero(WANTED.any(0))
    assert WANTED.shape == (28, 28) and (rows[0], rows[-1]) == (4, 23)  # 20 rows, as in MNIST
    assert (columns[0], columns[-1]) == (9, 18)  # half as wide as high, in the middle
    assert WANTED.max() == 255 and WANTED[23, 18] > 200 and WANTED[5, 18] == 0


any_image = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=70))


@given(any_image)
def test_any_array_becomes_a_square_whatever_its_polarity(image: np.ndarray) -> None:
    square = preprocessing.to_square(preprocessing.white_on_black(image))
    assert square.shape == (28, 28) and square.dtype == np.uint8
    assert not square[:4].any() and not square[-4:].any() and not square[:, :4].any() and not square[:, -4:].any()
    if preprocessing.is_dark_on_light(image) != preprocessing.is_dark_on_light(255 - image):
        assert np.array_equal(preprocessing.white_on_black(255 - image), preprocessing.white_on_black(image))


def test_scaling_is_what_pillow_does() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    image = rng.integers(0, 256, (61, 47)).astype(np.uint8)
    for height, width in ((20, 13), (100, 90)):
        expected = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        assert close(preprocessing.resize(image, height, width), expected, tolerance=1)


@given(any_image)
def test_the_centre_of_mass_comes_to_the_middle(image: np.ndarray) -> None:
    moved = preprocessing.centre_mass(image)
    assert sorted(moved.ravel()) == sorted(image.ravel())  # no ink is lost
    assert np.array_equal(preprocessing.centre_mass(moved), moved)
    small = np.pad(image, [(side, side) for side in image.shape])  # where there is room, it is in the middle
    for axis, side in enumerate(small.shape):
        sums = preprocessing.centre_mass(small).sum(1 - axis, dtype=np.int64)
        if sums.any():
            assert abs(np.arange(side) @ sums / sums.sum() - (side - 1) / 2) <= 0.5


def test_grey_paper_becomes_black_and_weak_ink_white() -> None:
    photo = (180 - SHAPE.astype(int) * 100 // 255).astype(np.uint8)  # ink 80 on paper 180
    assert np.array_equal(preprocessing.white_on_black(photo), SHAPE)
    assert np.array_equal(preprocessing.white_on_black(255 - photo), SHAPE)


@pytest.mark.parametrize("level", [0, 100, 255])
def test_blank_paper_stays_blank(level: int) -> None:
    blank = np.full((50, 40), level, np.uint8)
    blank[20, 20] ^= 7  # noise is no ink
    assert not preprocessing.white_on_black(blank).any()
    assert not preprocessing.to_square(preprocessing.white_on_black(blank)).any()


def save(path: Path, image: Image.Image, **options: object) -> np.ndarray:
    image.save(path, **options)
    return preprocessing.fit(preprocessing.read_gray(path))


def rgba(colour: int, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.stack([np.full_like(alpha, colour)] * 3 + [alpha], axis=-1))


def test_kinds_of_files_give_the_same_character(tmp_path: Path) -> None:
    dark = Image.fromarray(255 - SHAPE)
    path = tmp_path / "picture.png"
    assert close(save(path, Image.fromarray(SHAPE)))
    for mode in ("L", "1", "P", "RGB", "RGBA", "LA"):
        assert close(save(path, dark.convert(mode))), mode
    assert close(save(path, rgba(0, SHAPE)))  # black ink on nothing
    assert close(save(path, rgba(255, SHAPE)))  # white ink on nothing
    wide = (255 - SHAPE).astype(np.uint16) * 257
    assert close(save(path, Image.fromarray(wide)))  # 16 bits
    for most in (1, 255):
        shades = (255 - SHAPE).astype(np.float32) / 255 * most
        assert close(save(tmp_path / "picture.tif", Image.fromarray(shades)))  # floats
    palette = Image.fromarray((SHAPE > 0).astype(np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 0, 0, 0])
    assert close(save(path, palette, transparency=0))  # black ink on a transparent palette entry
    for mode in ("L", "RGB", "CMYK"):
        assert close(save(tmp_path / "picture.jpg", dark.convert(mode), quality=95), tolerance=40), mode
    assert close(save(tmp_path / "really-a-jpeg.png", dark, format="JPEG", quality=95), tolerance=40)
    turned = Image.Exif()  # as a telephone writes it that was held upright
    turned[0x0112] = 6
    assert close(save(tmp_path / "photo.png", dark.transpose(Image.Transpose.ROTATE_90), exif=turned))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, content: bytes) -> bytes:
    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def written(kind: str, *images: Image.Image) -> bytes:
    content = io.BytesIO()
    images[0].save(content, kind, **({"save_all": True, "append_images": images[1:]} if images[1:] else {}))
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(4) + b"ftypheic" + bytes(20), "is a HEIC or AVIF picture"),
        (written("PNG", Image.new("RGBA", (50, 50))), "is blank"),
        (written("PNG", Image.fromarray(SHAPE), Image.fromarray(255 - SHAPE)), "has 2 pages or frames"),
        (png(50_000_000, 1, b""), "50000000 x 1 pixels"),
        (png(8000, 8000, b""), "8000 x 8000 pixels"),
        (png(30, 30, b"abc"), "."),
    ],
)
def test_what_is_no_image_or_too_large_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=message) as error:
            preprocessing.from_picture(path, **FORM)
    assert str(path) in str(error.value)


@given(st.sampled_from(["PNG", "JPEG"]), st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), max_size=20))
def test_any_damage_gives_an_image_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, edits: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    Image.fromarray(SHAPE).save(path, kind)
    content = bytearray(path.read_bytes())
    for place, value in edits:
        content[place % len(content)] = value
    path.write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert preprocessing.fit(preprocessing.read_gray(path)).shape == (28, 28)
    except InputError as error:
        assert str(path) in str(error)


def picture(tmp_path: Path, paper: np.ndarray) -> np.ndarray:
    Image.fromarray(np.clip(paper, 0, 255).astype(np.uint8)).save(tmp_path / "picture.png")
    return preprocessing.from_picture(tmp_path / "picture.png", **FORM)


def letter(strength: float = 0.8) -> np.ndarray:
    """Return (200, 200) floats, 0 paper to `strength` ink: the shape above, larger and with room around it."""
    return strength * np.pad(np.kron(SHAPE, np.ones((2, 2))) / 255, ((40, 40), (50, 50)))


def test_a_picture_of_the_networks_size_is_centred_unless_it_is_prepared(tmp_path: Path) -> None:
    prepared = preprocessing.prepare(SHAPE, **FORM)
    for image in (prepared, np.roll(prepared, 1, 0)):  # within a pixel it counts as prepared
        assert np.array_equal(picture(tmp_path, image), image)
        assert np.array_equal(picture(tmp_path, 255 - image), image)
    for moved in (np.roll(prepared, (4, 5), (0, 1)), np.pad(prepared[::2, ::2], ((0, 14), (14, 0)))):
        rows, columns = np.nonzero(picture(tmp_path, moved) > preprocessing.INK)
        assert (rows.min(), rows.max()) == (4, 23) and abs(columns.min() + columns.max() - 27) <= 1


def test_mnist_is_taken_as_it_is(real: Callable[[str], data.Dataset]) -> None:
    images = real("mnist").test_images[:500]
    assert sum(preprocessing._is_prepared(image, 28, 4, "mass") for image in images) >= 498


def test_thin_pens_do_not_fade(tmp_path: Path) -> None:
    paper = np.full((400, 400), 255)
    paper[50:350, 120] = paper[350, 120:260] = 0  # a line of one pixel in 300
    assert picture(tmp_path, paper).max() == 255
    assert preprocessing.fit(paper.astype(np.uint8)).max() == 255  # of training pictures as well


@pytest.mark.parametrize(("level", "width"), [(0, 1), (60, 10)])
def test_a_thin_border_does_not_turn_the_polarity(tmp_path: Path, level: int, width: int) -> None:
    wanted = picture(tmp_path, 255 * (1 - letter(1)))
    framed = np.pad(255 * (1 - letter(1)), width, constant_values=level)
    assert close(picture(tmp_path, framed), wanted, 30)
    assert close(picture(tmp_path, 255 - framed), wanted, 30)


def test_a_character_that_is_a_box_is_no_border(tmp_path: Path) -> None:
    box = np.full((100, 100), 255)
    box[4:96, 4:96], box[9:91, 9:91] = 0, 255  # the strokes of 口, a little from the edge
    image = picture(tmp_path, box)
    assert image[14, 14] == 0 and image[4, 14] > 200
    assert picture(tmp_path, box[4:96, 4:96]).any()


def test_uneven_light_and_ruled_lines_are_taken_out(tmp_path: Path) -> None:
    wanted = picture(tmp_path, 255 * (1 - letter(1)))
    rows, columns = np.mgrid[:200, :200]
    ink = np.maximum(letter(), 0.35 * ((rows + 0.03 * columns) % 40 < 2))  # and the page is a little askew
    light = 230 - 0.5 * columns - 0.2 * rows
    for paper in (light * (1 - letter()), 240 * (1 - ink), light * (1 - ink)):
        assert close(picture(tmp_path, paper), wanted, 90)
        assert np.abs(picture(tmp_path, paper).astype(int) - wanted).mean() < 6
        learned = preprocessing.fit(preprocessing.read_gray(tmp_path / "picture.png"))  # as training pictures are
        assert np.abs(learned.astype(int) - preprocessing.to_square(letter(1).astype(np.uint8) * 255)).mean() < 6


def test_a_picture_that_is_cut_to_its_ink_keeps_it() -> None:
    """Its rim is faint ink, which is no ruled line; and a picture may be as small as a frame."""
    kept = []
    for letter in synthesis.draw("letters-synthetic", 200, seed=3)[0]:
        rows, columns = np.flatnonzero(letter.max(1) > 20), np.flatnonzero(letter.max(0) > 20)
        tight = 255 - letter[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        plain = preprocessing.to_square(preprocessing.white_on_black(tight))
        kept.append((preprocessing.fit(tight) > 100).sum() / (plain > 100).sum())
    assert (np.array(kept) > 0.8).mean() > 0.95
    for height, width in ((4, 4), (20, 4), (4, 9), (5, 5)):
        assert preprocessing.fit(np.full((height, width), 200, np.uint8)).shape == (28, 28)


def _side_by_side(*pieces: tuple[int, int, int], gap: int) -> np.ndarray:
    """Return an image of rectangles in a row, each of a width, a first row and a last row."""
    parts = []
    for width, first, last in pieces:
        part = np.zeros((40, width + gap), np.uint8)
        part[first : last + 1, :width] = 255
        parts.append(part)
    return np.concatenate(parts, axis=1)


def test_characters_in_a_row_are_told_from_one_in_pieces() -> None:
    digit, dot, bar = (12, 5, 34), (4, 5, 10), (3, 5, 34)
    narrow = _side_by_side(digit, digit, gap=5)  # about as wide as high, as い is
    assert preprocessing.is_several(narrow, "09") and not preprocessing.is_several(narrow, "あい")
    for classes in ("09", "あい"):
        assert preprocessing.is_several(_side_by_side(digit, digit, digit, gap=6), classes)
        assert preprocessing.is_several(_side_by_side(bar, digit, digit, digit, gap=6), classes)
        assert not preprocessing.is_several(_side_by_side(digit, digit, digit, gap=2), classes), "a broken line"
        assert not preprocessing.is_several(_side_by_side((24, 5, 34), dot, gap=6), classes), "a character and a dot"
        assert not preprocessing.is_several(np.zeros((28, 28), np.uint8), classes)
        assert not preprocessing.is_several(_side_by_side(digit, digit, gap=6).T, classes), "one below the other: 二"


def test_few_real_characters_are_taken_for_several(real: Callable[[str], data.Dataset]) -> None:
    for name in ("mnist", "emnist-letters-sample"):
        found = [preprocessing.is_several(image, real(name).classes) for image in real(name).test_images]
        assert np.mean(found) <= 0.001
