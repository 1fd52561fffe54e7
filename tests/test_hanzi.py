"""Drawn hanzi: the same bytes from the same seed, writers who differ, whole files on disk, and how real they are."""

import json
import os
import shutil
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hwr_utils import cli, data, files, notebooks, records, results, synthesis
from hwr_utils.data import gnt, hwdb
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
    assert strokes.paths.shape == (len(strokes.owner), medians.POINTS, 2)
    assert strokes.paths.min() >= 0 and strokes.paths.max() <= 1
    counts = dict(zip(strokes.characters, np.diff(strokes.first), strict=True))
    assert [counts[character] for character in "一人国语鼎"] == [1, 2, 8, 9, 12]


def test_strokes_run_as_they_are_written() -> None:
    """Rightwards, and downwards from the top of the square."""
    (one,) = medians.read("一").paths
    assert one[0, 0] < 0.2 and one[-1, 0] > 0.8 and 0.4 < one[:, 1].mean() < 0.6
    ten = medians.read("十").paths
    assert ten[1, 0, 1] < 0.2 and ten[1, -1, 1] > 0.8


def test_a_sample_does_not_depend_on_what_else_is_drawn() -> None:
    many = synthesis.choose(2 * hanzi.BATCH + 5)
    together = hanzi.draw(0, 7, many)
    for number in (0, hanzi.BATCH - 1, hanzi.BATCH, len(many) - 1):
        (alone,) = hanzi.draw(0, 7, many[number])
        assert np.array_equal(alone, together[number])


def test_seeds_writers_and_characters_share_no_image() -> None:
    drawn = [hanzi.draw(seed, writer, SOME) for seed, writer in ((0, 0), (0, 1), (1, 0))]
    assert len({bytes_of([image]) for images in drawn for image in images}) == 3 * len(SOME)


def test_images_are_cropped_dark_on_paper_and_sized_as_the_real_ones() -> None:
    images = [image for writer in range(6) for image in hanzi.draw(1, writer, synthesis.choose(40))]
    sides = np.array([max(image.shape) for image in images])
    assert sides.min() >= 52 and sides.max() <= hanzi.CANVAS and abs(np.median(sides) - hanzi.SIDE) <= 2
    for image in images:
        assert image.dtype == np.uint8 and image.min() < 40
        for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
            assert edge.min() < 255, "an empty rim was left"
        assert 0.3 < (image > 200).mean() < 0.98


def test_a_writer_keeps_to_a_pen() -> None:
    """The share of ink differs far more between writers than between halves of what one writes."""
    characters = synthesis.choose(60)

    def blackness(images: list[np.ndarray]) -> float:
        return float(np.mean([(255.0 - image).mean() for image in images]))

    halves = []
    for writer in range(20):
        images = hanzi.draw(0, writer, characters)
        halves.append((blackness(images[::2]), blackness(images[1::2])))
    first, second = np.array(halves).T
    assert np.corrcoef(first, second)[0, 1] > 0.9
    pens = [hanzi.hand(0, writer).pen for writer in range(200)]
    assert np.ptp(pens) > 1 and hanzi.hand(0, 5).pen == pens[5] != hanzi.hand(1, 5).pen


def test_random_numbers_are_spread() -> None:
    chance = hanzi.Chance(hanzi.keys_of(1, np.arange(500)))
    uniform, bell = chance.uniform(40), chance.bell(40)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert np.abs(np.histogram(uniform, 10, (0, 1))[0] / 2000 - 1).max() < 0.1
    assert abs(bell.mean()) < 0.03 and abs(bell.std() - 1) < 0.02 and np.abs(bell).max() <= 3
    assert np.abs(np.corrcoef(uniform[:, :5], rowvar=False) - np.eye(5)).max() < 0.15
    assert np.abs(np.corrcoef(uniform[:-1, 0], uniform[1:, 0])[0, 1]) < 0.15, "neighbouring keys"


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


