"""The page's files: what is served, to whom, and that it matches its description."""

import hashlib
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder
from pydantic import SecretStr

from k2.http.static import FOLDER, PAGE_PATHS

ROOT = Path(__file__).parent.parent.parent
VENDOR = FOLDER / "vendor"
OWN = sorted(file for file in FOLDER.iterdir() if file.suffix in {".js", ".html", ".css"})


def test_the_vendored_library_has_its_documented_hash() -> None:
    """The vendored file has the hash that is recorded next to it, and its licence is included."""
    said = dict(re.findall(r"^(\w+) +(\S+)", (VENDOR / "SOURCE.txt").read_text(encoding="utf-8"), re.MULTILINE))
    library = (VENDOR / "lightweight-charts.js").read_bytes()
    assert hashlib.sha256(library).hexdigest() == said["sha256"]
    assert f"Lightweight Charts™ v{said['version']}".encode() in library
    assert "Apache License" in (VENDOR / "LICENSE").read_text(encoding="utf-8")


def test_the_notice_is_on_the_page() -> None:
    """The page shows the words and the link that the library's NOTICE requires."""
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    notice = (VENDOR / "NOTICE").read_text(encoding="utf-8").replace("(с)", "©")  # noqa: RUF001  as they write it
    assert all(word in page for word in notice.replace("\n", " ").split())
    assert '<a href="https://www.tradingview.com/"' in page


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_read_as_markup(path: Path) -> None:
    """The script uses no function that turns text into markup or code, and no style that the policy forbids."""
    text = path.read_text(encoding="utf-8")
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|\bon\w+=|style="
    assert not re.search(ways, text)
    assert not re.findall(r"https?://(?!www\.tradingview\.com/|www\.w3\.org/)", text)


def test_a_wheel_has_the_page(tmp_path: Path) -> None:
    """If the package is installed from a wheel, every file of the page is included."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = {*archive.namelist()}
    files = {f"k2/http/page/{file.relative_to(FOLDER)}" for file in FOLDER.rglob("*") if file.is_file()}
    assert len(files) > 10
    assert files <= names


def test_only_the_page_is_public(serve: Callable[..., Any]) -> None:
    """With keys, the page's own files are served without one; neighbouring files are not, by any path."""
    client = serve(api_keys=(SecretStr("one"),))
    for path in sorted(PAGE_PATHS):
        reply = client.get(path)
        assert (reply.status, reply.headers["Cache-Control"]) == (200, "no-cache"), path
        assert "script-src 'self'; style-src 'self'" in reply.headers["Content-Security-Policy"]
    for path in (
        "/page",
        "/page/",
        "/page/none.js",
        "/page/../static.py",
        "/page/%2e%2e/static.py",
        "/page//etc/passwd",
    ):
        assert client.ask("GET", path).status == 401, path
        assert client.ask("GET", path, headers={"X-API-Key": "one"}).status in {307, 404}, path
    assert client.ask("POST", "/").status == 405


def test_an_unchanged_file_is_not_sent_again(client: Any) -> None:
    """A browser that has a file revalidates it by its ETag."""
    for path in ("/", "/page/main.js"):
        tag = client.get(path).headers["ETag"]
        again = client.ask("GET", path, headers={"If-None-Match": tag})
        assert (again.status, again.body, again.headers["Cache-Control"]) == (304, b"", "no-cache")
