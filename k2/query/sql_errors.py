"""DuckDB's errors on users' statements in plain words, with what to write instead."""

import re
from collections.abc import Callable, Collection
from typing import Final

from k2.model.errors import first_line

__all__ = ["describe_error", "describe_syntax_error"]


def describe_error(error: BaseException) -> str:
    r"""Return one sentence for DuckDB's error on a statement; a misspelled name comes with the names that are similar.

    >>> describe_error(ValueError('Binder Error: Referenced column "pric" not found in FROM clause!\n'
    ...                           'Candidate bindings: "price", "partition"\n\nLINE 1: ...'))
    'unknown column "pric"; similar names: "price", "partition"'
    """
    text = str(error)
    for pattern, describe in _DESCRIPTIONS:
        if found := pattern.search(text):
            similar = _SIMILAR.search(text)
            return describe(found) + (f"; similar names: {similar[1]}" if similar else "")
    if _DECIMAL_OVERFLOW in text:
        return f"{first_line(error)} Use vwap(price, quantity), or notional and price_double of trades_derived"
    return first_line(error)


def describe_syntax_error(message: str, statement: str, position: int | None, keywords: Collection[str]) -> str:
    """Return DuckDB's syntax error, and how to quote the reserved word next to it if it may be meant as a name.

    `position` is the index of the character at which DuckDB failed, and `keywords` are its reserved words.

    >>> describe_syntax_error('syntax error at or near "FROM"', "SELECT offset FROM trades", 14, {"offset", "from"})
    'syntax error at or near "FROM"; offset is a reserved word: if it is a name here, write "offset" in double quotes'
    """
    if position is None:
        return message
    before, at = _WORD_BEFORE.search(statement[:position]), _WORD_AT.match(statement[position:])
    for word, words in ((before, _CLAUSE_OR_NAME), (at, {*keywords} - _NO_NAMES)):
        if word is not None and word[1].lower() in words:
            return (
                f"{message}; {word[1]} is a reserved word: if it is a name here, "
                f'write "{word[1].lower()}" in double quotes'
            )
    return message


_DESCRIPTIONS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]] = (
    (re.compile(r'^Binder Error: Referenced column (".*?") not found'), lambda found: f"unknown column {found[1]}"),
    (
        re.compile(r'^Binder Error: (?:Table|Values list) (".*?") does not have a column named (".*?")'),
        lambda found: f"unknown column {found[2]} of {found[1]}",
    ),
    (re.compile(r'^Binder Error: Referenced table (".*?") not found'), lambda found: f"unknown table {found[1]}"),
    (
        re.compile(r"^Catalog Error: (?:\w+ )*Function with name (\S+) does not exist"),
        lambda found: f"unknown function {found[1]}()",
    ),
)
_SIMILAR: Final = re.compile(r"^(?:Candidate (?:bindings|tables): |Did you mean )([^\n?]+)", re.MULTILINE)
_DECIMAL_OVERFLOW: Final = "Overflow in multiplication of DECIMAL"
_WORD_BEFORE: Final = re.compile(r'(?<![\w"])([A-Za-z_]+)\s*$')
_WORD_AT: Final = re.compile(r"([A-Za-z_]+)")
# A clause may begin with these, so DuckDB fails only at the word after it.
_CLAUSE_OR_NAME: Final = frozenset({"limit", "offset"})
# Where one of these is unexpected, something else is wrong.
_NO_NAMES: Final = frozenset({"and", "as", "from", "group", "having", "on", "or", "order", "select", "union", "where"})
