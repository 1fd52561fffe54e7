"""The set-up: pip's settings reach uv, nothing is done twice, a browser is found."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from helpers import load_tool

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the set-up program, working on a copy of the two files that it reads."""
    module = load_tool("environment")
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "REQUIREMENTS", tmp_path / "requirements.txt")
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / "installed.txt")
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
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


def test_no_suitable_python_is_told() -> None:
    command = ["make", "PYTHON=no-such-python", "setup"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "found no Python from 3.11 to 3.13 as no-such-python" in done.stderr


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
