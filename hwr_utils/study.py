"""Run a profile of `config/`: draw its data, train its grid through the notebooks, execute its pages, build its book.

A profile that draws its data is an edition of its own in one folder: `data/`, `results/`, `notebooks/` and `html/`. One
that does not, `paper`, adds to the committed records what they lack, from the data under the data root. Either goes on
where it was stopped and leaves alone what is done.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from hwr_utils import data, files, notebooks, recipes, records, results, synthesis
from hwr_utils.data import catalog
from hwr_utils.errors import InputError, MissingFiles
from hwr_utils.records import RunConfig

CONFIG = files.REPOSITORY / "config"
RESULTS = files.REPOSITORY / "results"
OUT = files.REPOSITORY / "_build" / "study"

# architecture -> the notebook that trains it
NOTEBOOKS = {"simple_cnn": "02_simple_cnn", "resnet50": "03_resnet50", "inception_hccr": "04_inception_hccr"}
# seconds of one core for a thousand training images, for the estimate of the time left and to begin with the longest
SECONDS = {"simple_cnn": 1.5, "resnet50": 15.0, "inception_hccr": 5.0}
PLACES = ("results_dir", "data_root")  # parameters of notebooks that the study sets, and no profile


@dataclass(frozen=True)
class Job:
    """One run of a grid: the notebook that trains it, the parameters it is given, and the run's config."""

    notebook: str
    parameters: dict[str, Any]
    config: RunConfig

    @property
    def command(self) -> str:
        """The shell command that makes the run's record, the same that pages show."""

        return results.command(self.config)

    @property
    def name(self) -> str:
        """The notebook and the parameters, safe as a file name; no other job of a grid has it."""
        return notebooks.label(Path(self.notebook), self.parameters)

    @property
    def needs_gpu(self) -> bool:
        """Does the profile ask for a CUDA GPU?"""
        return str(self.parameters.get("device", "")).startswith("cuda")


@dataclass(frozen=True)
class Profile:
    """What a file of `config/` asks for: datasets to draw, with their sizes; runs; notebooks that show the runs."""

    data: dict[str, dict[str, Any]]
    jobs: list[Job]
    pages: list[str]

    @property
    def results(self) -> Path:
        """The folder of the records that `study` makes or adds to."""
        return OUT / "results" if self.data else RESULTS

    def notebook_arguments(self, job: Job) -> list[str]:
        """Return the arguments of `hwr` that make a job's record, and its executed notebook, where `study` does."""
        given, words = dict(job.parameters), ["notebook", job.notebook]
        if self.data:
            given |= {"results_dir": _shown(OUT / "results"), "data_root": _shown(OUT / "data")}
            words += ["--output", str(OUT / "notebooks" / "runs" / f"{job.name}.ipynb")]
        return words + _given(given)


