"""The web page at `/`: static files, whose scripts call the API from the browser."""

from pathlib import Path
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

__all__ = ["PAGE_PATHS", "add_page"]

FOLDER: Final = Path(__file__).parent / "page"
MOUNT: Final = "/page"
PAGE_PATHS: Final = frozenset(
    {"/", *(f"{MOUNT}/{file.relative_to(FOLDER).as_posix()}" for file in FOLDER.rglob("*") if file.is_file())}
)
"""The page and each of its files; they contain no data of the tables, so no key is required."""
_REVALIDATED: Final = {"Cache-Control": "no-cache"}


class _Files(StaticFiles):
    """Static files that a browser may cache but must revalidate."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, or 304 if it has not changed."""
        response = await super().get_response(path, scope)
        response.headers.update(_REVALIDATED)
        return response


def add_page(app: FastAPI) -> None:
    """Serve the page and its files; they are not part of the OpenAPI description."""
    files = _Files(directory=FOLDER)

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    app.add_api_route("/", page, include_in_schema=False)
    app.mount(MOUNT, files)
