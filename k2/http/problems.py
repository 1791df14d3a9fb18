"""What is told where a request is not answered: a problem of RFC 9457, and nothing of the inside."""

import asyncio
import secrets
import tempfile
from collections.abc import Collection, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from k2.model.errors import K2Error, UnreachableError
from k2.query.dead_letters import NoDeadLettersError
from k2.query.engine import QueryCancelledError, QueryError, QueryMemoryError, QueryTimeoutError
from k2.query.output_formats import to_json
from k2.query.pool import Pool, QueryBusyError
from k2.query.snapshots import NoSnapshotError
from k2.query.tables import NoTableError

__all__ = ["MEDIA_TYPE", "SCHEMA", "UnexpectedErrorMiddleware", "add_problem_handlers", "problem"]

MEDIA_TYPE: Final = "application/problem+json"
DETAIL_CHARACTERS_MAX: Final = 1_000
RETRY_SECONDS: Final = 5
_RETRY: Final = {"Retry-After": str(RETRY_SECONDS)}
SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "const": "about:blank"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "One sentence: what is wrong."},
        "field": {"type": "string", "description": "Of status 422: what was asked wrongly."},
        "id": {"type": "string", "description": "Of status 500: by which the server's log tells more."},
    },
}
log = structlog.get_logger()

_OWN_WORDS: Final[dict[type[K2Error], HTTPStatus]] = {
    QueryTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
    QueryMemoryError: HTTPStatus.INSUFFICIENT_STORAGE,
    QueryBusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    QueryCancelledError: HTTPStatus.SERVICE_UNAVAILABLE,
    NoSnapshotError: HTTPStatus.NOT_FOUND,
    QueryError: HTTPStatus.BAD_REQUEST,
}
"""Errors whose sentence is for those who ask."""
_OUR_WORDS: Final[dict[type[K2Error], tuple[HTTPStatus, str]]] = {
    NoTableError: (HTTPStatus.NOT_FOUND, "there is no such table yet: the job, which makes it, has not run here"),
    NoDeadLettersError: (
        HTTPStatus.NOT_FOUND,
        "there are no dead letters yet: the job, which writes them, has not run",
    ),
    UnreachableError: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the catalog, or a file of a table, cannot be read at this moment; ask again later",
    ),
}
"""Errors whose sentence names settings and folders of this machine, so that another is told."""


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: str | None) -> Response:
    """Return a problem as a response; None of `more` is left out."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail[:DETAIL_CHARACTERS_MAX],
        **{name: value for name, value in more.items() if value is not None},
    }
    return Response(to_json(document), status, headers, MEDIA_TYPE)


def add_problem_handlers(app: FastAPI, pool: Pool) -> None:
    """Have an application's errors told as problems."""
    folders = sorted(_folders(pool), key=len, reverse=True)
    app.add_exception_handler(K2Error, partial(_explained, folders))
    app.add_exception_handler(RequestValidationError, _wrongly_asked)
    app.add_exception_handler(HTTPException, _refused)


class UnexpectedErrorMiddleware:
    """Has a bug logged under an id, and tells the client that id alone; tells those who wait that the server ends."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand around an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; where that fails once the answer has begun, it ends without its end."""
        is_begun = False

        async def noting(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:
            # The server ends, and this answer had its time.
            if not is_begun and scope["type"] == "http":
                await problem(503, "the server is ending; ask again later", headers=_RETRY)(scope, receive, send)
        except Exception as error:  # noqa: BLE001  whatever it is, nothing of it is told
            response = _bug(scope, error)
            if not is_begun and scope["type"] == "http":
                await response(scope, receive, send)


def _bug(scope: Scope, error: Exception) -> Response:
    number = secrets.token_hex(8)
    log.error("a request failed", id=number, path=scope.get("path"), exc_info=error)
    return problem(500, "something went wrong here; the server's log says more under the id", id=number)


def _folders(pool: Pool) -> Collection[str]:
    settings = pool.settings
    own = (settings.data_dir.absolute(), settings.dead_letter_folder.absolute(), tempfile.gettempdir())
    return {*pool.folders, *map(str, own)}


async def _explained(folders: Collection[str], request: Request, error: Exception) -> Response:
    for kind, (status, detail) in _OUR_WORDS.items():
        if isinstance(error, kind):
            log.warning("a query was not answered", path=request.url.path, why=str(error))
            return problem(status, detail, headers=_RETRY if status == HTTPStatus.SERVICE_UNAVAILABLE else None)
    for kind, status in _OWN_WORDS.items():
        if isinstance(error, kind):
            is_busy = status == HTTPStatus.SERVICE_UNAVAILABLE
            return problem(status, _without(folders, str(error)), headers=_RETRY if is_busy else None)
    return _bug(request.scope, error)


def _without(folders: Collection[str], text: str) -> str:
    for folder in folders:
        text = text.replace(folder, "...")
    return text


async def _wrongly_asked(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for it"
    first = error.errors()[0]
    names = [str(part) for part in first["loc"][1:2] if isinstance(part, str)]
    field = names[0] if names else str(first["loc"][0])
    what = _MEANT.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    return problem(422, f"{field}: {what}", field=field)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    detail = _SAID.get(error.status_code, error.detail)
    return problem(error.status_code, detail, headers=error.headers)


_NO_JSON: Final = "is no JSON object; send one, as Content-Type: application/json"
_MEANT: Final = {
    "dict_type": _NO_JSON,
    "extra_forbidden": "there is no such field",
    "json_invalid": _NO_JSON,
    "missing": "is missing",
    "model_attributes_type": _NO_JSON,
}
"""Pydantic's kinds of errors whose own words do not help."""
_SAID: Final[dict[int, str]] = {
    HTTPStatus.BAD_REQUEST: "the body cannot be read",
    HTTPStatus.NOT_FOUND: "there is nothing at this path; /openapi.json says what there is",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method; /openapi.json says which it takes",
}
"""Of what the framework refuses."""
