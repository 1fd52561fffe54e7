"""What the repository promises about itself: its size, what never enters it, and files that have to agree."""

import itertools
import re
import subprocess
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
MAX_TREE = 56 * 2**20  # most of it are the predictions of 200 runs, and the weights that took longest

# Folders of one machine, and the hosts that packages are fetched from: a checkout must work behind any mirror.
MACHINE_PATHS = r"(^|[^[:alnum:]_.~-])/(root|home|Users|work|farm|tmp|mnt)/"
REGISTRIES = r"pypi\.org|pythonhosted\.org|registry\.(npmjs|yarnpkg)|download\.pytorch|anaconda\.org"
PICKLE = r"allow_pickle *= *[T]rue|weights_only *= *[F]alse|[p]ickle\.(load|Unpickler)"


def git(*words: str) -> list[str]:
    """Return the lines that git prints, of the files that it tracks and those it would: it is asked before a commit."""
    done = subprocess.run(["git", "-c", "core.quotePath=off", *words], cwd=ROOT, capture_output=True, text=True)
    if done.returncode > 1:
        pytest.skip(f"not a git checkout: which files are tracked is unknown. {done.stderr}")
    return done.stdout.splitlines()


@cache
def pins() -> list[Requirement]:
    """Read requirements.txt: a package may have a pin for each range of Pythons or platforms."""
    text = re.sub(r" *\\\n( +--hash=sha256:[0-9a-f]{64})", "", (ROOT / "requirements.txt").read_text())
    return [Requirement(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_tree_is_small() -> None:
    paths = [ROOT / name for name in git("ls-files", "--cached", "--others", "--exclude-standard")]
    sizes = sorted(((path.stat().st_size, str(path)) for path in paths if path.is_file()), reverse=True)
    assert sum(size for size, _ in sizes) <= MAX_TREE, sizes[:5]


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, REGISTRIES], ids=["paths of a machine", "hosts of registries"])
def test_nothing_belongs_to_one_machine(pattern: str) -> None:
    assert not git("grep", "--untracked", "-nIE", pattern)


def test_nothing_is_unpickled() -> None:
    assert not git("grep", "--untracked", "-nIE", PICKLE, "--", "*.py", "*.ipynb", "*.md")


def test_requirements_lie_in_the_ranges() -> None:
    """`make requirements` has been run since the ranges changed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in itertools.chain(project["dependencies"], *project["optional-dependencies"].values()):
        wanted = Requirement(text)
        name = canonicalize_name(wanted.name)
        versions = [next(iter(pin.specifier)).version for pin in pins() if canonicalize_name(pin.name) == name]
        assert versions, f"{text}: not in requirements.txt; run `make requirements`"
        assert all(wanted.specifier.contains(one, prereleases=True) for one in versions), f"{versions}, not {text}"


def test_the_running_environment_is_the_pinned_one() -> None:
    """What the tests pass with is what a newcomer gets."""
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate():
            installed = metadata.version(pin.name).partition("+")[0]  # a CPU build of torch says +cpu
            assert pin.specifier.contains(installed, prereleases=True), f"{pin.name} {installed} is there, not {pin}"


def test_workflows_have_no_more_rights_than_they_need() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path.name
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                used = step.get("uses")  # a tag can be moved, and a commit cannot
                assert used is None or re.search(r"@[0-9a-f]{40}$", used), f"{path.name}: {used} is not pinned"
