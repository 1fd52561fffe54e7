"""`hwr predict`: characters in pictures by a TFLite file, without torch; and what it says of what does not fit."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helpers import describe_network, write_network
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
    image = {"size": SIZE, "margin": MARGIN, "centre": "box"}
    describe_network(path, SIZE, **{"classes": list(CLASSES), "image": image} | changed)


def test_candidates_come_best_first(exported: Path, tmp_path: Path) -> None:
    for name in CLASSES:
        picture = tmp_path / "picture.png"
        Image.fromarray(draw(name)).save(picture)
        found = recognizer.load(exported).read(picture)["candidates"]
        assert found[0]["character"] == name
        assert sorted(one["character"] for one in found) == sorted(CLASSES)  # 10 were asked for, and there are 4
        scores = [one["score"] for one in found]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)
        assert len(recognizer.load(exported).read(picture, 2)["candidates"]) == 2


def scores_of(loaded: recognizer.Recognizer, picture: Path) -> dict[str, float]:
    return {one["character"]: one["score"] for one in loaded.read(picture)["candidates"]}


def test_scores_are_softened_by_the_temperature(own: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(draw("口")).save(picture)
    plain = recognizer.load(own)
    before = scores_of(plain, picture)
    assert plain.temperature == 1 and not plain.rejector.weights.any()  # where model.json says nothing
    describe(own, scores={"temperature": 2.5, "more": "is allowed"})
    after = scores_of(recognizer.load(own), picture)
    assert list(after) == list(before)  # the order stays
    for character in CLASSES[1:]:
        ratio, softened = (scores[CLASSES[0]] / scores[character] for scores in (before, after))
        assert softened == pytest.approx(ratio ** (1 / 2.5))
    assert sum(after.values()) == pytest.approx(1)


def test_softmax_of_large_logits() -> None:
    scores = recognizer.softmax(np.array([[5000.0, 5000.0, -5000.0], [0.0, np.log(3), -np.inf]]), 1.0)
    assert scores == pytest.approx(np.array([[0.5, 0.5, 0], [0.25, 0.75, 0]]))


# for the four classes: it adds up nothing, and accepts
REJECTOR = {"weights": [0.0] * 18, "hidden": [[0.0] * 28], "output": [0.0, 0.0]}


@pytest.mark.parametrize("bias", [0, -1e-9])
def test_what_the_rejector_declines(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bias: float) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(draw("口")).save(picture)
    best = recognizer.load(own).read(picture)["candidates"][0]["score"]
    describe(own, scores={"temperature": 1, "rejector": REJECTOR | {"output": [bias, 0]}})
    assert recognizer.load(own).read(picture)["likely"] == (bias == 0)
    argv = ["predict", str(picture), "--model", str(own), "--top-k", "1"]
    assert cli.main([*argv, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["likely"] == (bias == 0) and answer["candidates"][0]["character"] == "口"
    assert cli.main(argv) == 0
    told = capsys.readouterr().out
    assert f"口 {best:.2%}" in told and ("no likely character" in told) == (bias != 0)


def test_folders_are_read_and_what_is_bad_is_named(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index, name in enumerate(CLASSES):
        Image.fromarray(draw(name)).save(tmp_path / f"{index + 8}.png")
    (tmp_path / ".hidden.png").write_text("x")
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "@eaDir" / "8.png").write_bytes((tmp_path / "8.png").read_bytes())
    (tmp_path / "more").mkdir()
    (tmp_path / "11.png").rename(tmp_path / "more" / "11.png")
    assert cli.main(["predict", str(tmp_path), "--model", str(exported), "--top-k", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ("8.png", "9.png", "10.png", "more/11.png")
    assert [line.split(":")[0] for line in lines] == [str(tmp_path / name) for name in names]
    assert [line.split(": ")[1][0] for line in lines] == list(CLASSES)
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "9.png").write_text("text")
    missing = str(tmp_path / "none")
    with pytest.warns(UserWarning, match="none|[09].png") as warned:
        assert cli.main(["predict", missing, str(tmp_path), "--model", str(exported), "--json"]) == 2
    told = capsys.readouterr()
    assert [Path(one["file"]).name for one in json.loads(told.out)] == ["8.png", "10.png", "11.png"]
    assert "3 of 6 pictures could not be read" in told.err and len(warned) == 3


@pytest.fixture
def own(exported: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the exported file that a test may damage."""
    path = tmp_path / exported.name
    path.write_bytes(exported.read_bytes())
    describe(path)
    yield path


