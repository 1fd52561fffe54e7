"""Characters from handwriting fonts, each of which is one more hand than the drawn ones.

A package of npm holds a font as some hundred files, each with the glyphs of some characters; its style sheet names them
with their ranges, as CSS Fonts (https://www.w3.org/TR/css-fonts-4/#unicode-range-desc) says. The set-up (`make setup`)
installs the packages from package-lock.json. All of `FONTS` are under the SIL Open Font License 1.1.
"""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from hwr_utils import files
from hwr_utils.errors import InputError

MODULES = files.REPOSITORY / "node_modules"
LICENCE = "SIL Open Font License 1.1"
# the style sheets of the fonts that write a script, and `checksum` of what package-lock.json names
HANZI = {
    "@fontsource/long-cang/400.css": "79b1394be10d4bae9793928c67a087f29d3f1665406fb5d0deca49da82b016cd",
    "@fontsource/liu-jian-mao-cao/400.css": "598cd6f5cca3e1b697f34b28e799422cb4ff83c34e9c9a6b4362b590b7a208a0",
    "@fontsource/ma-shan-zheng/400.css": "e11d4cf2524ccfcdce4a1edc3c955df485de0728aedb5d1472d2e64d55ead9ed",
    "@fontsource/zhi-mang-xing/400.css": "300e192c69d86c6a232196fdf4222bb5d09ec360d4050b685f00f9e74b4f2d41",
    "@fontsource/zcool-kuaile/400.css": "a37710b9e3db2c040327551558fc42f4399437cdddee92a4538079c5448fdc28",
    "@fontsource/zcool-xiaowei/400.css": "80ee1e4bd1748b650cd308451df01af9aa871d554386f287ee23ce4807eb8a0a",
}
LATIN = {
    "@fontsource/annie-use-your-telescope/400.css": "ad22258f867a1c3ca92da1141affa7bec3243d2becabe5370486be12c6ea698f",
    "@fontsource/architects-daughter/400.css": "21c03515f1ac01138cca5d7e9fc4e9174f6fadf114dd7d6e3ea3ee0899d2676d",
    "@fontsource/caveat/400.css": "10a95d9cb51865190ce0aa7d7822b2639b42073c1c0e257a44212d758e272de8",
    "@fontsource/covered-by-your-grace/400.css": "1730f935c4aef90ebfd04a1f774d38cdcc1953a04ad8ad5ecc78a3035a1a6c37",
    "@fontsource/delius/400.css": "a1e7f42c563d0c65bf50daa4a49293d3dfd29102fb7864071f40f2347e3922ba",
    "@fontsource/gloria-hallelujah/400.css": "ef36b234546a12031be3719ab548ea33978d3474f9657372d1c18eb9aa6b0099",
    "@fontsource/gochi-hand/400.css": "03b78f7e78dbe6d0a4f8922e9d371edece31a20dd91c061693525489a2c30ffd",
    "@fontsource/handlee/400.css": "d77aaf0b8e04d40d4544350fb75599ae0383271a56b1dcd60ff91b2d30c1cbe3",
    "@fontsource/indie-flower/400.css": "2c117296cd836ba42d7d2e285a7ea8ac4ee3a8cd99c3cdde758beea14f418620",
    "@fontsource/itim/400.css": "fe6de74b01d76baabdc61617161bcf5abcfb0b517a956fc3454cf3dbfecdd17d",
    "@fontsource/kalam/400.css": "11c96887965a094af5c3538d3f84c4d28bf8feebce86498ba1b4a0d3794fe349",
    "@fontsource/mansalva/400.css": "b21c1d0d4d906e632f7605087d9cce6a0995ccd7c5dfdc88fe0efd6ac52911f9",
    "@fontsource/neucha/400.css": "0a66659b6ddc62097a27433322e1551f5b88e02d34ea2e4ae2317c7d61035c46",
    "@fontsource/patrick-hand/400.css": "5820fa699640f0c38372447db52c5975a242c8b565fb07cf31858d623915f4ec",
    "@fontsource/reenie-beanie/400.css": "fca501068b2fa81a6656f282698ec175f97ce4a5b9e3ecb243bfe4b9243171a6",
    "@fontsource/schoolbell/400.css": "5785f122ab2ed05ba247a23769e8ed8b5bf82fad02afc003922f142607e98d84",
    "@fontsource/shadows-into-light/400.css": "da06fccf7b55cb30e57057929dc85de128d0489f2ba4df078a6d9a389777cd56",
    "@fontsource/shantell-sans/400.css": "d2c9651a103127e3cbd84d4db0a9c3a0fb9328791e268425a52de8d91bb5a0f0",
    "@fontsource/short-stack/400.css": "5d4cfd8a12480fd9f929ed8d0aff8240ff5afba9dd94985c06132e690571a08f",
    "@fontsource/sue-ellen-francisco/400.css": "7a157337793a9a9a464c46a25cef7da5c819b18d0e1f691778903d0c5759d20c",
    "@fontsource/swanky-and-moo-moo/400.css": "7c4e58f6b49261e12719c0c93b4b6947189112487c7e0727ebc2f26aaa923e7a",
    "@fontsource/the-girl-next-door/400.css": "7d77869966dced57d825538186f55d7601d274ac8e96337ba20b4aebb81aa45f",
}
KANA = {
    "@fontsource/hachi-maru-pop/400.css": "a9315e5cdea0db3455386d2fd42827f6b5d178484a9eb34f3334a2e005a59263",
    "@fontsource/klee-one/400.css": "2f13b6a3920f8d7a3f479e29aa7b3af9458967d4bdedc231888a74257eb88236",
    "@fontsource/yomogi/400.css": "148bb00016743acae5ae7bcca9bdce132439bad380c62e71081c26620d7fbaaa",
    "@fontsource/yusei-magic/400.css": "ed10fefdf1e70f4a66562b7960baac22932d8a69a8e06a90744ae371daf9b415",
    "@fontsource/zen-kurenaido/400.css": "0853d3684e6f137faa1f446bc314f6aec7f37bbb8166186680e0c1e8ffaf84be",
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


def verify(sheets: Mapping[str, str] = HANZI, modules: Path = MODULES) -> None:
    """See that fonts, such as those of `HANZI`, are the ones that the drawings are known by.

    Raises:
        InputError: one is missing or altered.
    """
    for sheet, expected in sheets.items():
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
        sheet: the font's style sheet in `modules`, one of those above or another.
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