def test_one_file_a_writer_with_each_character_once(drawn: Path) -> None:
    assert [path.name for path in sorted((drawn / "gnt").glob("*.gnt"))] == [f"000{n}.gnt" for n in range(1, 5)]
    for number, path in enumerate(sorted((drawn / "gnt").glob("*.gnt"))):
        samples = list(gnt.parse(path.read_bytes(), path.name))
        characters = "".join(sample.character or "?" for sample in samples)
        assert characters == synthesis.choose(SOME) != SOME
        for sample, image in zip(samples, hanzi.draw(0, number, characters), strict=True):
            assert np.array_equal(sample.image, image)


def test_the_import_and_the_manifest_tell_what_was_drawn(drawn: Path) -> None:
    manifest = json.loads((drawn / "manifest.json").read_text())
    assert (manifest["version"], manifest["seed"], manifest["writers"]) == (hanzi.VERSION, 0, 4)
    assert manifest["characters"] == synthesis.choose(SOME)
    assert "hanzi-writer-data" in manifest["strokes"] and "Arphic Public License" in manifest["strokes"]
    assert manifest["strokes_sha256"] == medians.read(manifest["characters"]).sha256
    images, labels, writers = (np.load(drawn / "arrays" / f"{name}.npy") for name in ("images", "labels", "writers"))
    assert images.shape == (20, 56, 56) and writers.tolist() == np.repeat(range(4), 5).tolist()
    assert {gnt.LEVEL_1[label] for label in labels} == set(SOME)
    told = json.loads((drawn / "arrays" / "manifest.json").read_text())
    assert [source["writer"] for source in told["sources"]] == ["0001", "0002", "0003", "0004"]
    assert data.checksums(synthesis.HANZI, drawn.parents[1]) == manifest["sha256"]


def test_the_number_of_processes_changes_nothing(drawn: Path, tmp_path: Path) -> None:
    assert content(write(tmp_path, 0, 4, SOME, processes=3)) == content(drawn)


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


def test_fewer_writers_or_classes_are_of_the_same(drawn: Path, tmp_path: Path) -> None:
    fewer = write(tmp_path, 0, 2, SOME[:3])
    for name in ("0001.gnt", "0002.gnt"):
        every = {s.code: s.image for s in gnt.parse((drawn / "gnt" / name).read_bytes(), name)}
        some = list(gnt.parse((fewer / "gnt" / name).read_bytes(), name))
        assert len(some) == 3 and all(np.array_equal(sample.image, every[sample.code]) for sample in some)


