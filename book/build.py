"""Build the book: `python book/build.py` for the committed results, `--edition quick` for those of `make study`.

The sources are copied into a folder beside the book together with pages written from records, and Jupyter Book makes
HTML of them, every warning an error. Nothing is trained and nothing is executed. A build that fails leaves the older
book as it was, and one whose inputs have not changed ends at once.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml

from hwr_utils import files
from hwr_utils.errors import InputError

REPOSITORY = files.REPOSITORY
BANNERS = {
    "paper": "",
    "quick": "Quick edition: synthetic data drawn by the project, small sizes. These are not the study's results.",
}
STAMP = ".inputs"  # in the book's folder: hash of all that it was made from
SOURCES = (
    "_config.yml",
    "_toc.yml",
    "CHANGELOG.md",
    "package-lock.json",
    "config/*.yaml",
    "book/**/*",
    "hwr_utils/**/*.py",
    "hwr_utils/*.json",
)
TOOLS = (
    "jupyter-book",
    "sphinx",
    "myst-nb",
    "sphinx-book-theme",
    "pydata-sphinx-theme",
    "sphinxcontrib-bibtex",
    "matplotlib",
)
# what of a results folder ends on a page; checkpoints and weights do not
EVIDENCE = (
    "*/record.json",
    "*/predictions.npz",
    "*/errors.npz",
    "*/quantization.json",
    "*/evaluation.*.json",
    "*/model.json",
    "*/model.dynamic_int8.tflite",
    "benchmarks/*.json",
)


def inputs(results: Path, notebooks: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name, path) of every file that the book is made from."""
    trees = [(REPOSITORY, SOURCES), (notebooks, ("*.ipynb",)), (results, EVIDENCE)]
    for root, patterns in trees:
        for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(root).as_posix(), path


def digest(results: Path, notebooks: Path, edition: str) -> str:
    """Hash the book's inputs and the versions of the tools that make it."""
    content = [edition, sys.version, *(f"{tool} {metadata.version(tool)}" for tool in TOOLS)]
    content += [f"{name} {files.sha256(path)}" for name, path in inputs(results, notebooks)]
    return files.sha256("\n".join(content).encode())


def public_address(url: str) -> str:
    """Return where GitHub Pages shows the book of a repository.

    Raises:
        InputError: not https://github.com/OWNER/NAME.
    """
    parsed = urlparse(url)
    parts = parsed.path.strip("/").split("/")
    if parsed.scheme != "https" or parsed.netloc != "github.com" or len(parts) != 2:
        raise InputError(f"_config.yml: repository.url is {url!r}, expected https://github.com/OWNER/NAME, or nothing.")
    return f"https://{parts[0].lower()}.github.io/{parts[1]}/"


def configure(settings: dict[str, Any], edition: str) -> dict[str, Any]:
    """Return Jupyter Book's settings for one edition, without what needs a public address where there is none."""
    html, sphinx = settings["html"], settings["sphinx"]
    if BANNERS[edition]:
        html["announcement"] = BANNERS[edition]
    url = settings["repository"]["url"] or ""
    prefix = "/"
    if url:
        address = public_address(url)
        html["baseurl"] = sphinx["config"]["ogp_site_url"] = address
        prefix = urlparse(address).path
    else:
        del settings["repository"], settings["launch_buttons"]
        for button in ("use_repository_button", "use_edit_page_button", "use_issues_button"):
            del html[button]
        for extension in ("sphinx_sitemap", "sphinxext.opengraph"):
            sphinx["extra_extensions"].remove(extension)
        for name in ("sitemap_url_scheme", "ogp_social_cards"):
            del sphinx["config"][name]
    # a server shows this page under any address, so its links hold the whole path
    sphinx["config"]["notfound_urls_prefix"] = prefix
    search, first = (f'<a href="{prefix}{page}.html">' for page in ("search", "book/introduction"))
    sphinx["config"]["notfound_context"] = {
        "title": "Page not found",
        "body": "<h1>Page not found</h1><p>There is no such page in this book. It may have been renamed: "
        f"try the {search}search</a>, or begin at the {first}first page</a>.</p>",
    }
    return settings


