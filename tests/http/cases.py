"""Hooks of schemathesis: what a described request must be beyond its description, to be one that is answered."""

from typing import Any

import schemathesis

from k2.query.parameters import time_in

STATEMENT = "SELECT * FROM trades"


@schemathesis.hook
def map_case(_: schemathesis.HookContext, case: Any) -> Any:
    """Return valid requests a time that has a length, and a statement that is SQL: no schema says either."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    start, end = ((case.query or {}).get(name) for name in ("start", "end"))
    if start is not None and end is not None and time_in(start) >= time_in(end):
        case.query["start"], case.query["end"] = end, start
        if time_in(start) == time_in(end):
            del case.query["end"]
    if case.path == "/v1/sql" and case.body.get("sql") is not None:
        case.body["sql"] = STATEMENT
    return case
