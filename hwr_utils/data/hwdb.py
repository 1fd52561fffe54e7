"""Import CASIA-HWDB: from GNT files to memory-mapped arrays of one size, white ink on black; and read them.

An import is a folder: `images.npy` (N, size, size) uint8, `labels.npy` (N,) uint16, `writers.npy` (N,) uint16 (the
number of the file that a sample is from, which in HWDB is its writer) and `manifest.json`. The samples lie in the order
of the sources and of the records in them.
"""

import functools
import itertools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr_utils import files, preprocessing, processes, records
from hwr_utils.data import gnt
from hwr_utils.errors import InputError, printable, reading
from hwr_utils.sources import Source

SCHEMA_VERSION = 1
COLUMNS = ("images", "labels", "writers")
AGAIN = "Remove the folder, and import it again."
LABELS = {character: label for label, character in enumerate(gnt.LEVEL_1)}


@dataclass(frozen=True)
class Import:
    """An import as it lies in its folder."""

    folder: Path
    images: NDArray[np.uint8]  # (N, size, size), white ink on black; read from the disk as it is needed
    labels: NDArray[np.int64]  # (N,), into `gnt.LEVEL_1`
    writers: NDArray[np.int64]  # (N,), into the manifest's sources
    manifest: dict[str, Any]  # see `import_gnt`

    @property
    def sha256(self) -> str:
        """A checksum that identifies the samples: of the sources' content, order and parts, and of the options."""
        sources = [[source[key] for key in ("sha256", "part")] for source in self.manifest["sources"]]
        content = [self.manifest["schema_version"], self.manifest["options"], sources]
        return files.sha256(json.dumps(content, sort_keys=True).encode())

    @property
    def parts(self) -> NDArray[np.str_]:
        """(N,) the side of the published split that each sample is on: "train", "test", or "" where it has none."""
        return np.array([source["part"] or "" for source in self.manifest["sources"]])[self.writers]


def is_import(folder: str | Path) -> bool:
    """Tell whether a folder holds an import."""
    return (Path(folder) / "manifest.json").is_file() and (Path(folder) / "images.npy").is_file()


def read_import(folder: str | Path) -> Import:
    """Open an import; its images stay on the disk. An InputError where a file is missing or of another version."""
    folder = Path(folder)
    manifest = records.read_json(folder / "manifest.json")
    with reading(folder, f"an import of version {SCHEMA_VERSION}", AGAIN):
        if manifest.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema_version is {manifest.get('schema_version')!r}")
        images, *columns = (np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in COLUMNS)
    labels, writers = (np.asarray(column, np.int64) for column in columns)
    return Import(folder, images, labels, writers, manifest)


