"""Headless Chromium for the tests of the page, and a record of what a page does that it must not."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, expect, sync_playwright

__all__ = ["Window", "answered", "chromium", "opening", "texts", "window"]

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS: Final = ("--disable-gpu",)
WAIT_MS_MAX: Final = 30_000
"""Enough for a busy machine; a condition that already holds is not waited for."""


@dataclass
class Window:
    """A browser page with its requests and its errors."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def listen(self) -> None:
        """Record requests and errors from now on."""
        self.page.on("request", self._on_request)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", self._failed)

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    def _on_console(self, message: ConsoleMessage) -> None:
        # A response with an error status is not an error of the page.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def _failed(self, error: Error) -> None:
        self.complaints.append(str(error))

    def asked(self, path: str) -> int:
        """Return how often a path was requested."""
        return sum(f"{path}?" in url or url.endswith(path) for url in self.requests)

    def settled(self) -> Page:
        """Return the page once all of its parts have their responses."""
        expect(self.page.locator(".state:not(:empty)")).to_have_count(0)
        return self.page

    def tab_to(self, name: str) -> None:
        """Move to an element with the Tab key alone."""
        focused = self.page.locator(f"#{name}:focus, #{name} :focus")
        for _ in range(60):
            self.page.keyboard.press("Tab")
            if focused.count() > 0:
                return
        pytest.fail(f"Tab does not lead to #{name}")


@pytest.fixture(scope="module")
def chromium(missing: Callable[[str], NoReturn]) -> Iterator[Browser]:
    """Yield a browser for the tests of one file."""
    found = [path for program in PROGRAMS if (path := shutil.which(program)) is not None]
    if not found:
        missing("Chromium: the page of k2 serve (on Debian: apt install chromium)")
    expect.set_options(timeout=WAIT_MS_MAX)
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=found[0], args=ARGUMENTS) as browser,
    ):
        yield browser


@pytest.fixture
def window(chromium: Browser) -> Iterator[Callable[..., Window]]:
    """Yield a function that opens a page of a server for one test."""
    with opening(chromium) as open_page:
        yield open_page


@contextmanager
def opening(chromium: Browser) -> Iterator[Callable[..., Window]]:
    """Yield a function that opens a page of a server; check at the end for foreign requests and errors."""
    opened: list[tuple[str, Window]] = []

    def open_page(port: int, view: str = "", **options: Any) -> Window:
        origin = f"http://127.0.0.1:{port}/"
        context = chromium.new_context(
            **{"color_scheme": "dark", "timezone_id": "Pacific/Auckland", "locale": "en-GB", **options}
        )
        context.set_default_timeout(WAIT_MS_MAX)
        found = Window(context.new_page())
        found.listen()
        opened.append((origin, found))
        found.page.goto(origin + view)
        return found

    yield open_page
    for origin, one in opened:
        assert one.complaints == []
        assert [url for url in one.requests if not url.startswith(origin)] == []
        one.page.context.close()


@contextmanager
def answered(page: Page, path: str) -> Iterator[None]:
    """Wait at the end of the block for the response to a path that the block makes the page request."""
    with page.expect_response(lambda response: path in response.url, timeout=WAIT_MS_MAX):
        yield


def texts(page: Page, selector: str) -> list[list[str]]:
    """Return the cell texts of a table's rows."""
    rows = page.locator(f"{selector} tbody tr").all()
    return [[cell.strip() for cell in row.locator("th, td").all_inner_texts()] for row in rows]
