"""Drawn hanzi: the same bytes from the same seed, writers who differ, whole files on disk, and how real they are."""

import json
import os
import shlex
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from hwr_utils import cli, data, files, results, synthesis
from hwr_utils.data import gnt
from hwr_utils.errors import InputError
from hwr_utils.synthesis import fonts, hanzi, medians

SOME = "一人国语鼎"
# of SOME by writers 0 and 1 of seed 3; when they change on purpose, raise hanzi.VERSION
PINNED = "62e83000daeab7c7a5e79c623c03ee3f3555f22eb9bd3cbc6733975ff3eec458"


def bytes_of(images: list[np.ndarray]) -> bytes:
    return b"".join(np.array(image.shape, "<i8").tobytes() + image.tobytes() for image in images)


def test_same_seed_gives_same_bytes_on_every_machine() -> None:
    drawn = b"".join(bytes_of(hanzi.draw(3, writer, SOME)) for writer in (0, 1))
    assert files.sha256(drawn) == PINNED


def test_every_character_of_level_1_has_strokes() -> None:
    strokes = medians.read("".join(gnt.LEVEL_1))
    assert len(strokes.first) == 3756 and (np.diff(strokes.first) > 0).all()
    assert strokes.paths.shape == (strokes.first[-1], medians.POINTS, 2)
    assert strokes.paths.min() >= 0 and strokes.paths.max() <= 1
    counts = dict(zip(strokes.characters, np.diff(strokes.first), strict=True))
    assert [counts[character] for character in "一人国语鼎"] == [1, 2, 8, 9, 12]


def test_a_sample_does_not_depend_on_what_else_is_drawn() -> None:
    many = synthesis.choose(2 * hanzi.BATCH + 5)
    together = hanzi.draw(0, 7, many)
    for number in (0, hanzi.BATCH - 1, hanzi.BATCH, len(many) - 1):
        (alone,) = hanzi.draw(0, 7, many[number])
        assert np.array_equal(alone, together[number])


def test_seeds_writers_and_characters_share_no_image() -> None:
    drawn = [hanzi.draw(seed, writer, SOME) for seed, writer in ((0, 0), (0, 1), (1, 0))]
    assert len({bytes_of([image]) for images in drawn for image in images}) == 3 * len(SOME)


def write(root: Path, seed: int, writers: int, classes: int | str, per_font: int = 0, processes: int = 1) -> Path:
    sizes = {"writers": writers, "classes": classes, "per_font": per_font}
    return synthesis.write(synthesis.HANZI, root, seed, processes, **sizes)


