"""What the repository promises about itself: its size, what never enters it, and files that have to agree."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
MAX_TREE = 56 * 2**20  # most of it are the predictions of 200 runs, and the weights that took longest

# Folders of one machine, and the hosts that packages are fetched from: a checkout must work behind any mirror.
MACHINE_PATHS = re.compile(rb"(?<![\w.~-])/(?:root|home|Users|work|farm|tmp|mnt)/")
REGISTRIES = re.compile(rb"pypi\.org|pythonhosted\.org|registry\.(?:npmjs|yarnpkg)|download\.pytorch|anaconda\.org")
PICKLE = re.compile(rb"allow_pickle\s*=\s*[T]rue|weights_only\s*=\s*[F]alse|[p]ickle\.(?:load|Unpickler)")


@cache
def tracked() -> tuple[Path, ...]:
    """List the files that git tracks, and those it would: a new file is checked before it is committed."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files are tracked is unknown")
    paths = (ROOT / name for name in listed.decode().split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def occurrences(pattern: re.Pattern[bytes], suffixes: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield file:line: text wherever a tracked text file matches."""
    for path in tracked():
        if suffixes and path.suffix not in suffixes:
            continue
        content = path.read_bytes()
        if b"\0" in content[:8192]:
            continue
        for match in pattern.finditer(content):
            line = content.count(b"\n", 0, match.start()) + 1
            excerpt = content[max(0, match.start() - 20) : match.end() + 40].decode(errors="replace")
            yield f"{path.relative_to(ROOT)}:{line}: {excerpt!r}"


def pins() -> dict[str, list[Requirement]]:
    """Read requirements.txt: a package may have a pin for each range of Pythons or platforms."""
    found: dict[str, list[Requirement]] = {}
    text = re.sub(r" *\\\n( +--hash=sha256:[0-9a-f]{64})", "", (ROOT / "requirements.txt").read_text())
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_tree_is_small() -> None:
    sizes = {path: path.stat().st_size for path in tracked()}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:5]
    assert sum(sizes.values()) <= MAX_TREE, [(str(path.relative_to(ROOT)), sizes[path]) for path in largest]


@pytest.mark.parametrize("pattern", [MACHINE_PATHS, REGISTRIES], ids=["paths of a machine", "hosts of registries"])
def test_nothing_belongs_to_one_machine(pattern: re.Pattern[bytes]) -> None:
    assert not list(occurrences(pattern))


def test_nothing_is_unpickled() -> None:
    assert not list(occurrences(PICKLE, (".py", ".ipynb", ".md")))


def test_requirements_lie_in_the_ranges() -> None:
    """`make requirements` has been run since the ranges changed."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = list(content["dependencies"])
    for extra in content["optional-dependencies"].values():
        ranges += extra
    pinned = pins()
    for text in ranges:
        wanted = Requirement(text)
        found = pinned.get(canonicalize_name(wanted.name), [])
        assert found, f"{text}: not in requirements.txt; run `make requirements`"
        for pin in found:
            version = next(iter(pin.specifier)).version
            assert wanted.specifier.contains(Version(version), prereleases=True), f"{pin} is outside {text}"


def test_the_running_environment_is_the_pinned_one() -> None:
    """What the tests pass with is what a newcomer gets."""
    for name, alternatives in pins().items():
        for pin in alternatives:
            if pin.marker is None or pin.marker.evaluate():
                installed = metadata.version(name).partition("+")[0]  # a CPU build of torch says +cpu
                assert pin.specifier.contains(installed, prereleases=True), f"{name} {installed} is there, not {pin}"


def test_workflows_have_no_more_rights_than_they_need() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, path.name
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                used = step.get("uses")  # a tag can be moved, and a commit cannot
                assert used is None or re.search(r"@[0-9a-f]{40}$", used), f"{path.name}: {used} is not pinned"
