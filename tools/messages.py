"""Collect what the Korean pages have to say, for the catalogues in locale/ko. `make messages` calls this.

A new sentence comes in without a translation. A changed sentence keeps its old translation, which is marked as fuzzy. A
test fails until neither kind is left.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def collect(work: Path) -> Path:
    """Write a template (.pot) for each page that _config.yml lists as a Korean one; return their folder."""
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    settings["html"], settings["sphinx"]["extra_extensions"] = {}, ["sphinxcontrib.bibtex"]
    del settings["sphinx"]["local_extensions"], settings["repository"]
    pages = settings["sphinx"]["config"].pop("korean_pages")
    settings["sphinx"]["config"]["gettext_location"] = False  # lines move, and sentences stay
    source = work / "source"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns("*.ipynb", "*.md", "__pycache__"))
    (source / "notebooks").mkdir()
    for page in pages:
        path = next(path for path in ROOT.glob(f"{page}.*") if path.suffix in (".md", ".ipynb"))
        shutil.copy2(path, source / path.relative_to(ROOT))
    (source / "_config.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    toc = {"format": "jb-book", "root": pages[0], "chapters": [{"file": page} for page in pages[1:]]}
    (source / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    command += ["--path-output", str(work), "--builder", "custom", "--custom-builder", "gettext"]
    subprocess.run(command, check=True, capture_output=True)
    return work / "_build" / "gettext"


if __name__ == "__main__":
    from sphinx_intl import basic

    basic.update(str(ROOT / "locale"), str(collect(ROOT / "_build" / "messages")), ["ko"])
