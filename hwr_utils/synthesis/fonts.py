"""Characters from handwriting fonts, each of which adds a hand to those that are drawn from strokes.

A package of npm holds a font as some hundred files, each with the glyphs of some characters; its style sheet names them
with their ranges, as CSS Fonts (https://www.w3.org/TR/css-fonts-4/#unicode-range-desc) says. The set-up (`make setup`)
installs the packages from package-lock.json; `fonts.toml` lists them.
"""

import functools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from hwr_utils import files
from hwr_utils.errors import InputError, reading

MODULES = files.REPOSITORY / "node_modules"
AGAIN = "Remove node_modules, and run `make setup`."
TABLES: dict[str, dict[str, str]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
HANZI = TABLES["hanzi"]
PIXELS = 64  # the font's size, in pixels of its square
NOWHERE = "\U0010fffe"  # is no character, so every font draws its sign for a missing one
FACE = re.compile(r"url\(['\"]?([^)]+?\.woff2?)['\"]?\).*?unicode-range:\s*([^;}]+)", re.DOTALL)


@functools.cache
def _files(sheet: Path) -> dict[int, Path]:
    """Return which file of a font has each code point, by its style sheet."""
    found: dict[int, Path] = {}
    with reading(sheet, "a font's style sheet", AGAIN):
        for face in filter(None, map(FACE.search, sheet.read_text("utf-8").split("@font-face"))):
            for span in face[2].split(","):
                low, _, high = span.strip().removeprefix("U+").partition("-")
                found.update(dict.fromkeys(range(int(low, 16), int(high or low, 16) + 1), sheet.parent / face[1]))
    return found


def verify(sheets: Mapping[str, str] = HANZI, modules: Path = MODULES) -> None:
    """Raise an InputError where a font is missing, or its files do not have the checksum that `sheets` gives it."""
    for sheet, expected in sheets.items():
        paths = sorted(set(_files(modules / sheet).values()))
        with reading(modules / sheet, "a font with its files", AGAIN):
            found = files.sha256("".join(f"{path.name} {files.sha256(path)}\n" for path in paths).encode())
        if found != expected:
            raise InputError(
                f"the files of the font {modules / sheet} have the checksum {found[:12]}, expected {expected[:12]}: "
                f"they are altered, or of another version. {AGAIN}"
            )


@functools.lru_cache(maxsize=256)
def _open(path: Path) -> tuple[ImageFont.FreeTypeFont, bytes]:
    """Return a file of a font, and how it draws a character that it does not have."""
    with reading(path, "a file of a font", AGAIN):
        font = ImageFont.truetype(path, PIXELS)
        return font, bytes(font.getmask(NOWHERE))


@functools.lru_cache(maxsize=40_000)  # a process that draws many hands asks for the same glyphs again and again
def draw(sheet: str, character: str, modules: Path = MODULES) -> NDArray[np.uint8] | None:
    """Draw a character as a font has it; the font's style `sheet` is in `modules`, the folder of npm packages.

    Returns (H, W) uint8, cropped to the ink, about `PIXELS` a side; 0 = ink, 255 = paper. None where the font has a
    hole: its files do not name the character, or they draw nothing or their sign for a missing one. Raises an
    InputError where the font is not there or damaged.
    """
    path = _files(modules / sheet).get(ord(character))
    if path is None:
        return None
    font, missing = _open(path)
    mask = font.getmask(character)
    ink = np.frombuffer(bytes(mask), np.uint8).reshape(mask.size[::-1])
    return 255 - np.trim_zeros(ink) if ink.any() and bytes(mask) != missing else None
