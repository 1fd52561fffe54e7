"""Import CASIA-HWDB: from GNT files to memory-mapped arrays of one size, white ink on black; and read them.

An import is a folder: `images.npy` (N, size, size) uint8, `labels.npy` (N,) uint16, `writers.npy` (N,) uint16 (the
number of the file that a sample is from, which in HWDB is its writer), `classes.txt` and `manifest.json`. The samples
lie in the order of the sources and of the records in them.
"""

import fcntl
import functools
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from hwr_utils import files, preprocessing, records
from hwr_utils.data import gnt
from hwr_utils.errors import InputError

SCHEMA_VERSION = 1
COLUMNS = ("images", "labels", "writers")
KINDS = (np.uint8, np.uint16, np.uint16)
LABELS = {character: label for label, character in enumerate(gnt.LEVEL_1)}


@dataclass(frozen=True)
class Options:
    """What determines an import besides its sources.

    Attributes:
        size: pixels a side, 16 to 512.
        margin: pixels left free on each side of the ink.
        drop_others: leave out samples of other than the 3,755 level-1 characters; else they are an error.
    """

    size: int = 56
    margin: int = 3
    drop_others: bool = False


@dataclass(frozen=True)
class Import:
    """An import as it lies in its folder.

    Attributes:
        images: (N, size, size) uint8, white ink on black; read from the disk as it is needed.
        labels: (N,) int64, into `gnt.LEVEL_1`.
        writers: (N,) int64, into the manifest's sources.
        manifest: see `import_gnt`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    writers: NDArray[np.int64]
    manifest: dict[str, Any]

    @property
    def sha256(self) -> str:
        """What names the samples: a checksum of the sources' content, of their order and parts, and of the options."""
        sources = [[source[key] for key in ("sha256", "part")] for source in self.manifest["sources"]]
        content = [self.manifest["schema_version"], self.manifest["options"], sources]
        return files.sha256(json.dumps(content, sort_keys=True).encode())

    @property
    def parts(self) -> NDArray[np.str_]:
        """(N,) the side of the published split that each sample is on: "train", "test", or "" where it has none."""
        return np.array([source["part"] or "" for source in self.manifest["sources"]])[self.writers]

    def verify(self) -> None:
        """Compare the arrays with the checksums taken when they were made; reads all of them.

        Raises:
            InputError: they differ.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets other threads run
            columns = (self.images, self.labels, self.writers)
            found = list(pool.map(lambda block: _digest(columns, block), _blocks(self.manifest)))
        for source, digest, expected in zip(self.manifest["sources"], found, self.manifest["blocks"], strict=True):
            if digest != expected:
                raise InputError(
                    f"the import of {source['name']} is damaged: its arrays are not what was written. Remove the "
                    "folder, and import it again."
                )


def _digest(columns: Iterable[NDArray[Any]], block: slice) -> str:
    content = [np.asarray(column[block], kind) for column, kind in zip(columns, KINDS, strict=True)]
    return files.sha256(b"".join(part.tobytes() for part in content))


def _blocks(manifest: dict[str, Any]) -> list[slice]:
    """Return where the samples of each source lie in the arrays."""
    bounds = itertools.accumulate((source["kept"] for source in manifest["sources"]), initial=0)
    return [slice(start, end) for start, end in itertools.pairwise(bounds)]


def is_import(folder: str | Path) -> bool:
    """Tell whether a folder holds an import that was finished."""
    return (Path(folder) / "manifest.json").is_file() and (Path(folder) / "images.npy").is_file()


def read_import(folder: str | Path) -> Import:
    """Open an import; its images stay on the disk.

    Raises:
        InputError: a file is missing or damaged, is of another version, or does not fit the others; says which.
    """
    folder = Path(folder)
    manifest = records.read_json(folder / "manifest.json")
    again = f"Remove {folder}, and import it again."
    if manifest.get("schema_version") != SCHEMA_VERSION:
        found = manifest.get("schema_version")
        raise InputError(f"{folder / 'manifest.json'}: schema_version is {found!r}, expected {SCHEMA_VERSION}. {again}")
    try:
        n, size = manifest["samples"], manifest["options"]["size"]
        kept = [source["kept"] for source in manifest["sources"]]
        complete = sum(kept) == n and len(manifest["blocks"]) == len(kept)
        arrays = {}
        for name, (shape, kind) in _shapes(n, size).items():
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            if (arrays[name].shape, arrays[name].dtype) != (shape, kind):
                raise InputError(
                    f"{folder / name}.npy holds {arrays[name].dtype} {arrays[name].shape}; {np.dtype(kind)} {shape} "
                    f"was expected. {again}"
                )
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is a damaged import: {type(error).__name__}: {error}. {again}") from error
    labels, writers = (np.asarray(arrays[name], np.int64) for name in ("labels", "writers"))
    if not complete or labels.max() >= len(gnt.LEVEL_1) or not np.array_equal(np.bincount(writers), kept):
        raise InputError(f"{folder} is a damaged import: its arrays do not fit its manifest. {again}")
    return Import(arrays["images"], labels, writers, manifest)


@dataclass(frozen=True)
class _Scan:
    """What the first look at a file finds."""

    sha256: str
    samples: int
    others: dict[str, int]  # character, or code in hexadecimal -> samples of it that are not of level 1


def import_gnt(
    paths: Iterable[str | Path],
    out: str | Path,
    options: Options = Options(),
    png: str | Path | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Import GNT files, folders of them and zip archives into `out`; an import that was stopped goes on.

    Every file is read twice: first to count and to know it again, then to convert it. One file a process is held in
    memory.

    Args:
        paths: see `gnt.find`; their order is that of the samples.
        out: the folder to make.
        options: see `Options`.
        png: a folder for the same images as PNG files, dark ink on white, a folder a character. Their names are number
            and name of the writer, and the number of the sample among those kept of this writer.
        workers: processes; None takes one a core.

    Returns:
        The manifest: schema_version; options; samples; classes; sources (a list of name, writer, part, see
        `gnt.Source.part`, sha256, samples, the samples kept, and others: what else it held); blocks (a checksum of
        each source's samples as they lie in the arrays).

    Raises:
        InputError: a source is missing or damaged, is given twice, holds other characters without `drop_others`, or
            has changed since the import began; `out` holds something else, or another process is importing into it;
            the disk is full; a process of the import was killed. What is done stays.
    """
    out = Path(out)
    if not 16 <= options.size <= 512:
        raise InputError(f"size={options.size} is out of range, expected 16 to 512 pixels.")
    if not 0 <= 2 * options.margin < options.size:
        raise InputError(f"margin={options.margin} leaves no room in {options.size} pixels.")
    sources = [source for path in paths for source in gnt.find(path)]
    if not sources:
        raise InputError("no source was given. Give .gnt files, folders of them or zip archives.")
    if len(sources) > 65_535:
        raise InputError(f"{len(sources)} files were found, and at most 65,535 can be numbered. Import them in parts.")
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        scans = _run(pool, [functools.partial(_scan, source) for source in sources], "reading")
        manifest = _manifest(sources, scans, options)
        if (out / "manifest.json").exists():
            found = records.read_json(out / "manifest.json")
            if {name: value for name, value in found.items() if name != "blocks"} != manifest:
                raise InputError(f"{out} holds another import. Give another folder, or remove it.")
            manifest = found
        elif out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise InputError(f"{out} is there, and is no import. Give another folder, or remove it.")
        else:
            manifest = _convert_all(pool, sources, manifest, options, out)
        _tidy(out)
        if png is not None:
            pictures = [
                functools.partial(_write_png, source, options, Path(png), number)
                for number, source in enumerate(sources)
            ]
            _run(pool, pictures, "PNG")
    return manifest


