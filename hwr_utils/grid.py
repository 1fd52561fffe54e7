"""Read a profile of `config/`: the data it draws, the runs it asks for, and the chapters that show them.

The Snakefile does what a profile says. This module checks all of it before anything runs, and tells which runs have no
record yet.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from hwr_utils import data, files, notebooks, recipes, records, results, synthesis
from hwr_utils.data import catalog
from hwr_utils.errors import InputError, MissingFiles, reading
from hwr_utils.recipes import RunConfig

CONFIG = files.REPOSITORY / "config"
OUT = files.REPOSITORY / "_build" / "study"


@dataclass(frozen=True)
class Job:
    """A run that a profile asks for: its config, and the device that trains it."""

    config: RunConfig
    device: str = "auto"

    @property
    def name(self) -> str:
        """A name that is unique within a profile. It is not the run's id, which also needs the data's checksums."""
        return records.run_id(self.config, {})

    @property
    def command(self) -> str:
        """The shell command that makes the run's record."""
        return results.command(self.config) + (f" --device {self.device}" if self.device != "auto" else "")


@dataclass(frozen=True)
class Profile:
    """What a file of `config/` asks for."""

    data: dict[str, dict[str, Any]]  # dataset to draw -> its seed and sizes
    jobs: list[Job]
    pages: list[str]  # chapters to execute, by name
    results: Path  # the folder of the records; a profile that draws its data has one of its own
    data_root: Path  # the folder of the datasets


class _Loader(yaml.BaseLoader):
    """Reads all values as text, and refuses a key that is given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Read a mapping; an InputError where a key is there twice."""
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise InputError(f"line {node.start_mark.line + 1}: a key is there twice. Keep one of the two.")
        return found


def read(profile: str) -> Profile:
    """Read `config/<profile>.yaml` and check all of it, before anything runs.

    Raises an InputError for an unknown profile, key, architecture, dataset, chapter or parameter (the nearest valid one
    is given), and for a value of a wrong type or out of range.
    """
    known = {path.stem: path for path in sorted(CONFIG.glob("*.yaml"))}
    recipes.known("profile ", profile, known)
    path = known[profile]
    with reading(path, "a profile as quick.yaml explains it", "Mend it."):
        try:
            # the values are read as those of the command line: YAML would take 1e-4 for a text, and 010 for 8
            content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
            records.conform(content, "profile")
            for key in content:
                recipes.known("key ", key, ("data", "train", "pages"))
            drawn = {}
            for name, sizes in content.get("data", {}).items():
                values = {size: notebooks.parse(text) for size, text in sizes.items()}
                drawn[name] = synthesis.checked(name, **values)
            jobs = [job for block in content.get("train", []) for job in _jobs(block)]
            for job in jobs:
                if drawn:
                    recipes.known("data is not drawn: dataset ", job.config.dataset, drawn)
            pages = [notebooks.find(name).stem for name in content.get("pages", [])]
        except InputError as error:
            raise InputError(f"{path}: {str(error).rstrip('.')}. See quick.yaml, which explains profiles.") from error
    places = (OUT / "results", OUT / "data") if drawn else (results.RESULTS_DIR, data.default_root())
    return Profile(drawn, jobs, pages, *places)


def _jobs(block: dict[str, str | list[str]]) -> Iterator[Job]:
    """Yield every combination of the values of one block."""
    block.pop("experiment", None)  # names the section of book/plan.md that says how the runs are judged
    for values in product(*(value if isinstance(value, list) else [value] for value in block.values())):
        types = [recipes.PARAMETERS.get(name, {}).get("type") for name in block]
        named = dict(zip(block, map(notebooks.parse, values, types), strict=True))
        catalog.entry(named["dataset"])
        device = named.pop("device", "auto")
        yield Job(recipes.configure(**named), device)


def missing(profile: str, results_dir: results.Folder = None) -> list[Job]:
    """Return the runs of a profile without a record in `results_dir`, or where its records go; see `read`."""
    plan = read(profile)
    recorded = [run.record["config"] for run in results.load_all(results_dir or plan.results)]
    return [job for job in plan.jobs if job.config.to_dict() not in recorded]


def runnable(jobs: list[Job], gpu: bool) -> tuple[list[Job], list[str]]:
    """Return the runs that can be made, with a GPU or without, and why the others wait, a sentence for each reason.

    Raises an InputError where the files of a dataset are there, and damaged.
    """
    able = [job for job in jobs if gpu or not job.device.startswith("cuda")]
    reasons = [f"{len(jobs) - len(able)} runs wait for a CUDA GPU."] if len(able) < len(jobs) else []
    for dataset in sorted({job.config.dataset for job in able}):
        try:
            data.checksums(dataset, data.default_root())
        except MissingFiles as error:
            waiting = [job for job in able if job.config.dataset == dataset]
            reasons.append(f"{len(waiting)} runs wait for their data. {error}")
            able = [job for job in able if job not in waiting]
    return able, reasons
