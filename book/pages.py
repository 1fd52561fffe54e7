"""The book's own Sphinx extension: takes off pages what does not do there what it says."""

from typing import Any

from sphinx.application import Sphinx

# Written by build.py from records and docstrings: there is no source file of theirs to show or to edit.
GENERATED = ("runs/", "api/")
SOURCE_BUTTONS = {"source-edit-button", "source-file-button", "download-source-button"}


def _drop_source_buttons(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if not pagename.startswith(GENERATED):
        return
    for button in context.get("header_buttons", []):
        if "buttons" in button:
            button["buttons"] = [inner for inner in button["buttons"] if inner.get("label") not in SOURCE_BUTTONS]


def _drop_thebe(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave out the scripts for running code in the page: nothing here uses them, and their second copy is an error."""
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', '')}".lower()
    ]


# What the playground's page asks for in its head; book/playground.py writes these files.
PLAYGROUND_HEAD = """
<link rel="stylesheet" href="playground-app/playground.css">
<link rel="manifest" href="playground-app/manifest.webmanifest">
<link rel="apple-touch-icon" href="playground-app/icon-180.png">
<meta name="theme-color" content="#123a5c">
<script type="module" src="playground-app/playground.js"></script>
"""


def _head_of_playground(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    if pagename == "book/playground":
        context["metatags"] = context.get("metatags", "") + PLAYGROUND_HEAD


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension; the theme adds its buttons at priorities up to 502."""
    app.connect("html-page-context", _drop_source_buttons, priority=900)
    app.connect("html-page-context", _drop_thebe, priority=900)
    app.connect("html-page-context", _head_of_playground)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
