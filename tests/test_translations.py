"""The Korean pages: nothing is left in English, and what the playground needs is there in both languages."""

import re
from pathlib import Path

import yaml
from babel.messages.pofile import read_po
from bs4 import BeautifulSoup

import messages

ROOT = Path(__file__).resolve().parents[1]
# cells of tables with a figure from a record, which changes with it, and what has no words
FIGURE = re.compile(r"(?=.*\d[.,]\d).{,80}|[^A-Za-z]*")


def test_no_message_is_missing_or_fuzzy(tmp_path: Path) -> None:
    templates = messages.collect(tmp_path)
    lacking = []
    for page in yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))["sphinx"]["config"]["korean_pages"]:
        with (ROOT / "locale" / "ko" / "LC_MESSAGES" / f"{page}.po").open("rb") as file:
            translated = {message.id for message in read_po(file) if message.string and not message.fuzzy}
        with (templates / f"{page}.pot").open("rb") as file:
            told = [str(message.id) for message in read_po(file) if message.id]
        assert told, page
        lacking += [text for text in told if text not in translated and not FIGURE.fullmatch(text)]
    assert not lacking, "run `make messages`, and translate what is empty or fuzzy in locale/ko"


def test_the_korean_playground_has_all_parts_of_the_english_one() -> None:
    folder = ROOT / "book" / "playground"
    for path in folder.glob("*.ko.html"):
        other = folder / path.name.replace(".ko.", ".")
        korean, english = (BeautifulSoup(one.read_text("utf-8"), "html.parser") for one in (path, other))
        assert [tag["id"] for tag in korean.find_all(id=True)] == [tag["id"] for tag in english.find_all(id=True)]
        # of the speed, the English page shows a sentence from the record; the Korean one says it itself
        values = [{tag["data-value"] for tag in page.select("[data-value]")} for page in (korean, english)]
        assert values[0] == values[1] - {"throttled"}
    assert len(list(folder.glob("*.ko.html"))) == 2
