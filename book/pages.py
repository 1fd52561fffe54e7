"""The book's own Sphinx extension: mends the theme's faults, and lets no page run a script that is not its own."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from docutils import nodes  # type: ignore[import-untyped]
from sphinx.application import Sphinx

# build.py writes these pages from records, so they have no source file to show or to edit.
GENERATED = ("runs/",)
SOURCE_BUTTONS = {"source-edit-button", "source-file-button", "download-source-button"}
# What the theme writes, and what stands there instead.
MENDED = (
    # This script of 1.5 MB turns icons into SVG. The theme's own style sheet shows the same icons by a font.
    (r'<script defer src="[^"]*/fontawesome\.js[^"]*"></script>', ""),
    # People who control a computer by voice say the text that they see, so the accessible name must contain that text.
    (r'(<button class="btn search-button-field[^>]*?) title="[^"]*" aria-label="[^"]*"', r"\1"),
    # Docutils gives the entries of this list a role that no list may contain.
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    (r' role="doc-biblioentry"', ""),
    (r'(<i class="theme-switch [^>]*?) title="[^"]*"', r"\1"),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    # The theme opens its links in a new window; the other language is the same page.
    (r'(<a href="[^"]*") target="_blank"(\s+class="btn btn-sm btn-language-(..)")', r'\1 lang="\3" hreflang="\3"\2'),
    # On a phone a figure is wider than its place and scrolls there. With this class, the theme's script lets the Tab
    # key reach a figure that scrolls.
    (r'(<div class="cell_output docutils container)(?=">\s*<(?:figure|img))', r"\1 pst-scrollable-table-container"),
    # A figure opens alone, where it can be as large as the window.
    (
        r'(<(?:figure|div)[^>]*>\s*|\n(?=<img))(<img\s[^>]*src="((?:\.\./)*_(?:images|static)/[^"]+)"[^>]*>)',
        r'\1<a href="\3">\2</a>',
    ),
    # The arrow that unfolds a part in the sidebar has no text of its own.
    (r'(<a class="[^"]*" href="[^"]*">([^<]*)</a><details[^>]*><summary)>', r'\1 aria-label="Pages of \2">'),
)
HANDLERS = ("window.print()", "toggleFullScreen()")  # of the theme's buttons
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; script-src 'self' 'unsafe-hashes' {hashes}"
)
INLINE_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)


def _drop_source_buttons(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if not pagename.startswith(GENERATED):
        return
    for button in context.get("header_buttons", []):
        if "buttons" in button:
            button["buttons"] = [inner for inner in button["buttons"] if inner.get("label") not in SOURCE_BUTTONS]


def _drop_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave out scripts that nothing here uses: for running code in the page, and for plurals in other languages."""

    def told(script: Any) -> str:
        return f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', '')}".lower()

    unused = ("thebe", "translations.js")  # a second copy of thebe fails, and so does what translations.js evaluates
    context["script_files"] = [
        script for script in context["script_files"] if not any(name in told(script) for name in unused)
    ]


def _drop_kernel(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Leave out the settings of those scripts, which hold the name of a notebook's kernel as it stands there."""
    for node in list(doctree.findall(nodes.raw)):
        if "x-thebe-config" in node.astext() or "kernelName" in node.astext():
            node.parent.remove(node)


# What the playground's page asks for in its head; book/playground.py copies these files.
PLAYGROUND_HEAD = """
<link rel="stylesheet" href="playground-app/playground.css">
<link rel="manifest" href="playground-app/manifest.webmanifest">
<link rel="apple-touch-icon" href="playground-app/icon-180.png">
<meta name="theme-color" content="#123a5c">
<script defer src="playground-app/start.js"></script>
"""


def _name_korean_pages(app: Sphinx) -> None:
    """Give the Korean pages names of their own, beside the English ones: book/plan.ko.html."""
    builder: Any = app.builder
    if app.config.language != "ko" or builder.format != "html":
        return
    pages, uri, file = app.config.korean_pages, builder.get_target_uri, builder.get_outfilename

    def korean(name: str, found: str) -> str:
        return found.removesuffix(".html") + ".ko.html" if name in pages else found

    builder.get_target_uri = lambda name, typ=None: korean(name, uri(name, typ))
    builder.get_outfilename = lambda name: korean(name, file(name))
    write, builder.search = builder.write, False
    builder.write = lambda *_: write(pages, [], "specific")  # the others stay English, and so does the search


def _switch_language(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Lead from a page that is there in both languages to the other one."""
    if pagename not in app.config.korean_pages:
        return
    name, code, text = pagename.rpartition("/")[2], "ko", "한국어"
    url = f"{name}.ko.html"
    if app.config.language == "ko":
        url, code, text = f"{name}.html", "en", "English"
    context["metatags"] = context.get("metatags", "") + f'<link rel="alternate" hreflang="{code}" href="{url}">\n'
    context["header_buttons"].insert(0, {"type": "link", "url": url, "text": text, "label": f"language-{code}"})


def _share_sidebar(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Let the source pages in a folder share one sidebar, which lists none of them: it takes most of a page's time."""
    if not pagename.startswith("_modules/"):
        return
    make, sidebars, depth = context["generate_toctree_html"], vars(app).setdefault("sidebars", {}), pagename.count("/")

    def shared(*how: Any, **given: Any) -> Any:
        key = (depth, how, tuple(given.items()))
        if key not in sidebars:
            sidebars[key] = make(*how, **given)
        return sidebars[key]

    context["generate_toctree_html"] = shared


def _head_of_playground(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if pagename == "book/playground":
        context["metatags"] = context.get("metatags", "") + PLAYGROUND_HEAD


def mend(page: str, name: str) -> str:
    """Return a finished page with the theme's faults mended and with a content security policy.

    The policy allows the book's own files, and by their hashes those scripts that the theme and the extensions write
    into the page's head. What a record, a class name or a notebook's output brings into the page's body is never run.

    Args:
        page: HTML.
        name: of its file. The theme's search page has a script in its body, and no content of the book.
    """
    for pattern, replacement in MENDED:
        page = re.sub(pattern, replacement, page)
    trusted = page if name == "search.html" else page.partition("</head>")[0]
    scripts = sorted({*INLINE_SCRIPT.findall(trusted), *HANDLERS})
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    policy = POLICY.format(hashes=" ".join(f"'sha256-{one}'" for one in hashes))
    before, charset, after = page.rpartition('<meta charset="utf-8" />')
    return f'{before}{charset}<meta http-equiv="Content-Security-Policy" content="{policy}" />{after}'


def _mend_pages(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            if "_static" not in path.relative_to(app.outdir).parts:
                path.write_text(mend(path.read_text(encoding="utf-8"), path.name), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension; the theme adds its buttons at priorities up to 502, and others finish at 500."""
    app.add_config_value("korean_pages", [], "html")
    app.connect("builder-inited", _name_korean_pages)
    app.connect("html-page-context", _switch_language, priority=900)
    app.connect("html-page-context", _drop_source_buttons, priority=900)
    app.connect("html-page-context", _drop_scripts, priority=900)
    app.connect("html-page-context", _share_sidebar, priority=900)
    app.connect("html-page-context", _head_of_playground)
    app.connect("doctree-resolved", _drop_kernel, priority=900)
    app.connect("build-finished", _mend_pages, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
