"""The book: built from the committed tree, linked, legible on a phone and in the dark, and true to the records."""

import base64
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlparse

import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from fontTools.ttLib import TTFont
from playwright.sync_api import Page
from torch.distributed.run import get_args_parser

import build
from browsing import Site, grave_faults
from hwr_utils import cli, evaluation, files, notebooks, recipes, records, results
from hwr_utils.errors import InputError
from hwr_utils.results import Run

ROOT = Path(__file__).resolve().parents[1]
RESULTS, NOTEBOOKS = ROOT / "results", ROOT / "notebooks"


@pytest.fixture(scope="module")
def pages(book: Path) -> dict[str, str]:
    """Return the HTML of every page of the book by its path."""
    # the theme leaves templates of its own among its static files
    paths = [path for path in sorted(book.rglob("*.html")) if "webpack-macros" not in path.name]
    return {path.relative_to(book).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def parse(page: str) -> BeautifulSoup:
    return BeautifulSoup(page, "html.parser")


class Marks(HTMLParser):
    """What a page points to, what others can point to, and the images of its article that nothing describes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids, self.targets, self.bare, self.in_article = set[str](), set[str](), list[str](), False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.add(given.get("id", ""))
        self.in_article |= tag == "article"
        if tag in ("a", "img", "link", "script"):
            self.targets.add(given.get("href") or given.get("src") or "")
        if tag == "img" and self.in_article and len(given.get("alt", "")) < 15:
            self.bare.append(given["src"])

    def handle_endtag(self, tag: str) -> None:
        self.in_article &= tag != "article"


@pytest.fixture(scope="module")
def site(book: Path) -> Iterator[Site]:
    """Serve the book."""
    served = Site(book)
    yield served
    served.stop()


def article(page: BeautifulSoup) -> Tag:
    found = page.select_one("article")
    assert found is not None
    return found


def table_rows(page: BeautifulSoup, column: str) -> list[dict[str, str]]:
    """Return the rows of the first table that has a column of this name, each as header -> text."""
    heads = (head for head in page.select("article th") if head.get_text(strip=True) == column)
    table = next(heads).find_parent("table")
    assert isinstance(table, Tag)
    header, *rows = [
        [cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in table.find_all("tr")
    ]
    return [dict(zip(header, row, strict=True)) for row in rows]


# ---- the pages ----


def test_every_page_is_there_and_every_link_and_image_leads_somewhere(book: Path, pages: dict[str, str]) -> None:
    sources = [*(ROOT / "book").glob("*.md"), *(ROOT / "book").glob("*.ipynb"), *NOTEBOOKS.glob("0*.ipynb")]
    expected = {f"{path.parent.name}/{path.stem}.html" for path in sources}
    assert expected | {f"runs/{name}.html" for name in results.pages(results.frame())} <= pages.keys()
    marks = {path: Marks(page) for path, page in pages.items()}
    broken = [f"{path}: {image}" for path, mark in marks.items() for image in mark.bare]
    for path, target in ((path, target) for path, mark in marks.items() for target in mark.targets):
        parsed = urlparse(target)
        if not target or parsed.scheme or parsed.netloc:
            continue
        place = unquote(urlparse(urljoin("/" + path, target)).path).lstrip("/") or "index.html"
        anchor = unquote(parsed.fragment)
        if not (book / place).is_file() or (anchor and place in marks and anchor not in marks[place].ids):
            broken.append(f"{path}: {target}")
    assert not broken


def test_korean_pages_lie_beside_the_english_ones(pages: dict[str, str]) -> None:
    """A reader can go to and fro, and no link was lost in translation."""
    for name in settings()["sphinx"]["config"]["korean_pages"]:
        both = [parse(pages[f"{name}{language}.html"]) for language in ("", ".ko")]
        assert [page.html and page.html["lang"] for page in both] == ["en", "ko"]
        stem = Path(name).name
        assert [page.select("a[hreflang]")[0]["href"] for page in both] == [f"{stem}.ko.html", f"{stem}.html"]
        english, korean = (len(article(page).select("a[href]")) for page in both)
        assert english == korean, name
        assert re.search("[가-힣]", article(both[1]).get_text())


def test_font_has_the_characters_of_the_book(book: Path, pages: dict[str, str]) -> None:
    has = set(TTFont(book / "_static" / "cjk.otf").getBestCmap())
    shown = {char for page in pages.values() for char in build.CJK.findall(page)}
    assert shown
    assert {ord(char) for char in shown} <= has


# ---- the numbers ----


def test_the_table_of_runs_is_that_of_the_records(pages: dict[str, str]) -> None:
    page = parse(pages["book/runs.html"])
    found = [run.record for run in results.load_all(RESULTS)]
    for row, record in zip(table_rows(page, "accuracy (%)"), found, strict=True):
        test = record["test"]
        low, high = evaluation.wilson_interval(test["correct"], test["n"])
        assert row["data"] == record["dataset"]["name"] and row["n"] == str(test["n"])
        assert row["accuracy (%)"] == f"{100 * test['accuracy']:.2f}"
        assert row["interval (%)"] == f"{100 * low:.2f} to {100 * high:.2f}"
    (saved,) = page.select("a[download='runs.csv']")
    content = base64.b64decode(str(saved["href"]).partition("base64,")[2]).decode()
    assert content == results.as_text(results.frame(), "csv")


def test_run_pages_show_their_records(book: Path, pages: dict[str, str]) -> None:
    table = results.frame()
    for shown_on, names in table.groupby(results.pages(table)).groups.items():
        page = pages[f"runs/{shown_on}.html"]
        record = records.read(RESULTS / str(shown_on) / "record.json")
        for shown in (record["weights"]["sha256"], str(round(record["test"]["loss"], 4)), record["created"]):
            assert shown in page
        assert record["environment"]["device_name"] in page
        for name, accuracy in table.accuracy[names].items():
            assert str(name) in page and str(round(accuracy, 4)) in page
        for file in ("record.json", "predictions.npz"):
            links = re.findall(rf'<a class="[^"]*\bdownload\b[^>]* href="([^"]*{file})"', page)
            found = [(book / "runs" / link).read_bytes() for link in links]
            assert sorted(found) == sorted((RESULTS / str(name) / file).read_bytes() for name in names)


def test_pictures_of_findings_are_those_that_a_chapter_has_drawn() -> None:
    drawn = (ROOT / "notebooks" / "08_deep_or_simple.ipynb").read_text(encoding="utf-8")
    for path in (ROOT / "book" / "_static").glob("finding-*.png"):
        assert base64.b64encode(path.read_bytes()).decode() in drawn, (
            f"copy the figure of the executed chapter to {path.name}"
        )


def test_protocol_states_the_recipes() -> None:
    """The protocol page types the values that it gives reasons for; they are the recipes'."""
    songs, _, kims = (ROOT / "book" / "protocol.md").read_text(encoding="utf-8").partition("## K. Kim's protocol")
    song, kim = (recipes.RECIPES["paper"][name] for name in ("simple_cnn", "inception_hccr"))
    for text, row, value in (
        (songs, "Batch size", song["batch_size"]),
        (songs, "Validation share", f"{song['validation_fraction']:.0%}".replace("%", " %")),
        (songs, "Input size of the simple network", song["image_size"]),
        (songs, "Epochs", song["epochs"]),
        (songs, "Early stopping", f"{song['patience']} epochs"),
        (songs, "Learning rate", f"{song['learning_rate']:.0e}".replace("e-0", "e-")),
        (kims, "Batch", f"{kim['batch_size']};"),
        (kims, "Epochs", f"{kim['epochs']},"),
        (kims, "Input", kim["image_size"]),
    ):
        (line,) = re.findall(rf"^\| *{row} *\|(.*)$", text, re.MULTILINE)
        assert re.search(rf"(?<!\d){value}(?!\d)", line), row


def test_commands_of_the_book_are_understood() -> None:
    """What pages tell to type is a target of the Makefile, or has a subcommand and options that exist."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")]
    blocks = [block for text in texts for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
    lines = [line for block in blocks for line in block.splitlines()]
    assert any(line.startswith("hwr ") for line in lines)
    for line in lines:
        program, *words = shlex.split(line)
        assert program in ("make", "hwr", "source", "torchrun", "snakemake", "python"), line
        if program == "make":
            assert words[0] in targets, line
        elif program == "hwr":
            cli._parser().parse_args(words)
        elif program == "torchrun":
            of_torchrun, ours = words[: words.index("hwr_utils") + 1], words[words.index("hwr_utils") + 1 :]
            assert get_args_parser().parse_args(of_torchrun).module
            cli._parser().parse_args(ours)
        elif program in ("snakemake", "python"):  # what they do is tested in test_readme and test_snakefile
            named = [word for word in words if "/" in word]
            assert all((ROOT / word).exists() for word in named), line


# ---- in a browser ----


def one_run_each(pages: dict[str, str]) -> list[str]:
    """Return the page of one run of each network."""
    networks = recipes.MODEL_OPTIONS
    runs = [next((path for path in pages if re.match(rf"runs/.*-{name}-", path)), None) for name in networks]
    return [path for path in runs if path]


def test_pages_fit_a_phone_and_need_nothing_from_elsewhere(
    pages: dict[str, str], site: Site, new_page: Callable[..., Page]
) -> None:
    page = new_page(viewport={"width": 390, "height": 800})
    wide, asked, errors = [], set(), []
    page.on("request", lambda request: asked.add(request.url))
    page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
    for path in [path for path in pages if path.startswith(("book/", "notebooks/"))] + one_run_each(pages):
        page.goto(site.address + path)
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            wide.append(path)
    assert not wide
    assert not errors
    assert {url for url in asked if not url.startswith((site.address, "data:"))} == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(pages: dict[str, str], site: Site, new_page: Callable[..., Page], scheme: str) -> None:
    """Our own style sheets colour tables, captions and banners, which the theme cannot answer for."""
    for path in ["notebooks/02_simple_cnn.html", one_run_each(pages)[0]]:
        page = new_page(color_scheme=scheme)
        page.goto(site.address + path)
        page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
        assert grave_faults(page, ["color-contrast"]) == [], path


# ---- building ----


def settings() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return content


def test_the_address_is_one_setting() -> None:
    public = settings()
    public["repository"]["url"] = "https://github.com/Someone/a-study"
    given = build.configure(public, quick=False)
    assert given["html"]["baseurl"] == "https://someone.github.io/a-study/"
    assert given["sphinx"]["config"]["notfound_urls_prefix"] == "/a-study/"
    public["repository"]["url"] = "https://elsewhere.org/a/b"
    with pytest.raises(InputError, match=r"elsewhere\.org"):
        build.configure(public, quick=False)


def test_the_quick_edition_says_so() -> None:
    assert "synthetic" in build.configure(settings(), quick=True)["html"]["announcement"]
    assert "announcement" not in build.configure(settings(), quick=False)["html"]


def test_links_to_pages_that_an_edition_lacks_are_plain_text(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "book/there.md").touch()
    text = "[One](there.md), [whole](/book/there.md), [none](/there.md), "
    text += "[there too](there.md#part), [two](../notebooks/05_quantization.ipynb#part), [w](https://a.b/c.md)"
    expected = "[One](there.md), [whole](/book/there.md), none, [there too](there.md#part), two, [w](https://a.b/c.md)"
    assert build.without_dead_links(text, tmp_path / "book", tmp_path) == expected
    source = json.dumps({"source": ["A\n", "[two](05_quantization.ipynb)"]}, indent=1)
    assert json.loads(build.without_dead_links(source, tmp_path, tmp_path)) == {"source": ["A\n", "two"]}


# names as an enemy would choose them: a tag, a template, a formula that does not end, a table's bar, a link, a code
HOSTILE = [
    *("<img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "$\\frac{$", "|", "[a](javascript:b)", "`{doc}`x`", "*b*", "\\"),
]
HOSTILE_NAME = "<script>alert(1)</script> {{ config }} $\\frac{$ `x` | y"


def test_hostile_names_are_shown_and_not_obeyed_and_a_warning_fails_the_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Build a small book of a run whose classes and processor have hostile names, and of a page that points nowhere."""
    committed, source = next(RESULTS.glob("mnist-simple_cnn-*")), tmp_path / "source"
    folder = source / "runs" / committed.name
    shutil.copytree(committed, folder)
    record = records.read(folder / "record.json")
    record["dataset"]["classes"][: len(HOSTILE)] = HOSTILE
    record["environment"]["device_name"] = HOSTILE_NAME
    files.write_json(folder / "record.json", record)
    executed = notebooks.execute(
        "run", {"run_id": folder.name, "results_dir": str(folder.parent)}, tmp_path / "run.ipynb"
    )
    build.copy_notebook(executed, folder.with_suffix(".ipynb"), build.run_title(Run(folder, record)))

    (source / "book").mkdir()
    shutil.copytree(ROOT / "book" / "_static", source / "book" / "_static")
    for name in ("references.bib", "pages.py", "glossary.md", "bibliography.md"):
        shutil.copy2(ROOT / "book" / name, source / "book" / name)
    (source / "book" / "protocol.md").write_text("# Protocol\n\nIt points to {ref}`nowhere`.\n")
    (source / "_config.yml").write_text(yaml.safe_dump(build.configure(settings(), quick=False)))
    chapters = [{"file": name} for name in (f"runs/{folder.name}", "book/glossary", "book/bibliography")]
    toc = {"format": "jb-book", "root": "book/protocol", "chapters": chapters}
    (source / "_toc.yml").write_text(yaml.safe_dump(toc))
    capsys.readouterr()
    with pytest.raises(InputError, match="the book was not built"):
        build.render(source, tmp_path)
    (warning,) = capsys.readouterr().err.splitlines()
    assert re.search(r"protocol\.md:3: WARNING: .*nowhere", warning) and (tmp_path / "build.log").exists()

    html = tmp_path / "_build" / "html" / "runs" / f"{folder.name}.html"
    page = parse(html.read_text(encoding="utf-8"))
    for name in (*HOSTILE, HOSTILE_NAME):
        assert name in article(page).get_text()
    assert not page.select("[onerror], a[href^=javascript], article .math")
    assert not [script for script in page.find_all("script") if "alert" in script.get_text()]