def read_profile(profile: str) -> Profile:
    """Read `config/<profile>.yaml` and check all of it, before anything runs.

    Raises:
        InputError: an unknown profile, key, architecture, dataset, notebook or parameter (the nearest valid one is
            given), or a value of a wrong type or out of range.
    """
    known = {path.stem: path for path in sorted(CONFIG.glob("*.yaml"))}
    _known("profile", profile, known)
    path = known[profile]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML: {error}") from error
    try:
        content = _mapping("the file", content, ["data", "train", "pages"])
        drawable = [name for name in catalog.CATALOG if name.endswith("-synthetic")]
        drawn = _mapping("data", content.get("data", {}), drawable)
        for name, sizes in drawn.items():
            for key, value in _mapping(f"data: {name}", sizes, ["seed", *synthesis.SIZES[name]]).items():
                if (type(value) is not int or value < 0) and not (key == "classes" and isinstance(value, str)):
                    raise InputError(f"data: {name}: {key}={value!r} is not a whole number from 0.")
        jobs = [job for block in _list("train", content) for job in _jobs(block)]
        for job in jobs:
            if drawn:
                _known("data is not drawn: dataset", job.config.dataset, drawn)
        pages = [notebooks.find(name).stem for name in _list("pages", content)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Profile(drawn, jobs, pages)


def _known(what: str, name: Any, valid: Mapping[str, Any] | list[str]) -> None:
    if name not in valid:
        near = recipes.nearest(name, valid)
        raise InputError(f"{what} {name!r} is unknown, expected one of {', '.join(valid)}{near}")


def _mapping(where: str, values: Any, valid: list[str]) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise InputError(f"{where}: found {values!r}, expected keys out of {', '.join(valid)}.")
    for name in values:
        _known(f"{where}: key", name, valid)
    return values


def _list(key: str, content: dict[str, Any]) -> list[Any]:
    if not isinstance(content.get(key, []), list):
        raise InputError(f"{key}: found {content[key]!r}, expected a list.")
    return list(content.get(key, []))


def _jobs(block: Any) -> Iterator[Job]:
    """Yield every combination of the values of one block."""
    if not isinstance(block, dict) or "architecture" not in block:
        raise InputError(f"train: found {block!r}, expected `architecture` and parameters of its notebook.")
    grid = {name: value if isinstance(value, list) else [value] for name, value in block.items()}
    for architecture in grid.pop("architecture"):
        _known("train: architecture", architecture, NOTEBOOKS)
        path = notebooks.find(NOTEBOOKS[architecture])
        defaults = {name: known.default for name, known in notebooks.parameters(path).items() if name not in PLACES}
        _mapping("train", grid, ["architecture", *defaults])
        for combination in product(*grid.values()):
            given = notebooks.check(path, dict(zip(grid, combination, strict=True)))
            values = {name: value for name, value in (defaults | given).items() if name != "device"}
            catalog.entry(values["dataset"])
            yield Job(path.stem, given, recipes.configure(architecture=architecture, **values))


def grid(profile: str) -> list[Job]:
    """Return the runs that a profile asks for, in its order; errors as `read_profile`."""
    return read_profile(profile).jobs


def missing(profile: str, results_dir: str | Path | None = None) -> list[Job]:
    """Return the runs of a profile that have no record; `Job.command` makes one.

    Args:
        profile: a file of `config/`.
        results_dir: None is where `study` puts the records of the profile.

    Raises:
        InputError: see `read_profile`; or a record is damaged.
    """
    plan = read_profile(profile)
    recorded = _recorded(results_dir or plan.results)
    return [job for job in plan.jobs if job.config.to_dict() not in recorded]


def unrecorded(profile: str) -> tuple[list[Job], list[Path]]:
    """Return the runs of a profile that have no valid record, and the invalid records that carry the names of its runs.

    A record is valid when it fits the schema, speaks of the run that its folder names, and its predictions can be read.

    Raises:
        InputError: see `read_profile`.
    """
    plan = read_profile(profile)
    names = {_without_hash(records.run_id(job.config, {})) for job in plan.jobs}
    valid, damaged = [], []
    for path in sorted(plan.results.glob("*/record.json")):
        if _is_valid(path):
            valid.append(records.read(path)["config"])
        elif _without_hash(path.parent.name) in names:
            damaged.append(path)
    return [job for job in plan.jobs if job.config.to_dict() not in valid], damaged


def _is_valid(path: Path) -> bool:
    try:
        record = records.read(path)
        records.read_arrays(path.parent / "predictions.npz")
    except InputError:
        return False
    config = RunConfig.from_dict(record["config"])
    return records.run_id(config, record["dataset"]["files"]) == path.parent.name


def _without_hash(run_id: str) -> str:
    return run_id.rpartition("-")[0]


def set_aside(record: Path) -> Path:
    """Rename an invalid record, so that its run can be made again; return the new path.

    Raises:
        InputError: the folder cannot be written.
    """
    kept = record.with_name(f"{record.name}.damaged")
    try:
        record.replace(kept)
    except OSError as error:
        raise InputError(f"cannot rename {record}: {error.strerror}. Make its folder writable.") from error
    return kept


def runnable(jobs: list[Job], gpu: bool | None = None) -> tuple[list[Job], list[str]]:
    """Part the runs that can be made here from those that have to wait.

    Args:
        jobs: of a profile whose data is under the data root.
        gpu: whether there is a CUDA GPU where they are made; None looks for its driver on this machine.

    Returns:
        The runs that can be made, and why the others wait, a sentence for each reason.

    Raises:
        InputError: the files of a dataset are there, and damaged.
    """
    gpu = shutil.which("nvidia-smi") is not None if gpu is None else gpu
    able = [job for job in jobs if gpu or not job.needs_gpu]
    reasons = [f"{len(jobs) - len(able)} runs wait for a CUDA GPU."] if len(able) < len(jobs) else []
    for dataset in sorted({job.config.dataset for job in able}):
        try:
            data.checksums(dataset, data.default_root())
        except MissingFiles as error:
            waiting = [job for job in able if job.config.dataset == dataset]
            reasons.append(f"{len(waiting)} runs wait for their data. {error}")
            able = [job for job in able if job not in waiting]
    return able, reasons


def _recorded(results_dir: str | Path) -> list[dict[str, Any]]:
    return [record["config"] for _, record in records.read_all(results_dir)]


def study(profile: str = "quick", out: Path = OUT) -> Path | None:
    """Do what a profile asks for and is not done yet.

    Args:
        profile: a file of `config/`.
        out: folder of the edition, for a profile that draws its data.

    Returns:
        The first page of the edition's book; None for a profile that adds to the committed records.

    Raises:
        InputError: see `read_profile` and `notebooks.execute`; or another process is at work on the edition; or the
            book could not be built.
    """
    plan = read_profile(profile)
    if not plan.data:
        _add_missing(profile)
        return None
    out = out.resolve()
    with _only_one(out):
        _make(_steps(plan, out), plan, out)
        return _build_book(profile, out)


def _build_book(profile: str, out: Path) -> Path:
    command = [sys.executable, "book/build.py", "--edition", profile]
    for option, folder in (("--results", "results"), ("--notebooks", "notebooks"), ("--out", "html")):
        command += [option, str(out / folder)]
    if subprocess.run(command, cwd=files.REPOSITORY).returncode != 0:
        raise InputError(f"the book was not built; why stands above. All that was trained is kept in {out}.")
    return out / "html" / "index.html"


def _add_missing(profile: str) -> None:
    """Train what the committed records lack and can be trained here, and say what the rest waits for."""
    todo = missing(profile)
    able, reasons = runnable(todo)
    for job in tqdm(able, unit="run", desc=profile):
        notebooks.execute(job.notebook, job.parameters, progress=False, environment={"HWR_TRAIN": "allow"})
    for reason in reasons:
        print(reason)


@dataclass(frozen=True)
class Step:
    """One thing that an edition needs.

    Attributes:
        name: unique.
        inputs: all that decides its content, besides the steps before it.
        there: does it exist?
        needs: the names of steps before it that it has to follow.
        seconds: a guess, for the estimate of the time left.
        make: make it anew.
    """

    name: str
    inputs: str
    there: bool
    needs: list[str]
    seconds: float
    make: Callable[[], object]


def _drawing(name: str, sizes: dict[str, Any], out: Path) -> Step:
    """Return the step that draws a dataset of an edition."""

    def draw() -> None:
        _write_drawn(name, sizes, out)
        # what was recorded speaks of other images
        for folder in (out / "results" / "datasets" / name, *(out / "results").glob(f"{name}-*")):
            shutil.rmtree(folder, ignore_errors=True)

    entry = catalog.entry(name)
    there = all((out / "data" / entry.folders[0] / file).exists() for file in entry.stored)
    code = _hash(files.REPOSITORY / "hwr_utils" / "synthesis") + _hash(files.REPOSITORY / "hwr_utils" / "data")
    return Step(f"draw {name}", f"{code} {sizes}", there, [], 3, draw)


def _write_drawn(name: str, sizes: dict[str, Any], out: Path) -> None:
    synthesis.write(name, out / "data", **sizes)


def _stamp(step: Step, out: Path) -> Path:
    """Return the file that keeps a step's inputs when it has been made."""
    return out / "stamps" / f"{step.name.replace(' ', '-')}.txt"


def undrawn(profile: str) -> list[str]:
    """Name the datasets that a profile draws and that lack a file; errors as `read_profile`."""
    return [name for name, sizes in read_profile(profile).data.items() if not _drawing(name, sizes, OUT).there]


def draw(profile: str, dataset: str) -> None:
    """Draw a dataset of a profile into the profile's edition, as `study` does.

    Records of runs on it are removed where it was drawn otherwise before. Where only its files were lost, the same
    images are drawn again and the records stay.

    Raises:
        InputError: see `read_profile`; or the folder cannot be written.
    """
    drawn = read_profile(profile).data
    _known(f"profile {profile!r}: dataset", dataset, drawn)
    sizes = drawn[dataset]
    step = _drawing(dataset, sizes, OUT)
    stamp = _stamp(step, OUT)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == step.inputs:
        _write_drawn(dataset, sizes, OUT)
    else:
        step.make()
    files.write_text(stamp, step.inputs)


def _shown(folder: Path) -> str:
    """Return a folder as executed notebooks show it: they need not show where this checkout lies."""
    return str(folder.relative_to(files.REPOSITORY) if folder.is_relative_to(files.REPOSITORY) else folder)


def _steps(plan: Profile, out: Path) -> list[Step]:
    """List all of an edition's steps, in an order in which they can be made."""
    code = _hash(files.REPOSITORY / "hwr_utils")
    recorded = _recorded(out / "results")
    places = {
        "results_dir": _shown(out / "results"),
        "data_root": _shown(out / "data"),
        # what is imported has its chapter with its network
        "datasets": " ".join(name for name in plan.data if not catalog.entry(name).imported),
    }

    def executed(name: str, values: dict[str, Any], to: str, there: bool, needs: list[str], seconds: float) -> Step:
        path, target = notebooks.find(name), out / "notebooks" / f"{to}.ipynb"
        given = values | {place: folder for place, folder in places.items() if place in notebooks.parameters(path)}

        def execute() -> None:
            _execute(path, given, target)

        inputs = f"{code} {files.sha256(path)} {json.dumps(given)} {needs}"
        return Step(target.stem, inputs, target.exists() and there, needs, seconds, execute)

    steps = [_drawing(name, sizes, out) for name, sizes in plan.data.items()]
    # the first run of a network makes its chapter, once its others on that dataset are there for it to show; the
    # notebooks of further runs lie where the book does not look
    chapters = list({job.notebook: job for job in reversed(plan.jobs)}.values())
    further: dict[tuple[str, str], list[str]] = {}
    for job in [*(job for job in plan.jobs if job not in chapters), *chapters]:
        images = job.config.training["epochs"] * _n_train(plan.data[job.config.dataset])
        seconds = 15 + images / 1000 * SECONDS[job.config.architecture]
        there, needs = job.config.to_dict() in recorded, [f"draw {job.config.dataset}"]
        name, shown = job.notebook, further.setdefault((job.notebook, job.config.dataset), [])
        if job in chapters:
            needs += shown
        else:
            name = f"runs/{job.name}"
            shown.append(job.name)
        steps.append(executed(job.notebook, job.parameters, name, there, needs, seconds))
    everything = [step.name for step in steps]
    return steps + [executed(page, {}, page, True, everything, 15) for page in plan.pages]


def _n_train(sizes: dict[str, Any]) -> int:
    """Guess the training images of a drawn dataset, of hanzi without those that a split holds out."""
    classes = sizes.get("classes", 0)
    drawn = sizes.get("writers", 0) * (classes if isinstance(classes, int) else len(classes))
    return int(sizes.get("n_train", drawn * (1 - data.TEST_SHARE)))


def _given(values: Mapping[str, Any]) -> list[str]:
    """Return a notebook's parameters as arguments of `hwr notebook`."""
    return [word for name, value in values.items() for word in ("-p", name, str(value))]


def _workers() -> int:
    """Return how many steps are made at a time: one a core, up to four, which is enough for an edition."""
    return min(4, _cores())


def _cores() -> int:
    """Return how many cores this process may use; a container may have fewer than its machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _execute(path: Path, values: Mapping[str, Any], output: Path) -> None:
    """Run a notebook in a process of its own, so that several can run at a time, with its share of the cores."""
    threads = _cores() // _workers()
    done = subprocess.run(
        [sys.executable, "-m", "hwr_utils", "notebook", str(path), "--output", str(output), *_given(values)],
        cwd=files.REPOSITORY,
        env=dict(os.environ) | {"HWR_TRAIN": "allow", "TQDM_DISABLE": "1", "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise notebooks.NotebookError(done.stderr.strip().rpartition("hwr: error: ")[2] or f"{path.name} was stopped.")


def _hash(folder: Path) -> str:
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".json"))
    return files.sha256("\n".join(f"{path.relative_to(folder)} {files.sha256(path)}" for path in paths).encode())


def _make(steps: list[Step], plan: Profile, out: Path) -> None:
    """Make the steps whose inputs have changed, or that are not there, as many at a time as there are cores."""
    stamps = {step.name: _stamp(step, out) for step in steps}
    todo: list[Step] = []
    for step in steps:
        stamp = stamps[step.name]
        current = step.there and stamp.exists() and stamp.read_text(encoding="utf-8") == step.inputs
        if not current or any(earlier.name in step.needs for earlier in todo):
            todo.append(step)
            stamp.unlink(missing_ok=True)
    if not todo:
        return
    _prune(plan, out)
    style = "{desc} {percentage:3.0f} %|{bar}| {elapsed}, about {remaining} left"
    with (
        tqdm(total=sum(step.seconds for step in todo), bar_format=style) as bar,
        _ticking(bar),
        ThreadPoolExecutor(_workers()) as pool,
    ):
        waiting, running = {step.name: step for step in todo}, dict[Future[object], Step]()
        failed: list[BaseException] = []
        while waiting or running:
            busy = {*waiting, *(step.name for step in running.values())}
            ready = [step for step in waiting.values() if not busy & set(step.needs)]
            # what most depends on first, and no more than there are workers, so that a failure leaves the rest alone
            for step in sorted(ready, key=lambda step: -_ahead(step, todo))[: _workers() - len(running)]:
                running[pool.submit(step.make)] = waiting.pop(step.name)
            bar.set_description(", ".join(step.name for step in running.values()))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                if error := future.exception():
                    failed.append(error)
                    waiting.clear()  # what runs already is brought to its end
                    continue
                files.write_text(stamps[step.name], step.inputs)
                bar.update(step.seconds)
    if failed:
        raise failed[0]


def _ahead(step: Step, todo: list[Step]) -> float:
    """Return the seconds of the longest chain of work that begins with a step."""
    return step.seconds + max((_ahead(other, todo) for other in todo if step.name in other.needs), default=0.0)


def _prune(plan: Profile, out: Path) -> None:
    """Remove from an edition the records and notebooks that are not asked for any more, and what older code trained."""
    from hwr_utils import runs

    asked, source = [job.config.to_dict() for job in plan.jobs], runs.source_hash()
    for folder, record in records.read_all(out / "results"):
        if record["config"] not in asked or record["environment"]["source_hash"] != source:
            shutil.rmtree(folder)
    for path in (out / "notebooks").glob("*.ipynb"):
        if path.stem not in {*plan.pages, *(job.notebook for job in plan.jobs)}:
            path.unlink()


@contextmanager
def _ticking(bar: tqdm) -> Iterator[None]:
    """Redraw a bar every second, so that the clock goes on while a step takes its time."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(1):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    if sys.stderr.isatty():
        thread.start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Hold the lock of an edition; the system gives it back when the process ends, however it ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("a")
    except OSError as error:
        raise InputError(f"cannot write into {out}: {error.strerror}. Make it writable, or free some space.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"another `hwr study` is at work in {out}. Wait for it, or stop it.") from error
        yield
