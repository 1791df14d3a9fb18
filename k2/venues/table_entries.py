"""Entries of a message, compiled to functions of a table: trades, corrections, head numbers, and the Kafka key."""

from collections.abc import Callable
from typing import Any, NamedTuple

from k2.model.correction import Correction
from k2.model.reasons import RejectedError, SkippedError
from k2.model.symbol_names import EXCHANGE_BYTES_MAX
from k2.model.trade import NO_SIDE, Trade
from k2.venues.table import Condition, HeadForm, NameField, VenueTable
from k2.venues.table_conditions import condition_test
from k2.venues.table_corrections import correction_reader
from k2.venues.table_fields import (
    Reader,
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
from k2.venues.table_paths import parse_path

__all__ = ["RootRejectedError", "entry_reader", "head_reader", "key_reader", "names_trade"]

TradeReader = Callable[[Any, Any], Trade]
"""Reads the trade that an entry is, of (the entry, the message)."""
EntryDecoder = Callable[[Any, Any], Trade | Correction]
"""Reads the trade or correction that an entry is, of (the entry, the message)."""


class RootRejectedError(RejectedError):
    """The rejection of a field that is read from the message's root: its path is not within the trade."""


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
            raise RootRejectedError(error.reason, error.error) from None

    return _Field(read_root, is_root=True)


def _exchange_field(exchange: str | NameField) -> _Field:
    if isinstance(exchange, str):
        return _Field(lambda _: exchange, is_root=True)
    return _field(exchange.path, name_reader(exchange, EXCHANGE_BYTES_MAX))


def _entry_field(path: str, read: Reader) -> EntryReader:
    field = _field(path, read)
    return (lambda _, root: field.read(root)) if field.is_root else (lambda item, _: field.read(item))


def entry_reader(table: VenueTable) -> EntryDecoder:
    """Return the function that reads an entry: a correction by the rules of the table, else a trade."""
    read_trade = _trade_reader(table)
    if not table.corrections:
        return read_trade
    exchange = _exchange_field(table.exchange)
    read_correction = correction_reader(
        table, lambda item, root: exchange.read(root if exchange.is_root else item), _entry_field
    )
    return lambda item, root: read_correction(item, root) or read_trade(item, root)


def _trade_reader(table: VenueTable) -> TradeReader:
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
        sequence = None if number is None else number.read(root if number.is_root else item)
        identity = None if trade_id is None else trade_id.read(root if trade_id.is_root else item)
        return sequence, identity if identity is not None or sequence is None else str(sequence)

    return read


def head_reader(rule: HeadForm, table: VenueTable) -> Callable[[Any], Trade]:
    """Return the function that reads a message which only names the last number of its symbol."""
    exchange, symbol = _exchange_field(table.exchange).read, name_reader(table.key or table.symbol)
    number, none = sequence_reader(rule.number), frozenset(rule.none)
    is_absent = condition_test(Condition(path=rule.number.path, absent=True))

    def read(root: Any) -> Trade:
        if is_absent(root) or (sequence := number(root)) in none:
            raise SkippedError(rule.reason)
        return Trade(exchange(root), symbol(root), None, sequence, 0, 0, NO_SIDE, 0, is_market=False, is_head=True)

    return read


def key_reader(table: VenueTable) -> Callable[[Any, Any], str]:
    """Return the function that reads the Kafka key of (the trade's value, the message)."""
    field, exchange = table.key or table.symbol, _exchange_field(table.exchange)
    symbol = _field(field.path, name_reader(field))
    return lambda item, root: (
        f"{exchange.read(root if exchange.is_root else item)}|{symbol.read(root if symbol.is_root else item)}"
    )


def names_trade(table: VenueTable) -> bool:
    """Return whether a name of the Kafka key is read from a trade."""
    names = [table.key or table.symbol, table.exchange]
    return any(not isinstance(one, str) and not parse_path(one.path).is_root for one in names)
