"""Characters from handwriting fonts, each of which is one more hand than the drawn ones.

A package of npm holds a font as some hundred files, each with the glyphs of some characters; its style sheet names them
with their ranges, as CSS Fonts (https://www.w3.org/TR/css-fonts-4/#unicode-range-desc) says. The set-up (`make setup`)
installs the packages from package-lock.json. All of `FONTS` are under the SIL Open Font License 1.1.
"""

import functools
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hwr_utils import files
from hwr_utils.errors import InputError

MODULES = files.REPOSITORY / "node_modules"
LICENCE = "SIL Open Font License 1.1"
# the style sheets of the fonts that write hanzi
HANZI = (
    "@fontsource/long-cang/400.css",
    "@fontsource/liu-jian-mao-cao/400.css",
    "@fontsource/ma-shan-zheng/400.css",
    "@fontsource/zhi-mang-xing/400.css",
    "@fontsource/zcool-kuaile/400.css",
    "@fontsource/zcool-xiaowei/400.css",
)
PIXELS = 64  # the font's size, in pixels of its square
NOWHERE = "\U0010fffe"  # is no character, so every font draws its sign for a missing one
FACE = re.compile(r"url\(['\"]?([^)]+?\.woff2?)['\"]?\).*?unicode-range:\s*([^;}]+)", re.DOTALL)


@functools.cache
def _files(sheet: Path) -> dict[int, Path]:
    """Return which file of a font has each code point, by its style sheet.

    Raises:
        InputError: there is no such style sheet, or it names no files.
    """
    try:
        rules = sheet.read_text("utf-8").split("@font-face")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the font {sheet}: {getattr(error, 'strerror', error)}. `make setup` installs it, as "
            "package-lock.json says."
        ) from error
    found: dict[int, Path] = {}
    for face in filter(None, map(FACE.search, rules)):
        for span in face[2].split(","):
            low, _, high = span.strip().removeprefix("U+").partition("-")
            found.update(dict.fromkeys(range(int(low, 16), int(high or low, 16) + 1), sheet.parent / face[1]))
    if not found:
        raise InputError(
            f"{sheet} names no font files with their unicode-range. Remove node_modules; run `make setup`."
        )
    return found


@functools.cache
def checksum(sheet: str, modules: Path = MODULES) -> str:
    """Return the SHA-256 of the names and contents of a font's files; errors as `draw`."""
    paths = sorted(set(_files(modules / sheet).values()))
    try:
        return files.sha256("".join(f"{path.name} {files.sha256(path)}\n" for path in paths).encode())
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}. `make setup` installs it again.") from error


@functools.lru_cache(maxsize=256)
def _open(path: Path) -> tuple[ImageFont.FreeTypeFont, bytes]:
    """Return a file of a font, and how it draws a character that it does not have."""
    try:
        font = ImageFont.truetype(path, PIXELS)
        return font, bytes(font.getmask(NOWHERE))
    except OSError as error:
        raise InputError(f"{path} is damaged: {error}. Remove node_modules, and run `make setup`.") from error


def draw(sheet: str, character: str, modules: Path = MODULES) -> NDArray[np.uint8] | None:
    """Draw a character as a font has it.

    Args:
        sheet: the font's style sheet in `modules`, one of `HANZI` or another.
        character: one character.
        modules: the folder of npm packages.

    Returns:
        (H, W) uint8, cropped to the ink, about `PIXELS` a side; 0 = ink, 255 = paper. None where the font has a hole:
        its files do not name the character, or they draw nothing or their sign for a missing one.

    Raises:
        InputError: the font is not there or damaged; says what to do.
    """
    path = _files(modules / sheet).get(ord(character))
    if path is None:
        return None
    font, missing = _open(path)
    if bytes(font.getmask(character)) == missing:
        return None
    image = Image.new("L", (3 * PIXELS, 3 * PIXELS), 255)
    ImageDraw.Draw(image).text((PIXELS, PIXELS), character, 0, font)
    gray = np.asarray(image)
    rows, columns = np.flatnonzero((gray < 128).any(1)), np.flatnonzero((gray < 128).any(0))
    return gray[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else None
