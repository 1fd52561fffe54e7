"""Refit a model's rejector, which tells characters from scribbles, where only an exported file keeps the weights.

    python tools/recalibrate.py RUN [--data-root DATA]

`hwr quantize RUN` does the same and more, but needs the run's weights, which are not in version control. This reads the
same held-out images with model.dynamic_int8.tflite instead and keeps the temperature. It writes the rejector into
model.json, and what that declines into quantization.json and the run's evaluations on other datasets, where `refitted`
says when and by which revision.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from hwr_utils import data, files, preprocessing, records, results, runs
from hwr_utils.device import calibration, quantization, recognizer
from hwr_utils.errors import InputError
from hwr_utils.training import Execution

FILE = "dynamic_int8.tflite"


def main() -> None:
    """Read the command line, fit, and write what changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the name of a run in results/")
    parser.add_argument("--data-root", type=Path, default=data.default_root())
    given = parser.parse_args()

    run = results.open_run(results.RESULTS_DIR / given.run)
    dataset = runs.load_data(run.config, given.data_root)
    if dataset.files != run.record["dataset"]["files"]:
        raise InputError(f"{given.data_root}: {dataset.name} is not the data that {given.run} learned from.")
    description = json.loads((run.folder / recognizer.DESCRIPTION).read_text(encoding="utf-8"))
    record = records.read(run.folder / "quantization.json")
    network = recognizer.Network(run.folder / f"model.{FILE}")

    def predict(images: calibration.Images) -> calibration.Logits:
        return np.stack([network(preprocessing.to_input(image, network.input_shape)) for image in images])

    if record["test_images"]["n"] != len(dataset.test_labels):
        raise InputError(f"{given.run} was measured on a part of the test images: use `hwr quantize`.")
    form = {name: description["image"][name] for name in ("size", "margin", "centre")}
    indices, source = quantization.not_seen(dataset, run)
    chosen = dataset.train_images[indices], dataset.train_labels[indices]
    if (calibrated_on := record["scores"]["held_out"]) != source:  # another dataset, by `--calibrate-on`
        chosen = quantization.foreign(run, form, calibrated_on, given.data_root)[:2]
    test = dataset.test_images, predict(dataset.test_images), dataset.test_labels
    measured, rejector = calibration.measure(predict, form, run.classes, chosen, test)
    environment = runs.describe_environment(Execution())
    refitted = {"on": FILE, "created": records.now(), "git_revision": environment["git_revision"]}
    record["scores"] |= {"declined": measured["declined"], "refitted": refitted}
    description["schema_version"] = recognizer.SCHEMA_VERSION
    description["scores"]["rejector"] = {name: values.tolist() for name, values in vars(rejector).items()}
    changed = {run.folder / "quantization.json": record}
    for path in run.folder.glob("evaluation.*.json"):
        told = changed[path] = records.read(path)
        images, labels, _ = quantization.foreign(run, form, told["dataset"]["name"], given.data_root)
        if told["n"] != len(labels):
            raise InputError(f"{path} covers {told['n']} of {len(labels)} test images: use `hwr evaluate`.")
        refused = ~rejector.accepts(predict(images), images)
        for row, label in zip(told["per_class"], np.unique(labels), strict=True):
            row["declined"] = int(refused[labels == label].sum())
        told |= {"declined": float(refused.mean()), "refitted": refitted}
    for path, told in changed.items():  # all of them have been made, so none is written alone
        records.validate(told, path)
        files.write_json(path, told)
    files.write_json(run.folder / recognizer.DESCRIPTION, description)
    print(f"{given.run}: declines {measured['declined']['test']:.2%} of its test images")


if __name__ == "__main__":
    main()
