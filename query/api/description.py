"""What `/openapi.json` says of the answers."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from query.api import problems
from query.api.answers import MEDIA_TYPES
from query.api.keys import OPEN_PATHS
from query.formats import Format

__all__ = ["describe", "document_of", "records_of", "rows_of", "some_rows"]

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


def rows_of(columns: Mapping[str, Mapping[str, Any]]) -> Responses:
    """Describe rows of some columns."""
    row = {"type": "object", "properties": dict(columns), "required": list(columns), "additionalProperties": False}
    return _rows(row)


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


def describe(app: FastAPI, *, has_keys: bool) -> None:
    """Have an application describe its problems as well, and its keys where it has any."""

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
        **found.get("components", {}),
        "securitySchemes": _KEYS if has_keys else {},
        "responses": {"Problem": _PROBLEM},
    }
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["responses"]["default"] = {"$ref": "#/components/responses/Problem"}
            if has_keys and path not in OPEN_PATHS:
                operation["security"] = [{name: []} for name in _KEYS]
    return found


_PROBLEM: Final = {
    "description": "Why there is no answer: wrongly asked (400, 406, 413, 422), no key (401), no such table (404), too "
    "much asked of the server (503, 504, 507), or a fault of it (500).",
    "content": {problems.MEDIA_TYPE: {"schema": problems.SCHEMA}},
}
