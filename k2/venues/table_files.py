"""Tables as files: found, read, and refused with the line of the key that is wrong."""

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from k2.model.errors import SettingsError
from k2.model.wording import closest
from k2.venues.table import TABLE_KEYS, VenueTable
from k2.venues.table_rules import TableFault, check_table

__all__ = ["TableFile", "line_of", "read_table"]

_FIELD_ERROR: Final = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_SYNTAX: Final = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)
_FILL: Final = re.compile(r"^\[\[?fill(?:\.[^\]\n]*)?\]\]?[^\n]*\n(?:(?!\[).*(?:\n|\Z))*", re.MULTILINE)
_TOKEN: Final = re.compile(r"[^.\[\]]+|\[\d+\]")
_OWN_KEYS: Final = frozenset({"name", "replaces", "extends", "valid_from", "before"})
"""Name, permission and history are those of one file, not of what it changes."""


class TableFile(msgspec.Struct, frozen=True):
    """A table, its file, and what identifies its content."""

    table: VenueTable
    path: Path
    digest: str
    """Of the texts of the file, of those that it extends, and of the tables before: 16 hexadecimal digits.

    Their sections `[fill]` are left out."""
    before: "TableFile | None" = None
    """The table that was valid before this one; None if there was none."""


def read_table(path: Path, find: Callable[[str], Path | None], later: tuple[Path, ...] = ()) -> TableFile:
    """Read a table, and those before it.

    Args:
        path: the file.
        find: returns the file of the venue that the table extends, or that was valid before; None if there is none.
        later: the files that this table is before, so that a circle is noticed.

    Raises:
        SettingsError: the file cannot be read, or is not a table; the sentence has file, line and key.
    """
    texts: list[str] = []
    values = _merged(path, find, texts, ())
    try:
        table = msgspec.convert(values, VenueTable)
        check_table(table)
    except msgspec.ValidationError as error:
        _refuse_value(path, texts[0], str(error))
    except TableFault as fault:
        raise SettingsError(f"{_placed(path, texts[0], fault.key)}: {fault.key}: {fault.what}") from None
    before = _read_before(table, texts[0], path, find, later)
    if before is not None:
        texts.append(before.digest)
    digest = hashlib.sha256("\0".join(map(_decoding_text, texts)).encode()).hexdigest()[:16]
    return TableFile(table, path, digest, before)


def _decoding_text(text: str) -> str:
    r"""Return a text without its section `[fill]`, which decodes nothing, so that it is in no digest.

    >>> _decoding_text('name = "x"\n\n[fill]\ndays = 7\n')
    'name = "x"\n'
    """
    parts = [part.strip("\n") for part in _FILL.split(text)]
    return text if len(parts) == 1 else "\n\n".join(filter(None, parts)) + "\n"


def _read_before(
    table: VenueTable, text: str, path: Path, find: Callable[[str], Path | None], later: tuple[Path, ...]
) -> TableFile | None:
    if table.before is None:
        return None
    place, found = _placed(path, text, "before"), find(table.before)
    if found is None:
        raise SettingsError(f"{place}: before: there is no table of a venue {table.before!r}")
    if found in (*later, path):
        raise SettingsError(f"{place}: before: {table.before!r} is after this table in turn; remove one of the two")
    before = read_table(found, find, (*later, path))
    if before.table.exchange != table.exchange:
        raise SettingsError(f"{place}: before: {table.before!r} has another exchange; give both tables the same one")
    since, day = before.table.valid_from, table.valid_from
    if since is not None and day is not None and since >= day:
        raise SettingsError(
            f"{place}: before: {table.before!r} is valid from {since}, which is not earlier; correct valid_from"
        )
    return before


