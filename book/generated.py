"""Write the generated parts of the book as MyST Markdown. Every number in them is read from a record."""

import ast
import json
import re
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwr_utils import comparison, evaluation, files, literature, recipes, results
from hwr_utils.comparison import percent
from hwr_utils.data import catalog, gnt
from hwr_utils.device import reports
from hwr_utils.records import RunConfig
from hwr_utils.results import Run

MISSING = "–"
MODELS = (
    "model.dynamic_int8.tflite",
    "model.safetensors",
)  # of the runs that the playground uses: see results/README.md
MAX_CLASSES = 100  # rows of a table of classes


def table(
    caption: str, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()
) -> str:
    """Return a numbered table with a caption.

    Args:
        caption: one sentence or two.
        name: label for {numref}.
        header: a text a column.
        rows: cells, as Markdown.
        numbers: the columns to align to the right, from 0.
    """
    marks = ["---:" if column in numbers else ":---" for column in range(len(header))]
    lines = [[*header], marks, *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    # a fence of colons, for the line that opens one of backticks can hold no code
    return f":::{{table}} {caption}\n:name: {name}\n:align: left\n\n{body}\n:::\n"


def figure(path: str, name: str, alt: str, caption: str) -> str:
    """Return a numbered figure; `path` is relative to the page."""
    return f"```{{figure}} {path}\n:name: {name}\n:alt: {alt}\n\n{caption}\n```\n"


def interval(correct: int, n: int) -> str:
    """Write the 95 % Wilson interval in percent."""
    low, high = evaluation.wilson_interval(correct, n)
    return f"{percent(low)} to {percent(high)}"


def network(config: RunConfig) -> str:
    """Name a network and how it departs from the recipe, as "simple_cnn with dropout"."""
    variant = comparison.variant(config)
    return f"`{config.architecture}`" + (f" {variant}" if variant else "")


def literal(text: str) -> str:
    """Return a text that may hold any character as Markdown that shows it."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def provenance(dataset: str) -> str:
    """Say in a word what the data of a run is; the introduction explains the words."""
    if catalog.entry(dataset).published:
        return "published"
    kinds = {"-sample": "sample", "-subset": "sample", "-synthetic": "synthetic"}
    return next((kind for suffix, kind in kinds.items() if dataset.endswith(suffix)), "own")


def device(run: Run) -> str:
    """Name the device in a word or two; a page of a run says which processor."""
    environment = run.record["environment"]
    return "CPU" if environment["device"] == "cpu" else str(environment["device_name"])


def title(run: Run) -> str:
    """Return the title of a run's page."""
    config = run.config
    title = f"{config.dataset}, {network(config).replace('`', '')}, seed {config.seed}"
    # several custom runs may agree in all of these
    return title if config.recipe == "paper" else f"{title}, {config.recipe} ({run.folder.name[-8:]})"


def link(run: Run, text: str) -> str:
    """Return a link to a run's page, from any page."""
    return f"[{text}](/runs/{run.folder.name}.md)"


def results_at_a_glance(found: Sequence[Run], grid: Sequence[RunConfig], command: str) -> str:
    """Return the table of the grid's results, a row for each dataset and network, and the commands of missing runs.

    Args:
        found: every recorded run.
        grid: the runs that the edition is to have.
        command: what makes all missing runs.
    """
    experiments: dict[str, list[RunConfig]] = {}
    for config in grid:
        experiments.setdefault(json.dumps(comparison.experiment(config).to_dict()), []).append(config)
    made: list[list[str]] = []
    unmade: list[list[str]] = []
    missing: list[str] = []
    for configs in experiments.values():
        present = [run for run in found if run.config in configs]
        recorded = [run.config for run in present]
        missing += [results.command(config) for config in configs if config not in recorded]
        (made if present else unmade).append(_glance_row(configs, present))
    rows = made + unmade
    header = ["Dataset", "Network", "Accuracy (%)", "95 % interval", "Seeds", "Device", "Data", "Published (%)"]
    if not any(catalog.entry(config.dataset).published for config in grid):
        header, rows = header[:-1], [row[:-1] for row in rows]
    text = table(
        "Test accuracy: mean ± standard deviation over seeds. Published: by Song, Si and Kim; of `inception_hccr`, by "
        "K. Kim.",
        "tab-results",
        header,
        rows,
        numbers=(2, 3, 4, 7),
    )
    if missing:
        lines = "\n".join(missing)
        text += (
            f"\nOf {len(grid)} runs, {len(missing)} have not been made. "
            f"`{command}` makes those whose data and device are at hand.\n\n"
            f":::{{dropdown}} The command of each missing run\n```sh\n{lines}\n```\n:::\n"
        )
    return text


def _glance_row(configs: Sequence[RunConfig], present: list[Run]) -> list[str]:
    config = configs[0]
    published = MISSING
    if catalog.entry(config.dataset).published and config.recipe == "paper":
        if (accuracy := literature.song_accuracy(config.dataset, config.architecture)) is not None:
            published = percent(accuracy)
        elif (config.architecture, config.training.get("split")) == ("inception_hccr", "random"):
            published = f"about {100 * literature.KIM.accuracy:.0f}"
    start = [f"`{config.dataset}`", network(config)]
    end = [provenance(config.dataset), published]
    seeds = f"{len(present)} of {len(configs)}" if len(present) < len(configs) else str(len(configs))
    if not present:
        return [*start, "not run yet", MISSING, seeds, MISSING, *end]
    row = comparison.summarise(present)
    devices = ", ".join(sorted({device(run) for run in present}))
    mean = percent(row["accuracy"], row["deviation"])
    return [*start, mean, f"{percent(row['low'])} to {percent(row['high'])}", seeds, devices, *end]


def run_table(found: Sequence[Run]) -> str:
    """Return the table of all recorded runs, each with a link to its page."""
    if not found:
        return "There is no run yet.\n"
    rows = []
    for run in found:
        config, test = run.config, run.record["test"]
        rows.append(
            [
                link(run, f"`{config.dataset}`"),
                network(config),
                config.recipe,
                config.seed,
                percent(test["accuracy"]),
                interval(test["correct"], test["n"]),
                f"{test['n']:,}",
                provenance(config.dataset),
            ]
        )
    return table(
        "Every recorded run, with its accuracy on the test set. The name of a dataset leads to the page of the run.",
        "tab-runs",
        ["Dataset", "Network", "Recipe", "Seed", "Accuracy (%)", "95 % interval", "Test images", "Data"],
        rows,
        numbers=(3, 4, 5, 6),
    )


def run_page(run: Run, figures: Mapping[str, str], quantized: Mapping[str, Any] | None = None) -> str:
    """Return the page of one run.

    Args:
        run: the run.
        figures: "history", "confusion" and, where images may be shown, "gallery" -> path of the picture from the page.
        quantized: its record of `hwr_utils.device.quantization.quantize`, where there is one.
    """
    name, record, config = run.folder.name, run.record, run.config
    history, best = record["history"], record["best_epoch"]
    pairs = evaluation.most_confused(run.confusion, run.classes)
    ending = "after which patience ended it" if record["stopped_early"] else "which is all it was given"
    kept = f"The weights of epoch {best} were kept."
    held_out = f"training beside validation. The validation loss is lowest at epoch {best}."
    if not run.has_validation:
        kept = "The last one counts: nothing was held out to choose another by, and the test set is only watched."
        held_out = "training beside the test set."
    parts = [
        f"# {title(run)}\n",
        f":::{{note}}\n{run.banner()}\n:::\n",
        "## On the test set\n",
        _tests(run),
        "## Learning curves\n",
        f"{{numref}}`fig-history-{name}` shows {len(history)} epochs, {ending}. {kept}\n",
        figure(
            figures["history"],
            f"fig-history-{name}",
            f"Two line charts of loss and accuracy over {len(history)} epochs, {held_out}",
            "Loss and accuracy over the epochs. The dotted line marks the epoch whose weights were kept.",
        ),
        "## Where the errors went\n",
        figure(
            figures["confusion"],
            f"fig-confusion-{name}",
            "Heat map of the errors by true and predicted class."
            + (f" The pair taken for each other most often is {literal(pairs['pair'].iloc[0])}." if len(pairs) else ""),
            "Errors on the test set, in percent of the true class. Right answers are left out.",
        ),
        _pairs(run, pairs),
        _gallery(run, figures.get("gallery")),
        "## Class by class\n",
        _classes(run),
        _quantized(run, quantized) if quantized else "",
        "## Config\n",
        _config(run),
        "This command makes the run, or goes on with it where it was stopped:\n",
        f"```sh\n{_drawing(run)}{results.command(config)}\n```\n",
        _model_card(run),
        "## Files\n",
        _files(run, quantized is not None),
    ]
    return "\n".join(part for part in parts if part)


def _tests(run: Run) -> str:
    rows = []
    kept = f"best validation loss (epoch {run.record['best_epoch']})"
    weights = [("last epoch", "test_last_epoch")]
    if run.has_validation:
        weights.insert(0, (kept, "test"))
    for label, key in weights:
        test = run.record[key]
        rows.append(
            [
                label,
                percent(test["accuracy"]),
                interval(test["correct"], test["n"]),
                f"{test['n'] - test['correct']:,} of {test['n']:,}",
                percent(test["macro_f1"]),
                percent(test["top5"]),
                f"{test['loss']:.4f}",
            ]
        )
    return table(
        "Test results of the reported weights and, beside them, of the last epoch's."
        if run.has_validation
        else "Test results of the last epoch's weights, which are those reported.",
        f"tab-test-{run.folder.name}",
        ["Weights", "Accuracy (%)", "95 % interval", "Errors", "Macro-F1 (%)", "Top 5 (%)", "Loss"],
        rows,
        numbers=range(1, 7),
    )


def _pairs(run: Run, pairs: Any) -> str:
    if pairs.empty:
        return "No test image was misread.\n"
    return table(
        "The pairs of classes that were taken for each other most often.",
        f"tab-pairs-{run.folder.name}",
        ["Pair", "Errors", "First read as second", "Second read as first"],
        [[literal(pair), *counts] for pair, *counts in pairs.itertuples(index=False, name=None)],
        numbers=(1, 2, 3),
    )


def _gallery(run: Run, path: str | None) -> str:
    if not catalog.entry(run.config.dataset).pictures:
        return "The terms of this dataset do not allow its images to be shown, so there is no gallery of errors.\n"
    if path is None:
        return ""
    name = run.folder.name
    return "\n".join(
        [
            "## The errors themselves\n",
            figure(
                path,
                f"fig-gallery-{name}",
                "Small pictures of misread test images, each under its true class, an arrow and the predicted one.",
                "The errors the network was surest of, as true → predicted.",
            ),
        ]
    )


def _classes(run: Run) -> str:
    scores = evaluation.per_class(run.confusion, run.classes)
    if len(scores) > MAX_CLASSES:
        scores = scores.sort_values("f1", kind="stable")
    rows = [
        [literal(row["class"]), f"{row['n']:,}", percent(row["precision"]), percent(row["recall"]), percent(row["f1"])]
        if row["n"]
        else [literal(row["class"]), 0, MISSING, MISSING, MISSING]
        for row in scores.to_dict("records")
    ]
    caption = "Scores of each class on the test set."
    if len(rows) > MAX_CLASSES:
        caption = f"Scores on the test set of the {MAX_CLASSES} classes, of {len(rows):,}, that have the lowest F1."
        rows = rows[:MAX_CLASSES]
    return table(
        caption,
        f"tab-classes-{run.folder.name}",
        ["Class", "Test images", "Precision (%)", "Recall (%)", "F1 (%)"],
        rows,
        numbers=(1, 2, 3, 4),
    )


def _quantized(run: Run, record: Mapping[str, Any]) -> str:
    images, environment = record["test_images"], record["environment"]
    which = f"all {images['n']:,} test images"
    if images["stratified"]:
        which = f"{images['n']:,} of the {images['of']:,} test images, stratified"
    caption = (
        f"The network in each format, on {which}. p is of McNemar's test against `safetensors`; times are of one image "
        f"on one thread of {environment['device_name']} at a load of {environment['load']}, on "
        f"{record['created'][:10]}; their ratio is to `{record['latency']['ratio_to']}` in the same rounds."
    )
    rows = [reports.describe(row) for row in record["formats"]]
    columns = list(rows[0])
    name = f"tab-quantized-{run.folder.name}"
    return "## On a device\n\n" + table(
        caption, name, columns, [list(row.values()) for row in rows], numbers=range(1, len(columns))
    )


def _config(run: Run) -> str:
    record, config = run.record, run.config
    environment, data, model, timing = record["environment"], record["dataset"], record["model"], record["timing"]
    software = {"Python": "python", "torch": "torch", "numpy": "numpy"}
    values = {
        "dataset": f"`{config.dataset}`, {provenance(config.dataset)}",
        "images": f"{data['n_train']:,} train, {data['n_validation']:,} validation, {data['n_test']:,} test",
        "network": network(config),
        "size": f"{model['parameters']:,} parameters, {model['macs']:,} multiply-accumulates an image",
        "recipe": config.recipe,
        "seed": config.seed,
        **{name.replace("_", " "): value for name, value in config.training.items()},
        "device": f"{environment['device_name']}, {environment['precision']}, {environment['threads']} threads",
        "software": ", ".join(f"{name} {environment[key]}" for name, key in software.items()),
        "system": environment["platform"],
        "training time": f"{timing['seconds']:,.0f} s, {timing['images_per_second']:,.0f} images/s",
        "git revision": f"`{environment['git_revision'][:12]}`",
        "made": record["created"],
    }
    return table(
        "What determined the run, and where it was made.",
        f"tab-config-{run.folder.name}",
        ["", "Value"],
        values.items(),
    )


def _drawing(run: Run) -> str:
    """Return the command that draws a run's hanzi, of which a fifth are test images, one a writer; else nothing."""
    if run.config.dataset != "hanzi-synthetic":
        return ""
    writers = round(5 * run.record["test"]["n"] / len(run.classes))
    some = [] if len(run.classes) == len(gnt.LEVEL_1) else ["--classes", "".join(run.classes)]
    return shlex.join(["hwr", "synthesize", run.config.dataset, "--writers", str(writers), *some]) + "\n"


def _model_card(run: Run) -> str:
    """Return the model card (Mitchell et al., 2019) of a run whose network is in the repository, else nothing."""
    kept = [path for name in MODELS if (path := run.folder / name).is_file()]
    if not kept:
        return ""
    config, entry, name = run.config, catalog.entry(run.config.dataset), run.folder.name
    drawn = provenance(config.dataset) == "synthetic"
    of = "characters that the project drew" if drawn else "handwritten characters"
    rows = [["the run's test set", f"`{config.dataset}`", *_score(run.record["test"] | _top10(run))]]
    for other in reports.read_evaluations(run.folder):
        rows.append(["people's handwriting", f"`{other['dataset']['name']}`", *_score(other)])
    limits = [
        "One character at a time, upright and alone in its picture, out of those it knows: no words, no other script.",
        "It names a character for any picture. What shows none is declined mostly, not always, and so is now and then "
        "what shows one. Scores are calibrated on pictures like those it learned from; on others they can be too high.",
        "It is made for study and play. Nothing that matters to a person should hang on its answers.",
    ]
    if drawn:
        limits.insert(0, "It has never seen a person's handwriting, which it reads less well than its own test set.")
    return "\n".join(
        [
            "## Model card\n",
            "The weights of this run are in the repository; this section says what a user of them should know "
            "{cite}`mitchell2019modelcards`.\n",
            f"- **Network**: {network(config)}, {run.record['model']['parameters']:,} parameters, "
            f"{len(run.classes):,} classes, one channel of {config.training['image_size']} pixels a side.",
            f"- **Learned from**: {run.record['dataset']['n_train']:,} {of}: {entry.title} ({entry.licence}).",
            *(f"- **Limits**: {limit}" for limit in limits),
            *(
                f"- **File**: `results/{name}/{path.name}`, {path.stat().st_size:,} bytes, SHA-256 "
                f"`{files.sha256(path)}`"
                for path in kept
            ),
            "",
            table(
                "What it reads right. The first row is of its 32-bit weights, the others of the file for devices.",
                f"tab-card-{name}",
                ["Pictures", "Data", "Accuracy (%)", "95 % interval", "Top 10 (%)", "n"],
                rows,
                numbers=(2, 3, 4, 5),
            ),
        ]
    )


def _score(test: Mapping[str, Any]) -> list[str]:
    return [
        percent(test["accuracy"]),
        interval(test["correct"], test["n"]),
        percent(test["top10"]),
        f"{test['n']:,}",
    ]


def _top10(run: Run) -> dict[str, float]:
    hits = run.predictions["classes"][:, :10] == run.predictions["labels"][:, None]
    return {"top10": float(hits.any(axis=1).mean())}


def _files(run: Run, quantized: bool) -> str:
    name = run.folder.name
    sizes = f"- {{download}}`quantization.json <{name}/quantization.json>`: what each format costs"
    lines = [
        f"- {{download}}`record.json <{name}/record.json>`: all of the above, as read by this page",
        f"- {{download}}`predictions.npz <{name}/predictions.npz>`: labels, the ten likeliest classes and their scores "
        "for each test image, and the indices of the images held out",
        *([sizes] if quantized else []),
        f"- SHA-256 of the weights: `{run.record['weights']['sha256']}`",
        *(f"- SHA-256 of `{file}`: `{digest}`" for file, digest in run.record["dataset"]["files"].items()),
    ]
    return "\n".join(lines) + "\n"


def run_statistics(found: Sequence[Run]) -> str:
    """Return the table of what each run cost and what it ran on."""
    if not found:
        return "There is no run yet.\n"
    rows = []
    for run in found:
        environment, timing = run.record["environment"], run.record["timing"]
        rows.append(
            [
                link(run, title(run)),
                environment["device_name"],
                environment["threads"],
                len(run.record["history"]),
                f"{timing['seconds']:,.0f}",
                f"{timing['images_per_second']:,.0f}",
                timing["sessions"],
                environment["torch"],
                f"`{environment['git_revision'][:7]}`",
                run.record["created"][:10],
            ]
        )
    return table(
        "What each run cost: seconds of training steps in all epochs, images a second in the median epoch, sessions "
        "(1, and one more for each time it was resumed).",
        "tab-run-times",
        ["Run", "Device", "Threads", "Epochs", "Seconds", "Images/s", "Sessions", "torch", "Revision", "Date"],
        rows,
        numbers=(2, 3, 4, 5, 6),
    )


def notebook_statistics(notebooks: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of what executing each notebook took.

    Args:
        notebooks: file name without .ipynb -> its content.
    """
    rows = []
    for name, content in notebooks.items():
        papermill = content["metadata"].get("papermill", {})
        duration = papermill.get("duration")
        code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        executed = sum(cell["execution_count"] is not None for cell in code)
        rows.append(
            [
                f"[{name}](/notebooks/{name}.ipynb)",
                f"{executed} of {len(code)}",
                f"{duration:,.1f}" if duration is not None else MISSING,
                content["metadata"].get("language_info", {}).get("version", MISSING),
                (papermill.get("end_time") or MISSING)[:10],
            ]
        )
    return table(
        "What executing each notebook took, as far as it is written in the notebook itself.",
        "tab-notebook-times",
        ["Notebook", "Cells executed", "Seconds", "Python", "Date"],
        rows,
        numbers=(1, 2),
    )


def modules(package: Path) -> dict[str, str]:
    """Return the dotted name of every module of a package, with the first line of its docstring."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        if parts[-1] == "__main__":
            continue
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[name] = docstring.partition("\n")[0]
    return dict(sorted(found.items()))


def module_table(found: Mapping[str, str]) -> str:
    """Return the table of modules, each with a link to its page."""
    rows = [[f"[`{name}`](/api/{name}.md)", summary] for name, summary in found.items()]
    return table("The modules of the package.", "tab-modules", ["Module", "What it is for"], rows)


def module_page(name: str) -> str:
    """Return the page of one module; Sphinx fills it from the docstrings."""
    return f"# `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :ignore-module-all:\n```\n"


def benchmarks(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables and figures of the training benchmarks.

    Args:
        measured: path of the figure, from a page in book/ -> record of `hwr_utils.benchmark.training`.
    """
    if not measured:
        return "There is no measurement yet. This command makes one:\n\n```sh\nhwr benchmark training\n```\n"
    return "\n".join(_benchmark(path, record) for path, record in measured.items())


def attempts(measured: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of the ways in which the loop was computed.

    Args:
        measured: records of `hwr_utils.benchmark.attempts`.
    """
    shown = [_attempts(record) for record in measured]
    found = {(record["config"]["architecture"], record["environment"]["device"]) for record in measured}
    for architecture, device in (("simple_cnn", "cpu"), ("simple_cnn", "cuda"), ("resnet50", "cuda")):
        if (architecture, device) not in found:
            command = f"hwr benchmark attempts --architecture {architecture} --device {device}"
            shown.append(f"**Not measured yet:** `{architecture}` on {_device(device)}. `{command}`\n")
    return "\n".join(shown)


def _attempts(record: Mapping[str, Any]) -> str:
    environment, config = record["environment"], record["config"]
    rows = []
    for way in record["attempts"]:
        rate, ratio = "failed", way.get("failed", "")
        if "failed" not in way:
            rate = f"{way['images_per_second']:,.0f}"
            ratio = f"{way['ratio']['median']:.2f} ({way['ratio']['low']:.2f} to {way['ratio']['high']:.2f})"
        rows.append([way["precision"], way["compile"], rate, ratio, f"{way['predicted']:.2f}", way["because"]])
    return table(
        f"`{config['architecture']}` on {environment['device_name']}, torch {environment['torch']}, "
        f"{record['created'][:10]}: {config['images']:,} images of `{config['dataset']}` a round, "
        f"{config['batch_size']} a step, {config['rounds']} rounds of each in turn. The ratio is to the first row; "
        "predictions were written down before.",
        f"tab-attempts-{config['architecture']}-{environment['device']}",
        ["Precision", "Compiled", "Images/s", "Ratio", "Predicted", "Why"],
        rows,
        numbers=(2, 4),
    )


TARGETS = (0.99, 0.995)


def time_to_accuracy(found: Sequence[Run]) -> str:
    """Return the table of how long training takes to reach an accuracy on MNIST, by experiment and device."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in found:
        if run.config.dataset == "mnist" and run.config.recipe == "paper":
            groups.setdefault((network(run.config), run.record["environment"]["device_name"]), []).append(run)
    rows = []
    for (name, device), members in sorted(groups.items()):
        row = [name, device, len(members)]
        for target in TARGETS:
            times = [comparison.seconds_to_accuracy(run, target) for run in members]
            reached = [seconds for seconds in times if seconds is not None]
            row.append(f"{statistics.median(reached):,.0f} ({len(reached)})" if reached else "never reached")
        rows.append(row)
    missing = ""
    if not any(run.config.architecture == "resnet50" for members in groups.values() for run in members):
        command = results.command(recipes.configure("mnist", "resnet50"))
        missing = f"\n**ResNet-50: not run yet.** `{command}`, on a CUDA GPU\n"
    if not rows:
        return f"**No run on MNIST yet.** `{results.command(recipes.configure('mnist', 'simple_cnn'))}`\n{missing}"
    return (
        table(
            "Seconds of training steps until an epoch ends with that accuracy on the validation images, as the median "
            "over the seeds that reached it (their number in brackets), of the recipe `paper` on `mnist`.",
            "tab-time-to-accuracy",
            ["Network", "Device", "Seeds", *(f"{target:.1%}" for target in TARGETS)],
            rows,
            numbers=(2, 3, 4),
        )
        + missing
    )


def _device(kind: str) -> str:
    return "a CPU" if kind == "cpu" else "a GPU"


def _benchmark(path: str, record: Mapping[str, Any]) -> str:
    environment, config, ratio = record["environment"], record["config"], record["ratio"]
    kind = environment["device"]
    rows = [
        [
            label,
            f"{record[name]['images_per_second']:,.0f}",
            f"{record[name]['milliseconds_per_step']:.2f}",
            record[name]["precision"],
        ]
        for label, name in (("this study", "ours"), ("usual", "usual"))
    ]
    return "\n".join(
        [
            f"### `{config['architecture']}` on {_device(kind)}\n",
            f"On {environment['device_name']}, torch {environment['torch']}, {record['created'][:10]}: "
            f"the study's loop is **{ratio['median']:.2f} times as fast** as the usual one "
            f"({ratio['low']:.2f} to {ratio['high']:.2f} in single rounds). Each round trains "
            f"`{config['architecture']}` on {config['images']:,} images of `{config['dataset']}`, "
            f"{config['batch_size']} a step. After one round to warm up there were {config['rounds']} of each loop, "
            f"with {config['workers']} workers for the usual one. Before the start the machine's load was "
            f"{environment['load']}.{_memory(record)}\n",
            table(
                "Median rate and time of a step.",
                f"tab-benchmark-{config['architecture']}-{kind}",
                ["Loop", "Images/s", "ms/step", "Precision"],
                rows,
                numbers=(1, 2),
            ),
            figure(
                path,
                f"fig-benchmark-{config['architecture']}-{kind}",
                "Line chart of images a second by round: the study's loop at about "
                f"{record['ours']['images_per_second']:,.0f}, the usual one at about "
                f"{record['usual']['images_per_second']:,.0f}.",
                "Images a second in every timed round, both loops in turn.",
            ),
        ]
    )


def _memory(record: Mapping[str, Any]) -> str:
    memory = record.get("memory")
    if memory is None:  # measured on CUDA only
        return ""
    return (
        f" A training step moves {memory['activation_bytes_per_image'] / 1e6:,.0f} MB an image through a memory that "
        f"was measured at {memory['bandwidth_bytes_per_second'] / 1e12:.2f} TB/s, which allows "
        f"{memory['floor_images_per_second']:,} images a second where every layer reads and writes by itself. The "
        f"study's loop reaches {memory['share']:.0%} of that, with {memory['peak_bytes'] / 1e9:.1f} GB in use at most."
    )
