"""Count the shapes of each class of digits, letters and kana, for E9 of book/plan.md.

    python tools/shapes.py --data-root data

writes results/benchmarks/shapes.json. The number of shapes of a class is that of the components of a Gaussian mixture
over the first ten principal components of 400 of its training images: 1 to 8 of them, whichever has the lowest BIC. It
is counted on five draws of the images.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from tqdm import tqdm

from hwr_utils import data, facts, files, results

SETS = ("mnist", "emnist-letters-sample", "kmnist-sample")
IMAGES, COMPONENTS, MOST, DRAWS = 400, 10, 8, 5


def shapes(images: NDArray[np.uint8]) -> int:
    """Return the number of shapes among (N, H, W) images of one class, 1 to `MOST`."""
    features = PCA(COMPONENTS, random_state=0).fit_transform(images.reshape(len(images), -1) / 255)
    fits = [GaussianMixture(count, random_state=0).fit(features) for count in range(1, MOST + 1)]
    return 1 + int(np.argmin([fit.bic(features) for fit in fits]))


def main() -> None:
    """Count, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=data.default_root())
    root = parser.parse_args().data_root
    record = {}
    for dataset in (data.load(name, root) for name in SETS):
        rows = {}
        for label in tqdm(np.unique(dataset.train_labels).tolist(), desc=dataset.name):
            own, counts = np.flatnonzero(dataset.train_labels == label), []
            for draw in range(DRAWS):
                order = np.random.Generator(np.random.PCG64([draw, label])).permutation(len(own))
                counts.append(shapes(dataset.train_images[own[order[:IMAGES]]]))
            complexity = facts.perimetric_complexity(dataset.train_images[own])
            rows[dataset.classes[label]] = {
                "n": min(IMAGES, len(own)),
                "shapes": counts,
                "complexity": round(float(np.nanmedian(complexity)), 2),
            }
        record[dataset.name] = {"files": dataset.files, "classes": rows}
    files.write_json(results.RESULTS_DIR / "benchmarks" / "shapes.json", record)


if __name__ == "__main__":
    main()