def _merged(
    path: Path, find: Callable[[str], Path | None], texts: list[str], extending: tuple[Path, ...]
) -> dict[str, Any]:
    """Return the keys of a file over those of the table that it extends; append the texts of both."""
    text = _read_text(path)
    texts.append(text)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _SYNTAX.fullmatch(str(error))
        what, line = (match[1], match[2]) if match else (str(error), max(len(text.splitlines()), 1))
        raise SettingsError(f"{path} line {line}: not TOML: {what[:1].lower()}{what[1:]}") from None
    name = values.get("extends")
    if not isinstance(name, str):
        return values
    place = _placed(path, text, "extends")
    base = find(name)
    if base is None:
        raise SettingsError(f"{place}: extends: there is no table of a venue {name!r}")
    if base in (*extending, path):
        raise SettingsError(f"{place}: extends: {name!r} extends this table in turn; remove one of the two")
    inherited = _merged(base, find, texts, (*extending, path))
    return {key: value for key, value in inherited.items() if key not in _OWN_KEYS} | values


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _refuse_value(path: Path, text: str, error: str) -> NoReturn:
    match = _FIELD_ERROR.fullmatch(error)
    what, key = (match[1], match[2]) if match else (error, "")
    if unknown := _UNKNOWN.fullmatch(what):
        close = closest(unknown[1], _known_keys(key))
        hint = f"did you mean {close!r}?" if close else "see `k2 venues schema` for the keys"
        full = f"{key}.{unknown[1]}".removeprefix(".")
        raise SettingsError(f"{_placed(path, text, full)}: {full}: unknown key; {hint}") from None
    if missing := _MISSING.fullmatch(what):
        full = f"{key}.{missing[1]}".removeprefix(".")
        raise SettingsError(f"{_placed(path, text, key)}: {full}: missing; see `k2 venues schema`") from None
    plain = f"{what[:1].lower()}{what[1:]}".replace("`", "")
    values = _values_of(key) if what.startswith("Invalid enum value") else []
    hint = f"use one of {', '.join(values)}" if values else "see `k2 venues schema`"
    raise SettingsError(f"{_placed(path, text, key)}: {f'{key}: ' if key else ''}{plain}; {hint}") from None


def _values_of(key: str) -> list[str]:
    """Return the values that a key may have, such as `skip[0].reason`; an empty list if any is valid."""
    schema: dict[str, Any] = msgspec.json.schema(VenueTable)
    parts = list(_choices(schema, schema))
    for token in _TOKEN.findall(key):
        below = [part.get("items") if token[0] == "[" else part.get("properties", {}).get(token) for part in parts]
        parts = [choice for one in below if one is not None for choice in _choices(schema, one)]
    enums = [part["enum"] for part in parts if "enum" in part]
    return [str(value) for value in enums[0]] if len(enums) == 1 else []


def _choices(schema: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a part of the JSON schema may be, with references resolved."""
    for choice in part.get("anyOf", [part]):
        yield schema["$defs"][choice["$ref"].rpartition("/")[2]] if "$ref" in choice else choice


def _known_keys(key: str) -> Mapping[str, Any] | frozenset[str]:
    if not key:
        return TABLE_KEYS
    schema: dict[str, Any] = msgspec.json.schema(VenueTable)
    known = {name for part in schema["$defs"].values() for name in part.get("properties", ())}
    return frozenset(known - TABLE_KEYS)


def _placed(path: Path, text: str, key: str) -> str:
    """Return the file, with the line of a key if the file has it.

    TOML's parser gives no lines, and a key that a table inherits has none, so the line is searched for.
    """
    line = line_of(text, key)
    return f"{path}" if line is None else f"{path} line {line}"


def line_of(text: str, key: str) -> int | None:
    r"""Return the number of the line that has a key, such as `messages[1].trades`; None if there is none.

    >>> line_of('name = "x"\n[[skip]]\n[[skip]]\nreason = "y"\n', "skip[1].reason")
    4
    """
    lines, tokens = text.splitlines(), _TOKEN.findall(key)
    if not tokens:
        return None
    index = int(tokens[1][1:-1]) if len(tokens) > 1 and tokens[1].startswith("[") else 0
    top = re.compile(rf"\s*(?:\[+\s*)?{re.escape(tokens[0])}\s*[\]=.]")
    found = [number for number, line in enumerate(lines) if top.match(line)]
    if not found:
        return None
    at = found[min(index, len(found) - 1)]
    for token in tokens[1:]:
        if token.startswith("["):
            continue
        inner = re.compile(rf"(?<![\w-]){re.escape(token)}\s*=")
        end = next((n for n in range(at + 1, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
        at = next((number for number in range(at, end) if inner.search(lines[number])), at)
    return at + 1
