"""Error responses: RFC 9457 problems that reveal nothing of the server's internals."""

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

from k2.model.errors import CatalogError, K2Error, UnreachableError
from k2.query.dead_letters import NoDeadLettersError
from k2.query.engine import QueryCancelledError, QueryError, QueryMemoryError, QueryTimeoutError
from k2.query.output_formats import to_json
from k2.query.pool import FileDamagedError, FileMissingError, Pool, QueryBusyError
from k2.query.snapshots import NoSnapshotError
from k2.query.tables import NoTableError
from k2.storage.dead_letters.object_folder import StoreRefusedError

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
        "title": {"type": "string", "description": "Reason phrase of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "field": {"type": "string", "description": "Status 422: the invalid parameter."},
        "id": {"type": "string", "description": "Status 500: id of the error in the server's log."},
    },
}
log = structlog.get_logger()

_STATUSES: Final[dict[type[K2Error], HTTPStatus]] = {
    QueryTimeoutError: HTTPStatus.GATEWAY_TIMEOUT,
    QueryMemoryError: HTTPStatus.INSUFFICIENT_STORAGE,
    QueryBusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    QueryCancelledError: HTTPStatus.SERVICE_UNAVAILABLE,
    NoSnapshotError: HTTPStatus.NOT_FOUND,
    QueryError: HTTPStatus.BAD_REQUEST,
}
"""Errors whose message is sent to the client."""
_DAMAGED: Final = "the catalog or a file of a table is lost or damaged; the server's log names it"
_RESPONSES: Final[dict[type[K2Error], tuple[HTTPStatus, str]]] = {
    NoTableError: (HTTPStatus.NOT_FOUND, "the table does not exist yet; start the job, which creates it"),
    NoDeadLettersError: (
        HTTPStatus.NOT_FOUND,
        "there are no dead letters yet; start the job, which writes them",
    ),
    StoreRefusedError: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the store of the dead letters refuses to be read; the server's log says why",
    ),
    CatalogError: (HTTPStatus.INTERNAL_SERVER_ERROR, _DAMAGED),
    FileMissingError: (HTTPStatus.INTERNAL_SERVER_ERROR, _DAMAGED),
    FileDamagedError: (HTTPStatus.INTERNAL_SERVER_ERROR, _DAMAGED),
    UnreachableError: (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the catalog or a file of a table cannot be read at the moment; retry later",
    ),
}
"""Errors whose message names settings and folders of this machine; the client gets another one."""


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
    """Register handlers that convert an application's errors to problems."""
    folders = sorted(_folders(pool), key=len, reverse=True)
    app.add_exception_handler(K2Error, partial(_k2_problem, folders))
    app.add_exception_handler(RequestValidationError, _validation_problem)
    app.add_exception_handler(HTTPException, _http_problem)


class UnexpectedErrorMiddleware:
    """Logs an unexpected exception under an id and sends only the id; sends 503 to waiting clients on shutdown."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; if it fails after the response has started, close the connection before its end."""
        is_begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except asyncio.CancelledError:
            # The server is shutting down, and the grace period of this response is over.
            if not is_begun and scope["type"] == "http":
                await problem(503, "the server is shutting down; retry later", headers=_RETRY)(scope, receive, send)
        except Exception as error:  # noqa: BLE001  of any exception, nothing is revealed
            response = _unexpected_problem(scope, error)
            if not is_begun and scope["type"] == "http":
                await response(scope, receive, send)


def _unexpected_problem(scope: Scope, error: Exception) -> Response:
    number = secrets.token_hex(8)
    log.error("request_failed", id=number, path=scope.get("path"), exc_info=error)
    return problem(500, "internal server error; find the id in the server's log", id=number)


def _folders(pool: Pool) -> Collection[str]:
    settings = pool.settings
    dead_letters = settings.dead_letter_address or settings.dead_letter_folder.absolute()
    own = (settings.data_dir.absolute(), dead_letters, tempfile.gettempdir())
    return {*pool.folders, *map(str, own)}


async def _k2_problem(folders: Collection[str], request: Request, error: Exception) -> Response:
    for kind, (status, detail) in _RESPONSES.items():
        if isinstance(error, kind):
            log.warning("query_failed", path=request.url.path, why=str(error))
            return problem(status, detail, headers=_RETRY if status == HTTPStatus.SERVICE_UNAVAILABLE else None)
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            is_busy = status == HTTPStatus.SERVICE_UNAVAILABLE
            return problem(status, _redact(folders, str(error)), headers=_RETRY if is_busy else None)
    return _unexpected_problem(request.scope, error)


def _redact(folders: Collection[str], text: str) -> str:
    for folder in folders:
        text = text.replace(folder, "...")
    return text


async def _validation_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for it"
    first = error.errors()[0]
    names = [str(part) for part in first["loc"][1:2] if isinstance(part, str)]
    field = names[0] if names else str(first["loc"][0])
    what = _MESSAGES.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    return problem(422, f"{field}: {what}", field=field)


async def _http_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it"
    detail = _STATUS_MESSAGES.get(error.status_code, error.detail)
    return problem(error.status_code, detail, headers=error.headers)


_NO_JSON: Final = "is not a JSON object; send one with Content-Type: application/json"
_MESSAGES: Final = {
    "dict_type": _NO_JSON,
    "extra_forbidden": "unknown field; see /openapi.json",
    "json_invalid": _NO_JSON,
    "missing": "is missing; send it",
    "model_attributes_type": _NO_JSON,
}
"""Pydantic error types whose own messages do not help."""
_STATUS_MESSAGES: Final[dict[int, str]] = {
    HTTPStatus.BAD_REQUEST: "the request body cannot be read; send valid JSON",
    HTTPStatus.NOT_FOUND: "unknown path; see /openapi.json for the paths",
    HTTPStatus.METHOD_NOT_ALLOWED: "method not allowed on this path; see /openapi.json for the methods",
}
"""Messages for the framework's own errors."""
