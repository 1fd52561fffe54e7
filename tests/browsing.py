"""What tests in a browser share: a server of a folder on this machine, and what axe-core finds wrong with a page."""

import http.server
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from playwright.sync_api import Page

from hwr_utils import files

AXE = files.REPOSITORY / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice", "experimental"]


class Site:
    """A server of a folder, under a prefix as GitHub Pages has it.

    `replaced` has other content for some paths, or None where they are missing; `asked` has what was asked for.
    """

    def __init__(self, folder: Path, prefix: str = "/") -> None:
        """Serve a folder until `stop`."""
        replaced: dict[str, bytes | None] = {}
        asked: list[str] = []
        self.replaced, self.asked = replaced, asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                asked.append(self.path)
                path = urlparse(self.path).path
                if not path.startswith(prefix):
                    return self.send_error(404)
                name = path.removeprefix(prefix)
                if name not in replaced:
                    self.path = "/" + name
                    return super().do_GET()
                content = replaced[name]
                if content is None:
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Type", self.guess_type(name))
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *arguments: Handler(*arguments, directory=str(folder))
        )
        self.address = f"http://127.0.0.1:{self.server.server_port}{prefix}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def grave_faults(page: Page, rules: list[str] = RULES) -> list[Any]:
    """Return what axe-core calls serious or critical on a page: the rule and the HTML of each place."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async (rules) => (await axe.run({ runOnly: rules })).violations", rules)
    grave = (one for one in found if one["impact"] in ("serious", "critical"))
    return [(one["id"], [node["html"] for node in one["nodes"]]) for one in grave]
