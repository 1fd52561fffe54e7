"""Render the book: put its pages together in a folder of their own, and have Jupyter Book make HTML of them.

The Snakefile calls this once the notebooks have been executed. Nothing is trained and nothing is executed here. Every
warning is an error, and a build that fails leaves the older book as it was.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml

import playground
from hwr_utils import files, plots, records, results
from hwr_utils.errors import InputError

REPOSITORY = files.REPOSITORY
BANNER = "Quick edition: synthetic data drawn by the project, small sizes. Its own runs are not the study's results."
QUICK_FIRST_PAGE = """
:::{important}
This is the quick edition. What this page says was found, and its figure, are the **published study's**: they come from
the records that the repository holds, and `make book` shows their evidence. Every number in this edition's **chapters,
tables and pages of runs** is of small runs on synthetic data, made on this machine by `make study`, except where a
chapter says that it reads the study's own records. Chapters 5 to 9 are not in this edition, so where a page
names one of them there is no link.
:::
"""
SHOWN = ("*.md", "*.ipynb", "*.bib", "*.py", "*.po", "*.html", "*.js")  # the files whose characters pages show
# hangul jamo, radicals to hanzi, hangul, compatibility ideographs, full-width forms: the ranges of book.css
CJK = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]")


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


def configure(settings: dict[str, Any], quick: bool) -> dict[str, Any]:
    """Return Jupyter Book's settings for one edition, without what needs a public address where there is none."""
    html, sphinx = settings["html"], settings["sphinx"]
    if quick:
        html["announcement"] = BANNER
        sphinx["config"]["korean_pages"] = []
        sphinx["config"]["suppress_warnings"] = ["myst.xref_missing"]  # to chapters that this edition leaves out
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


def copy_notebook(path: Path, target: Path, title: str | None = None) -> None:
    """Copy an executed notebook; the page of a run gets its own `title` in place of the notebook's."""
    content = records.read_json(path)
    # other programs may not name a lexer; this one takes `!` and `%` too, which are not Python
    content["metadata"].setdefault("language_info", {})["pygments_lexer"] = "ipython3"
    cells = {tag: cell for cell in content["cells"] for tag in cell["metadata"].get("tags", [])}
    if "injected-parameters" in cells:  # what hides the parameters hides those given in their place
        cells["injected-parameters"]["metadata"]["tags"] += cells["parameters"]["metadata"]["tags"]
    if title is not None:
        content["cells"] = [cell for cell in content["cells"] if cell is not cells.get("parameters")]
        first = content["cells"][0]
        first["source"] = re.sub(r"^# .*", lambda _: f"# {title}", "".join(first["source"]))
    files.write_json(target, content)


def run_title(run: results.Run) -> str:
    """Return the title of the page of a run and its repetitions, as Markdown; the page tells the whole config."""
    config = run.config
    options = textwrap.shorten(results.variant(config), 70, placeholder=" …", break_on_hyphens=False)
    words = [config.dataset, f"{config.architecture} {options}".strip()]
    # several runs of other recipes may agree in all of these
    words += [] if config.recipe == "paper" else [f"{config.recipe} ({run.folder.name[-8:]})"]
    return plots.plain(", ".join(words))


def stage(results_dir: Path, notebooks: Path, pages: Path, quick: bool, source: Path, cache: Path) -> None:
    """Write the whole source tree of the book.

    Args:
        results_dir: folder of run records.
        notebooks: folder of executed chapters.
        pages: folder of what was executed for the book alone: `runs.ipynb`, `status.ipynb`, and in `runs/*/` the
            pages of runs.
        quick: see `configure`.
        source: folder to write, emptied first.
        cache: folder of fonts that were cut before.

    Raises:
        InputError: a record, a notebook or a setting is damaged.
    """
    shutil.rmtree(source, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.ipynb")
    shutil.copytree(REPOSITORY / "book", source / "book", ignore=ignored)
    shutil.copytree(REPOSITORY / "hwr_utils", source / "hwr_utils", ignore=ignored)  # for literalinclude
    shutil.copytree(REPOSITORY / "locale", source / "locale")
    shutil.copy2(REPOSITORY / "CHANGELOG.md", source / "CHANGELOG.md")
    if quick:
        first = source / "book" / "introduction.md"
        files.write_text(first, first.read_text(encoding="utf-8").replace("\n", f"\n{QUICK_FIRST_PAGE}", 1))
    for path in sorted(notebooks.glob("0*.ipynb")):
        copy_notebook(path, source / "notebooks" / path.name)
    for path in sorted(pages.glob("*.ipynb")):
        copy_notebook(path, source / "book" / path.name)
    executed = {path.stem: path for path in pages.glob("runs/*/*.ipynb")}
    for run in results.load_all(results_dir):
        name = run.folder.name
        if name in executed:  # the others are told of on the page of their first repetition
            copy_notebook(executed[name], source / "runs" / f"{name}.ipynb", run_title(run))
        (source / "runs" / name).mkdir(parents=True)
        for file in ("record.json", "predictions.npz"):
            shutil.copy2(run.folder / file, source / "runs" / name / file)

    if quick:
        for path in (*source.glob("book/*.md"), *source.glob("*/*.ipynb")):
            files.write_text(path, without_dead_links(path.read_text(encoding="utf-8"), path.parent, source))

    offered = playground.models()
    shown = [path for pattern in SHOWN for path in source.rglob(pattern)]
    texts = [path.read_text(encoding="utf-8") for path in shown]
    # any class may be a candidate
    texts += ["".join(model.description["classes"]) + str(model.entry) for model in offered]
    texts += [path.read_text(encoding="utf-8") for path in theme_catalogues()]
    shutil.copy2(cut_font(texts, cache), source / "book" / "_static" / "cjk.otf")

    settings = configure(yaml.safe_load((REPOSITORY / "_config.yml").read_text(encoding="utf-8")), quick)
    files.write_text(source / "_config.yml", yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))
    toc = without_empty_globs(yaml.safe_load((REPOSITORY / "_toc.yml").read_text(encoding="utf-8")), source)
    files.write_text(source / "_toc.yml", yaml.safe_dump(toc, sort_keys=False))


