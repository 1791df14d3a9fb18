"""Drift: what a message has that the table of its venue does not know, or lacks that the table names."""

import json
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from k2.model.decimals import clipped
from k2.model.reasons import RejectedError, SkippedError
from k2.venues.reading import NumberText
from k2.venues.table import (
    Condition,
    CorrectionRule,
    DecimalField,
    Envelope,
    IdPart,
    MessageForm,
    NameField,
    NumberField,
    SideField,
    TimeField,
    Value,
    VenueTable,
)
from k2.venues.table_paths import ABSENT, Finder, finder, items_getter, parse_path, type_name

__all__ = ["Change", "Drift", "DriftFinder", "FormFit"]

TRADES_MAX: Final = 8
"""Trades of a message that are looked at: the first ones."""
ELEMENTS_MAX: Final = 32
"""Elements of an array with a fixed number of them that are looked at."""
PATH_CHARACTERS_MAX: Final = 100
"""A longer path of a new key is cut off."""
_EACH: Final = "[]"
_KINDS: Final = {str: "text", int: "number", NumberText: "number"}
_ACCEPTED: Final = {"text": ("text",), "number": ("number",), "any": ("number", "text")}


class Change(StrEnum):
    """How messages differ from what a table says."""

    NEW_KEY = "new_key"
    """A key that the table does not name, although it lists the keys that it does not use (`known`)."""
    NEW_VALUE = "new_value"
    """Another value than those that the table names: of a side, of a kind, or of a form of messages."""
    CHANGED_TYPE = "changed_type"
    """A field that is text instead of a number, or the like."""
    MISSING_KEY = "missing_key"
    """A field that the table needs, and the message has not."""


class Drift(NamedTuple):
    """One difference."""

    change: Change
    path: str
    """As a table writes it: from the trade, or from the message if it begins with `$`."""
    value: str
    """The value, clipped; for a changed type both types, and empty for a missing key."""

    @property
    def identity(self) -> tuple[Change, str, str]:
        """What this difference has in common with the same one in other messages: not the values of a new key."""
        return self.change, self.path, "" if self.change is Change.NEW_KEY else self.value


class FormFit(NamedTuple):
    """A message, and the form of its table that it has."""

    root: Any
    """The message without its wrapper."""
    form_idx: int
    """The form of which most conditions hold."""
    unfulfilled: Condition | None
    """The first of its conditions that does not hold; None if the message has the form."""


class DriftFinder:
    """Finds how single messages differ from a table.

    It parses a message again in plain Python, which takes some 30 us, so it is meant for samples.
    """

    def __init__(
        self, table: VenueTable, fit: Callable[[bytes], FormFit], is_other: Callable[[Any, Any], bool]
    ) -> None:
        """Compile the paths of a valid table.

        Args:
            table: the table.
            fit: returns the form of a message; raises `SkippedError` for one that is skipped, and `RejectedError` for
                one that is not JSON.
            is_other: says of (an entry, the message) whether it is no trade: a correction, or left out.
        """
        self.is_complete = table.known is not None
        """Whether the table lists the keys that it does not use, so that others are new."""
        self._fit = fit
        self.earlier: DriftFinder | None = None
        """That of the table that was valid before: a message has no drift if it has none for this one."""
        self._forms = [_FormDrift(table, form, is_other) for form in table.messages]

    def drift(self, value: bytes) -> list[Drift]:
        """Return how a message differs; nothing for one that is skipped, or is not JSON.

        New keys are among them only if the table lists the keys that it does not use.
        """
        found = [one for one in self._differences(value) if self.is_complete or one.change is not Change.NEW_KEY]
        return [] if found and self.earlier is not None and not self.earlier.drift(value) else found

    def unused_keys(self, value: bytes) -> list[str]:
        """Return the paths of the keys of a message that the table neither names nor lists."""
        found = [one.path for one in self._differences(value) if one.change is Change.NEW_KEY]
        return [] if found and self.earlier is not None and not self.earlier.unused_keys(value) else found

    def _differences(self, value: bytes) -> list[Drift]:
        try:
            fit = self._fit(value)
        except (SkippedError, RejectedError):
            return []
        if fit.unfulfilled is not None:
            return [_unfulfilled(fit.unfulfilled, fit.root)]
        # A message has a difference once, however many of its trades have it.
        return [*dict.fromkeys(self._forms[fit.form_idx].differences(fit.root))]


def _unfulfilled(condition: Condition, root: Any) -> Drift:
    value, path = finder(parse_path(condition.path))(root), _from_message(condition.path)
    if value is ABSENT:
        return Drift(Change.MISSING_KEY, path, "")
    names: Sequence[Value] = condition.one_of or [condition.matches or ""]
    return _other_value(path, value, [] if condition.absent else names)


