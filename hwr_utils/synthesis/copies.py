"""Copy the digits, letters and hiragana of handwriting fonts in many hands, as images like those that are drawn."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from hwr_utils import preprocessing
from hwr_utils.synthesis import drawing, fonts, hanzi

VERSION = 1  # of the copies: raise it when the same seed comes to give other images
ROOM = 12  # pixels around a glyph of `hanzi.SIDE`, into which a wide pen reaches


def fonts_of(name: str) -> Mapping[str, str]:
    """Return the style sheets and checksums of the fonts that write a dataset's characters."""
    return fonts.KANA if name.startswith("hiragana") else fonts.LATIN


def draw(name: str, seed: int, per_font: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Copy each character of each font in so many hands, which bend it and have pens of different widths.

    Args:
        name: a key of `drawing.SHEETS`.
        seed: 0 or more.
        per_font: hands, 1 or more; fewer of them give the first of the same images of each font.

    Returns:
        Images (n, 28, 28) uint8, 0 for paper to 255 for ink, and their labels (n,) int64. What a font lacks is left
        out.

    Raises:
        InputError: see `fonts.draw`.
    """
    sheet = drawing.SHEETS[name]
    variants = {c: label for label, one in enumerate(sheet.classes) for c in dict.fromkeys((one, one.lower()))}
    images, labels = [], []
    for place, font in enumerate(fonts_of(name)):
        for number in range(per_font):
            drawn = hanzi.draw_from_font(seed, 1_000 * place + number, font, "".join(variants))
            for image, label in zip(drawn, variants.values(), strict=True):
                if image is not None:
                    images.append(_ink(255 - image, number, sheet))
                    labels.append(label)
    return np.stack(images), np.array(labels, np.int64)


def _ink(image: NDArray[np.uint8], number: int, sheet: drawing.Sheet) -> NDArray[np.uint8]:
    """Draw a glyph (H, W), white on black, with the pen of a hand, as the dataset has its images."""
    glyph = Image.fromarray(preprocessing.to_square(image, hanzi.SIDE + 2 * ROOM, ROOM))
    glyph = glyph.filter(ImageFilter.MaxFilter(1 + 2 * (number % 3))).filter(ImageFilter.BoxBlur(number // 3 % 3))
    margin = round((drawing.SIZE - sheet.box) / 2)
    return preprocessing.prepare(np.asarray(glyph), drawing.SIZE, margin, "mass" if sheet.by_mass else "box")
