"""Corrections in a table: which entries of a message cancel or correct a trade, compiled to functions."""

from decimal import Decimal
from typing import Any, Final

import msgspec

from k2.model.correction import Correction, CorrectionKind
from k2.model.decimals import spell_decimal
from k2.venues.table import CorrectionRule, DecimalField, IdPart, NameField, VenueTable
from k2.venues.table_conditions import correction_test
from k2.venues.table_fields import decimal_reader, id_reader, name_reader, time_reader
from k2.venues.table_ids import EntryReader, FieldOf, joined_id_reader
from k2.venues.table_paths import ABSENT, optional_getter, parse_path

__all__ = ["correction_reader"]

_KINDS: Final = {"cancel": CorrectionKind.CANCELLED, "correct": CorrectionKind.CORRECTED}


def correction_reader(table: VenueTable, exchange: EntryReader, field_of: FieldOf) -> EntryReader:
    """Return the reader of the correction that an entry is; it returns None for one that is none.

    It raises `RejectedError` for a correction without a field that its rule names.
    """
    rules = [(correction_test(rule), _rule_reader(rule, table, exchange, field_of)) for rule in table.corrections]

    def read(item: Any, root: Any) -> Correction | None:
        for is_met, read_correction in rules:
            if is_met(item, root):
                correction: Correction = read_correction(item, root)
                return correction
        return None

    return read


def _rule_reader(rule: CorrectionRule, table: VenueTable, exchange: EntryReader, field_of: FieldOf) -> EntryReader:
    symbol, time = rule.symbol or table.symbol, rule.time or table.time
    read_symbol = field_of(symbol.path, name_reader(symbol))
    read_time = field_of(time.path, time_reader(time))
    read_id = _id_reader(rule.trade_id, read_time, field_of)
    read_new_id = _id_reader(rule.new_trade_id, read_time, field_of)
    old_price, new_price = (_decimal(field, field_of) for field in (rule.old_price, rule.new_price))
    # The quantity of a cancelled trade may be 0; that of a corrected one is a trade's.
    old_quantity = _decimal(rule.old_quantity, field_of)
    new_quantity = _decimal(rule.new_quantity, field_of, is_positive=True)
    old_conditions, new_conditions = (_json(path, field_of) for path in (rule.old_conditions, rule.new_conditions))

    def read(item: Any, root: Any) -> Correction:
        return Correction(
            _KINDS[rule.action],
            exchange(item, root),
            read_symbol(item, root),
            read_id(item, root),
            read_new_id(item, root),
            old_price(item, root),
            old_quantity(item, root),
            new_price(item, root),
            new_quantity(item, root),
            old_conditions(item, root),
            new_conditions(item, root),
            read_time(item, root),
        )

    return read


def _nothing(_item: Any, _root: Any) -> None:
    return None


def _id_reader(field: NameField | list[IdPart] | None, time: EntryReader, field_of: FieldOf) -> EntryReader:
    if field is None:
        return _nothing
    return (
        joined_id_reader(field, time, field_of) if isinstance(field, list) else field_of(field.path, id_reader(field))
    )


def _decimal(field: DecimalField | None, field_of: FieldOf, *, is_positive: bool = False) -> EntryReader:
    if field is None:
        return _nothing
    read = field_of(field.path, decimal_reader(field, is_positive=is_positive))
    return lambda item, root: Decimal(spell_decimal(read(item, root)))


def _json(path: str | None, field_of: FieldOf) -> EntryReader:
    """Return the reader of a field as JSON, which is None if it is absent or null."""
    if path is None:
        return _nothing
    find = field_of(path, optional_getter(parse_path(path)))

    def read(item: Any, root: Any) -> str | None:
        value = find(item, root)
        return None if value is ABSENT or value is None else msgspec.json.encode(value, enc_hook=str).decode()

    return read
