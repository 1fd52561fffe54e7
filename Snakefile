"""All that the study makes, as one graph: draw, train, describe, execute the chapters and the pages of runs, build the book.

    snakemake                                          the quick profile and its book, one run a core
    snakemake book --config profile=paper              the book of the committed records; trains nothing
    snakemake --config profile=paper                   train the runs of the published results that are missing
    snakemake --workflow-profile profiles/slurm        the same on a SLURM cluster

A run is trained only if its record is missing. So the rule `run` has no files as inputs but data that is drawn here,
whose dates do not count, and hwr_utils.grid says what is to be done. A job that is killed goes on from its last whole
epoch when this is called again. All other rules make again what is older than the files that it is made from.
"""

import hashlib
import logging
import os
import shlex
import shutil
import socket
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from hwr_utils import grid, notebooks, recipes, results
from hwr_utils.data import catalog
from hwr_utils.errors import InputError


workdir: workflow.basedir


if set(config) - {"profile", "gpu"}:
    raise WorkflowError(f"--config {' '.join(config)}: expected profile=NAME, gpu=true or gpu=false.")

# the processes that run single jobs on a cluster read this file too: they are told what to do, and ask nothing
ASKS = workflow.is_main_process
NAME = config.get("profile", "quick")
# whether the machines that train have a GPU: on a cluster this one may have none
GPU = config.get("gpu", shutil.which("nvidia-smi") is not None)
try:
    profile = grid.read(NAME)
    # the book of committed records trains nothing and need not know what could be trained
    asks_for_runs = ASKS and (profile.data or "book" not in sys.argv)
    todo = grid.missing(NAME) if asks_for_runs else []
    if not profile.data and todo:
        todo, reasons = grid.runnable(todo, GPU)
        print(*reasons, sep="\n", file=sys.stderr)
    table = results.frame(profile.results) if ASKS else []
except InputError as error:
    raise WorkflowError(str(error))


def here(folder):
    """Return a folder as executed notebooks show it: they need not show where this checkout lies."""
    folder = Path(folder).absolute()
    return folder.relative_to(workflow.basedir) if folder.is_relative_to(workflow.basedir) else folder


EDITION = here(grid.OUT) if profile.data else Path("_build")
RESULTS, DATA_ROOT = here(profile.results), here(profile.data_root)
CHAPTERS = EDITION / "notebooks" if profile.data else Path("notebooks")
BOOK = EDITION / "html"
WORK = EDITION / "book"  # what only the book is made from
# Snakemake wants a file from each job. These mean that it has been done, and nothing beyond that.
STAMPS = Path("_build") / "snakemake" / NAME
RUNS = STAMPS / "runs"
PYTHON = shlex.quote(sys.executable)
os.environ |= {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}  # jobs run side by side, and two threads each would fight
if ASKS:  # nobody else stops the jobs of a Snakemake that was killed
    os.environ["HWR_ENDS_WITH"] = f"{socket.gethostname()}:{os.getpid()}"
CHAPTER_FILES = [CHAPTERS / f"{page}.ipynb" for page in profile.pages] if profile.data else sorted(CHAPTERS.glob("0*.ipynb"))

jobs = {job.name: job for job in profile.jobs}
drawings = {
    name: STAMPS / "data" / f"{name}-{hashlib.sha256(repr(sorted(sizes.items())).encode()).hexdigest()[:8]}"
    for name, sizes in profile.data.items()
}
if ASKS:
    for dataset, stamp in drawings.items():
        entry = catalog.entry(dataset)
        if not all((profile.data_root / entry.folders[0] / file).exists() for file in entry.stored):
            stamp.unlink(missing_ok=True)
    # the runs on images that are drawn anew are made anew, too
    undrawn = [dataset for dataset, stamp in drawings.items() if not stamp.exists()]
    todo += [job for job in profile.jobs if job.config.dataset in undrawn and job not in todo]
    for job in todo:
        (RUNS / job.name).unlink(missing_ok=True)
    if not (BOOK / "index.html").exists():
        (STAMPS / "book").unlink(missing_ok=True)

recorded = [(here(row.folder), row.architecture) for row in table.itertuples()] if len(table) else []
evidence = [folder / file for folder, _ in recorded for file in ("record.json", "predictions.npz")]
evidence += [RUNS / job.name for job in todo if profile.data]  # the book of committed records waits for none


