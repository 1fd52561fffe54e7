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
from PIL import ImageFont

from hwr_utils import files
from hwr_utils.errors import InputError

MODULES = files.REPOSITORY / "node_modules"
LICENCE = "SIL Open Font License 1.1"
# the style sheets of the fonts that write hanzi, and `checksum` of what package-lock.json names
HANZI = {
    "@fontsource/long-cang/400.css": "79b1394be10d4bae9793928c67a087f29d3f1665406fb5d0deca49da82b016cd",
    "@fontsource/liu-jian-mao-cao/400.css": "598cd6f5cca3e1b697f34b28e799422cb4ff83c34e9c9a6b4362b590b7a208a0",
    "@fontsource/ma-shan-zheng/400.css": "e11d4cf2524ccfcdce4a1edc3c955df485de0728aedb5d1472d2e64d55ead9ed",
    "@fontsource/zhi-mang-xing/400.css": "300e192c69d86c6a232196fdf4222bb5d09ec360d4050b685f00f9e74b4f2d41",
    "@fontsource/zcool-kuaile/400.css": "a37710b9e3db2c040327551558fc42f4399437cdddee92a4538079c5448fdc28",
    "@fontsource/zcool-xiaowei/400.css": "80ee1e4bd1748b650cd308451df01af9aa871d554386f287ee23ce4807eb8a0a",
}
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


def verify(modules: Path = MODULES) -> None:
    """See that the fonts of `HANZI` are those that the drawings are known by.

    Raises:
        InputError: one is missing or altered.
    """
    for sheet, expected in HANZI.items():
        if (found := checksum(sheet, modules)) != expected:
            raise InputError(
                f"the files of the font {modules / sheet} have the checksum {found[:12]}, expected {expected[:12]}: "
                "they are altered, or of another version. Remove node_modules, and run `make setup`."
            )


@functools.lru_cache(maxsize=256)
def _open(path: Path) -> tuple[ImageFont.FreeTypeFont, bytes]:
    """Return a file of a font, and how it draws a character that it does not have."""
    try:
        font = ImageFont.truetype(path, PIXELS)
        return font, bytes(font.getmask(NOWHERE))
    except OSError as error:
        raise InputError(f"{path} is damaged: {error}. Remove node_modules, and run `make setup`.") from error


@functools.lru_cache(maxsize=40_000)  # of which a process that draws many hands asks again and again
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
    mask = font.getmask(character)
    ink = np.frombuffer(bytes(mask), np.uint8).reshape(mask.size[::-1])
    if bytes(mask) == missing or not ink.any():
        return None
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return 255 - ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
