"""Count what keeping only the first records of EMNIST-letters does to its classes.

    python tools/emnist_labels.py FOLDER

writes results/datasets/emnist-letters-labels/facts.json, which the chapter on datasets shows. FOLDER holds the two
label files of the release, out of EMNIST's gzip.zip: 124,800 and 20,800 labels from 1 to 26. No images are needed.
TensorFlow Datasets declares 88,800 and 14,800 records, and so does the table in the paper of Cohen et al. (2017).
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from hwr_utils import files, results
from hwr_utils.data import idx
from hwr_utils.data.catalog import CATALOG
from hwr_utils.errors import InputError

LETTERS = CATALOG["emnist-letters"].classes
KEPT = {"train": 88_800, "test": 14_800}


def count(folder: Path) -> dict[str, Any]:
    """Return the facts, ready for JSON; an InputError where a file cannot be read, or is not of the release."""
    found: dict[str, Any] = {"classes": list(LETTERS)}
    for split, kept in KEPT.items():
        path = folder / f"emnist-letters-{split}-labels-idx1-ubyte.gz"
        labels = idx.read_idx(path, ndim=1)
        if len(labels) < kept or not 1 <= labels.min() <= labels.max() <= len(LETTERS):
            raise InputError(f"{path} holds {len(labels)} labels, expected at least {kept} of 1 to 26.")
        whole, part = (np.bincount(some, minlength=len(LETTERS) + 1)[1:] for some in (labels, labels[:kept]))
        share = part[whole > 0] / whole[whole > 0]
        found[split] = {
            "sha256": files.sha256(idx.serialize(labels)),
            "n": len(labels),
            "per_class": whole.tolist(),
            "sorted": bool((np.diff(labels.astype(int)) >= 0).all()),
            "kept": {
                "n": kept,
                "per_class": part.tolist(),
                "missing": [LETTERS[label] for label in np.flatnonzero((part == 0) & (whole > 0))],
                # a class that keeps half as large a share as the best kept one counts one half
                "classes": round(float(share.sum() / share.max()), 6),
            },
        }
    return found


if __name__ == "__main__":
    try:
        place = results.RESULTS_DIR / "datasets" / "emnist-letters-labels" / "facts.json"
        files.write_json(place, count(Path(sys.argv[1])))
    except InputError as error:
        sys.exit(f"tools/emnist_labels.py: error: {error}")
