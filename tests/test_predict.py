"""`hwr predict`: characters in pictures by a TFLite file, without torch; and what it says of what does not fit."""

import json
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import write_network
from hwr_utils import cli, files, preprocessing
from hwr_utils.device import recognizer
from hwr_utils.errors import InputError

SIZE, MARGIN = 20, 2
CLASSES = ("一", "丨", "口", "x")


def draw(name: str) -> np.ndarray:
    """Return (60, 60) uint8: a character, black on white."""
    image = np.full((60, 60), 255, np.uint8)
    if name == "一":
        image[27:33, 8:52] = 0
    elif name == "丨":
        image[8:52, 27:33] = 0
    elif name == "口":
        image[10:50, 10:50] = 0
        image[15:45, 15:45] = 255
    else:
        for row in range(8, 52):
            image[row, row - 3 : row + 3] = 0
            image[row, 57 - row : 63 - row] = 0
    return image


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the TFLite file of a network that compares an image with each character, with its model.json beside it."""
    folder = tmp_path_factory.mktemp("exported")
    templates = []
    for name in CLASSES:
        picture = folder / "template.png"
        Image.fromarray(draw(name)).save(picture)
        template = preprocessing.from_picture(picture, SIZE, MARGIN, "box").astype(np.float32).ravel() / 255
        templates.append((template - template.mean()) / np.linalg.norm(template - template.mean()))
    path = folder / "model.fp32.tflite"
    write_network(path, np.stack(templates), (1, 1, SIZE, SIZE))
    describe(path)
    return path


def describe(path: Path, **changed: Any) -> None:
    """Write the model.json of a file."""
    description = {
        "schema_version": 1,
        "classes": list(CLASSES),
        "input": {"shape": [1, 1, SIZE, SIZE]},
        "image": {"size": SIZE, "margin": MARGIN, "centre": "box"},
        "files": {path.name: {"sha256": files.sha256(path)}},
    }
    files.write_json(path.with_name("model.json"), description | changed)


def answer(exported: Path, picture: Path) -> str:
    return recognizer.load(exported).read(picture, 1).candidates[0][0]


def test_candidates_come_best_first(exported: Path, tmp_path: Path) -> None:
    for name in CLASSES:
        picture = tmp_path / "picture.png"
        Image.fromarray(draw(name)).save(picture)
        found = recognizer.load(exported).read(picture).candidates
        assert found[0][0] == name
        assert sorted(one for one, _ in found) == sorted(CLASSES)  # 10 were asked for, and there are 4
        scores = [score for _, score in found]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)
        assert len(recognizer.load(exported).read(picture, 2).candidates) == 2


def test_scores_are_softened_by_the_temperature(own: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(draw("口")).save(picture)
    plain = recognizer.load(own)
    before = dict(plain.read(picture).candidates)
    assert plain.temperature == 1 and not plain.rejector.weights.any()  # where model.json says nothing
    describe(own, scores={"temperature": 2.5, "more": "is allowed"})
    after = dict(recognizer.load(own).read(picture).candidates)
    assert list(after) == list(before)  # the order stays
    for character in CLASSES[1:]:
        ratio, softened = (scores[CLASSES[0]] / scores[character] for scores in (before, after))
        assert softened == pytest.approx(ratio ** (1 / 2.5))
    assert sum(after.values()) == pytest.approx(1)


def test_softmax_of_large_logits() -> None:
    scores = recognizer.softmax(np.array([[5000.0, 5000.0, -5000.0], [0.0, np.log(3), -np.inf]]), 1.0)
    assert scores == pytest.approx(np.array([[0.5, 0.5, 0], [0.25, 0.75, 0]]))


def test_what_a_rejector_sees() -> None:
    logits = np.array([[1.0, -2.0, 3.0]])
    assert recognizer.features(logits).tolist() == [[1, -2, 3, 1, 4, 9, 3, 1, -2]]
    many = recognizer.features(np.arange(24.0).reshape(2, 12))
    assert many.shape == (2, 12 + 12 + 10) and many[0, 24:].tolist() == list(range(11, 1, -1))
    rejector = recognizer.Rejector(np.array([0.0, 0, 0, 0, 0, 0, 1, 0, 0]), -3.0)
    assert rejector.accepts(logits).tolist() == [True]  # the limit itself is accepted
    assert rejector.accepts(np.float32([2.9, 0, 0])).shape == () and not rejector.accepts(np.float32([2.9, 0, 0]))


@pytest.mark.parametrize("bias", [0, -1e-9])
def test_what_the_rejector_declines(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bias: float) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(draw("口")).save(picture)
    best = recognizer.load(own).read(picture).candidates[0][1]
    describe(own, scores={"temperature": 1, "rejector": {"weights": [0] * 12, "bias": bias}})
    assert recognizer.load(own).read(picture).likely == (bias == 0)
    argv = ["predict", str(picture), "--model", str(own), "--top-k", "1"]
    assert cli.main([*argv, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["likely"] == (bias == 0) and answer["candidates"][0]["character"] == "口"
    assert cli.main(argv) == 0
    told = f"口 {best:.2%}"
    assert capsys.readouterr().out == f"{picture}: {f'no likely character ({told})' if bias else told}\n"


def turned(image: Image.Image, path: Path) -> None:
    """Save as a telephone does that was held upright: the pixels lie on their side, and a mark says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, format="JPEG", quality=95, exif=exif)


