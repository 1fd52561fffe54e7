"""Characters from fonts: what a font lacks is seen, and a font that is missing or altered is told."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from hwr_utils.data import gnt
from hwr_utils.errors import InputError
from hwr_utils.synthesis import fonts

SHEET = "@fontsource/long-cang/400.css"


def test_the_fonts_are_those_of_the_lock_file_and_write_every_fiftieth_character() -> None:
    fonts.verify()
    for sheet in fonts.HANZI:
        for character in gnt.LEVEL_1[::50]:
            image = fonts.draw(sheet, character)
            assert image is not None and image.dtype == np.uint8 and image.min() < 50
            assert all((image[edge] < 255).any() for edge in (0, -1)), "cropped to the ink"


@pytest.fixture
def holed(tmp_path: Path) -> Path:
    """Return a folder of packages with a font whose style sheet promises what its files do not hold."""
    folder = tmp_path / SHEET.rsplit("/", 1)[0]
    folder.mkdir(parents=True)
    path = fonts._files(fonts.MODULES / SHEET)[ord("一")]
    shutil.copy(path, folder / "some.woff2")
    (folder / "400.css").write_text(
        "@font-face { src: url(./some.woff2) format('woff2'); unicode-range: U+4e00,U+9f0e-9f10; }"
        "@font-face { src: url(./gone.woff2) format('woff2'); unicode-range: U+4e8c; }"
    )
    return tmp_path


def test_a_hole_is_seen(holed: Path) -> None:
    assert fonts.draw(SHEET, "一", holed) is not None
    assert fonts.draw(SHEET, "人", holed) is None, "named by no file"
    assert fonts.draw(SHEET, "鼎", holed) is None, "named, and a box in the file"


def test_fonts_that_are_missing_altered_or_damaged_are_told(holed: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*400\.css: No such file.*`make setup`"):
        fonts.draw("@fontsource/none/400.css", "一", holed)
    with pytest.raises(InputError, match=r"gone\.woff2 is damaged|cannot read .*gone"):
        fonts.draw(SHEET, "二", holed)
    (holed / SHEET).write_text("@font-face { src: url(./some.woff2) format('woff2'); unicode-range: U+4e00; }")
    for cached in (fonts._files, fonts.draw):
        cached.cache_clear()
    with pytest.raises(InputError, match=r"have the checksum .*altered, or of another version"):
        fonts.verify(modules=holed)