def test_a_network_that_is_damaged_or_something_else_is_told(own: Path) -> None:
    """The interpreter might end the process, so it must not see such a file."""
    for path in (own.with_name("model.json"), own.with_name("absent.tflite")):
        with pytest.raises(InputError, match=path.name):
            recognizer.load(path)
    content = own.read_bytes()
    for damaged in (b"", content[:-1], content[:50] + bytes([content[50] ^ 1]) + content[51:]):
        own.write_bytes(damaged)
        with pytest.raises(InputError, match=r"model\.fp32\.tflite.*is no file that .*model\.json knows"):
            recognizer.load(own)
    own.write_bytes(content)
    recognizer.load(own.rename(own.with_name("digits.tflite")))  # it is known by its content


def test_a_network_that_takes_no_image_is_told(own: Path) -> None:
    write_network(own, np.ones((4, 7), np.float32), (1, 1, SIZE, SIZE))  # 400 pixels are no multiple of 7
    describe(own)
    with pytest.raises(InputError, match=r"model\.fp32\.tflite is damaged"):
        recognizer.load(own)


DAMAGED = r"model\.json is damaged .* expected the description of a model"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "too few classes": ({"classes": ["a", "b", "c"]}, DAMAGED),
    "a class twice": ({"classes": ["a", "b", "c", "a"]}, DAMAGED),
    "a temperature of 0": ({"scores": {"temperature": 0}}, DAMAGED),
    "a margin that leaves no room": ({"image": {"size": 20, "margin": 10, "centre": "box"}}, DAMAGED),
    "a size that is no number": ({"image": {"size": "x", "margin": 0, "centre": "box"}}, DAMAGED),
    "a rejector of other classes": (
        {"scores": {"temperature": 1, "rejector": REJECTOR | {"weights": [0.5] * 11}}},
        DAMAGED,
    ),
    "a rejector with a hole": (
        {"scores": {"temperature": 1, "rejector": REJECTOR | {"hidden": [[0.0] * 28, [0.0] * 27]}}},
        DAMAGED,
    ),
    "a rejector of words": ({"scores": {"temperature": 1, "rejector": REJECTOR | {"output": ["no"]}}}, DAMAGED),
    "an earlier edition": ({"schema_version": 1}, "schema_version 1"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_description_that_does_not_fit_is_told(own: Path, kind: str) -> None:
    changed, message = WRONG[kind]
    describe(own, **changed)
    with pytest.raises(InputError, match=message):
        recognizer.load(own)


@pytest.mark.parametrize("content", [b'"classes"', b"{}", b"[" * 200_000])
def test_a_damaged_description_is_told(own: Path, content: bytes) -> None:
    own.with_name("model.json").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.json"):
        recognizer.load(own)


def test_answers_that_are_no_numbers_are_told(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_network(own, np.full((4, SIZE * SIZE), np.nan, np.float32), (1, 1, SIZE, SIZE))
    describe(own)
    picture = tmp_path / "picture.png"
    Image.fromarray(draw("口")).save(picture)
    assert cli.main(["predict", str(picture), "--model", str(own)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and "fp32.tflite answers with numbers that are not finite" in told.err


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
from hwr_utils.__main__ import main
status = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(status)
"""


def test_it_works_without_torch(exported: Path, tmp_path: Path) -> None:
    def run(*argv: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", BARE, *argv]
        return subprocess.run(command, cwd=files.REPOSITORY, capture_output=True, text=True, check=False)

    pictures = []
    for index, name in enumerate(CLASSES):
        pictures.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(draw(name)).save(pictures[-1])
    done = run("predict", *pictures, "--model", str(exported), "--top-k", "3", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    answers = json.loads(done.stdout)
    assert [one["file"] for one in answers] == pictures
    assert [one["candidates"][0]["character"] for one in answers] == list(CLASSES)
    assert all(len(one["candidates"]) == 3 for one in answers)
    # and the refusal works: training imports torch
    done = run("train", "--dataset", "mnist")
    assert done.returncode != 0 and "torch is not installed" in done.stderr


@pytest.mark.parametrize("size", [16, 28, 56])
def test_the_input_is_what_networks_are_trained_on(size: int) -> None:
    import torch

    from hwr_utils import models

    rng = np.random.Generator(np.random.PCG64(size))
    image = rng.integers(0, 256, (28, 28)).astype(np.uint8)
    expected = models.to_input(torch.from_numpy(image)[None], size).numpy()
    found = preprocessing.to_input(image, (1, 1, size, size))
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-6
