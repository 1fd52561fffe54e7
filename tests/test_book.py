"""The book: built from the committed tree, linked, legible on a phone and in the dark, and true to the records."""

import functools
import http.server
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlparse

import pytest
import yaml
from bs4 import BeautifulSoup, Tag
from fontTools.ttLib import TTFont
from playwright.sync_api import Browser, Page
from torch.distributed.run import get_args_parser

from hwr_utils import cli, data, evaluation, files, grid, literature, notebooks, recipes, records, results
from hwr_utils.data import catalog
from hwr_utils.errors import InputError
from hwr_utils.results import Run

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))

import build  # noqa: E402

RESULTS, NOTEBOOKS = ROOT / "results", ROOT / "notebooks"
TEMPLATES = {"webpack-macros.html", "sbt-webpack-macros.html"}  # the theme leaves them among its static files


@pytest.fixture(scope="module")
def book() -> Path:
    """Return the HTML of the committed tree, built by the Snakefile where it is not up to date."""
    command = [sys.executable, "-m", "snakemake", "book", "--config", "profile=paper"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ROOT / "_build" / "html"


@pytest.fixture(scope="module")
def pages(book: Path) -> dict[str, BeautifulSoup]:
    """Return every page of the book, parsed, by its path."""
    paths = [path for path in sorted(book.rglob("*.html")) if path.name not in TEMPLATES]
    return {
        path.relative_to(book).as_posix(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in paths
    }


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(book: Path) -> Iterator[str]:
    """Serve the book; return its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(book)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page of the book in a window of its own."""
    contexts = []

    def open_one(path: str, width: int = 1280, scheme: Any = "light") -> Page:
        contexts.append(
            # without motion, or a colour could be read on its way to another
            browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce")
        )
        page = contexts[-1].new_page()
        page.goto(address + path)
        return page

    yield open_one
    for context in contexts:
        context.close()


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


def test_every_source_page_is_in_the_contents(pages: dict[str, BeautifulSoup]) -> None:
    for path in [*(ROOT / "book").glob("*.md"), *(ROOT / "book").glob("*.ipynb")]:
        assert f"book/{path.stem}.html" in pages
    for path in NOTEBOOKS.glob("0*.ipynb"):
        assert f"notebooks/{path.stem}.html" in pages
    for path in RESULTS.glob("*/record.json"):
        assert f"runs/{path.parent.name}.html" in pages
    sidebar = {a["href"] for a in pages["book/introduction.html"].select(".bd-sidebar-primary nav a[href]")}
    assert {"protocol.html", "../notebooks/02_simple_cnn.html", "glossary.html", "changelog.html"} <= sidebar


def test_every_link_and_image_leads_somewhere(book: Path, pages: dict[str, BeautifulSoup]) -> None:
    anchors = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in pages.items()}
    broken = []
    for path, page in pages.items():
        tags = page.find_all(["a", "img", "link", "script"])
        for target in {str(tag.get("href") or tag.get("src") or "") for tag in tags}:
            parsed = urlparse(target)
            if not target or parsed.scheme or parsed.netloc:
                continue
            place = unquote(urlparse(urljoin("/" + path, target)).path).lstrip("/") or "index.html"
            anchor = unquote(parsed.fragment)
            if not (book / place).is_file() or (anchor and place in anchors and anchor not in anchors[place]):
                broken.append(f"{path}: {target}")
    assert not broken


def test_every_image_says_what_it_shows(pages: dict[str, BeautifulSoup]) -> None:
    silent = []
    for path, page in pages.items():
        for image in page.select("article img"):
            text = str(image.get("alt") or "")
            if len(text) < 15 or re.search(r"\.(png|svg|jpe?g)$", text):
                silent.append(f"{path}: {image['src']} says {text!r}")
    assert not silent


def test_every_page_has_one_title(pages: dict[str, BeautifulSoup]) -> None:
    for path, page in pages.items():
        if path == "index.html" or path.startswith("_modules/"):
            continue
        assert len(page.select("#main-content h1:not(.onlyprint h1)")) == 1, path
        assert page.title and page.title.text.strip(), path


def test_pages_need_nothing_from_elsewhere(pages: dict[str, BeautifulSoup]) -> None:
    """The book works without a network: no script, style or picture of another server's."""
    for path, page in pages.items():
        for tag in page.select("script[src], link[rel=stylesheet], img"):
            source = str(tag.get("src") or tag.get("href"))
            assert not urlparse(source).netloc, f"{path} loads {source}"


def test_nothing_needs_an_address_that_is_not_set(book: Path, pages: dict[str, BeautifulSoup]) -> None:
    if yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]:
        pytest.skip("_config.yml has a repository address: this is about a book without one")
    assert not (book / "sitemap.xml").exists()
    for path, page in pages.items():
        assert not page.select(".dropdown-launch-buttons, .dropdown-source-buttons, meta[property^='og:']"), path


