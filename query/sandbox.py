"""Free SQL: which statements are taken, by their syntax tree, before DuckDB runs any.

The database itself can open no other file than the tables' own, and none of its settings can be changed; here is
refused what would only fail there, or tell of this process.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from query.engine import Engine, QueryError

__all__ = ["TABLES", "tables_asked"]

TABLES: Final = frozenset({"trades", "sequence_events", "commits", "dead_letters"})
STATEMENT_BYTES_MAX: Final = 262_144
_TABLE_FUNCTIONS: Final = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})
_REFUSED: Final = frozenset({"current_setting", "current_query", "getenv", "getvariable", "which_secret", "write_log"})
_REFUSED_BEGINS: Final = ("json_deserialize", "json_serialize")
_TREE: Final = "SELECT json_serialize_sql($sql) AS tree"


def tables_asked(engine: Engine, sql: str) -> set[str]:
    """Give which of the tables a statement reads.

    Raises:
        QueryError: it is not one SELECT over these tables alone; the sentence names what is refused.
    """
    tree = _tree(engine, sql)
    if len(tree["statements"]) != 1:
        raise QueryError(f"one statement at a time, not {len(tree['statements'])}")
    nodes = [*_nodes(tree)]
    own = {entry["key"].lower() for node in nodes for entry in node.get("cte_map", {}).get("map", ())}
    for node in nodes:
        _check(node, own)
    return {name for node in nodes if _is_table(node) and (name := node["table_name"].lower()) in TABLES}


def _tree(engine: Engine, sql: str) -> dict[str, Any]:
    try:
        size = len(sql.encode())
    except UnicodeEncodeError:
        raise QueryError("SQL: is not UTF-8") from None
    if size > STATEMENT_BYTES_MAX:
        raise QueryError(f"SQL: has {size:,} bytes, of {STATEMENT_BYTES_MAX:,} at the most")
    (row,) = engine.query(_TREE, {"sql": sql})
    tree: dict[str, Any] = msgspec.json.decode(row["tree"])
    if tree["error"]:
        if tree["error_type"] == "not implemented":
            raise QueryError("only SELECT is taken here: nothing is written, opened, installed or set")
        raise QueryError(f"SQL: {tree['error_message']}")
    return tree


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Give each object of a tree, however deep; a statement may be deeper than Python's own stack."""
    todo = [tree]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            yield one
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)


def _is_table(node: dict[str, Any]) -> bool:
    return node.get("type") == "BASE_TABLE"


def _check(node: dict[str, Any], own: set[str]) -> None:
    if _is_table(node):
        name = ".".join(filter(None, (node["catalog_name"], node["schema_name"], node["table_name"])))
        if name.lower() not in TABLES | own:
            raise QueryError(f"there is no table {name!r} here; there are {', '.join(sorted(TABLES))}")
    if node.get("type") == "TABLE_FUNCTION" and node["function"]["function_name"].lower() not in _TABLE_FUNCTIONS:
        raise QueryError(
            f"{node['function']['function_name']}() is refused: a query reads the tables alone, "
            "no files, settings or catalogs"
        )
    name = str(node.get("function_name", "")).lower()
    if name in _REFUSED or name.startswith(_REFUSED_BEGINS):
        raise QueryError(f"{name}() is refused: it tells of the process, not of the tables")