# the pages of all runs of a network are made together, by one kernel: to start one takes longer than to make some
groups = {job.config.architecture: [] for job in profile.jobs if profile.data}
for folder, architecture in recorded:
    groups.setdefault(architecture, []).append(folder)


def options(sizes):
    """Return how a dataset is drawn as options of `hwr synthesize`."""
    named = {f"--{name.replace('_', '-')}": str(value) for name, value in sizes.items() if value is not None}
    return shlex.join(word for option in named.items() for word in option)


def given(values):
    """Return parameters as arguments of `hwr notebook`."""
    return shlex.join(word for name, value in values.items() for word in ("-p", name, str(value)))


def chapter_parameters(page):
    """Return what a chapter is executed with: the folders, and the first run of the network in its name.

    The folders are relative paths, which the executed notebook may show.
    """
    # the chapter on data sets leaves out imported sets, which the chapter of their network describes
    shown = [name for name in profile.data if not catalog.entry(name).imported]
    values = {"results_dir": RESULTS, "data_root": DATA_ROOT, "datasets": " ".join(shown)}
    for config in [job.config for job in profile.jobs if job.config.architecture in page][:1]:
        # with all of its values, because the chapter's own defaults may depart from the recipe
        own = {"recipe": recipes.base(config.recipe, config.architecture)} | config.to_dict()["training"]
        values |= vars(config) | dict(config.model) | own
    known = notebooks.parameters(notebooks.find(page))
    return {name: value for name, value in values.items() if name in known}


# pixels a side, and seconds of one core for a thousand training images of that size
PACE = {"simple_cnn": (28, 1), "resnet50": (32, 14), "inception_hccr": (56, 14)}


def guess(config):
    """Return about how many seconds a run takes on one core."""
    training, (pixels, pace) = config.training, PACE.get(config.architecture, PACE["inception_hccr"])
    sizes = profile.data.get(config.dataset, {})
    drawn = sizes.get("n_train") or sizes.get("writers", 0) * (sizes.get("classes") or 3755)
    n_train = drawn or catalog.entry(config.dataset).n_train or 10_000
    images = training["train_size"] or training["pool_size"] or n_train
    return int(15 + training["epochs"] * images / 1000 * pace * (training["image_size"] / pixels) ** 2)


class TimeLeft(logging.Handler):
    """Says after each job about how long the rest will take."""

    def __init__(self, seconds, cores):
        super().__init__()
        self.seconds, self.cores, self.start = seconds, cores, time.monotonic()
        self.total = sum(seconds.values())

    def emit(self, record):
        if getattr(record, "event", None) != "job_finished" or record.job_id not in self.seconds:
            return
        self.seconds.pop(record.job_id)
        left = sum(self.seconds.values())
        # the guesses fit one machine; the time that finished jobs took tells how much slower this one is
        pace = (30 + self.cores * (time.monotonic() - self.start)) / (30 + self.total - left)
        minutes = left * pace / self.cores / 60
        told = f"About {minutes:.0f} minutes left" if minutes > 1.5 else "About a minute left or less"
        print(f"{told}, if the machine stays as busy as it was", file=sys.stderr)


onstart:
    seconds = {job.jobid: job.resources.get("seconds", 1) for job in workflow.dag.needrun_jobs()}
    logger.addHandler(TimeLeft(seconds, workflow.resource_settings.cores or 1))


localrules: all, book, runs, pages_of_runs, draw, pages, tables, html


# a rule without any input would always have something to do
TODO = [RUNS / job.name for job in todo] or "Snakefile"


rule all:
    input: STAMPS / "book" if profile.data else TODO


rule book:
    input: STAMPS / "book"


rule runs:
    input: TODO


rule pages_of_runs:
    input: [WORK / "runs" / name for name in groups]


rule draw:
    output: touch(STAMPS / "data" / "{dataset}-{sizes,[0-9a-f]{8}}")
    params: options=lambda wildcards: options(profile.data[wildcards.dataset])
    message: "Drawing {wildcards.dataset}"
    resources: seconds=6
    shell:  # what was recorded of other images under this name goes
        "{PYTHON} -m hwr_utils synthesize {wildcards.dataset} {params.options} --data-root {DATA_ROOT:q}"
        " && rm -rf {RESULTS:q}/datasets/{wildcards.dataset} {RESULTS:q}/{wildcards.dataset}-*"


