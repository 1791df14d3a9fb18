"""OpenAPI description of the responses at `/openapi.json`."""

from collections.abc import Iterable, Mapping
from functools import reduce
from http import HTTPStatus
from operator import or_
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from k2.http import problems
from k2.http.access import OPEN_PATHS
from k2.http.responses import MEDIA_TYPES
from k2.query.output_formats import Format

__all__ = ["any_rows", "document_of", "records_of", "rows_of", "set_openapi"]

_KEYS: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_LIMIT: Final = {
    "K2-Limit": {
        "description": "Maximum number of rows; if the response has this many rows, more may exist.",
        "schema": {"type": "string", "pattern": r"^\d+$"},
    }
}
_ABOUT: Final = "Market trades: rows, bars, average prices, SQL, and integrity reports. All routes are read-only."
Responses = dict[int | str, dict[str, Any]]


def rows_of(
    columns: Mapping[str, Mapping[str, Any]], optional: Mapping[str, Mapping[str, Any]] | None = None
) -> Responses:
    """Return the description of rows with required columns, and optional ones in `optional`."""
    properties = {**columns, **(optional or {})}
    return _rows({"type": "object", "properties": properties, "required": list(columns), "additionalProperties": False})


def any_rows() -> Responses:
    """Return the description of rows with any columns."""
    return _rows({"type": "object"})


def records_of(*kinds: type[Any]) -> Responses:
    """Return the description of a report's rows, all of one of these data classes."""
    model = reduce(or_, [list[kind] for kind in kinds])  # type: ignore[valid-type]
    return {200: {"description": "Rows.", "model": model, "content": _files()}}


def document_of(*kinds: type[Any]) -> Responses:
    """Return the description of one JSON document, of one of these data classes."""
    return {200: {"description": "One document.", "model": reduce(or_, kinds)}}


def set_openapi(app: FastAPI, *, has_keys: bool) -> None:
    """Add problem responses, and security schemes if there are keys, to an application's OpenAPI description."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app, has_keys=has_keys)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _rows(row: Mapping[str, Any]) -> Responses:
    json = {MEDIA_TYPES[Format.JSON]: {"schema": {"type": "array", "items": dict(row)}}}
    return {200: {"description": "Rows.", "headers": _LIMIT, "content": {**json, **_files()}}}


def _files() -> dict[str, Any]:
    return {media_type: {"schema": {}} for form, media_type in MEDIA_TYPES.items() if form is not Format.JSON}


def _build(app: FastAPI, *, has_keys: bool) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
    document["components"] = {
        "schemas": {
            name: schema for name, schema in document["components"]["schemas"].items() if name not in _FASTAPI_SCHEMAS
        },
        "securitySchemes": _KEYS if has_keys else {},
        "responses": {_name(status): _problem(status) for status in _DESCRIPTIONS},
    }
    for path, operations in document["paths"].items():
        is_open = path in OPEN_PATHS
        access = 421 if not has_keys else None if is_open else 401
        for operation in operations.values():
            statuses = {*_ANY_PATH, *(() if is_open else _ANY_QUERY), *((access,) if access else ())}
            operation["responses"] |= _problem_references(statuses)
            if has_keys and not is_open:
                operation["security"] = [{name: []} for name in _KEYS]
    return document


def _problem_references(statuses: Iterable[int]) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in sorted(statuses)}


def _name(status: int) -> str:
    return f"Problem{status}"


def _problem(status: int) -> dict[str, Any]:
    schema = problems.SCHEMA
    properties = {**schema["properties"], "status": {"const": status}, "title": {"const": HTTPStatus(status).phrase}}
    required = [*schema["required"], *_EXTRA_FIELDS.get(status, ())]
    headers = {name: {"required": True, "schema": {"type": "string"}} for name in _HEADERS.get(status, ())}
    content = {problems.MEDIA_TYPE: {"schema": {**schema, "properties": properties, "required": required}}}
    return {"description": _DESCRIPTIONS[status], "headers": headers, "content": content}


_FASTAPI_SCHEMAS: Final = frozenset({"HTTPValidationError", "ValidationError"})
"""Schemas of FastAPI's own validation errors, which this API does not send."""
_DESCRIPTIONS: Final[Mapping[int, str]] = {
    400: "The statement is rejected or cannot be run, or the format cannot encode a value.",
    401: "Missing or invalid key.",
    404: "The snapshot does not exist, or the job, which creates the tables, has not run.",
    406: "None of the accepted formats is available.",
    408: "The request body arrives too slowly.",
    413: "The request body is too large.",
    421: "Host is not a loopback name.",
    422: "Invalid parameters.",
    500: "Internal server error.",
    503: "Too many queries, the server is shutting down, or the catalog or a file cannot be reached.",
    504: "The query exceeded its time limit.",
    507: "The query exceeded the memory limit.",
}
_ANY_PATH: Final = (408, 413, 500)
_ANY_QUERY: Final = (400, 404, 406, 422, 503, 504, 507)
_EXTRA_FIELDS: Final = {422: ("field",), 500: ("id",)}
"""Additional fields of a problem by status."""
_HEADERS: Final = {401: ("WWW-Authenticate",), 503: ("Retry-After",)}
