"""SQL sandbox: checks users' statements by their syntax tree before DuckDB runs them.

The database itself can open no files except the tables' own, and its settings are locked; this check rejects statements
that would only fail there, or that would reveal this process.
"""

from collections.abc import Iterator, Mapping
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Final, NamedTuple

import msgspec

from k2.query.corrected_trades import CORRECTION_VIEWS
from k2.query.engine import Engine, QueryError
from k2.query.sql_errors import describe_syntax_error
from k2.query.sql_macros import DERIVED, TABLE_MACROS

__all__ = ["TABLES", "referenced_tables"]

TABLES: Final = frozenset(
    {"trades", "sequence_events", "commits", "corrections", "dead_letters", "quality", *DERIVED, *CORRECTION_VIEWS}
)
STATEMENT_BYTES_MAX: Final = 262_144
_TABLE_FUNCTIONS: Final = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})
_REJECTED: Final = frozenset({"current_setting", "current_query", "getenv", "getvariable", "which_secret", "write_log"})
_REJECTED_PREFIXES: Final = ("json_deserialize", "json_serialize")
_LOWERCASE: Final = str.maketrans(ascii_uppercase, ascii_lowercase)
_TREE: Final = "SELECT json_serialize_sql($sql) AS tree"
_RESERVED: Final = "SELECT keyword_name AS word FROM duckdb_keywords() WHERE keyword_category = 'reserved'"


def referenced_tables(engine: Engine, sql: str) -> set[str]:
    """Return the names of the tables that a statement reads.

    Raises:
        QueryError: it is not a single SELECT over these tables; the message names what is rejected.
    """
    tree = _tree(engine, sql)
    if len(tree["statements"]) != 1:
        raise QueryError(f"SQL: {len(tree['statements'])} statements; send one at a time")
    referenced = set()
    for node, scope in _nodes(tree):
        _check(node, scope)
        if _is_table(node) and (name := _folded(node["table_name"])) in TABLES:
            referenced.add(name)
        if _is_table_macro(node):
            referenced.add("trades")
    if referenced & {*CORRECTION_VIEWS}:
        referenced |= {"trades", "corrections"}
    return referenced | ({"trades"} if referenced & {*DERIVED} else set())


def _tree(engine: Engine, sql: str) -> dict[str, Any]:
    try:
        size = len(sql.encode())
    except UnicodeEncodeError:
        raise QueryError("SQL: invalid UTF-8; send Unicode text without lone surrogates") from None
    if size > STATEMENT_BYTES_MAX:
        raise QueryError(f"SQL: statement too long: {size:,} bytes; send at most {STATEMENT_BYTES_MAX:,}")
    (row,) = engine.query(_TREE, {"sql": sql})
    try:
        tree: dict[str, Any] = msgspec.json.decode(row["tree"])
    except msgspec.DecodeError:
        # DuckDB writes a number such as 1e400 as an infinity, which JSON cannot represent.
        raise QueryError("SQL: a number is too large; write an infinite one as 'inf'::DOUBLE") from None
    if tree["error"]:
        if tree["error_type"] == "not implemented":
            raise QueryError("SQL: only SELECT is allowed; statements that write, open, install or set are rejected")
        position = int(tree["position"]) if "position" in tree else None
        reserved = {row["word"] for row in engine.query(_RESERVED)}
        raise QueryError(f"SQL: {describe_syntax_error(tree['error_message'], sql, position, reserved)}")
    return tree


class _Scope(NamedTuple):
    """Names defined by WITH: the first `known` entries of its list, and those of the enclosing scope."""

    positions: Mapping[str, int]
    known: int
    outer: "_Scope | None"

    def knows(self, name: str) -> bool:
        scope: _Scope | None = self
        while scope is not None:
            if scope.positions.get(name, scope.known) < scope.known:
                return True
            scope = scope.outer
        return False


_NO_NAMES: Final = _Scope({}, 0, None)