def test_notebooks_and_records_can_be_downloaded(book: Path, pages: dict[str, BeautifulSoup]) -> None:
    assert pages["notebooks/02_simple_cnn.html"].select("a[href$='02_simple_cnn.ipynb']")
    for path, page in pages.items():
        if path.startswith("runs/"):
            name = Path(path).stem
            for file in ("record.json", "predictions.npz"):
                link = page.select_one(f"a.download[href$='{file}']")
                assert link is not None, path
                downloaded = (book / "runs" / str(link["href"])).resolve()
                assert downloaded.read_bytes() == (RESULTS / name / file).read_bytes()


def test_page_not_found(pages: dict[str, BeautifulSoup]) -> None:
    page = pages["404.html"]
    assert "no such page" in article(page).get_text()
    # it is served in place of pages at any depth
    assert all(str(tag["href"]).startswith(("/", "http", "#")) for tag in page.select("a[href], link[rel=stylesheet]"))


def test_korean_pages_lie_beside_the_english_ones(pages: dict[str, BeautifulSoup]) -> None:
    """A reader can go to and fro, and no link was lost in translation."""
    for name in settings()["sphinx"]["config"]["korean_pages"]:
        both = [pages[f"{name}.html"], pages[f"{name}.ko.html"]]
        assert [page.html and page.html["lang"] for page in both] == ["en", "ko"]
        stem = Path(name).name
        assert [page.select("a[hreflang]")[0]["href"] for page in both] == [f"{stem}.ko.html", f"{stem}.html"]
        english, korean = (len(article(page).select("a[href]")) for page in both)
        assert english == korean, name
        assert re.search("[가-힣]", article(both[1]).get_text())


def test_cited_works_are_listed(pages: dict[str, BeautifulSoup]) -> None:
    keys = re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"))
    listed = article(pages["book/bibliography.html"]).get_text()
    assert len(keys) == listed.count("[") > 0
    assert {key for entry in catalog.CATALOG.values() for key in entry.citation} <= set(keys)
    assert {row.citation for row in literature.SONG_TABLE_2} <= set(keys)
    assert {one.citation for one in (literature.KIM, *literature.HANZI, *literature.COMPACT)} <= set(keys)


def test_font_has_the_characters_of_the_book(book: Path, pages: dict[str, BeautifulSoup]) -> None:
    has = set(TTFont(book / "_static" / "cjk.otf").getBestCmap())
    shown = {char for page in pages.values() for char in build.CJK.findall(page.get_text())}
    assert shown
    assert {ord(char) for char in shown} <= has


# ---- the numbers ----


def test_the_table_of_runs_is_that_of_the_records(pages: dict[str, BeautifulSoup]) -> None:
    rows = table_rows(pages["book/runs.html"], "accuracy (%)")
    found = [record for _, record in records.read_all(RESULTS)]
    for row, record in zip(rows, found, strict=True):
        test = record["test"]
        low, high = evaluation.wilson_interval(test["correct"], test["n"])
        assert row["data"] == record["dataset"]["name"] and row["n"] == str(test["n"])
        assert row["accuracy (%)"] == f"{100 * test['accuracy']:.2f}"
        assert row["interval (%)"] == f"{100 * low:.2f} to {100 * high:.2f}"


def test_the_table_of_runs_can_be_saved(open_page: Callable[..., Page]) -> None:
    page = open_page("book/runs.html")
    with page.expect_download() as download:
        page.get_by_role("link", name="runs.csv").click()
    assert download.value.suggested_filename == "runs.csv"
    assert Path(download.value.path()).read_text(encoding="utf-8") == results.as_text(results.frame(), "csv")


def test_run_pages_show_their_records(pages: dict[str, BeautifulSoup]) -> None:
    for folder, record in records.read_all(RESULTS):
        text = article(pages[f"runs/{folder.name}.html"]).get_text(" ", strip=True)
        for shown in (folder.name, record["weights"]["sha256"], f"{record['test']['loss']:.4f}", record["created"]):
            assert shown in text
        assert record["environment"]["device_name"] in text
        assert ("dynamic_int8.tflite" in text) == (folder / "quantization.json").exists()