def _from_message(path: str) -> str:
    """Return a condition's path, which begins at the message with or without `$`, as one that has it."""
    return path if path.startswith("$") else f"${path}" if path.startswith("[") else f"$.{path}"


def _other_value(path: str, value: object, known: Sequence[Value]) -> Drift:
    """Return the difference of a value that is none of the known ones; of another type if it has that of none."""
    kinds = sorted({_kind(one) for one in known})
    if kinds and _kind(value) not in kinds:
        return Drift(Change.CHANGED_TYPE, path, f"{_kind(value)} instead of {' or '.join(kinds)}")
    return Drift(Change.NEW_VALUE, path, _shown(value))


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type_name(value))


def _shown(value: object) -> str:
    return clipped(json.dumps(value) if isinstance(value, dict | list | bool) else value)


class _Field(NamedTuple):
    """A field of a trade."""

    path: str
    find: Finder
    is_root: bool
    accepts: tuple[str, ...]
    is_optional: bool
    is_of_market: bool
    """Whether only market trades have it."""


class _Choice(NamedTuple):
    """A field of a trade whose values the table names."""

    path: str
    find: Finder
    is_root: bool
    values: frozenset[tuple[type, Value]]
    is_optional: bool
    market: frozenset[tuple[type, Value]] | None
    """The values of market trades; None if the field does not tell them from others."""


class _FormDrift:
    """The differences of the messages of one form."""

    def __init__(self, table: VenueTable, form: MessageForm, is_other: Callable[[Any, Any], bool]) -> None:
        path = parse_path(form.trades, takes_each=True)
        self._is_other = is_other
        self._trades = form.trades
        self._items = items_getter(path) if path.steps else _itself
        self._keys = _Keys(table, path.steps)
        self._fields = [*_fields(table)]
        self._choices = [*_choices(table)]

    def differences(self, root: Any) -> Iterator[Drift]:
        """Yield the differences of a message that has the form."""
        yield from self._keys.unknown(root)
        try:
            items = self._items(root)
        except RejectedError as error:
            path, _, what = error.error.partition(": ")
            is_missing = what == "missing"
            change = Change.MISSING_KEY if is_missing else Change.CHANGED_TYPE
            yield Drift(change, _from_message(path), "" if is_missing else what)
            return
        for item in items[:TRADES_MAX]:
            if not self._is_other(item, root):
                yield from self._of_trade(item, root)

    def _of_trade(self, item: Any, root: Any) -> Iterator[Drift]:
        is_market = True
        for choice in self._choices:
            value = choice.find(root if choice.is_root else item)
            if choice.market is not None:
                is_market = is_market and (value is ABSENT or _identity(value) in choice.market)
            elif not is_market:
                continue
            if value is ABSENT or value is None:
                if not choice.is_optional:
                    yield _absent(choice.path, value)
            elif _identity(value) not in choice.values:
                yield _other_value(choice.path, value, [one for _, one in choice.values])
        for field in self._fields:
            value = field.find(root if field.is_root else item)
            if field.is_of_market and not is_market:
                continue
            if value is ABSENT or value is None:
                if not field.is_optional:
                    yield _absent(field.path, value)
            elif _kind(value) not in field.accepts:
                what = f"{_kind(value)} instead of {' or '.join(field.accepts)}"
                yield Drift(Change.CHANGED_TYPE, field.path, what)


def _itself(root: Any) -> list[Any]:
    return [root]


def _absent(path: str, value: object) -> Drift:
    if value is None:
        return Drift(Change.CHANGED_TYPE, path, "null")
    return Drift(Change.MISSING_KEY, path, "")


def _identity(value: Any) -> tuple[type, Any]:
    """Return a value with its type, so that true is not 1; containers are no values of a choice."""
    return type(value), None if isinstance(value, dict | list) else value


def _fields(table: VenueTable) -> Iterator[_Field]:
    """Yield the fields with a type, which are all but the side."""
    names = "exchange", "symbol", "sequence", "first_sequence", "count", "trade_id", "price", "quantity", "time"
    for name in names:
        field: str | NameField | list[IdPart] | NumberField | DecimalField | TimeField | None = getattr(table, name)
        if field is None or isinstance(field, str | list):
            continue
        path = parse_path(field.path)
        is_optional = isinstance(field, NameField | NumberField) and field.optional
        accepts = ("text",) if isinstance(field, TimeField) and field.unit == "rfc3339" else _ACCEPTED[field.type]
        is_of_market = name in {"price", "quantity"}
        yield _Field(field.path, finder(path), path.is_root, accepts, is_optional, is_of_market)


