"""Write all committed run records into one zip file, for a deposit that gives them a DOI. `make archive` calls this.

The file holds what git tracks under results/, the schemas of its JSON files, the terms and the citation, and a
SHA256SUMS that `sha256sum -c` checks. The same tree gives the same bytes on every machine: names are sorted, dates
are fixed, and nothing is compressed, because libraries differ in how they do that and predictions are compressed.
"""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hwr_utils import __version__, evaluation, files, records, results
from hwr_utils.errors import InputError

ROOT = files.REPOSITORY
BESIDE = ("CITATION.cff", "codemeta.json", "LICENSE-text", "hwr_utils/*.schema.json")
CREATED = (1980, 1, 1, 0, 0, 0)  # the first date that a zip file can hold


def verify(record: Mapping[str, Any], predictions: Mapping[str, np.ndarray], source: str | Path) -> None:
    """Raise an InputError where a valid record's test figures do not follow from the predictions."""
    labels, ranked = predictions["labels"], predictions["classes"]
    counted = evaluation.summarise_test(labels, ranked, np.zeros(1), len(record["dataset"]["classes"]))
    for name in counted.keys() - {"loss"}:  # it needs all scores, and only the likeliest are kept
        found, expected = record["test"][name], counted[name]
        if abs(found - expected) > 1e-9:
            raise InputError(
                f"{source}: test/{name} is {found}, and its predictions.npz gives {expected}. {records.REMEDY}"
            )


def write(out: Path) -> int:
    """Write the archive in one step and return the number of its run records.

    Raises:
        InputError: a record is damaged or does not follow from its predictions, or this is no git checkout.
    """
    for run in results.load_all(ROOT / "results"):
        verify(run.record, records.read_arrays(run.folder / "predictions.npz"), run.folder)
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "results", *BESIDE], cwd=ROOT, capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"{ROOT} is no git checkout, which says what is committed. Clone the repository.") from error
    names = sorted(name for name in listed.decode().split("\0") if name)
    contents = {name: (ROOT / name).read_bytes() for name in names}
    # results/README.md says what each file of a run's folder holds
    contents = {"README.md": contents["results/README.md"]} | contents
    sums = "".join(f"{files.sha256(content)}  {name}\n" for name, content in contents.items())
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    with zipfile.ZipFile(part, "w") as archive:
        for name, content in {"SHA256SUMS": sums.encode(), **contents}.items():
            entry = zipfile.ZipInfo(f"{out.stem}/{name}", CREATED)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Unix, on every system
            archive.writestr(entry, content)
    part.replace(out)
    return len([name for name in names if name.endswith("/record.json")])


if __name__ == "__main__":
    target = ROOT / "_build" / f"hwr-records-{__version__}.zip"
    try:
        print(f"{target}: {write(target)} run records")
    except InputError as error:
        sys.exit(f"tools/archive.py: error: {error}")
