"""The reference decoder of a table: its fields and rules compiled to functions once, when the table is loaded."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from k2.model.correction import Correction
from k2.model.decimals import clipped
from k2.model.reasons import Reason, RejectedError, SkippedError, invalid
from k2.model.symbol_names import EXCHANGE_BYTES_MAX
from k2.model.trade import NO_SIDE, Trade
from k2.venues.connection_reader import connection_reader
from k2.venues.payloads import payload_of
from k2.venues.reading import read_json
from k2.venues.table import Condition, HeadForm, MessageForm, NameField, VenueTable
from k2.venues.table_corrections import correction_reader
from k2.venues.table_drift import DriftFinder, FormFit
from k2.venues.table_fields import (
    Reader,
    article,
    decimal_reader,
    id_reader,
    kind_reader,
    name_reader,
    range_reader,
    sequence_reader,
    side_reader,
    time_reader,
)
from k2.venues.table_ids import EntryReader, joined_id_reader
from k2.venues.table_kernel import compiled_decoder
from k2.venues.table_paths import ABSENT, finder, getter, items_getter, items_with_places, parse_path, place, type_name
from k2.venues.table_rules import takes_arrays
from k2.venues.venue import SequenceMode, Venue

__all__ = ["venue_of"]

MODES: Final = {
    "contiguous": SequenceMode.CONTIGUOUS,
    "range": SequenceMode.RANGE,
    "monotonic": SequenceMode.MONOTONIC,
    "identity_only": SequenceMode.IDENTITY_ONLY,
    "none": SequenceMode.IDENTITY_ONLY,
}
Test = Callable[[Any], bool]
ItemReader = Callable[[Any, Any], Trade]
"""Reads a trade of (the trade's value, the message)."""
EntryDecoder = Callable[[Any, Any], Trade | Correction]
"""Reads what an entry is, as `ItemReader`."""


class _RootRejectedError(RejectedError):
    """The rejection of a field that is read from the message's root: its path is not within the trade."""


def venue_of(table: VenueTable) -> Venue:
    """Return the venue that a table describes; the table must be valid (see `k2.venues.table_rules`)."""
    decoder, payload = _Decoder(table), payload_of(table.payload)
    return Venue(
        table.name,
        MODES[table.numbering],
        decoder.decode if payload is None else lambda value: decoder.decode(payload.unpack(value)),
        compiled_decoder(table),
        decoder.key if payload is None else lambda value: decoder.key(payload.unpack(value)),
        exchange=table.exchange if isinstance(table.exchange, str) else None,
        drift=DriftFinder(
            table,
            decoder.fit if payload is None else lambda value: decoder.fit(payload.unpack(value)),
            _other_entry_test(table),
        ),
        payload=payload,
        time_field=_time_field(table),
        counts_numbers=table.count is not None,
        view_of=table.view_of,
        connection=connection_reader(table),
        has_corrections=bool(table.corrections),
    )


def _time_field(table: VenueTable) -> str:
    """Return the path of the time for errors, with `{index}` if the index of a trade is that of one list."""
    path = parse_path(table.time.path)
    at = parse_path(table.messages[0].trades, takes_each=True).text
    if path.is_root or not at:
        return path.text
    is_plain = len(table.messages) == 1 and at.count("[]") == 1 and table.messages[0].order == "oldest_first"
    return place(at.replace("[]", "[{index}]") if is_plain and not _drops_entries(table) else at, path.text)


def _drops_entries(table: VenueTable) -> bool:
    return any(kinds.skipped for kinds in table.kinds)


class _Decoder:
    """The functions of one table."""

    def __init__(self, table: VenueTable) -> None:
        self._texts = {text.encode(): rule.reason for rule in table.skip for text in rule.texts}
        self._skips = [(_all_of(rule.when), rule.reason) for rule in table.skip if rule.when]
        self._forms = [_Form(form, table.name) for form in table.messages]
        self._heads = [(_all_of(rule.when), _head_reader(rule, table)) for rule in table.heads]
        self._takes_arrays = takes_arrays(table)
        self._read_entry = _entry_reader(table)
        self._key = _key_reader(table)
        # If the names are in the message itself, also a message of another form has a key.
        self._needs_trade = _names_trade(table) and any(form.path.steps for form in self._forms)
        self._unwrap = _unwrapper(table)

    def decode(self, value: bytes) -> Sequence[Trade | Correction]:
        """Decode one message to its trades and corrections; see `k2.venues.venue.ReferenceDecoder`."""
        root = self._root(value)
        form = self._form_of(root)
        if form is None:
            return [self._head_of(root)]
        if not form.path.steps:
            return [self._read_entry(root, root)]
        trades, why = list[Trade | Correction](), "no_trades"
        for idx, item in enumerate(form.items(root)):
            try:
                trades.append(self._read_entry(item, root))
            except SkippedError as skipped:
                why = skipped.why
            except RejectedError as error:
                raise form.placed(error, root, idx) from None
        if not trades:
            raise SkippedError(why)
        if form.is_newest_first:
            trades.reverse()
        return trades

    def key(self, value: bytes) -> str:
        """Return the Kafka key of a message; see `k2.venues.venue.KeyReader`."""
        root = self._root(value)
        if not self._needs_trade:
            return self._key(root, root)
        form = self._form_of(root)
        if form is None:
            return self._key(root, root)
        items = form.items(root)
        if not items:
            raise SkippedError("no_trades")
        try:
            return self._key(items[0], root)
        except RejectedError as error:
            raise form.placed(error, root, 0) from None

    def fit(self, value: bytes) -> FormFit:
        """Return the form of a message, or the nearest one and what it lacks; raise as `decode` if it is skipped."""
        root = self._root(value)
        fits = [FormFit(root, idx, form.unfulfilled(root)) for idx, form in enumerate(self._forms)]
        if all(one.unfulfilled is not None for one in fits) and self._is_head(root):
            raise SkippedError("head_number")
        nearest = max(fits, key=lambda one: self._forms[one.form_idx].count_fulfilled(root))
        return next((one for one in fits if one.unfulfilled is None), nearest)

    def _root(self, value: bytes) -> Any:
        """Return the message without its wrapper; raise if it is not JSON of the right kind, or is skipped."""
        if value in self._texts:
            raise SkippedError(self._texts[value])
        root = self._unwrap(read_json(value))
        if type(root) is not dict and not (self._takes_arrays and type(root) is list):
            expected = "object or array" if self._takes_arrays else "object"
            raise RejectedError(Reason.MALFORMED, f"value: expected {expected}, got {type_name(root)}")
        for is_skipped, reason in self._skips:
            if is_skipped(root):
                raise SkippedError(reason)
        return root

    def _form_of(self, root: Any) -> "_Form | None":
        """Return the form of a message; None for one that only names the last number."""
        for form in self._forms:
            if form.fits(root):
                return form
        if self._is_head(root):
            return None
        # The form of which most conditions hold says best what is wrong.
        nearest = max(self._forms, key=lambda form: form.count_fulfilled(root))
        nearest.refuse(root)
        raise AssertionError("a form that does not fit refuses the message")

    def _is_head(self, root: Any) -> bool:
        return any(fits(root) for fits, _ in self._heads)

    def _head_of(self, root: Any) -> Trade:
        return next(read(root) for fits, read in self._heads if fits(root))


class _Form:
    """One form of messages with trades."""

    def __init__(self, form: MessageForm, venue: str) -> None:
        self.path = parse_path(form.trades, takes_each=True)
        self.items = items_getter(self.path)
        self.is_newest_first = form.order == "newest_first"
        self._venue = venue
        self._conditions = [(condition, _test(condition)) for condition in form.when]
        tests = [test for _, test in self._conditions]
        self.fits: Test = tests[0] if len(tests) == 1 else lambda root: all(test(root) for test in tests)

    def placed(self, error: RejectedError, root: Any, idx: int) -> RejectedError:
        """Return the rejection of a trade with the place of the trade before the path of its field."""
        if isinstance(error, _RootRejectedError):
            return error
        at = items_with_places(self.path, root)[idx][1]
        if at and error.error.startswith("value:"):
            # The trade itself is wrong, not one of its fields.
            return RejectedError(error.reason, at + error.error.removeprefix("value"))
        return RejectedError(error.reason, place(at, error.error))

    def count_fulfilled(self, root: Any) -> int:
        """Return the number of conditions that hold, up to the first that does not."""
        for count, (_, test) in enumerate(self._conditions):
            if not test(root):
                return count
        return len(self._conditions)

    def unfulfilled(self, root: Any) -> Condition | None:
        """Return the first condition that does not hold, or None."""
        return next((condition for condition, test in self._conditions if not test(root)), None)

    def refuse(self, root: Any) -> None:
        """Raise the rejection by the first condition that does not hold: a field is missing, or has another value."""
        for condition, test in self._conditions:
            if not test(root):
                path = parse_path(condition.path)
                value = getter(path)(root)
                self._check_type(condition, path.text, value)
                error = f"{path.text}: {_shown(value)} is not read from {article(self._venue)} {self._venue} topic"
                raise RejectedError(Reason.UNSUPPORTED, error)

    @staticmethod
    def _check_type(condition: Condition, at: str, value: object) -> None:
        """Raise if the value has not the type of those that are read."""
        known: Sequence[object] = condition.one_of or [condition.matches or value]
        types = {type(one) for one in known}
        if type(value) not in types:
            invalid(at, f"expected {' or '.join(sorted(one.__name__ for one in types))}, got {type_name(value)}")


class _Field(NamedTuple):
    """The reader of a field, and whether it reads the message instead of the trade."""

    read: Reader
    is_root: bool


def _field(path: str, read: Reader) -> _Field:
    if not path.startswith("$"):
        return _Field(read, is_root=False)

    def read_root(root: Any) -> Any:
        try:
            return read(root)
        except RejectedError as error:
            raise _RootRejectedError(error.reason, error.error) from None

    return _Field(read_root, is_root=True)


def _exchange_field(exchange: str | NameField) -> _Field:
    if isinstance(exchange, str):
        return _Field(lambda _: exchange, is_root=True)
    return _field(exchange.path, name_reader(exchange, EXCHANGE_BYTES_MAX))


def _entry_field(path: str, read: Reader) -> EntryReader:
    field = _field(path, read)
    return (lambda _, root: field.read(root)) if field.is_root else (lambda item, _: field.read(item))


def _entry_reader(table: VenueTable) -> EntryDecoder:
    """Return the function that reads what an entry is: a correction by the rules of the table, else a trade."""
    read_trade = _trade_reader(table)
    if not table.corrections:
        return read_trade
    exchange = _exchange_field(table.exchange)
    read_correction = correction_reader(
        table, lambda item, root: exchange.read(root if exchange.is_root else item), _entry_field, _test
    )
    return lambda item, root: read_correction(item, root) or read_trade(item, root)


def _trade_reader(table: VenueTable) -> ItemReader:
    """Return the function that reads one trade. Of a non-market trade, only name, number and time are read."""
    exchange, exchange_at_root = _exchange_field(table.exchange)
    symbol, symbol_at_root = _field(table.symbol.path, name_reader(table.symbol))
    price, price_at_root = _field(table.price.path, decimal_reader(table.price, is_positive=False))
    quantity, quantity_at_root = _field(table.quantity.path, decimal_reader(table.quantity, is_positive=True))
    side, side_at_root = _field("" if table.side is None else table.side.path, side_reader(table.side))
    time, time_at_root = _field(table.time.path, time_reader(table.time))
    identify = _identity_reader(table)
    first_of = _range_field(table)
    is_market = kind_reader(table.kinds, table.name) if table.kinds else None

    def read(item: Any, root: Any) -> Trade:
        # The kind comes first, because an entry that is left out need not have a number.
        market = is_market is None or is_market(item)
        number, trade_id = identify(item, root)
        return Trade(
            exchange(root if exchange_at_root else item),
            symbol(root if symbol_at_root else item),
            trade_id,
            number,
            price(root if price_at_root else item) if market else 0,
            quantity(root if quantity_at_root else item) if market else 0,
            side(root if side_at_root else item) if market else NO_SIDE,
            time(root if time_at_root else item),
            None,
            market,
            first_sequence=None if first_of is None or number is None else first_of(item, root, number),
        )

    return read


def _range_field(table: VenueTable) -> Callable[[Any, Any, int], int | None] | None:
    """Return the function that reads the first number of a range, of (the trade's value, the message, last number)."""
    field, read = table.first_sequence or table.count, range_reader(table.first_sequence, table.count)
    if field is None or read is None:
        return None
    is_root = parse_path(field.path).is_root
    return lambda item, root, last: read(root if is_root else item, last)


def _identity_reader(table: VenueTable) -> Callable[[Any, Any], tuple[int | None, str | None]]:
    """Return the function that reads sequence number and trade id, which is the number's text if it has no field."""
    number = None if table.sequence is None else _field(table.sequence.path, sequence_reader(table.sequence))
    if isinstance(table.trade_id, list):
        read_id = joined_id_reader(table.trade_id, _entry_field(table.time.path, time_reader(table.time)), _entry_field)
        return lambda item, root: (
            None if number is None else number.read(root if number.is_root else item),
            read_id(item, root),
        )
    trade_id = None if table.trade_id is None else _field(table.trade_id.path, id_reader(table.trade_id))
    if number is not None and trade_id is None:
        read_number, number_at_root = number

        def read_numbered(item: Any, root: Any) -> tuple[int, str]:
            sequence: int = read_number(root if number_at_root else item)
            return sequence, str(sequence)

        return read_numbered

    def read(item: Any, root: Any) -> tuple[int | None, str | None]:
        return (
            None if number is None else number.read(root if number.is_root else item),
            None if trade_id is None else trade_id.read(root if trade_id.is_root else item),
        )

    return read


def _head_reader(rule: HeadForm, table: VenueTable) -> Callable[[Any], Trade]:
    """Return the function that reads a message which only names the last number of its symbol."""
    exchange, symbol = _exchange_field(table.exchange).read, name_reader(table.key or table.symbol)
    number, none = sequence_reader(rule.number), frozenset(rule.none)
    is_absent = _test(Condition(path=rule.number.path, absent=True))

    def read(root: Any) -> Trade:
        if is_absent(root) or (sequence := number(root)) in none:
            raise SkippedError(rule.reason)
        return Trade(exchange(root), symbol(root), None, sequence, 0, 0, NO_SIDE, 0, is_market=False, is_head=True)

    return read


def _key_reader(table: VenueTable) -> Callable[[Any, Any], str]:
    field, exchange = table.key or table.symbol, _exchange_field(table.exchange)
    symbol = _field(field.path, name_reader(field))
    return lambda item, root: (
        f"{exchange.read(root if exchange.is_root else item)}|{symbol.read(root if symbol.is_root else item)}"
    )


def _unwrapper(table: VenueTable) -> Callable[[Any], Any]:
    if table.envelope is None:
        return lambda root: root
    inner, own = finder(parse_path(table.envelope.path)), finder(parse_path(table.envelope.unless))

    def unwrap(root: Any) -> Any:
        if own(root) is not ABSENT:
            return root
        message = inner(root)
        return root if message is ABSENT else message

    return unwrap


def _all_of(conditions: Sequence[Condition]) -> Test:
    tests = [_test(condition) for condition in conditions]
    return tests[0] if len(tests) == 1 else lambda root: all(test(root) for test in tests)


def _other_entry_test(table: VenueTable) -> Callable[[Any, Any], bool]:
    """Return the function that says of (an entry, the message) whether it is a correction, or left out by its kind."""
    left_out = [_test(Condition(path=one.path, one_of=one.skipped)) for one in table.kinds if one.skipped]
    corrections = [
        [(_test(condition), parse_path(condition.path).is_root) for condition in rule.when]
        for rule in table.corrections
    ]

    def is_other(item: Any, root: Any) -> bool:
        return any(test(item) for test in left_out) or any(
            all(test(root if is_root else item) for test, is_root in tests) for tests in corrections
        )

    return is_other


def _test(condition: Condition) -> Test:
    find = finder(parse_path(condition.path))
    if condition.absent:

        def is_absent(root: Any) -> bool:
            value = find(root)
            return value is ABSENT or value is None

        return is_absent
    if condition.present:
        return lambda root: find(root) is not ABSENT
    if condition.matches is not None:
        match = re.compile(condition.matches, re.DOTALL).fullmatch

        def is_matched(root: Any) -> bool:
            value = find(root)
            return type(value) is str and match(value) is not None

        return is_matched
    values = {(type(value), value) for value in condition.one_of or ()}

    def is_one(root: Any) -> bool:
        value = find(root)
        return not _is_container(value) and (type(value), value) in values

    return is_one


def _is_container(value: object) -> bool:
    return type(value) is dict or type(value) is list


def _names_trade(table: VenueTable) -> bool:
    """Return whether a name of the Kafka key is read from a trade."""
    names = [table.key or table.symbol, table.exchange]
    return any(not isinstance(one, str) and not parse_path(one.path).is_root for one in names)


def _shown(value: object) -> str:
    return clipped(value) if not _is_container(value) else type_name(value)