rule run:
    input: lambda wildcards: ancient(drawings.get(jobs[wildcards.name].config.dataset, []))
    output: touch(RUNS / "{name}")
    params: arguments=lambda wildcards: shlex.join(shlex.split(jobs[wildcards.name].command)[1:])
    message: "Training {wildcards.name}: some {resources.seconds} seconds of an idle core"
    threads: 1
    resources:
        gpu=1 if GPU else 0,
        seconds=lambda wildcards: guess(jobs[wildcards.name].config),
    shell:
        # as many threads as it was given cores, or two jobs would fight for two cores
        "OMP_NUM_THREADS={threads} {PYTHON} -m hwr_utils {params.arguments} --results-dir {RESULTS:q} --data-root {DATA_ROOT:q}"


if profile.data:

    localrules: describe, chapter

    rule describe:
        input: lambda wildcards: drawings[wildcards.dataset]
        output: RESULTS / "datasets" / "{dataset}" / "facts.json"
        message: "Describing {wildcards.dataset}"
        resources: seconds=6
        shell: "{PYTHON} -m hwr_utils describe {wildcards.dataset} --results-dir {RESULTS:q} --data-root {DATA_ROOT:q}"

    rule chapter:
        input:
            "notebooks/{page}.ipynb",
            f"config/{NAME}.yaml",
            evidence,
            [RESULTS / "datasets" / dataset / "facts.json" for dataset in profile.data],
        output: CHAPTERS / "{page}.ipynb"
        params: given=lambda wildcards: given(chapter_parameters(wildcards.page))
        message: "Executing the chapter {wildcards.page}"
        resources: seconds=35
        shell: "HWR_TRAIN=never {PYTHON} -m hwr_utils notebook {wildcards.page} {params.given} --output {output:q}"


rule pages:
    input:
        "notebooks/run.ipynb",
        lambda wildcards: [folder / "record.json" for folder in groups[wildcards.group]],
        lambda wildcards: [RUNS / job.name for job in todo if profile.data and job.config.architecture == wildcards.group],
    output: directory(WORK / "runs" / "{group}")
    message: "Executing the pages of the runs of {wildcards.group}"
    resources: seconds=lambda wildcards: 10 + 2 * len(groups[wildcards.group])
    shell:  # it lists the runs anew, because some may have just been made
        "runs=$({PYTHON} -c 'import sys; from hwr_utils import results; table = results.frame(sys.argv[1]);"
        " print(*results.pages(table[table.architecture.eq(sys.argv[2])]).unique())' {RESULTS:q} {wildcards.group}) && "
        "{PYTHON} -m hwr_utils notebook run -p results_dir {RESULTS:q} --svg --output {output:q} --each run_id $runs"


rule tables:
    input:
        "book/{page}.ipynb",
        evidence,
        CHAPTER_FILES,
    output: WORK / "{page,runs|status}.ipynb"
    params: given=lambda wildcards: given({"results_dir": RESULTS} | ({"notebooks_dir": CHAPTERS} if wildcards.page == "status" else {}))
    message: "Executing the page {wildcards.page}"
    resources: seconds=8
    shell: "{PYTHON} -m hwr_utils notebook {input[0]} {params.given} --output {output:q}"


rule html:
    input:
        [path for folder in ("book", "hwr_utils", "locale") for path in Path(folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts],
        [path for path in map(Path, ("_config.yml", "_toc.yml", "CHANGELOG.md", "package-lock.json", "config/playground.yaml")) if path.exists()],
        [path for pattern in ("*/*.json", "*/model.*.tflite") for path in RESULTS.glob(pattern)],
        evidence,
        CHAPTER_FILES,
        [WORK / "runs" / name for name in groups],
        [WORK / f"{page}.ipynb" for page in ("runs", "status")],
    output: touch(STAMPS / "book")
    params: banner="--quick" if profile.data else ""
    message: "Building the book"
    resources: seconds=60
    shell: "{PYTHON} book/build.py {params.banner} --results {RESULTS:q} --notebooks {CHAPTERS:q} --pages {WORK:q} --out {BOOK:q}"
