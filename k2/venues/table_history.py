"""Venues whose form changed on a day: each message is decoded by the table that was valid when its trades happened."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from k2.model.correction import Correction
from k2.model.reasons import HEAD_NUMBER, Reason, RejectedError, SkippedError
from k2.model.symbol_names import SymbolTable
from k2.model.times import EPOCH, time_of
from k2.model.trade import Trade
from k2.venues.rows import MESSAGE, TIMESTAMP
from k2.venues.table import NumberField, VenueTable
from k2.venues.table_decoder import venue_of
from k2.venues.table_files import TableFile
from k2.venues.venue import CompiledDecoder, Venue

__all__ = ["venue_of_file"]

_MICROSECONDS: Final = 1_000_000


def venue_of_file(file: TableFile) -> Venue:
    """Return the venue that a table describes, with the tables that were valid before it."""
    venue = venue_of(file.table)
    if file.before is None:
        return venue
    dated = _DatedDecoder(file, venue, venue_of_file(file.before))
    compiled = venue.decode_compiled
    if venue.drift is not None:
        venue.drift.earlier = dated.earlier.drift
    return replace(
        venue,
        decode=dated.decode,
        decode_compiled=None if compiled is None else _leaving_earlier(compiled, dated.valid_from),
        key=dated.key,
        has_corrections=venue.has_corrections or dated.earlier.has_corrections,
    )


class _DatedDecoder:
    """Decodes by a table, or by the one that was valid before.

    What decides is in the message: which tables it fits, and if both, its newest trade time. So the result is the same
    whenever it is read, however old the recording is.
    """

    def __init__(self, file: TableFile, later: Venue, earlier: Venue) -> None:
        assert file.before is not None
        assert file.table.valid_from is not None
        self.earlier = earlier
        self._later = later
        self._day = file.table.valid_from
        midnight = datetime.combine(self._day, time(), UTC) - EPOCH
        self.valid_from = midnight.days * 86_400 * _MICROSECONDS
        """Microseconds since the epoch."""
        table, before = file.table, file.before.table
        self._has_same_numbers = _numbering(table) == _numbering(before)
        self._has_same_payload = len(_payloads(file)) == 1

    def decode(self, value: bytes) -> Sequence[Trade | Correction]:
        """Decode one message to its trades; see `k2.venues.venue.ReferenceDecoder`.

        Raises:
            RejectedError: as the table does, if neither fits; `unsupported` if a message that only the earlier table
                fits has a trade since the later one is valid.
        """
        try:
            trades = self._later.decode(value)
        except RejectedError as error:
            return self._decode_earlier_form(value, error)
        if _newest(trades) >= self.valid_from or any(isinstance(one, Trade) and one.is_head for one in trades):
            return trades
        try:
            return self._of_earlier(self.earlier.decode(value))
        except (RejectedError, SkippedError):
            return trades

    def _decode_earlier_form(self, value: bytes, error: RejectedError) -> Sequence[Trade | Correction]:
        if error.reason is Reason.MALFORMED and self._has_same_payload:
            raise error
        try:
            trades = self.earlier.decode(value)
        except RejectedError:
            raise error from None
        newest = _newest(trades)
        if newest < self.valid_from:
            return self._of_earlier(trades)
        raise RejectedError(
            Reason.UNSUPPORTED,
            f"value: a message of {self.earlier.name}, dated {time_of(newest):%Y-%m-%d}, but {self._later.name} is "
            f"valid from {self._day} ({error.error})",
        ) from None

    def _of_earlier(self, entries: Sequence[Trade | Correction]) -> Sequence[Trade | Correction]:
        """Return trades without their numbers if those are of another numbering: they would be holes in this one.

        Raises:
            SkippedError: nothing is left, because the message only names the last number of that numbering.
        """
        if self._has_same_numbers:
            return entries
        kept = [
            one._replace(sequence=None, first_sequence=None) if isinstance(one, Trade) else one
            for one in entries
            if isinstance(one, Correction) or not one.is_head
        ]
        if not kept:
            raise SkippedError(HEAD_NUMBER)
        return kept

    def key(self, value: bytes) -> str:
        """Return the Kafka key of a message of either form; see `k2.venues.venue.KeyReader`."""
        try:
            return self._later.key(value)
        except RejectedError as error:
            try:
                return self.earlier.key(value)
            except RejectedError:
                raise error from None


def _numbering(table: VenueTable) -> tuple[str | NumberField | None, ...]:
    return table.numbering, table.sequence, table.first_sequence, table.count


def _payloads(file: TableFile) -> set[str]:
    """Return the payload formats of a table and of all tables before it."""
    return {file.table.payload} | (set() if file.before is None else _payloads(file.before))


def _newest(entries: Sequence[Trade | Correction]) -> int:
    return max(one.timestamp for one in entries)


def _leaving_earlier(kernel: CompiledDecoder, valid_from: int) -> CompiledDecoder:
    """Return a compiled decoder that leaves the messages of which all trades are before a time."""

    def decode(
        data: NDArray[np.uint8],
        starts: NDArray[np.int64],
        sizes: NDArray[np.int32],
        table: SymbolTable,
        rows: NDArray[np.int64],
        others: NDArray[np.int32],
    ) -> tuple[int, int, int]:
        read, row_count, left_count = kernel(data, starts, sizes, table, rows, others)
        found = rows[:row_count]
        is_later = found[:, TIMESTAMP] >= valid_from
        if is_later.all():
            return read, row_count, left_count
        messages = found[:, MESSAGE]
        has_later = np.zeros(read, dtype=np.bool_)
        has_later[messages[is_later]] = True
        is_kept = has_later[messages]
        # One message a row, its index first.
        places = others.reshape(len(others), -1)
        dropped = np.unique(messages[~is_kept])
        added = np.zeros((len(dropped), places.shape[1]), dtype=np.int32)
        added[:, 0] = dropped
        left = np.concatenate([places[:left_count], added])
        kept = found[is_kept]
        rows[: len(kept)], places[: len(left)] = kept, left[np.argsort(left[:, 0], kind="stable")]
        return read, len(kept), len(left)

    return decode