def without_empty_globs(toc: dict[str, Any], source: Path) -> dict[str, Any]:
    """Return the table of contents without globs that match nothing, which Sphinx would warn of."""

    def keep(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept = [entry for entry in entries if "glob" not in entry or any(source.glob(entry["glob"] + ".*"))]
        for entry in kept:
            if "sections" in entry:
                entry["sections"] = keep(entry["sections"])
                if not entry["sections"]:
                    del entry["sections"]
        return kept

    return toc | {"parts": [part | {"chapters": keep(part["chapters"])} for part in toc["parts"]]}


def stage(results: Path, notebooks: Path, edition: str, source: Path, cache: Path) -> None:
    """Write the whole source tree of the book.

    Raises:
        InputError: a record, a notebook or a setting is damaged.
    """
    # torch and matplotlib take seconds to import, and an unchanged book needs neither
    import figures
    import generated
    import playground

    from hwr_utils import comparison, quantization, records, study

    shutil.rmtree(source, ignore_errors=True)
    found = comparison.load_all(results)

    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "book", source / "book", ignore=ignored)
    shutil.copytree(REPOSITORY / "hwr_utils", source / "hwr_utils", ignore=ignored)  # for literalinclude
    shutil.copy2(REPOSITORY / "CHANGELOG.md", source / "CHANGELOG.md")
    contents: dict[str, dict[str, Any]] = {}
    for path in sorted(notebooks.glob("*.ipynb")):
        contents[path.stem] = records.read_json(path)
        # a notebook that another program wrote may not say so, and `!` and `%` are no Python
        contents[path.stem]["metadata"].setdefault("language_info", {})["pygments_lexer"] = "ipython3"
        files.write_json(source / "notebooks" / path.name, contents[path.stem])

    for run in found:
        folder = source / "runs" / run.folder.name
        folder.mkdir(parents=True)
        pictures = {name: f"{run.folder.name}/{file}" for name, file in figures.run(run, folder, cache).items()}
        quantized = quantization.read(run.folder)
        for name in ("record.json", "predictions.npz", *(["quantization.json"] if quantized else [])):
            shutil.copy2(run.folder / name, folder / name)
        files.write_text(source / "runs" / f"{run.folder.name}.md", generated.run_page(run, pictures, quantized))

    modules = generated.modules(REPOSITORY / "hwr_utils")
    for name in modules:
        files.write_text(source / "api" / f"{name}.md", generated.module_page(name))

    measured = {}
    for path in sorted((results / "benchmarks").glob("training-*.json")):
        measured[f"{path.stem}.png"] = records.read_json(path)
        figures.benchmark(measured[f"{path.stem}.png"], source / "book" / f"{path.stem}.png")

    offered = playground.models()
    parts = {
        "results": generated.results_at_a_glance(
            found, [job.config for job in study.grid(edition)], f"hwr study --profile {edition}"
        ),
        "runs": generated.run_table(found),
        "run_times": generated.run_statistics(found),
        "notebook_times": generated.notebook_statistics(contents),
        "modules": generated.module_table(modules),
        "benchmarks": generated.benchmarks(measured),
        "attempts": generated.attempts(
            [records.read_json(path) for path in sorted((results / "benchmarks").glob("attempts-*.json"))]
        ),
        "time_to_accuracy": generated.time_to_accuracy(found),
    }
    for name, text in parts.items():
        files.write_text(source / "_generated" / f"{name}.md", text)
    shown = [path for pattern in ("*.md", "*.ipynb", "*.bib", "*.py") for path in source.rglob(pattern)]
    texts = [path.read_text(encoding="utf-8") for path in shown]
    texts += [
        "".join(model.description["classes"]) + model.entry["knows"] for model in offered
    ]  # any of them may be a candidate
    figures.font(texts, source / "book" / "_static" / "cjk.otf", cache)

    settings = configure(yaml.safe_load((REPOSITORY / "_config.yml").read_text(encoding="utf-8")), edition)
    files.write_text(source / "_config.yml", yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))
    toc = without_empty_globs(yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8")), source)
    files.write_text(source / "_toc.yml", yaml.safe_dump(toc, sort_keys=False))


def render(source: Path, work: Path) -> Path:
    """Run Jupyter Book over a staged tree; return the folder of its HTML.

    Raises:
        InputError: Jupyter Book failed or warned; gives its warnings and the place of its log.
    """
    shutil.rmtree(work / "_build", ignore_errors=True)
    # -W and --keep-going: every warning is an error, and all of them are told; -n: so is every dangling reference
    options = ["build", str(source), "--path-output", str(work), "-W", "-n", "--keep-going"]
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", *options]
    # autodoc imports the package of this very checkout, wherever another one is installed
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "HWR_TRAIN": "never"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # colours, which Jupyter Book gives to files too
    log = work / "build.log"
    files.write_text(log, output)
    if done.returncode:
        told = [line for line in output.splitlines() if "WARNING" in line or "ERROR" in line]
        lines = "\n".join(told or output.splitlines()[-20:])
        raise InputError(f"the book was not built, and an older one is left as it was. The log is {log}.\n{lines}")
    return work / "_build" / "html"


def build(results: Path, notebooks: Path, out: Path, edition: str) -> bool:
    """Build the book into `out`, unless it is there and up to date.

    Args:
        results: folder of run records.
        notebooks: folder of executed notebooks.
        out: the HTML's folder, replaced as a whole; a folder beside it, named after it, holds what is half done.
        edition: a key of `BANNERS`; its grid is `config/<edition>.yaml`.

    Returns:
        Whether anything was built.

    Raises:
        InputError: an input is damaged or missing, or a page warns.
    """
    for path in (REPOSITORY / "CHANGELOG.md", notebooks):
        if not path.exists():
            raise InputError(f"{path} is missing: the book shows it. Restore it from version control.")
    stamp = digest(results, notebooks, edition)
    if (out / STAMP).exists() and (out / STAMP).read_text() == stamp:
        return False
    work = out.with_name(f"{out.name}-build")
    stage(results, notebooks, edition, work / "source", work / "figures")
    html = render(work / "source", work)
    import playground

    playground.install(html, playground.models())
    (html / STAMP).write_text(stamp)
    (html / ".nojekyll").touch()  # or GitHub Pages would leave out _static
    old = work / "old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    html.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Build one edition; return 0, or 2 after an error, which is told in one message."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None, allow_abbrev=False)
    parser.add_argument("--results", type=Path, default=REPOSITORY / "results")
    parser.add_argument("--notebooks", type=Path, default=REPOSITORY / "notebooks")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "_build" / "html")
    parser.add_argument("--edition", choices=list(BANNERS), default="paper")
    arguments = parser.parse_args(argv)
    out = arguments.out.resolve()
    try:
        built = build(arguments.results, arguments.notebooks, out, arguments.edition)
    except InputError as error:
        print(f"book/build.py: error: {error}", file=sys.stderr)
        return 2
    print(f"{'Built' if built else 'Up to date:'} {out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