def without_dead_links(text: str, folder: Path, source: Path) -> str:
    """Return a page of a folder, Markdown or a notebook, with plain text for links to pages that are not there.

    A link that begins with a slash is looked up in the whole `source` tree.
    """
    link = re.compile(r"\[([^][\n]*)\]\(([^()#:\s]+\.(?:md|ipynb))(?:#[^()\s]*)?\)")

    def kept(match: re.Match[str]) -> str:
        place = source / match[2][1:] if match[2].startswith("/") else folder / match[2]
        return match[0] if place.is_file() else match[1]

    return link.sub(kept, text)


def to_korean(source: Path, inventory: Path) -> list[str]:
    """Turn a staged source tree into that of the Korean pages, and return their names.

    Args:
        source: see `stage`.
        inventory: `objects.inv` of the English book, in which links to what is left out here are looked up.
    """
    settings = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    sphinx = settings["sphinx"]
    title = "손글씨 인식 연구의 재현"
    settings["title"] = sphinx["config"]["html_theme_options"]["logo"]["text"] = title
    sphinx["extra_extensions"].append("sphinx.ext.intersphinx")
    sphinx["config"] |= {"language": "ko", "intersphinx_mapping": {"english": [".", str(inventory)]}}
    # the pages of runs and the API take most of the time; those that link to them are English in any case
    sphinx["config"]["suppress_warnings"] = ["myst.xref_missing"]
    files.write_text(source / "_config.yml", yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))
    shutil.rmtree(source / "runs")
    (source / "book" / "api.md").unlink()
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    for part, caption in zip(toc["parts"], ("질문", "연구", "증거", "사용하기", "찾아보기"), strict=True):
        part["caption"] = caption
        part["chapters"] = [entry for entry in part["chapters"] if entry.get("file") != "book/api"]
    files.write_text(source / "_toc.yml", yaml.safe_dump(without_empty_globs(toc, source), sort_keys=False))
    for path in (source / "book" / "playground").glob("*.ko.html"):
        path.replace(path.with_name(path.name.replace(".ko.", ".")))
    return list(sphinx["config"]["korean_pages"])


def theme_catalogues() -> list[Path]:
    """Return the catalogues of what Sphinx and the theme say in Korean."""
    import sphinx
    import sphinx_book_theme

    folders = [Path(str(module.__file__)).parent for module in (sphinx, sphinx_book_theme)]
    return [path for folder in folders for path in folder.rglob("locale*/ko/LC_MESSAGES/*.po")]


def cut_font(texts: Iterable[str], cache: Path) -> Path:
    """Return a font with the CJK characters of some texts, so that a machine without one shows them as well.

    Cutting takes ten seconds, so what was cut for the same characters is taken from the cache.

    The face is Noto Sans CJK, under the SIL Open Font License, which travels in the file.
    """
    import mplfonts
    from fontTools import subset

    found = "".join(sorted({char for text in texts for char in CJK.findall(text)}))
    path = cache / f"{files.sha256(found.encode())}.otf"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    options = subset.Options(layout_features=[], name_IDs=["*"], notdef_outline=True)
    noto = Path(mplfonts.__file__).parent / "fonts" / "NotoSansCJKsc-Regular.otf"
    with subset.load_font(str(noto), options, dontLoadGlyphNames=True) as whole:
        cutter = subset.Subsetter(options)
        cutter.populate(text=found or " ")
        cutter.subset(whole)
        subset.save_font(whole, str(path), options)
    return path


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
        print(*(told or output.splitlines()[-20:]), sep="\n", file=sys.stderr)
        raise InputError(f"the book was not built, and an older one is left as it was; see above and {log} for why.")
    return work / "_build" / "html"


def build(results_dir: Path, notebooks: Path, pages: Path, out: Path, quick: bool) -> None:
    """Build the book into `out`, which is replaced as a whole; arguments and errors as `stage` and `render`."""
    work = out.with_name(f"{out.name}-build")
    stage(results_dir, notebooks, pages, quick, work / "source", work / "fonts")
    html = render(work / "source", work)
    if not quick:  # the quick edition has other chapters
        translated = to_korean(work / "source", html / "objects.inv")
        korean = render(work / "source", work / "korean")
        for page in translated:
            shutil.copy2(korean / f"{page}.ko.html", html / f"{page}.ko.html")
    playground.install(html, playground.models())
    (html / ".nojekyll").touch()  # or GitHub Pages would leave out _static
    old = work / "old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    html.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Build one edition; return 0, or 2 after an error, which is told in one message."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None, allow_abbrev=False)
    for name in ("results", "notebooks", "pages", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="put the quick edition's banner on every page")
    given = parser.parse_args(argv)
    out = given.out.resolve()
    try:
        build(given.results, given.notebooks, given.pages, out, given.quick)
    except InputError as error:
        print(f"book/build.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