def _choices(table: VenueTable) -> Iterator[_Choice]:
    """Yield the fields whose values the table names: first the kinds of trades, because others have no side."""
    for kinds in table.kinds:
        values = frozenset(map(_identity, (*kinds.market, *kinds.non_market, *kinds.skipped)))
        find, market = finder(parse_path(kinds.path)), frozenset(map(_identity, kinds.market))
        yield _Choice(kinds.path, find, is_root=False, values=values, is_optional=bool(kinds.absent), market=market)
    side = table.side
    if isinstance(side, SideField) and not side.by_sign:
        path, values = parse_path(side.path), frozenset(map(_identity, (*side.buy, *side.sell, *side.none)))
        yield _Choice(side.path, finder(path), path.is_root, values, side.optional, None)


class _Node:
    """A place in messages, with the places within it that a table names."""

    def __init__(self) -> None:
        self.keys: dict[str, _Node] = {}
        self.indexes: dict[int, _Node] = {}
        self.each: _Node | None = None
        self.is_trade = False
        self.is_whole = False
        """Whether everything within it is known."""

    def within(self, steps: Sequence[str | int]) -> "_Node":
        """Return the place to which a path leads from here; it is added if it is new."""
        node = self
        for idx, step in enumerate(steps):
            # What a table says of one object of a list holds for all of them.
            is_object = idx + 1 < len(steps) and isinstance(steps[idx + 1], str) and steps[idx + 1] != _EACH
            if step == _EACH or (isinstance(step, int) and is_object):
                node.each = node = node.each or _Node()
            elif isinstance(step, int):
                node = node.indexes.setdefault(step, _Node())
            else:
                node = node.keys.setdefault(step, _Node())
        return node


class _Keys:
    """The keys that the messages of one form may have."""

    def __init__(self, table: VenueTable, trades: Sequence[str | int]) -> None:
        self._root = _Node()
        trade = self._root.within(trades)
        trade.is_trade = True
        for path in _named_paths(table):
            parsed = parse_path(path)
            (self._root if parsed.is_root else trade).within(parsed.steps)
        for path in table.known or ():
            parsed = parse_path(path)
            place = (self._root if parsed.is_root else trade).within(parsed.steps)
            # In another form, the trade may be where this one has a key that is not used.
            place.is_whole = not place.is_trade

    def unknown(self, root: Any) -> Iterator[Drift]:
        """Yield the keys, and the elements of arrays with a fixed number of them, that the table does not name."""
        return _unknown(self._root, root, "$")


def _named_paths(part: msgspec.Struct) -> Iterator[str]:
    """Yield each path that a table, or a part of it, names; those of conditions begin at the message.

    Those of the conditions of a correction begin at the entry.
    """
    if isinstance(part, CorrectionRule):
        yield from (one for one in (part.old_conditions, part.new_conditions) if one is not None)
    for name in part.__struct_fields__:
        value = getattr(part, name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, Condition):
                yield one.path if isinstance(part, CorrectionRule) else _from_message(one.path)
            elif isinstance(one, msgspec.Struct) and not isinstance(one, Envelope):
                path = getattr(one, "path", None)
                # An element counted from the end, which a connection's number may be, has no place of its own.
                yield from () if path is None or "[-" in path else (path,)
                yield from _named_paths(one)


def _unknown(node: _Node, value: Any, at: str) -> Iterator[Drift]:
    """Yield the unknown keys of a place; `at` is its path."""
    if node.is_trade:
        at = ""
    if node.is_whole or not (node.keys or node.indexes or node.each):
        return
    if type(value) is dict:
        places = [(node.keys.get(key), f"{at}.{key}" if at else key, one) for key, one in value.items()]
    elif type(value) is list and node.each is not None:
        places = [(node.each, f"{at}[]", one) for one in value[:TRADES_MAX]]
    elif type(value) is list:
        places = [(node.indexes.get(idx), f"{at}[{idx}]", one) for idx, one in enumerate(value[:ELEMENTS_MAX])]
    else:
        return
    for child, path, one in places:
        if child is not None:
            yield from _unknown(child, one, path)
        else:
            yield Drift(Change.NEW_KEY, _printable(path), _shown(one))


def _printable(path: str) -> str:
    """Return a path that any log can hold: keys are what others write."""
    path = path[:PATH_CHARACTERS_MAX]
    return path if path.isprintable() else ascii(path)[1:-1]
