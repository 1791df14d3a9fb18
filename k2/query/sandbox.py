"""Free SQL: which statements are taken, by their syntax tree, before DuckDB runs any.

The database itself can open no other file than the tables' own, and none of its settings can be changed; here is
refused what would only fail there, or tell of this process.
"""

from collections.abc import Iterator, Mapping
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Final, NamedTuple

import msgspec

from k2.query.engine import Engine, QueryError

__all__ = ["TABLES", "referenced_tables"]

TABLES: Final = frozenset({"trades", "sequence_events", "commits", "dead_letters"})
STATEMENT_BYTES_MAX: Final = 262_144
_TABLE_FUNCTIONS: Final = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})
_REFUSED: Final = frozenset({"current_setting", "current_query", "getenv", "getvariable", "which_secret", "write_log"})
_REFUSED_BEGINS: Final = ("json_deserialize", "json_serialize")
_SMALL: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_TREE: Final = "SELECT json_serialize_sql($sql) AS tree"


def referenced_tables(engine: Engine, sql: str) -> set[str]:
    """Return which of the tables a statement reads.

    Raises:
        QueryError: it is not one SELECT over these tables alone; the sentence names what is refused.
    """
    tree = _tree(engine, sql)
    if len(tree["statements"]) != 1:
        raise QueryError(f"one statement at a time, not {len(tree['statements'])}")
    asked = set()
    for node, scope in _nodes(tree):
        _check(node, scope)
        if _is_table(node) and (name := _folded(node["table_name"])) in TABLES:
            asked.add(name)
    return asked


def _tree(engine: Engine, sql: str) -> dict[str, Any]:
    try:
        size = len(sql.encode())
    except UnicodeEncodeError:
        raise QueryError("SQL: is not UTF-8") from None
    if size > STATEMENT_BYTES_MAX:
        raise QueryError(f"SQL: has {size:,} bytes, of {STATEMENT_BYTES_MAX:,} at the most")
    (row,) = engine.query(_TREE, {"sql": sql})
    try:
        tree: dict[str, Any] = msgspec.json.decode(row["tree"])
    except msgspec.DecodeError:
        # DuckDB writes a number such as 1e400 as an infinity, which JSON has not.
        raise QueryError("SQL: a number is too large; an infinite one is 'inf'::DOUBLE") from None
    if tree["error"]:
        if tree["error_type"] == "not implemented":
            raise QueryError("only SELECT is taken here: nothing is written, opened, installed or set")
        raise QueryError(f"SQL: {tree['error_message']}")
    return tree


class _Scope(NamedTuple):
    """The names that a WITH gives a meaning: those in the first places of its list, and what is known around it."""

    places: Mapping[str, int]
    known: int
    around: "_Scope | None"

    def knows(self, name: str) -> bool:
        scope: _Scope | None = self
        while scope is not None:
            if scope.places.get(name, scope.known) < scope.known:
                return True
            scope = scope.around
        return False


_NOTHING_KNOWN: Final = _Scope({}, 0, None)


def _nodes(tree: object) -> Iterator[tuple[dict[str, Any], _Scope]]:
    """Yield each object of a tree, however deep, with the names that are known there.

    A statement may be deeper than Python's own stack.
    """
    todo: list[tuple[object, _Scope]] = [(tree, _NOTHING_KNOWN)]
    while todo:
        one, scope = todo.pop()
        if isinstance(one, dict):
            yield one, scope
            todo.extend(_within(one, scope))
        elif isinstance(one, list):
            todo.extend((part, scope) for part in one)


def _within(node: dict[str, Any], scope: _Scope) -> Iterator[tuple[object, _Scope]]:
    """Yield an object's parts, each with what is known in it: in a query of a WITH the names before it alone."""
    entries = node.get("cte_map", {}).get("map", ())
    if entries:
        places = {_folded(entry["key"]): place for place, entry in enumerate(entries)}
        yield from ((entry, _Scope(places, place, scope)) for place, entry in enumerate(entries))
        scope = _Scope(places, len(entries), scope)
    for name, part in node.items():
        # The first rows of a recursion know nothing of it: there its name may be a file's.
        if name == "right" and node.get("type") == "RECURSIVE_CTE_NODE":
            yield part, _Scope({_folded(node["cte_name"]): 0}, 1, scope)
        elif name != "cte_map":
            yield part, scope


def _folded(name: str) -> str:
    """Return a name as DuckDB compares it: only letters of ASCII are alike in small and capital."""
    return name.translate(_SMALL)


def _is_table(node: dict[str, Any]) -> bool:
    return node.get("type") == "BASE_TABLE"


def _check(node: dict[str, Any], scope: _Scope) -> None:
    if _is_table(node):
        place = [*filter(None, (node["catalog_name"], node["schema_name"]))]
        folded = _folded(node["table_name"])
        if place or not (folded in TABLES or scope.knows(folded)):
            name = ".".join([*place, node["table_name"]])
            raise QueryError(f"there is no table {name!r} here; there are {', '.join(sorted(TABLES))}")
    if node.get("type") == "SHOW_REF" and node.get("query") is None:
        raise QueryError(
            f"SHOW is refused; there are the tables {', '.join(sorted(TABLES))}, and DESCRIBE tells of one"
        )
    if node.get("type") == "TABLE_FUNCTION" and node["function"]["function_name"].lower() not in _TABLE_FUNCTIONS:
        raise QueryError(
            f"{node['function']['function_name']}() is refused: a query reads the tables alone, "
            "no files, settings or catalogs"
        )
    name = str(node.get("function_name", "")).lower()
    if name in _REFUSED or name.startswith(_REFUSED_BEGINS):
        raise QueryError(f"{name}() is refused: it tells of the process, not of the tables")