def _manifest(sources: list[gnt.Source], scans: list[_Scan], options: Options) -> dict[str, Any]:
    first: dict[str, gnt.Source] = {}
    for source, scan in zip(sources, scans, strict=True):
        if (other := first.setdefault(scan.sha256, source)) is not source:
            raise InputError(
                f"{source.name} has the same content as {other.name}: its samples would be there twice. Leave one out; "
                "an archive that lies beside what was unpacked from it counts as well."
            )
    others = sum((Counter(scan.others) for scan in scans), Counter[str]())
    if others and not options.drop_others:
        named = ", ".join(f"{name} ({count:,})" for name, count in others.most_common(5))
        raise InputError(
            f"{others.total():,} of {sum(scan.samples for scan in scans):,} samples are of {len(others)} characters "
            f"that are not among the 3,755 of GB 2312 level 1: {named}{' ...' if len(others) > 5 else ''}. "
            "Leave them out with --drop-others."
        )
    kept = [scan.samples - sum(scan.others.values()) for scan in scans]
    if not sum(kept):
        raise InputError("none of the samples is of a level-1 character, so nothing is left to import.")
    return {
        "schema_version": SCHEMA_VERSION,
        "options": {"size": options.size, "margin": options.margin, "drop_others": options.drop_others},
        "samples": sum(kept),
        "classes": len(gnt.LEVEL_1),
        "sources": [
            {
                "name": source.short,
                "writer": source.writer,
                "part": source.part,
                "sha256": scan.sha256,
                "samples": scan.samples,
                "kept": count,
                "others": dict(sorted(scan.others.items())),
            }
            for source, scan, count in zip(sources, scans, kept, strict=True)
        ],
    }