def import_gnt(
    paths: Iterable[str | Path],
    out: str | Path,
    size: int = 56,
    margin: int = 3,
    drop_others: bool = False,
    workers: int | None = None,
) -> dict[str, Any]:
    """Import GNT files, folders of them and zip archives, in this order, into `out`, which appears when it is complete.

    Images become `size` pixels a side, 16 to 512, of which `margin` are left free on each side of the ink. With
    `drop_others`, samples beyond the 3,755 level-1 characters are left out. If `out` already holds the same import, it
    is kept. Each of the `workers` (None: one a core) holds a file in memory.

    Returns:
        The manifest: schema_version; options, which are these three; samples; classes; sources (for each: name; writer;
        part, see `Source.part`; sha256; samples, how many it has; kept, how many of them are imported; others, how many
        it has of each other character); arrays (SHA-256 of each file).

    Raises:
        InputError: a source is missing or damaged, is given twice, or holds other characters without `drop_others`;
            `out` holds something else; there is too little room; a process of the import was killed.
    """
    out = Path(out)
    if not (16 <= size <= 512 and 0 <= 2 * margin < size):
        raise InputError(
            f"size={size} and margin={margin} do not go together: expected a size of 16 to 512 pixels, "
            "and a margin of 0 or more that leaves room for the character."
        )
    sources = [source for path in paths for source in gnt.find(path)]
    told = processes.run(_scan, sources, "reading", workers=workers)
    _check(sources, told, drop_others)
    kept = [one["kept"] for one in told]
    options = {"size": size, "margin": margin, "drop_others": drop_others}
    manifest = {"schema_version": SCHEMA_VERSION, "options": options, "samples": sum(kept)}
    manifest |= {"classes": len(gnt.LEVEL_1), "sources": told}
    if not is_import(out):
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out} is there, and is no import. Give another folder, or remove it.")
        with files.new_folder(out, needed=sum(kept) * (size**2 + 4)) as part:
            shape = (sum(kept), size, size)
            np.lib.format.open_memmap(part / "images.npy", mode="w+", dtype=np.uint8, shape=shape).flush()
            jobs = list(zip(sources, told, itertools.accumulate(kept, initial=0), strict=False))
            labels = processes.run(functools.partial(_convert, size, margin, part), jobs, "converting", workers=workers)
            np.save(part / "labels.npy", np.concatenate(labels))
            np.save(part / "writers.npy", np.repeat(np.array(range(len(kept)), np.uint16), kept))
            arrays = {f"{name}.npy": files.sha256(part / f"{name}.npy") for name in COLUMNS}
            files.write_json(part / "manifest.json", manifest | {"arrays": arrays})
    found = read_import(out).manifest
    if found != found | manifest:
        raise InputError(f"{out} holds another import. Give another folder, or remove it.")
    return found


def _scan(source: Source) -> dict[str, Any]:
    """Return what the manifest says of a source; a code that means nothing counts as a character in hexadecimal."""
    content = source.read("a GNT file", gnt.MAX_BYTES)
    counts = Counter(gnt.decode(code) for code, _ in gnt.parse(content, source))
    others = {character: counts[character] for character in sorted(counts.keys() - LABELS.keys())}
    return {
        "name": printable(f"{source.path.name}: {source.member}" if source.member else source.path.name),
        "writer": printable(source.file.stem),
        "part": source.part,
        "sha256": files.sha256(content),
        "samples": counts.total(),
        "kept": counts.total() - sum(others.values()),
        "others": others,
    }


def _check(sources: list[Source], told: list[dict[str, Any]], drop_others: bool) -> None:
    """Refuse sources of equal content, and those of other characters unless these are to be left out."""
    others, first = Counter[str](), dict[str, Source]()
    for source, one in zip(sources, told, strict=True):
        if (other := first.setdefault(one["sha256"], source)) is not source:
            raise InputError(
                f"{source} has the same content as {other}: its samples would be there twice. Leave one out; an "
                "archive that lies beside what was unpacked from it counts as well."
            )
        others.update(one["others"])
    kept = sum(one["kept"] for one in told)
    if not kept or (others and not drop_others):
        named = ", ".join(f"{name} ({count:,})" for name, count in others.most_common(5))
        raise InputError(
            f"{others.total():,} samples are of {len(others)} characters that are not among the 3,755 of GB 2312 level "
            f"1, such as {named}; {kept:,} samples are. Leave the others out with --drop-others, or give other sources."
        )


def _convert(size: int, margin: int, part: Path, job: tuple[Source, dict[str, Any], int]) -> NDArray[np.uint16]:
    """Write a source's images into their place in the array, and return their labels."""
    source, told, start = job
    content = source.read("a GNT file", gnt.MAX_BYTES)
    if files.sha256(content) != told["sha256"]:
        raise InputError(f"{source} has changed while it was imported. Run the same command again.")
    # straight into the array: those of a file of a million tiny images would not fit into memory at their new size
    images = np.load(part / "images.npy", mmap_mode="r+", allow_pickle=False)
    labels: list[int] = []
    for code, image in gnt.parse(content, source):
        if (label := LABELS.get(gnt.decode(code))) is not None:
            images[start + len(labels)] = preprocessing.to_square(255 - image, size, margin)
            labels.append(label)
    return np.array(labels, np.uint16)
