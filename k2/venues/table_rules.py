"""What a table must fulfil in addition to the types of its keys."""

import re
import zoneinfo
from collections.abc import Iterator
from typing import Final

from k2.model.symbol_names import EXCHANGE_BYTES_MAX
from k2.venues.connection_paths import parse_connection_path
from k2.venues.table import (
    Condition,
    CorrectionRule,
    DecimalField,
    IdPart,
    NameField,
    NumberField,
    SideField,
    TimeField,
    VenueTable,
)
from k2.venues.table_paths import parse_path

__all__ = ["TableFault", "check_table", "takes_arrays"]

Field = NameField | NumberField | DecimalField | TimeField | SideField

_EXCHANGE: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")
_OF_EACH: Final = frozenset({"price", "quantity", "time", "side"})
"""Fields that differ from trade to trade; a message may have one name, or one time, for all, but not that of one."""
_NUMBERS: Final = ("sequence", "first_sequence", "count")


class TableFault(ValueError):  # noqa: N818  a fault of a table, which its file turns into an error
    """What is wrong with a key of a table."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key}: {what}")
        self.key = key
        self.what = what


def check_table(table: VenueTable) -> None:
    """Check the values of a table and how they fit together.

    Raises:
        TableFault: for the first that is wrong.
    """
    _check_paths(table)
    _check_exchange(table)
    _check_numbering(table)
    _check_identity(table)
    _check_values(table)
    _check_side(table.side)
    if table.time.zone is not None and table.time.unit != "rfc3339":
        raise TableFault("time.zone", "is that of rfc3339 times; numbers count from 1970 in UTC, so remove it")
    _check_kinds(table)
    if (table.valid_from is None) != (table.before is None):
        lacking, given = ("before", "valid_from") if table.before is None else ("valid_from", "before")
        raise TableFault(given, f"needs {lacking} as well; give both, or neither")
    _check_connection(table)
    if isinstance(table.trade_id, list):
        _check_id_parts("trade_id", table.trade_id, takes_root=not _has_lists(table))
    for idx, correction in enumerate(table.corrections):
        _check_correction(f"corrections[{idx}]", correction, takes_root=not _has_lists(table))
    for idx, form in enumerate(table.messages):
        for at, condition in enumerate(form.when):
            _check_condition(f"messages[{idx}].when[{at}]", condition)
    if table.view_of == table.name:
        raise TableFault("view_of", "is this venue itself; name the other one")
    for idx, head in enumerate(table.heads):
        _check_path(f"heads[{idx}].number.path", head.number.path)
        for at, condition in enumerate(head.when):
            _check_condition(f"heads[{idx}].when[{at}]", condition)
        if _has_elements(table) and not (table.key or table.symbol).path.startswith("$"):
            raise TableFault(f"heads[{idx}]", "has no symbol, which is a field of the trades; add key")
    for idx, rule in enumerate(table.skip):
        if not rule.texts and not rule.when:
            raise TableFault(f"skip[{idx}]", "skips every message; give texts or when")
        for at, condition in enumerate(rule.when):
            _check_condition(f"skip[{idx}].when[{at}]", condition)


def _check_paths(table: VenueTable) -> None:
    for key, field in _fields(table):
        _check_path(f"{key}.path", field.path)
        if isinstance(field, NameField | NumberField) and field.pattern is not None:
            _check_pattern(f"{key}.pattern", field.pattern)
    for idx, form in enumerate(table.messages):
        _check_path(f"messages[{idx}].trades", form.trades, is_list=True)
    for idx, kinds in enumerate(table.kinds):
        _check_path(f"kinds[{idx}].path", kinds.path)
        if kinds.path.startswith("$"):
            raise TableFault(f"kinds[{idx}].path", "begins at the message; name a field of the trade")
    for idx, path in enumerate(table.known or ()):
        _check_path(f"known[{idx}]", path)
    if table.envelope is not None:
        _check_path("envelope.path", table.envelope.path)
        _check_path("envelope.unless", table.envelope.unless)


def _fields(table: VenueTable) -> Iterator[tuple[str, Field]]:
    names = ("exchange", "symbol", "price", "quantity", "time", "side", "trade_id", "key")
    for key in (*names, *_NUMBERS):
        field = getattr(table, key)
        if field is not None and not isinstance(field, str | list):
            yield key, field


def _check_path(key: str, path: str, *, is_list: bool = False) -> None:
    try:
        parse_path(path, takes_each=is_list)
    except ValueError as error:
        raise TableFault(key, str(error)) from None


def _check_pattern(key: str, pattern: str) -> None:
    groups = _compiled(key, pattern).groups
    if groups != 1:
        raise TableFault(key, f"has {groups} groups; put parentheses around the name alone: {pattern!r}")


def _compiled(key: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise TableFault(key, f"not a regular expression ({error}): {pattern!r}") from None


def _check_exchange(table: VenueTable) -> None:
    exchange = table.exchange
    if isinstance(exchange, str) and (not _EXCHANGE.fullmatch(exchange) or len(exchange.encode()) > EXCHANGE_BYTES_MAX):
        raise TableFault("exchange", f"must have 1 to {EXCHANGE_BYTES_MAX} bytes without control characters")


def _check_numbering(table: VenueTable) -> None:
    has_number, has_id = table.sequence is not None, table.trade_id is not None
    match table.numbering:
        case "contiguous" | "range" | "monotonic" if not has_number:
            raise TableFault("numbering", f"{table.numbering} needs a sequence; name its field, or choose another")
        case "identity_only" if not has_number and not has_id:
            raise TableFault(
                "numbering", "identity_only needs a trade_id or a sequence; name its field, or choose none"
            )
        case "none" if has_number or has_id:
            raise TableFault("numbering", "none has neither sequence nor trade_id; remove them, or choose another")
    if table.sequence is not None and table.sequence.optional:
        raise TableFault("sequence.optional", "is for first_sequence and count; remove it")
    bounds = [key for key in ("first_sequence", "count") if getattr(table, key) is not None]
    if table.numbering == "range" and len(bounds) != 1:
        raise TableFault("numbering", "range needs either first_sequence or count; name the field of one of them")
    if table.numbering != "range" and bounds:
        raise TableFault(bounds[0], 'is that of a range; remove it, or choose numbering = "range"')


def _check_identity(table: VenueTable) -> None:
    """Refuse a number or id of the message for its trades: all but the first would be dropped as duplicates."""
    if not _has_lists(table):
        return
    for key in (*_NUMBERS, "trade_id"):
        field = getattr(table, key)
        if field is not None and not isinstance(field, list) and field.path.startswith("$"):
            raise TableFault(
                f"{key}.path", "begins at the message, which can have several trades; name a field of the trade"
            )


def _has_lists(table: VenueTable) -> bool:
    return any("[]" in form.trades for form in table.messages)


def _check_id_parts(key: str, parts: list[IdPart], *, takes_root: bool) -> None:
    """Check the parts of an id; some part must be of the trade if a message can have several."""
    for idx, part in enumerate(parts):
        if (part.path is None) == (part.day is None):
            raise TableFault(f"{key}[{idx}]", "must have exactly one of path and day")
        if part.path is not None:
            _check_path(f"{key}[{idx}].path", part.path)
        if part.pattern is not None:
            _check_pattern(f"{key}[{idx}].pattern", part.pattern)
        if part.day is not None and part.day not in zoneinfo.available_timezones():
            raise TableFault(f"{key}[{idx}].day", f"unknown time zone: {part.day!r}; use a name as America/New_York")
    own = [part for part in parts if part.path is not None and not part.optional]
    if not any(takes_root or not (part.path or "").startswith("$") for part in own):
        raise TableFault(key, "has no field that each trade must have; name one in path")


def _check_correction(key: str, rule: CorrectionRule, *, takes_root: bool) -> None:
    for at, condition in enumerate(rule.when):
        _check_condition(f"{key}.when[{at}]", condition)
    for name in ("trade_id", "new_trade_id"):
        field = getattr(rule, name)
        if isinstance(field, list):
            _check_id_parts(f"{key}.{name}", field, takes_root=takes_root)
        elif field is not None:
            _check_name(f"{key}.{name}", field)
    if rule.symbol is not None:
        _check_name(f"{key}.symbol", rule.symbol)
    for name in ("old_price", "old_quantity", "new_price", "new_quantity", "time"):
        field = getattr(rule, name)
        if field is not None:
            _check_path(f"{key}.{name}.path", field.path)
    for name in ("old_conditions", "new_conditions"):
        if (path := getattr(rule, name)) is not None:
            _check_path(f"{key}.{name}", path)
    new = [name for name in ("new_trade_id", "new_price", "new_quantity", "new_conditions") if getattr(rule, name)]
    if rule.action == "cancel" and new:
        raise TableFault(f"{key}.{new[0]}", 'a cancelled trade has no new values; remove it, or use action = "correct"')
    if rule.action == "correct" and not (rule.new_price and rule.new_quantity):
        raise TableFault(key, 'action = "correct" needs new_price and new_quantity; name their fields')
    if isinstance(rule.trade_id, NameField) and rule.trade_id.optional:
        raise TableFault(f"{key}.trade_id.optional", "a correction names the trade that it means; remove optional")


def _check_name(key: str, field: NameField) -> None:
    _check_path(f"{key}.path", field.path)
    if field.pattern is not None:
        _check_pattern(f"{key}.pattern", field.pattern)


def _check_values(table: VenueTable) -> None:
    """Refuse a value of one trade for all trades of a message, as by `$.data[0].px` with the trades in `data[]`."""
    for key, field in _fields(table):
        path = parse_path(field.path)
        if key not in _OF_EACH or not path.is_root:
            continue
        for form in table.messages:
            trades = parse_path(form.trades, takes_each=True).steps
            for own, step in zip(path.steps, trades, strict=False):
                if step == "[]" and isinstance(own, int):
                    raise TableFault(
                        f"{key}.path", f"is that of one trade for all in {form.trades}; name a field of the trade"
                    )
                if own != step:
                    break


def _check_side(side: SideField | None) -> None:
    if side is None:
        return
    if side.by_sign and (side.buy or side.sell or side.none):
        raise TableFault("side.by_sign", "excludes buy, sell and none; use one or the other")
    if not side.by_sign and not (side.buy and side.sell):
        raise TableFault("side", "has no values; give buy and sell, or by_sign = true")
    values = [(type(value), value) for value in (*side.buy, *side.sell, *side.none)]
    twice = [value for idx, (_, value) in enumerate(values) if values[idx] in values[:idx]]
    if twice:
        raise TableFault("side", f"names a value twice: {twice[0]!r}")


def _check_kinds(table: VenueTable) -> None:
    for idx, kinds in enumerate(table.kinds):
        values = [(type(value), value) for value in (*kinds.market, *kinds.non_market, *kinds.skipped)]
        twice = [value for at, (_, value) in enumerate(values) if values[at] in values[:at]]
        if twice:
            raise TableFault(f"kinds[{idx}]", f"names a value twice: {twice[0]!r}")
        if kinds.non_market and table.sequence is None:
            raise TableFault(f"kinds[{idx}].non_market", "uses a number, but there is no sequence; use skipped")
        if kinds.non_market and table.count is not None:
            # Of numbers without a row, a start does not know which trade had which.
            raise TableFault(
                f"kinds[{idx}].non_market",
                "is not distinguished from other trades if their ranges may interleave; use first_sequence instead of "
                'count, or numbering = "monotonic"',
            )


def _has_elements(table: VenueTable) -> bool:
    return any(form.trades for form in table.messages)


def _check_connection(table: VenueTable) -> None:
    if table.connection is None:
        return
    if table.payload != "json":
        raise TableFault("connection", "is read from JSON messages only; remove it, or payload")
    if not isinstance(table.exchange, str):
        raise TableFault("connection", "needs one exchange for all messages; give exchange as text")
    for key in ("number", "id"):
        field = getattr(table.connection, key)
        if field is not None:
            try:
                parse_connection_path(field.path)
            except ValueError as error:
                raise TableFault(f"connection.{key}.path", str(error)) from None


def _check_condition(key: str, condition: Condition) -> None:
    _check_path(f"{key}.path", condition.path)
    given = (condition.one_of, condition.matches, condition.present, condition.absent)
    if sum(one is not None for one in given) != 1:
        raise TableFault(key, "must have exactly one of one_of, matches, present and absent")
    if condition.one_of is not None and not condition.one_of:
        raise TableFault(f"{key}.one_of", "has no values, so no message fits; name those that fulfil it")
    if condition.matches is not None:
        _compiled(f"{key}.matches", condition.matches)


def takes_arrays(table: VenueTable) -> bool:
    """Return whether a message may be an array: some path begins at one of its elements."""
    paths = [form.trades for form in table.messages] + [one.path for form in table.messages for one in form.when]
    steps = [parse_path(path, takes_each=True).steps for path in paths]
    return any(first[:1] == ("[]",) or isinstance(first[0], int) for first in steps if first)