def _convert_all(
    pool: Executor, sources: list[gnt.Source], manifest: dict[str, Any], options: Options, out: Path
) -> dict[str, Any]:
    """Fill the arrays in a folder beside `out`, which takes its place when all is there; return the whole manifest."""
    part = out.with_name(out.name + files.UNFINISHED)
    done = part / "done"
    with _telling(part), _only_one(part):
        plan = part / "plan.json"
        if plan.exists() and records.read_json(plan) != manifest:
            raise InputError(f"{part} is the beginning of another import. Remove it, or give another folder.")
        if not plan.exists():
            done.mkdir(parents=True, exist_ok=True)
            for name, (shape, kind) in _shapes(manifest["samples"], options.size).items():
                np.lib.format.open_memmap(part / f"{name}.npy", mode="w+", dtype=kind, shape=shape).flush()
                _reserve(part / f"{name}.npy")
            files.write_json(plan, manifest)
        steps = [
            functools.partial(_convert, source, options, part, number, block, manifest["sources"][number]["sha256"])
            for number, (source, block) in enumerate(zip(sources, _blocks(manifest), strict=True))
            if not (done / str(number)).exists()
        ]
        _run(pool, steps, "converting")
        files.write_text(part / "classes.txt", "".join(f"{character}\n" for character in gnt.LEVEL_1))
        blocks = [(done / str(number)).read_text() for number in range(len(sources))]
        files.write_json(part / "manifest.json", manifest | {"blocks": blocks})
        os.replace(part, out)
    return manifest | {"blocks": blocks}


def _tidy(out: Path) -> None:
    """Remove what served the making of an import; only after it took its place, so that a kill leaves it whole."""
    shutil.rmtree(out / "done", ignore_errors=True)
    (out / "plan.json").unlink(missing_ok=True)


def _shapes(n: int, size: int) -> dict[str, tuple[tuple[int, ...], type]]:
    return dict(zip(COLUMNS, zip([(n, size, size), (n,), (n,)], KINDS, strict=True), strict=True))


def _reserve(path: Path) -> None:
    """Take a file's whole space on the disk: that it is full is told now, and not by a signal amid a mapping."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if hasattr(os, "posix_fallocate"):  # macOS has none
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def _telling(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {part}: {error.strerror or error}. What is done stays; free some space or make it writable, "
            "and run the same command again."
        ) from error


@contextmanager
def _only_one(part: Path) -> Iterator[None]:
    """Hold the lock of a folder; the system gives it back when the process ends, however it ends."""
    part.mkdir(parents=True, exist_ok=True)
    folder = os.open(part, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process is importing into {part}. Wait for it, or stop it.") from error
        yield
    finally:
        os.close(folder)


def _run(pool: Executor, steps: list[functools.partial[Any]], title: str) -> list[Any]:
    """Run steps in the pool, a few ahead, with a bar; return their results in order. The first error stops the rest."""
    results: dict[int, Any] = {}
    running: dict[Future[Any], int] = {}
    todo = iter(enumerate(steps))
    with tqdm(total=len(steps), unit="file", desc=title) as bar:
        try:
            while len(results) < len(steps):
                for number, step in itertools.islice(todo, 2 * (os.cpu_count() or 1) - len(running)):
                    running[pool.submit(step)] = number
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    results[running.pop(future)] = future.result()
                    bar.update()
        except BrokenProcessPool as error:
            raise InputError(
                "a process of the import was killed, as it happens where memory runs out. What is done stays; free "
                "some memory, and run the same command again."
            ) from error
        finally:
            for future in running:
                future.cancel()
    return [results[number] for number in range(len(steps))]


def _scan(source: gnt.Source) -> _Scan:
    content = source.read()
    samples, others = 0, Counter[str]()
    for sample in gnt.parse(content, source.name):
        samples += 1
        if sample.character not in LABELS:
            others[sample.character or sample.code.hex()] += 1
    return _Scan(files.sha256(content), samples, dict(others))


def _kept(source: gnt.Source, content: bytes, options: Options) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield label and prepared image of each sample of level 1."""
    for sample in gnt.parse(content, source.name):
        label = LABELS.get(sample.character or "")
        if label is not None:
            yield label, preprocessing.to_square(255 - sample.image, options.size, options.margin)


def _convert(source: gnt.Source, options: Options, part: Path, number: int, block: slice, sha256: str) -> None:
    content = source.read()
    if files.sha256(content) != sha256:
        raise InputError(f"{source.name} has changed while it was imported. Run the same command again.")
    columns = [np.load(part / f"{name}.npy", mmap_mode="r+", allow_pickle=False) for name in COLUMNS]
    # straight into the arrays: a file of a million tiny images would not fit into memory at their new size
    views = [np.asarray(column) for column in columns]  # the same memory, without a memmap's cost at every item
    for place, (label, image) in enumerate(_kept(source, content, options), block.start):
        for view, value in zip(views, (image, label, number), strict=True):
            view[place] = value
    for column in columns:
        column.flush()
    # after the arrays, so what is marked is there
    files.write_text(part / "done" / str(number), _digest(columns, block))


def _write_png(source: gnt.Source, options: Options, folder: Path, number: int) -> None:
    with _telling(folder):
        for index, (label, image) in enumerate(_kept(source, source.read(), options)):
            path = folder / gnt.LEVEL_1[label] / f"{number}-{source.writer}-{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(255 - image).save(path)