def test_the_status_page_names_every_chapter_and_run(pages: dict[str, BeautifulSoup]) -> None:
    page = pages["book/status.html"]
    chapters = [row["chapter"] for row in table_rows(page, "chapter")]
    assert chapters == sorted(path.stem for path in NOTEBOOKS.glob("0*.ipynb"))
    assert {row["run"] for row in table_rows(page, "run")} == {folder.name for folder, _ in records.read_all(RESULTS)}


def test_pages_of_runs_number_nothing(pages: dict[str, BeautifulSoup]) -> None:
    """Or the book's figures would be counted on to a hundred."""
    for path, page in pages.items():
        assert not (path.startswith("runs/") and page.select(".caption-number")), path


def test_protocol_states_the_recipe() -> None:
    """The protocol page types the values that it gives reasons for; they are the recipe's."""
    page, _, kims = (ROOT / "book" / "protocol.md").read_text(encoding="utf-8").partition("## K. Kim's protocol")

    def cells(text: str, column: int) -> dict[str, str]:
        rows = [line.split("|") for line in text.splitlines()]
        return {row[1].strip(): row[column].strip() for row in rows if len(row) > 4}

    ours, recipe = cells(kims, 3), recipes.RECIPES["paper"]["inception_hccr"]
    assert ours["Batch"].startswith(f"{recipe['batch_size']};") and ours["Epochs"].startswith(f"{recipe['epochs']},")
    assert float(ours["Optimiser, learning rate"].split(" at ")[1].split(",")[0]) == recipe["learning_rate"]
    assert cells(kims, 2)["Input"].startswith(f"{recipe['image_size']} x {recipe['image_size']},")
    assert cells(kims, 2)["Training and test"].startswith("8:2, at random") and recipe["split"] == "random"
    assert data.TEST_SHARE == 0.2
    stated = cells(page, 2)
    recipe = recipes.RECIPES["paper"]["simple_cnn"]
    assert stated["Batch size"] == str(recipe["batch_size"])
    assert stated["Validation share"].startswith(f"{recipe['validation_fraction']:.0%}".replace("%", " %"))
    assert stated["Input size of the simple network"].startswith(f"{recipe['image_size']} x {recipe['image_size']}")
    assert stated["Epochs"] == f"at most {recipe['epochs']}"
    assert f"{recipe['patience']} epochs" in stated["Early stopping"]
    assert float(stated["Learning rate"].split()[0]) == recipe["learning_rate"]
    assert stated["Dropout"].startswith("none") and not recipes.MODEL_OPTIONS["simple_cnn"]["dropout"]
    seeds = sorted({job.config.seed for job in grid.read("paper").jobs})
    assert stated["Seeds"] == ", ".join(map(str, seeds[:-1])) + f" and {seeds[-1]}"


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

# the luminance and contrast of WCAG 2; what is behind a text is the first opaque colour among its ancestors
CONTRAST = """() => {
  const parse = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const luminance = rgb => {
    const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const faint = {};
  for (const e of document.querySelectorAll('article *, .bd-sidebar-primary *, .bd-header-announcement *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || e.closest('.headerlink, .visually-hidden')) continue;
    const [a, b] = [parse(getComputedStyle(e).color).slice(0, 3), behind(e)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const key = e.tagName + '.' + e.className + (e.closest('.highlight') ? ' in code' : '');
    if (ratio < 4.5 && !(faint[key] < ratio)) faint[key] = Math.round(ratio * 100) / 100;
  }
  return faint;
}"""
LOOKED_AT = ["book/introduction.html", "book/protocol.html", "notebooks/02_simple_cnn.html", "book/api.html"]


def a_run(pages: dict[str, BeautifulSoup]) -> str:
    return next(path for path in pages if path.startswith("runs/"))


