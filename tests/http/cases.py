"""Hooks of schemathesis: what a generated request needs beyond its description to be accepted."""

from typing import Any

import schemathesis

from k2.query.parameters import time_from_text

STATEMENT = "SELECT * FROM trades"


@schemathesis.hook
def map_case(_: schemathesis.HookContext, case: Any) -> Any:
    """Return valid requests with a non-empty time span and a SQL statement: the schema describes neither."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    start, end = ((case.query or {}).get(name) for name in ("start", "end"))
    if start is not None and end is not None and time_from_text(start) >= time_from_text(end):
        case.query["start"], case.query["end"] = end, start
        if time_from_text(start) == time_from_text(end):
            del case.query["end"]
    if case.path == "/v1/sql" and case.body.get("sql") is not None:
        case.body["sql"] = STATEMENT
    return case
