"""Trade ids of several parts, for venues whose ids are unique only together with other fields, or within a day."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from k2.model.decimals import clipped
from k2.model.reasons import invalid
from k2.model.times import EPOCH
from k2.venues.reading import checked_trade_id
from k2.venues.table import IdPart, NameField
from k2.venues.table_fields import Reader, name_reader
from k2.venues.table_paths import ABSENT, optional_getter, parse_path

__all__ = ["SEPARATOR", "EntryReader", "FieldOf", "joined_id_reader"]

EntryReader = Callable[[Any, Any], Any]
"""Reads a value of (an entry's value, the message)."""
FieldOf = Callable[[str, Reader], EntryReader]
"""Returns the reader of the field at a path, of the entry or of the message, by the reader of its container."""

SEPARATOR: Final = ":"
"""Stands between the parts. Only the last part may have one itself, so that two ids never become one."""
_MICROSECOND: Final = timedelta(microseconds=1)


def joined_id_reader(parts: list[IdPart], time: EntryReader, field_of: FieldOf) -> EntryReader:
    """Return the reader of a trade id of several parts; `time` reads the venue's time in microseconds.

    The reader raises `RejectedError` for a part that is missing, or has a separator where the next one could begin.
    """
    readers = [_part_reader(part, time, field_of) for part in parts]
    *first, last = zip(parts, readers, strict=True)

    def read(item: Any, root: Any) -> str:
        texts = [_without_separator(part, reader(item, root)) for part, reader in first]
        return checked_trade_id(last[0].path or "trade id", SEPARATOR.join([*texts, last[1](item, root)]))

    return read


def _without_separator(part: IdPart, text: str) -> str:
    if SEPARATOR in text:
        invalid(parse_path(part.path or "").text, f"has a {SEPARATOR!r}, which separates the parts: {clipped(text)}")
    return text


def _part_reader(part: IdPart, time: EntryReader, field_of: FieldOf) -> EntryReader:
    if part.path is None:
        return _day_reader(ZoneInfo(part.day or "UTC"), time)
    read = field_of(part.path, name_reader(NameField(part.path, type=part.type, pattern=part.pattern)))
    if not part.optional:
        return read
    find = field_of(part.path, optional_getter(parse_path(part.path)))

    def read_optional(item: Any, root: Any) -> str:
        value = find(item, root)
        return "" if value is ABSENT or value is None else read(item, root)

    return read_optional


def _day_reader(zone: ZoneInfo, time: EntryReader) -> EntryReader:
    def read(item: Any, root: Any) -> str:
        microseconds: int = time(item, root)
        try:
            return (EPOCH + microseconds * _MICROSECOND).astimezone(zone).date().isoformat()
        except OverflowError:
            invalid("time", f"has no date in {zone.key}: {microseconds}")

    return read