def test_no_page_scrolls_sideways_on_a_phone(
    pages: dict[str, BeautifulSoup], address: str, open_page: Callable[..., Page]
) -> None:
    page = open_page("book/introduction.html", width=390)
    page.set_default_timeout(20_000)
    wide, asked, errors = [], set(), []
    page.on("request", lambda request: asked.add(request.url))
    page.on("pageerror", lambda error: errors.append(f"{page.url}: {error}"))
    for path in pages:
        if path == "index.html" or path.startswith("_modules/"):
            continue
        page.goto(address + path)
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            wide.append(path)
    assert not wide
    assert not errors
    assert {url for url in asked if not url.startswith((address, "data:"))} == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible(pages: dict[str, BeautifulSoup], open_page: Callable[..., Page], scheme: str) -> None:
    for path in [*LOOKED_AT, a_run(pages)]:
        page = open_page(path, scheme=scheme)
        page.wait_for_function("document.documentElement.dataset.theme")
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        assert page.evaluate(CONTRAST) == {}, path


def test_dark_mode_is_a_click_away(open_page: Callable[..., Page]) -> None:
    page = open_page("book/introduction.html")
    seen = set()
    for _ in range(3):  # light, dark, the system's
        page.locator(".theme-switch-button:visible").first.click()
        seen.add(
            page.evaluate(
                "[document.documentElement.dataset.mode, getComputedStyle(document.body).backgroundColor].join()"
            )
        )
    assert {text.split(",")[0] for text in seen} == {"light", "dark", "auto"}
    assert len({text.partition(",")[2] for text in seen}) == 2


def test_figures_are_white_cards_in_the_dark(pages: dict[str, BeautifulSoup], open_page: Callable[..., Page]) -> None:
    page = open_page(a_run(pages), scheme="dark")
    styles = page.locator("article img").evaluate_all(
        "images => images.map(image => getComputedStyle(image)).map(s => s.backgroundColor + ' ' + s.filter)"
    )
    assert styles and set(styles) == {"rgb(255, 255, 255) none"}


def test_search_finds_a_word(open_page: Callable[..., Page]) -> None:
    page = open_page("book/introduction.html")
    page.locator(".search-button-field:visible").first.click()
    field = page.locator("input[type=search]:visible").first
    field.fill("McNemar")
    field.press("Enter")
    page.wait_for_url("**/search.html?q=McNemar*")
    page.locator("#search-results li a[href*='protocol.html']").first.wait_for()  # results appear one by one


# ---- building ----


def settings() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return content


def test_the_address_is_one_setting() -> None:
    plain = settings()
    plain["repository"]["url"] = ""
    without = build.configure(plain, quick=False)
    assert not {"repository", "launch_buttons"} & set(without)
    assert not {"sphinx_sitemap", "sphinxext.opengraph"} & set(without["sphinx"]["extra_extensions"])
    assert not any(name.startswith("use_") for name in without["html"])

    public = settings()
    public["repository"]["url"] = "https://github.com/Someone/a-study"
    given = build.configure(public, quick=False)
    assert given["html"]["baseurl"] == "https://someone.github.io/a-study/"
    assert given["html"]["use_edit_page_button"] and given["launch_buttons"]["colab_url"]
    assert {"sphinx_sitemap", "sphinxext.opengraph"} <= set(given["sphinx"]["extra_extensions"])
    assert given["sphinx"]["config"]["notfound_urls_prefix"] == "/a-study/"