def see_through(image: Image.Image, path: Path) -> None:
    ink = Image.new("LA", image.size, 0)
    ink.putalpha(Image.eval(image, lambda level: 255 - level))
    ink.save(path, format="PNG")


def wide(image: Image.Image, path: Path) -> None:
    Image.fromarray(np.asarray(image).astype(np.uint16) * 257).save(path, format="PNG")


def in_a_corner(image: Image.Image, path: Path) -> None:
    paper = Image.new("L", (900, 700), 230)
    paper.paste(image.resize((150, 150)), (600, 40))
    paper.save(path, format="PNG")


SAVED: dict[str, Callable[[Image.Image, Path], None]] = {
    "jpeg": lambda image, path: image.save(path, format="JPEG", quality=90),
    "white on black": lambda image, path: Image.eval(image, lambda level: 255 - level).save(path, format="PNG"),
    "colours": lambda image, path: image.convert("RGB").save(path, format="PNG"),
    "palette": lambda image, path: image.convert("P").save(path, format="PNG"),
    "alpha": see_through,
    "16 bits": wide,
    "turned": turned,
    "in a corner": in_a_corner,
}


@pytest.mark.parametrize("kind", SAVED)
def test_any_picture_is_put_right(exported: Path, tmp_path: Path, kind: str) -> None:
    for name in CLASSES:
        SAVED[kind](Image.fromarray(draw(name)), tmp_path / "picture")
        assert answer(exported, tmp_path / "picture") == name


