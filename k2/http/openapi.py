"""What `/openapi.json` says of the answers."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from k2.http import problems
from k2.http.access import OPEN_PATHS
from k2.http.responses import MEDIA_TYPES
from k2.query.output_formats import Format

__all__ = ["document_of", "records_of", "rows_of", "set_openapi", "some_rows"]

_KEYS: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_LIMIT: Final = {
    "K2-Limit": {
        "description": "How many rows there are at the most: where there are as many, more may have been left out.",
        "schema": {"type": "string", "pattern": r"^\d+$"},
    }
}
_ABOUT: Final = "Market trades: rows, bars, average prices, SQL, and what is missing. All is read-only."
Responses = dict[int | str, dict[str, Any]]


def rows_of(columns: Mapping[str, Mapping[str, Any]], some: Mapping[str, Mapping[str, Any]] | None = None) -> Responses:
    """Describe rows of columns, and of some that are not always there."""
    properties = {**columns, **(some or {})}
    return _rows({"type": "object", "properties": properties, "required": list(columns), "additionalProperties": False})


def some_rows() -> Responses:
    """Describe rows of whatever columns."""
    return _rows({"type": "object"})


def records_of(*kinds: type[Any]) -> Responses:
    """Describe a report's rows, all of one of these data classes."""
    model: Any = list[kinds[0]]  # type: ignore[valid-type]
    for kind in kinds[1:]:
        model |= list[kind]  # type: ignore[valid-type]
    return {200: {"description": "Rows.", "model": model, "content": _files()}}


def document_of(kind: type[Any]) -> Responses:
    """Describe one JSON document, of a data class."""
    return {200: {"description": "One document.", "model": kind}}


def set_openapi(app: FastAPI, *, has_keys: bool) -> None:
    """Have an application set_openapi its problems as well, and its keys where it has any."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app, has_keys=has_keys)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _rows(row: Mapping[str, Any]) -> Responses:
    json = {MEDIA_TYPES[Format.JSON]: {"schema": {"type": "array", "items": dict(row)}}}
    return {200: {"description": "Rows.", "headers": _LIMIT, "content": {**json, **_files()}}}


def _files() -> dict[str, Any]:
    return {media_type: {"schema": {}} for form, media_type in MEDIA_TYPES.items() if form is not Format.JSON}


def _described(app: FastAPI, *, has_keys: bool) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
    found["components"] = {
        "schemas": {name: schema for name, schema in found["components"]["schemas"].items() if name not in _FASTAPIS},
        "securitySchemes": _KEYS if has_keys else {},
        "responses": {_name(status): _problem(status) for status in _WHY},
    }
    for path, operations in found["paths"].items():
        is_open = path in OPEN_PATHS
        entrance = 421 if not has_keys else None if is_open else 401
        for operation in operations.values():
            statuses = {*_ANYWHERE, *(() if is_open else _ASKED), *((entrance,) if entrance else ())}
            operation["responses"] |= _refused(statuses)
            if has_keys and not is_open:
                operation["security"] = [{name: []} for name in _KEYS]
    return found


def _refused(statuses: Iterable[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in sorted(statuses)}


def _name(status: int) -> str:
    return f"Problem{status}"


def _problem(status: int) -> dict[str, Any]:
    schema = problems.SCHEMA
    properties = {**schema["properties"], "status": {"const": status}, "title": {"const": HTTPStatus(status).phrase}}
    required = [*schema["required"], *_MORE.get(status, ())]
    headers = {name: {"required": True, "schema": {"type": "string"}} for name in _HEADERS.get(status, ())}
    content = {problems.MEDIA_TYPE: {"schema": {**schema, "properties": properties, "required": required}}}
    return {"description": _WHY[status], "headers": headers, "content": content}


_FASTAPIS: Final = frozenset({"HTTPValidationError", "ValidationError"})
"""What FastAPI says of wrong requests where it is let tell of them itself."""
_WHY: Final[Mapping[int, str]] = {
    400: "The statement is refused or cannot be run, or the format has no form for a value.",
    401: "No key.",
    404: "No such snapshot is kept; or the job, which makes the tables, has not run here.",
    406: "The route has none of the formats that are accepted.",
    408: "The body takes too long to come.",
    413: "The body is too long.",
    421: "Addressed to a name that is none of loopback.",
    422: "Asked wrongly.",
    500: "A fault of the server.",
    503: "Too many ask, the server is ending, or the catalog or a file cannot be reached.",
    504: "The query took too long.",
    507: "The query needs too much memory.",
}
_ANYWHERE: Final = (408, 413, 500)
_ASKED: Final = (400, 404, 406, 422, 503, 504, 507)
_MORE: Final = {422: ("field",), 500: ("id",)}
"""What a problem has next to what all have."""
_HEADERS: Final = {401: ("WWW-Authenticate",), 503: ("Retry-After",)}