@pytest.mark.slow
def test_what_an_address_adds(book: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    for name in ("book", "hwr_utils", "config", "locale"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("_toc.yml", "CHANGELOG.md"):
        shutil.copy2(ROOT / name, checkout / name)
    content = settings()
    content["repository"]["url"] = "https://github.com/someone/a-study"
    (checkout / "_config.yml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(build, "REPOSITORY", checkout)
    out = tmp_path / "html"
    build.build(RESULTS, NOTEBOOKS, ROOT / "_build" / "book", out, quick=False)

    def links(path: str) -> str:
        page = BeautifulSoup((out / path).read_text(encoding="utf-8"), "html.parser")
        return " ".join(str(tag["href"]) for tag in page.select(".article-header-buttons a[href]"))

    source = "github.com/someone/a-study"
    notebook = links("notebooks/02_simple_cnn.html")
    for service in ("colab.research.google.com", "mybinder.org"):
        assert re.search(rf"{service}\S*/someone/a-study/\S*main\S*notebooks/02_simple_cnn\.ipynb", notebook)
    assert f"{source}/edit/main/notebooks/02_simple_cnn.ipynb" in notebook
    assert f"{source}/edit/main/book/protocol.md" in links("book/protocol.html")
    assert f"{source}/edit/" not in links(f"runs/{next(RESULTS.glob('*/record.json')).parent.name}.html")
    assert "https://someone.github.io/a-study/book/protocol.html" in (out / "sitemap.xml").read_text()
    assert 'property="og:title"' in (out / "book" / "protocol.html").read_text()
    assert 'href="/a-study/book/protocol.html"' in (out / "404.html").read_text()


@pytest.mark.parametrize("url", ["github.com/a/b", "https://github.com/a", "https://elsewhere.org/a/b"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    content = settings()
    content["repository"]["url"] = url
    with pytest.raises(InputError, match=re.escape(url)):
        build.configure(content, quick=False)


def test_the_quick_edition_says_so() -> None:
    assert "synthetic data drawn by the project" in build.configure(settings(), quick=True)["html"]["announcement"]
    assert "announcement" not in build.configure(settings(), quick=False)["html"]
    first = build.with_note((ROOT / "book" / "introduction.md").read_text(encoding="utf-8"))
    assert first.startswith("# ") and first.index("published study's") < first.index("## What we have found")


def test_a_warning_fails_the_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "_config.yml").write_text("title: A book\nexecute: {execute_notebooks: 'off'}\n")
    (source / "_toc.yml").write_text("format: jb-book\nroot: page\n")
    (source / "page.md").write_text("# A page\n\nIt points to {ref}`nowhere`.\n")
    with pytest.raises(InputError, match="the book was not built"):
        build.render(source, tmp_path)
    assert re.search(r"page\.md:3: WARNING: .*nowhere", capsys.readouterr().err)
    assert (tmp_path / "build.log").exists()


def test_globs_without_pages_are_left_out(tmp_path: Path) -> None:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_one.ipynb").touch()
    kept = str(build.without_empty_globs(toc, tmp_path))
    assert "notebooks/0*" in kept and "runs/*" not in kept


def test_the_api_page_has_every_module() -> None:
    listed = re.findall(r"automodule:: (\S+)", (ROOT / "book" / "api.md").read_text(encoding="utf-8"))
    paths = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "hwr_utils").rglob("*.py"))
    modules = {".".join(path.parts).removesuffix(".__init__") for path in paths}
    assert sorted(listed) == sorted(modules - {"hwr_utils", "hwr_utils.__main__"})


# names as an enemy would choose them: a tag, a template, a formula that does not end, a table's bar, a link, a code
HOSTILE = [
    *("<img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "$\\frac{$", "|", "[a](javascript:b)", "`{doc}`x`", "*b*", "\\"),
]
HOSTILE_NAME = "<script>alert(1)</script> {{ config }} $\\frac{$ `x` | y"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> BeautifulSoup:
    """Return the page of a run whose classes and processor have hostile names, of a small book."""
    work = tmp_path_factory.mktemp("hostile")
    committed, source = next(RESULTS.glob("mnist-simple_cnn-*")), work / "source"
    folder = source / "runs" / committed.name
    shutil.copytree(committed, folder)
    record = records.read(folder / "record.json")
    record["dataset"]["classes"][: len(HOSTILE)] = HOSTILE
    record["environment"]["device_name"] = HOSTILE_NAME
    files.write_json(folder / "record.json", record)
    executed = notebooks.execute(
        "run", {"run_id": folder.name, "results_dir": str(folder.parent)}, work / "run.ipynb", progress=False
    )
    build.copy_notebook(executed, folder.with_suffix(".ipynb"), build.run_title(Run(folder, record)))

    (source / "book").mkdir()
    shutil.copytree(ROOT / "book" / "_static", source / "book" / "_static")
    for name in ("references.bib", "pages.py", "glossary.md", "bibliography.md"):
        shutil.copy2(ROOT / "book" / name, source / "book" / name)
    (source / "book" / "protocol.md").write_text("# Protocol\n")
    (source / "_config.yml").write_text(yaml.safe_dump(build.configure(settings(), quick=False)))
    chapters = [{"file": name} for name in (f"runs/{folder.name}", "book/glossary", "book/bibliography")]
    toc = {"format": "jb-book", "root": "book/protocol", "chapters": chapters}
    (source / "_toc.yml").write_text(yaml.safe_dump(toc))
    page = build.render(source, work) / "runs" / f"{folder.name}.html"
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def test_hostile_names_are_shown_and_not_obeyed(hostile: BeautifulSoup) -> None:
    text = article(hostile).get_text()
    for name in (*HOSTILE, HOSTILE_NAME):
        assert name in text
    assert not hostile.select("[onerror], a[href^=javascript], article .math")
    assert not [script for script in hostile.find_all("script") if "alert" in script.get_text()]
