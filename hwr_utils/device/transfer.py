"""Test a run on the images of another dataset, such as real handwriting for a model trained on drawn characters.

LiteRT's interpreter runs the file `model.dynamic_int8.tflite` by the `model.json` beside it, as devices and the
playground do. A dataset's classes are matched with the model's by their characters.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from hwr_utils import files, records, results, runs
from hwr_utils.device import calibration, quantization, recognizer
from hwr_utils.errors import InputError
from hwr_utils.training import Execution

FILE = "model.dynamic_int8.tflite"
CONFUSIONS = 40  # how many of the most frequent pairs of a character and a wrong answer are recorded


def evaluate(folder: str | Path, name: str, data_root: str | Path, images: int | None = None) -> dict[str, Any]:
    """Test a run on the official test images of another dataset, and write `evaluation.<dataset>.json` beside it.

    Images of characters that the model does not have are counted and left out; an answer may be any of its classes.
    Images are prepared as pictures and drawings are: cropped, fitted, and their contrast stretched.

    Args:
        folder: of a run that has its record and `FILE`; with its weights, too, their answers are compared.
        name: a dataset, of another source than the run's own.
        images: how many, stratified; None takes all.

    Returns the record that `evaluation.schema.json` describes. Raises an InputError where a record, file or dataset is
    missing or does not fit, or there are not so many images.
    """
    run = results.open_run(Path(folder))
    place = run.folder / FILE
    model = recognizer.load(place)
    if model.weights_sha256 != run.record["weights"]["sha256"]:
        raise InputError(f"{place} is of other weights than the run's record. Run `hwr quantize {folder}` again.")
    shown, labels, described = quantization.foreign(run, model.form, name, data_root, images)
    full = None
    if (run.folder / "model.safetensors").is_file():
        full = quantization.predict(runs.network(run), run.config.training["image_size"], shown)
    logits = np.stack([model.logits(image) for image in tqdm(shown, desc=name, unit="image")])
    compared = quantization.compare(labels, logits if full is None else full, logits)
    names, ranked = model.classes, np.argsort(-logits, axis=1, kind="stable")[:, :10]
    hits, answers = ranked == labels[:, None], ranked[:, 0]
    right, refused = hits[:, 0], ~model.rejector.accepts(logits, shown)
    wrong = Counter(zip(labels[~right].tolist(), answers[~right].tolist(), strict=True)).most_common(CONFUSIONS)
    counted = pd.DataFrame({"n": 1, "correct": right, "declined": refused}).groupby(labels).sum()
    counted = counted.rename(index=dict(enumerate(names)))
    scores = recognizer.softmax(logits, model.temperature).max(axis=1)
    measured = {
        "file": {"name": FILE, "sha256": files.sha256(place)},
        **described,
        "environment": runs.describe_environment(Execution()) | {"versions": quantization.versions()},
        **compared["test"],
        "top5": float(hits[:, :5].any(axis=1).mean()),
        "top10": float(hits.any(axis=1).mean()),
        "declined": float(refused.mean()),
        "ece": calibration.calibration_error(scores, right),
        "confusions": [{"character": names[one], "answer": names[other], "n": n} for (one, other), n in wrong],
        "per_class": [{"character": one, **counts} for one, counts in counted.to_dict("index").items()],
    }
    if full is not None:
        measured["float32"] = {"accuracy": float((full.argmax(axis=1) == labels).mean())} | compared["mcnemar"]
    return records.write_measured(records.evaluation_path(run.folder, name), run.record, measured)
