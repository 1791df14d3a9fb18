"""The forms of venues' archives and REST answers: tables that say where a file has the fields of a trade."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from k2.model.errors import SettingsError

__all__ = ["Form", "UnknownFormError", "forms", "named_form", "recognise_answer", "recognise_csv", "rows_of"]

_FILE: Final = Path(__file__).with_name("forms.toml")
_WHOLE_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


class UnknownFormError(SettingsError):
    """A file, or an answer, has none of the known forms."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a form, in which an unknown key is an error."""


class TimeColumn(_Strict, frozen=True):
    """The column of the venue's time, and its unit; `ms_or_us` decides by the number of digits."""

    column: str
    unit: Literal["s", "ms", "ms_or_us", "rfc3339"]


class SideColumn(_Strict, frozen=True):
    """The column of the side, and the values that mean a taker who bought, sold, or is not known."""

    column: str
    buy: list[str]
    sell: list[str]
    none: list[str] = []


class Form(_Strict, frozen=True):
    """Where a file or an answer has the fields of a trade. All values are texts, digit by digit as in the file."""

    name: str
    source: str
    """Where the venue documents it."""
    exchange: str
    price: str
    quantity: str
    time: TimeColumn
    side: SideColumn
    symbol: str | None = None
    """None if only the name of the file, or of the request, has it."""
    sequence: str | None = None
    """None if the venue's numbers have gaps that mean nothing: trades are then known by their ids."""
    first_sequence: str | None = None
    trade_id: str | None = None
    """None if it is the number's text."""
    columns: list[str] = []
    """Names of a CSV file's columns, by their place; more columns may follow in a file with a header."""
    header: list[str] = []
    """First lines of CSV files with a header, by which the form is recognised."""
    file: str | None = None
    """A regular expression for the names of files, whose group `symbol` is the symbol."""
    rows: str = ""
    """Path of the trades in an answer, such as `result.*` or `data[].data`: keys with '.' between them, `[]` for each
    element of a list and `*` for each value that is a list; empty if the answer is the list of trades."""
    keys: list[str] = []
    """Keys of a trade of an answer, or indices of its values, by which the form is recognised; none in a CSV form."""

    def symbol_in(self, file: str) -> str | None:
        """Return the symbol that the name of a file contains; None if it has another form."""
        match = self.file and re.search(self.file, file, re.IGNORECASE)
        return match["symbol"] if match else None


class _Forms(_Strict, frozen=True):
    forms: list[Form]


@cache
def forms() -> Mapping[str, Form]:
    """Return the known forms by their names, in the order in which they are tried."""
    return {form.name: form for form in msgspec.toml.decode(_FILE.read_bytes(), type=_Forms).forms}


def named_form(name: str) -> Form:
    """Return a form by its name.

    Raises:
        SettingsError: there is no such form.
    """
    if name not in forms():
        raise SettingsError(f"--form {name!r} is not known; use one of {', '.join(forms())}")
    return forms()[name]


def recognise_csv(file: str, first_line: str) -> Form:
    """Return the form of a CSV file by its first line, or for one without a header by its name as well.

    Raises:
        UnknownFormError: it has none of the known forms.
    """
    fields = first_line.split(",")
    has_header = not any(_WHOLE_NUMBER.fullmatch(field) for field in fields)
    for form in forms().values():
        if has_header:
            if first_line.lower() in {header.lower() for header in form.header}:
                return form
        elif len(fields) == len(form.columns) and form.symbol_in(file):
            return form
    raise _unknown(file, "first line", first_line)


def recognise_answer(file: str, document: object) -> Form:
    """Return the form of a JSON answer by the keys of its first trade.

    Raises:
        UnknownFormError: it has none of the known forms, or no trades.
    """
    for form in forms().values():
        if form.keys and (found := rows_of(form, document)) and _has(found[0], form.keys):
            return form
    raise _unknown(file, "JSON beginning", msgspec.json.encode(document).decode())


def _unknown(file: str, what: str, text: str) -> UnknownFormError:
    shown = text if len(text) <= 60 else f"{text[:60]}..."
    return UnknownFormError(
        f"{file} has no known form ({what} {shown!r}); name one with --form ({', '.join(forms())}), or the venue of a "
        "capture with --venue"
    )


def rows_of(form: Form, document: object) -> Sequence[Any]:
    """Return the trades of an answer; empty if it has no list where the form has them."""
    found: list[Any] = [document]
    for name in filter(None, form.rows.replace("[]", ".[]").split(".")):
        found = [inner for one in found for inner in _step(one, name)]
    return [row for one in found if isinstance(one, list) for row in one]


def _step(value: Any, name: str) -> Collection[Any]:
    if name == "[]":
        return value if isinstance(value, list) else []
    if not isinstance(value, dict):
        return []
    if name == "*":
        return [inner for inner in value.values() if isinstance(inner, list)]
    return [value[name]] if name in value else []


def _has(row: object, keys: Collection[str]) -> bool:
    if isinstance(row, list):
        return all(key.isdecimal() and int(key) < len(row) for key in keys)
    return isinstance(row, dict) and row.keys() >= set(keys)
