"""What the repository promises about itself: its size, what never enters it, and files that have to agree."""

import json
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

import hwr_utils

ROOT = Path(__file__).resolve().parents[1]
MAX_TREE = 30 * 2**20

# Folders of one machine, and the hosts that packages are fetched from: a checkout must work behind any mirror.
MACHINE_PATHS = re.compile(rb"(?<![\w.~-])/(?:root|home|Users|work|farm)/")
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


def project() -> dict[str, object]:
    """Read [project] of pyproject.toml."""
    content: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return content


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


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('open("{}/data")', True),
        ("file://{}/study", True),
        ("https://example.org{}/page", False),
        ("results{}/file", False),
    ],
)
def test_machine_paths_are_recognised(text: str, wrong: bool) -> None:
    assert bool(MACHINE_PATHS.search(text.format("/root").encode())) is wrong


def test_nothing_is_unpickled() -> None:
    assert not list(occurrences(PICKLE, (".py", ".ipynb", ".md")))


def test_notebooks_hold_no_errors() -> None:
    for path in tracked():
        if path.suffix == ".ipynb":
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
                errors = [output for output in cell.get("outputs", []) if output["output_type"] == "error"]
                assert not errors, f"{path.relative_to(ROOT)}: {errors[0]['ename']}: {errors[0]['evalue']}"


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == hwr_utils.__version__ == project()["version"]
    newest = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and newest[1] == hwr_utils.__version__


def test_citation_is_complete() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    reproduced = [reference["authors"][0]["family-names"] for reference in citation["references"]]
    assert reproduced == ["Song", "Kim"]
    assert all({"type", "title", "authors"} <= reference.keys() for reference in citation["references"])


def test_codemeta_agrees_with_the_citation() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    codemeta = json.loads((ROOT / "codemeta.json").read_text(encoding="utf-8"))
    assert codemeta["identifier"] == project()["name"]
    assert [codemeta[key] for key in ("name", "version", "keywords")] == [
        citation[key] for key in ("title", "version", "keywords")
    ]
    assert codemeta["description"] == citation["abstract"]
    assert [author["name"] for author in codemeta["author"]] == [author["name"] for author in citation["authors"]]
    assert [Path(address).name for address in codemeta["license"]] == citation["license"]
    reproduced = [work["name"] for work in codemeta["referencePublication"]]
    assert reproduced == [reference["title"] for reference in citation["references"]]


def test_licences() -> None:
    assert (ROOT / "LICENSE").read_text().startswith("MIT License") and project()["license"] == "MIT"
    text = (ROOT / "LICENSE-text").read_text(encoding="utf-8")
    assert "CC-BY-4.0" in text and "creativecommons.org/licenses/by/4.0/legalcode" in text
    # whoever's images the pages show is named with his terms
    for name in ("MNIST", "KMNIST", "EMNIST"):
        assert re.search(rf"^- {name}\b", text, re.MULTILINE)
    assert "Arphic Public License" in text  # of the strokes that hanzi are drawn from
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == ["MIT", "CC-BY-4.0"]


def test_requirements_pin_everything() -> None:
    assert pins(), "requirements.txt is empty"
    for alternatives in pins().values():
        for pin in alternatives:
            assert re.fullmatch(r"==[0-9][\w.+!]*", str(pin.specifier)), f"{pin} is not one version"
            assert pin.url is None


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


def test_ci_runs_the_documented_commands() -> None:
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111, ".ci/run is not executable"
    assert re.search(r"^exec make test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}, f"{path.name}: more rights than it needs"
        for job in workflow["jobs"].values():
            for step in job["steps"]:
                used = step.get("uses")  # a tag can be moved, and a commit cannot
                assert used is None or re.search(r"@[0-9a-f]{40}$", used), f"{path.name}: {used} is not pinned"