def test_the_centre_is_what_the_description_says(own: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    image = np.zeros((100, 100), np.uint8)
    image[20:30, 40:50] = image[20:30, 60:70] = image[70:75, 40:45] = 255  # heavy above
    Image.fromarray(image).save(picture)
    assert recognizer.load(own).form["centre"] == "box"
    boxed, centred = (preprocessing.from_picture(picture, SIZE, MARGIN, centre) for centre in ("box", "mass"))
    assert np.array_equal(centred, preprocessing.centre_mass(boxed)) and not np.array_equal(centred, boxed)
    describe(own, image={"size": SIZE, "margin": MARGIN, "centre": "mass"})
    assert recognizer.load(own).form["centre"] == "mass"
    Image.fromarray(centred).save(picture)  # of this size and in this form, so it is prepared
    assert np.array_equal(preprocessing.from_picture(picture, SIZE, MARGIN, "mass"), centred)


def png(path: Path, width: int, height: int) -> None:
    """Write a PNG file that claims a size and holds next to nothing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 100))]
    body = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + b"\0\0\0\0IEND\xaeB`\x82")


def animated(path: Path) -> None:
    first, second = (Image.fromarray(draw(name)) for name in "一口")
    first.save(path, format="PNG", save_all=True, append_images=[second])


def cut(path: Path, kind: str) -> None:
    Image.fromarray(draw("口")).save(path, format=kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD_PICTURES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "cannot read"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("x" * 100), "of an unknown kind"),
    "gif": (
        lambda path: Image.fromarray(draw("口")).save(path, format="GIF"),
        "a GIF picture, and no picture that can be read",
    ),
    "cut png": (lambda path: cut(path, "PNG"), "cannot read|damaged"),
    "cut jpeg": (lambda path: cut(path, "JPEG"), "cannot read|damaged"),
    "blank": (lambda path: Image.new("L", (50, 50), 200).save(path, format="PNG"), "is blank: no ink"),
    "blank and prepared": (lambda path: Image.new("L", (SIZE, SIZE), 9).save(path, format="PNG"), "is blank: no ink"),
    "clear": (lambda path: Image.new("RGBA", (50, 50)).save(path, format="PNG"), "is blank: no ink"),
    "animated": (animated, "is animated: it has 2 pictures"),
    "large": (lambda path: png(path, 8000, 8000), "8000 x 8000 pixels; at most 50,000,000"),
    "larger": (lambda path: png(path, 12_000, 12_000), "12000 x 12000 pixels; at most 50,000,000"),
    "huge": (lambda path: png(path, 100_000, 100_000), "pixels"),
}


@pytest.mark.parametrize("kind", BAD_PICTURES)
def test_a_bad_picture_is_told(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    make, message = BAD_PICTURES[kind]
    picture = tmp_path / "picture.png"
    make(picture)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's would come on top of the message
        assert cli.main(["predict", str(picture), "--model", str(exported)]) == 2
    with pytest.raises(InputError, match=rf"(?s)picture\.png.*({message})|({message}).*picture\.png"):
        answer(exported, picture)
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("hwr: error: ") and output.err.count("\n") == 1


def test_folders_and_patterns_are_read_and_what_is_bad_is_named(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, name in enumerate(CLASSES):
        Image.fromarray(draw(name)).save(tmp_path / f"{index + 8}.png")
    (tmp_path / ".hidden.png").write_text("x")
    for place in (str(tmp_path), str(tmp_path / "*.png")):
        assert cli.main(["predict", place, "--model", str(exported), "--top-k", "1"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in lines] == [str(tmp_path / f"{index}.png") for index in range(8, 12)]
        assert [line.split(": ")[1][0] for line in lines] == list(CLASSES)
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "9.png").write_text("text")
    assert cli.main(["predict", str(tmp_path), "--model", str(exported), "--json"]) == 2
    told = capsys.readouterr()
    assert [Path(one["file"]).name for one in json.loads(told.out)] == ["8.png", "10.png", "11.png"]
    assert "2 of 5 pictures could not be read" in told.err and "0.png" in told.err and "9.png" in told.err
    assert cli.main(["predict", str(tmp_path / "*.jpg"), "--model", str(exported)]) == 2
    assert "*.jpg holds no picture" in capsys.readouterr().err


@given(content=st.binary(max_size=200))
@settings(max_examples=100)
def test_any_bytes_as_a_picture_are_told(exported: Path, content: bytes) -> None:
    picture = exported.with_name("noise.png")
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        picture.write_bytes(start + content)
        with pytest.raises(InputError, match=r"noise\.png"):
            answer(exported, picture)


@pytest.fixture
def own(exported: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the exported file that a test may damage."""
    path = tmp_path / exported.name
    path.write_bytes(exported.read_bytes())
    describe(path)
    yield path


@pytest.mark.parametrize("length", [0, 3, 8, 100, -1])
def test_a_truncated_network_is_told(own: Path, length: int) -> None:
    own.write_bytes(own.read_bytes()[:length])
    with pytest.raises(InputError, match=r"model\.fp32\.tflite is no file that .*model\.json knows"):
        recognizer.load(own)


def test_every_flipped_bit_is_told(own: Path) -> None:
    """The interpreter might end the process, so it must not see such a file."""
    content = own.read_bytes()
    rng = np.random.Generator(np.random.PCG64(0))
    for place in [*range(12), *rng.integers(0, len(content), 60)]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        own.write_bytes(damaged)
        with pytest.raises(InputError, match=r"model\.fp32\.tflite"):
            recognizer.load(own)
    own.write_bytes(content)
    recognizer.load(own)


def test_a_renamed_network_is_still_known(own: Path) -> None:
    recognizer.load(own.rename(own.with_name("digits.tflite")))


def test_another_kind_of_file_is_told(own: Path) -> None:
    with pytest.raises(InputError, match=r"model\.json is no file that .*model\.json knows"):
        recognizer.load(own.with_name("model.json"))
    with pytest.raises(InputError, match=r"cannot read .*absent\.tflite"):
        recognizer.load(own.with_name("absent.tflite"))


def test_a_network_that_the_interpreter_refuses_is_told(own: Path) -> None:
    write_network(own, np.ones((4, 7), np.float32), (1, 1, SIZE, SIZE))  # 400 pixels are no multiple of 7
    describe(own)
    with pytest.raises(InputError, match=r"model\.fp32\.tflite is damaged \(.+\)"):
        recognizer.load(own)


def test_a_network_of_another_shape_is_told(own: Path) -> None:
    write_network(own, np.ones((4, 100), np.float32), (1, 1, 10, 10))
    describe(own)
    with pytest.raises(
        InputError, match=r"takes \(1, 1, 10, 10\) and .*model\.json says that it takes \(1, 1, 20, 20\)"
    ):
        recognizer.load(own)
    write_network(own, np.ones((4, 10), np.float32), (1, 1, 20, 20))  # which gives 40 rows
    describe(own)
    with pytest.raises(InputError, match=r"gives \(40, 4\); .* gives \(1, 4\)"):
        recognizer.load(own)


REJECTOR = {"weights": [0.5] * 12, "bias": 0}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "too few classes": ({"classes": ["a", "b", "c"]}, r"gives \(1, 4\); .*model.json says .* gives \(1, 3\)"),
    "no classes": ({"classes": None}, "TypeError"),
    "an empty class": ({"classes": ["a", "b", "c", ""]}, "wrong classes"),
    "another version": ({"schema_version": 2}, "wrong schema_version"),
    "no input": ({"input": None}, "the description of a model was expected"),
    "three channels": ({"input": {"shape": [1, 3, 20, 20]}}, r"it takes \(1, 3, 20, 20\)"),
    "another size": ({"input": {"shape": [1, 1, 28, 28]}}, r"it takes \(1, 1, 28, 28\)"),
    "an image that takes the memory": ({"input": {"shape": [1, 1, 10**9, 20]}}, "it takes"),
    "no image": ({"image": {}}, "KeyError: 'size'"),
    "no room": ({"image": {"size": 20, "margin": 10, "centre": "box"}}, "wrong image"),
    "no centre": ({"image": {"size": 20, "margin": 2, "centre": "top"}}, "wrong centre"),
    "a fraction": ({"image": {"size": 20.5, "margin": 1, "centre": "box"}}, "wrong image"),
    "no files": ({"files": {}}, "is no file that"),
    "other files": ({"files": {"a": {"sha256": "0" * 64}}}, "is no file that"),
    "no checksum": ({"files": {"a": {}}}, "KeyError: 'sha256'"),
    "a temperature of 0": ({"scores": {"temperature": 0}}, "wrong scores"),
    "a rejector of other classes": (
        {"scores": {"temperature": 1, "rejector": REJECTOR | {"weights": [0.5] * 11}}},
        "wrong rejector",
    ),
    "a rejector without its bias": (
        {"scores": {"temperature": 1, "rejector": {"weights": [0] * 12}}},
        "KeyError: 'bias'",
    ),
    "a rejector with a word": (
        {"scores": {"temperature": 1, "rejector": REJECTOR | {"weights": ["one"] * 12}}},
        "could not convert string",
    ),
    "no scores": ({"scores": None}, "the description of a model was expected"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_description_that_does_not_fit_is_told(own: Path, kind: str) -> None:
    changed, message = WRONG[kind]
    describe(own, **changed)
    with pytest.raises(InputError, match=f"model.json.*{message}|{message}") as error:
        recognizer.load(own)
    assert "hwr quantize" in str(error.value) and "\n" not in str(error.value)  # what to do, in one line


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"classes"', b"\xff\xfe", b"null", b"{}", b"[" * 2000, b"[" * 200_000, b"\0" * 9]
)
def test_a_damaged_description_is_told(own: Path, content: bytes) -> None:
    place = own.with_name("model.json")
    place.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.json") as error:
        recognizer.load(own)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    place.unlink()
    with pytest.raises(InputError, match=r"cannot read .*model\.json: No such file"):
        recognizer.load(own)


def test_answers_that_are_no_numbers_are_told(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_network(own, np.full((4, SIZE * SIZE), np.nan, np.float32), (1, 1, SIZE, SIZE))
    describe(own)
    picture = tmp_path / "picture.png"
    Image.fromarray(draw("口")).save(picture)
    assert cli.main(["predict", str(picture), "--model", str(own)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and "fp32.tflite answers with numbers that are not finite" in told.err


@pytest.mark.parametrize("k", ["0", "-1"])
def test_top_k_is_positive(exported: Path, capsys: pytest.CaptureFixture[str], k: str) -> None:
    assert cli.main(["predict", "a.png", "--model", str(exported), "--top-k", k]) == 2
    assert f"top-k={k} is out of range" in capsys.readouterr().err


# Refuses every module but those of Python and of what `pip install ai-edge-litert numpy pillow` brings.
BARE = """
import sys
allowed = {"hwr_utils", "numpy", "PIL", "ai_edge_litert", "tqdm", "flatbuffers", "backports", "google", "ml_dtypes",
           "typing_extensions"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed | set(sys.stdlib_module_names):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from hwr_utils import cli
status = cli.main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(status)
"""


def test_it_works_without_torch(exported: Path, tmp_path: Path) -> None:
    pictures = []
    for index, name in enumerate(CLASSES):
        pictures.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(draw(name)).save(pictures[-1])
    command = [sys.executable, "-c", BARE, "predict", *pictures, "--model", str(exported), "--top-k", "3"]
    done = subprocess.run([*command, "--json"], cwd=files.REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    answers = json.loads(done.stdout)
    assert [one["file"] for one in answers] == pictures
    assert [one["candidates"][0]["character"] for one in answers] == list(CLASSES)
    assert all(len(one["candidates"]) == 3 for one in answers)
    plain = subprocess.run(command, cwd=files.REPOSITORY, capture_output=True, text=True, check=True).stdout
    lines = plain.splitlines()
    assert len(lines) == len(pictures)
    assert all(line.startswith(f"{file}: {name} ") for line, file, name in zip(lines, pictures, CLASSES, strict=True))
    # and the refusal works: training imports torch
    done = subprocess.run(
        [sys.executable, "-c", BARE, "train", "--dataset", "mnist"],
        cwd=files.REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and "torch is not installed" in done.stderr


def test_a_missing_interpreter_is_told(
    exported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    assert cli.main(["predict", "x.png", "--model", str(exported)]) == 2
    assert "ai_edge_litert.interpreter is not installed. It is in `pip install" in capsys.readouterr().err


@pytest.mark.parametrize("size", [16, 20, 28, 56])
def test_the_input_is_what_networks_are_trained_on(size: int) -> None:
    import torch

    from hwr_utils import models

    rng = np.random.Generator(np.random.PCG64(size))
    image = rng.integers(0, 256, (28, 28)).astype(np.uint8)
    expected = models.to_input(torch.from_numpy(image)[None], size).numpy()
    found = preprocessing.to_input(image, (1, 1, size, size))
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6