def test_a_set_is_kept_until_another_is_whole(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "synthetic" / synthesis.HANZI
    shutil.copytree(drawn, folder)
    (folder / "manifest.json").write_text(
        json.dumps({k: v for k, v in json.loads((folder / "manifest.json").read_text()).items() if k != "sha256"})
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


def test_arrays_of_another_drawing_are_refused(drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "synthetic" / synthesis.HANZI
    shutil.copytree(drawn, folder)
    other = write(tmp_path / "other", 1, 4, SOME)
    assert data.load(synthesis.HANZI, tmp_path, split="random").drawn["seed"] == 0  # type: ignore[index]
    shutil.rmtree(folder / "arrays")
    shutil.move(other / "arrays", folder / "arrays")
    with pytest.raises(InputError, match=r"manifest\.json is missing, or of other files"):
        data.load(synthesis.HANZI, tmp_path, split="random")


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_chosen_classes_are_level_1_in_order_and_nested() -> None:
    assert synthesis.choose(None) == "".join(gnt.LEVEL_1) == synthesis.choose(3755)
    few, more = synthesis.choose(24), synthesis.choose(200)
    assert len(few) == 24 and set(few) < set(more)
    places = [gnt.LEVEL_1.index(character) for character in more]
    assert places == sorted(places) and places[0] < 200 and places[-1] > 3555, "scattered over the list"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"writers": 0}, "writers=0: without fonts one writer or more"),
        ({"writers": 10_000}, "writers=10000, expected a whole number of 0 to 9999"),
        ({"classes": 0}, "classes=0: 1 to 3755"),
        ({"classes": 3756}, "classes=3756: 1 to 3755"),
        ({"classes": ""}, "classes=''"),
        ({"classes": "一A鬻"}, "'A鬻' is none"),
        ({"seed": 2**64}, "seed=18446744073709551616, expected"),
        ({"n_train": 3}, "key 'n_train' is unknown, expected one of writers, classes, per_font, seed"),
        ({"per_font": 1_000}, "per_font=1000, expected a whole number of 0 to 999"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        synthesis.write("hanzi-synthetic", tmp_path, **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_absent_or_damaged_strokes_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        medians.read("一", tmp_path)
    for text in ("{", "{}", "[]"):
        (tmp_path / "一.json").write_text(text)
        with pytest.raises(InputError, match=r"is damaged.*remove node_modules"):
            medians.read("一", tmp_path)


@pytest.mark.parametrize("name", [synthesis.HANZI, "digits-synthetic"])
def test_what_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"needs some .* GB, and 0.0 GB are free"):
        synthesis.write(name, tmp_path)
    assert not list((tmp_path / "synthetic").iterdir())


def test_the_command_draws_and_imports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["synthesize", "hanzi-synthetic", "--data-root", str(tmp_path), "--writers", "1", "--classes"]
    assert cli.main([*argv, "3"]) == 0
    assert "hanzi-synthetic: drawn into" in capsys.readouterr().out
    assert np.load(tmp_path / "synthetic/hanzi-synthetic/arrays/images.npy").shape == (3, 56, 56)
    assert cli.main([*argv, "鼎"]) == 0
    assert np.load(tmp_path / "synthetic/hanzi-synthetic/arrays/images.npy").shape == (1, 56, 56)
    assert cli.main([*argv, "x"]) == 2


@pytest.mark.slow
def test_the_chapter_measures_drawings_against_gnt_files(tmp_path: Path) -> None:
    """What a brush drew that is pixels wide is told from the drawings, and older measurements are kept."""
    (tmp_path / "brush").mkdir()
    for part, first in (("trn", 0), ("tst", 60)):
        with zipfile.ZipFile(tmp_path / "brush" / f"HWDB-subset-{part}_gnt.zip", "w") as archive:
            for writer in range(first, first + 60):
                images = [np.minimum(image, np.roll(image, 3, 1)) for image in hanzi.draw(9, writer, SOME)]
                content = gnt.serialize(zip(map(gnt.encode, SOME), images, strict=True))
                archive.writestr(f"{part}/{writer}.gnt", content)
    hwdb.import_gnt([tmp_path / "brush"], tmp_path / "custom" / "brush")
    for folder in {"benchmarks", *(path.parent.name for path in results.RESULTS_DIR.glob("*/evaluation.*.json"))}:
        shutil.copytree(results.RESULTS_DIR / folder, tmp_path / "results" / folder)
    path = tmp_path / "results" / "benchmarks" / "hanzi-realism.json"
    before = records.read_json(path)["measurements"]

    values = {"measure": True, "note": "a test", "real": "brush", "dataset": "custom:brush", "writers": 60}
    places = {"results_dir": str(tmp_path / "results"), "data_root": str(tmp_path)}
    notebooks.execute("07_drawn_hanzi", values | places, tmp_path / "done.ipynb", progress=False)
    record = records.read_json(path)
    assert record["measurements"][:-1] == before
    last = record["measurements"][-1]
    assert last["note"] == "a test" and last["generator_version"] == hanzi.VERSION
    assert set(last["real"]["classes"]) == set(SOME)
    assert last["auc"]["value"] > 0.75 and last["accuracy"]["n"] == 5 * 60
    assert 0 < record["ink"]["train"] < 255 and record["ink"]["characters"] == len(SOME)