def _nodes(tree: object) -> Iterator[tuple[dict[str, Any], _Scope]]:
    """Yield each object of a tree of any depth, with the names defined there.

    It is iterative, because a statement may be nested more deeply than Python's stack.
    """
    todo: list[tuple[object, _Scope]] = [(tree, _NO_NAMES)]
    while todo:
        one, scope = todo.pop()
        if isinstance(one, dict):
            yield one, scope
            todo.extend(_children(one, scope))
        elif isinstance(one, list):
            todo.extend((part, scope) for part in one)


def _children(node: dict[str, Any], scope: _Scope) -> Iterator[tuple[object, _Scope]]:
    """Yield an object's children with their scopes; a query in a WITH list sees only the names before it."""
    entries = node.get("cte_map", {}).get("map", ())
    if entries:
        positions = {_folded(entry["key"]): position for position, entry in enumerate(entries)}
        yield from ((entry, _Scope(positions, position, scope)) for position, entry in enumerate(entries))
        scope = _Scope(positions, len(entries), scope)
    for name, part in node.items():
        # The anchor of a recursive CTE does not see the CTE's name: there the name may be a file's.
        if name == "right" and node.get("type") == "RECURSIVE_CTE_NODE":
            yield part, _Scope({_folded(node["cte_name"]): 0}, 1, scope)
        elif name != "cte_map":
            yield part, scope


def _folded(name: str) -> str:
    """Return a name as DuckDB compares it: case-insensitive for ASCII letters only."""
    return name.translate(_LOWERCASE)


def _is_table(node: dict[str, Any]) -> bool:
    return node.get("type") == "BASE_TABLE"


def _is_table_macro(node: dict[str, Any]) -> bool:
    """Return whether a node calls one of our table macros; one with a schema could be that of another connection."""
    if node.get("type") != "TABLE_FUNCTION":
        return False
    function = node["function"]
    return _folded(function["function_name"]) in TABLE_MACROS and not (function["catalog"] or function["schema"])


def _check(node: dict[str, Any], scope: _Scope) -> None:
    if _is_table(node):
        qualifiers = [*filter(None, (node["catalog_name"], node["schema_name"]))]
        folded = _folded(node["table_name"])
        if qualifiers or not (folded in TABLES or scope.knows(folded)):
            name = ".".join([*qualifiers, node["table_name"]])
            raise QueryError(f"SQL: unknown table {name!r}; the tables are {', '.join(sorted(TABLES))}")
    if node.get("type") == "SHOW_REF" and node.get("query") is None:
        raise QueryError(f"SQL: SHOW is not allowed; use DESCRIBE on one of the tables {', '.join(sorted(TABLES))}")
    if (
        node.get("type") == "TABLE_FUNCTION"
        and node["function"]["function_name"].lower() not in _TABLE_FUNCTIONS
        and not _is_table_macro(node)
    ):
        raise QueryError(
            f"SQL: function {node['function']['function_name']}() is not allowed; "
            "read only the tables, not files, settings or catalogs"
        )
    name = str(node.get("function_name", "")).lower()
    if name in _REJECTED or name.startswith(_REJECTED_PREFIXES):
        raise QueryError(f"SQL: function {name}() is not allowed, because it reveals the process; read only the tables")
    if name == "vwap":
        _check_vwap(node)


def _check_vwap(node: dict[str, Any]) -> None:
    """Reject a call in the arguments of another: a macro repeats them, so the statement would grow exponentially."""
    if node.get("class") == "WINDOW":
        raise QueryError("SQL: vwap() is a macro and takes no OVER; group by what the window partitions by")
    arguments = (part for key, part in node.items() if isinstance(part, dict | list) and key != "function_name")
    for argument in arguments:
        if any(str(inner.get("function_name", "")).lower() == "vwap" for inner, _ in _nodes(argument)):
            raise QueryError("SQL: vwap() in the arguments of vwap(); compute the inner one in a WITH query")