def content(folder: Path) -> dict[str, str]:
    """Return a checksum of each file of a set but what names the folder's own past."""
    return {str(path.relative_to(folder)): files.sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a set of four writers, drawn in one process."""
    return write(tmp_path_factory.mktemp("data"), 0, 4, SOME)


def test_the_import_and_the_manifest_tell_what_was_drawn(drawn: Path) -> None:
    manifest = json.loads((drawn / "manifest.json").read_text())
    assert (manifest["version"], manifest["seed"], manifest["writers"]) == (hanzi.VERSION, 0, 4)
    assert manifest["characters"] == synthesis.choose(SOME)
    assert "hanzi-writer-data" in manifest["strokes"] and "Arphic Public License" in manifest["strokes"]
    assert manifest["strokes_sha256"] == medians.read(manifest["characters"]).sha256
    images, labels, writers = (np.load(drawn / "arrays" / f"{name}.npy") for name in ("images", "labels", "writers"))
    for number, path in enumerate(sorted((drawn / "gnt").glob("*.gnt"))):
        samples = list(gnt.parse(path.read_bytes(), path.name))
        expected = hanzi.draw(0, number, manifest["characters"])
        assert all(np.array_equal(one, image) for (_, one), image in zip(samples, expected, strict=True))
    assert images.shape == (20, 56, 56) and writers.tolist() == np.repeat(range(4), 5).tolist()
    assert {gnt.LEVEL_1[label] for label in labels} == set(SOME)
    told = json.loads((drawn / "arrays" / "manifest.json").read_text())
    assert [source["writer"] for source in told["sources"]] == ["0001", "0002", "0003", "0004"]
    assert data.checksums(synthesis.HANZI, drawn.parents[1]) == manifest["sha256"]


def test_the_number_of_processes_changes_nothing(drawn: Path, tmp_path: Path) -> None:
    assert content(write(tmp_path, 0, 4, SOME, processes=3)) == content(drawn)


def test_the_command_that_a_record_tells_draws_its_data(drawn: Path, tmp_path: Path) -> None:
    dataset = data.load(synthesis.HANZI, drawn.parents[1], split="random")
    record = {"dataset": {"drawn": dataset.drawn, "classes": list(dataset.classes)}}
    assert cli.main([*shlex.split(results.drawing(record), comments=True)[1:], "--data-root", str(tmp_path)]) == 0
    assert data.checksums(synthesis.HANZI, tmp_path) == dataset.files
    assert results.drawing({"dataset": {"classes": ["0", "1"]}}) == ""


@pytest.mark.filterwarnings("ignore:.*it is replaced")
def test_fonts_write_beside_the_strokes_and_the_test_part_is_of_other_hands(tmp_path: Path) -> None:
    folder = write(tmp_path, 0, 2, SOME, per_font=1)
    names = sorted(path.stem for path in (folder / "gnt").glob("*.gnt"))
    assert names[:5] == [f"test-000{n}" for n in range(1, 6)] and names[5:7] == ["train-0001", "train-0002"]
    assert [name.removeprefix("train-")[:-4] for name in names[7:]] == sorted(s.split("/")[1] for s in fonts.HANZI)
    dataset = data.load(synthesis.HANZI, tmp_path)
    assert len(dataset.train_labels) == (2 + len(fonts.HANZI)) * len(SOME) and len(dataset.test_labels) == 5 * len(SOME)
    assert dataset.drawn is not None and (dataset.drawn["writers"], dataset.drawn["per_font"]) == (2, 1)
    assert dataset.drawn["fonts"] == fonts.HANZI and dataset.drawn["version"] == hanzi.VERSION
    before = {path: path.stat().st_mtime_ns for path in (folder / "gnt").iterdir()}
    write(tmp_path, 0, 2, SOME, per_font=1)
    assert {path: path.stat().st_mtime_ns for path in (folder / "gnt").iterdir()} == before, "it was there"
    write(tmp_path, 0, 2, SOME)
    assert len(list((folder / "gnt").iterdir())) == 2, "the set without fonts is another"
    plain = content(folder)
    synthesis.write(synthesis.HANZI, tmp_path, 0, 1, writers=0, classes="口日", mice=1)
    (_, box), (_, sun) = gnt.parse((folder / "gnt" / "train-mouse-001.gnt").read_bytes(), "it")
    drawn = hanzi.draw(0, synthesis.FIRST_OF_MICE, "口日", lines=True)
    assert np.array_equal(box, drawn[0]) and np.array_equal(sun, drawn[1])
    assert content(write(tmp_path, 0, 2, SOME)) == plain, "and so is the one with mice"


def test_a_mouse_draws_straight_lines() -> None:
    """Of 口 each row has ink on the left and on the right, near a line, and little between but for two lines."""
    for writer in range(4):
        (image,) = hanzi.draw(0, writer, "口", lines=True)
        ink = image < 128
        middle = ink[len(ink) // 4 : -len(ink) // 4]
        for side in (middle.argmax(1), middle[:, ::-1].argmax(1)):
            rows = np.arange(len(side))
            assert np.abs(side - np.polyval(np.polyfit(rows, side, 1), rows)).max() < 2
        assert middle.mean() < 0.25


@pytest.mark.filterwarnings("ignore:.*it is replaced")
def test_a_set_is_kept_until_another_is_whole(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "synthetic" / synthesis.HANZI
    shutil.copytree(drawn, folder)
    (folder / "manifest.json").write_text(
        json.dumps(
            {k: v for k, v in json.loads((folder / "manifest.json").read_text()).items() if k not in ("sha256", "mice")}
        )
    )  # as the first sets had it
    before = content(folder)
    with monkeypatch.context() as patch:
        patch.setattr(synthesis, "_write_file", die)
        write(tmp_path, 0, 4, SOME)  # which is there
        with pytest.raises(InputError, match=r"was killed while drawing.*run the same command again"):
            write(tmp_path, 1, 4, SOME)
    assert content(folder) == before and [path.name for path in folder.parent.iterdir()] == [synthesis.HANZI]
    write(tmp_path, 1, 1, SOME)
    assert content(folder)["gnt/0001.gnt"] != before["gnt/0001.gnt"] and "gnt/0002.gnt" not in content(folder)
    (folder / "arrays" / "manifest.json").unlink()
    write(tmp_path, 0, 4, SOME)
    assert content(folder) == content(drawn)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"writers": 0}, "writers=0"),
        ({"classes": 3756}, "classes=3756"),
        ({"classes": "一鬻"}, "'鬻'"),
        ({"n_train": 3}, "'n_train' is unknown"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        synthesis.write("hanzi-synthetic", tmp_path, **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_absent_damaged_or_altered_strokes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    medians.verify()
    monkeypatch.setattr(medians, "SHA256", 64 * "0")
    with pytest.raises(InputError, match="altered"):
        medians.verify()
    with pytest.raises(InputError, match="cannot read"):
        medians.read("一", tmp_path)
    (tmp_path / "一.json").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        medians.read("一", tmp_path)
