"""Decoding a batch: each message has one outcome, and both decoders agree on it."""

import gc
import gzip
import json
import os
import subprocess
import sys
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import NULL_TIME
from k2.model.key_groups import GROUPS, group_of
from k2.model.symbols import Symbols
from k2.model.trade import BUY, SELL, Trade
from k2.venues import VENUES, SequenceMode, Venue
from k2.venues.decode import decode, decode_by_reference
from k2.venues.rows import MESSAGE_BYTES_MAX, WIDTH
from k2.venues.slices import empty_slice, split
from tests.venues.messages import BINANCE_MESSAGE, K2_MESSAGE, batch_of, outcome, rows_of, value_of

CAPTURE: Final = Path(__file__).parents[1] / "data" / "binance-spot-btcusdt-20240808.ndjson.gz"
LINES: Final = gzip.decompress(CAPTURE.read_bytes()).splitlines()

LEFT_TO_THE_REFERENCE: Final = [
    K2_MESSAGE.replace(b"binance", b"b\\u0069nance"),
    K2_MESSAGE.replace(b"BTCUSDT", "币安".encode()),
    K2_MESSAGE.replace(b"}", b',"side":"buy"}'),
    K2_MESSAGE.replace(b"}", b',"deep":[1]}'),
    K2_MESSAGE.replace(b'"0.02"', b"2e-2"),
    K2_MESSAGE.replace(b"61837.63", b"61837.6300000000000000"),
    K2_MESSAGE.replace(b":7,", b":-0,").replace(b'"a7"', b"null"),
    K2_MESSAGE.replace(b":7,", b":9223372036854775807,"),
    K2_MESSAGE.replace(b"15.4Z", b"15.4+00:00"),
]
TAKEN: Final = [
    K2_MESSAGE,
    K2_MESSAGE.replace(b",", b" ,\n").replace(b":7", b"\t: 7\r"),
    K2_MESSAGE.replace(b"}", b',"other":-1.5e+3,"more":null,"yes":true,"no":false,"text":"x"}'),
    K2_MESSAGE.replace(b'"trade_id":"a7",', b""),
    K2_MESSAGE.replace(b'"a7"', b"null").replace(b":7,", b":-7,"),
    K2_MESSAGE.replace(b'"a7"', b"null").replace(b'"sequence":7,', b""),
    K2_MESSAGE.replace(b'"61837.63"', b"-61837.63").replace(b'"sell"', b"null"),
    K2_MESSAGE.replace(b'"sell"', b'"buy"').replace(b'"2024-08-08T23:54:15.4Z"', b"null"),
    K2_MESSAGE.replace(b'"received"', b'"ignored"'),
]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["buy", "sell", "trade", "1.5", "-0", "0", "1e5", "2024-08-08T23:54:15.4Z", ""]),
)
pieces = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [b'"', b"\\", b",", b":", b"{", b"}", b"[", b" ", b"-", b".", b"e", b"0", b"9", b"null", b"\x7f", b"\x00"]
    ),
)


@st.composite
def changed(draw: st.DrawFn, sample: bytes) -> bytes:
    """Return a message with some fields changed, left out, added or put in another order."""
    fields = json.loads(sample)
    for name in draw(st.lists(st.sampled_from([*fields, "other", "data", "result"]), max_size=3)):
        fields[name] = draw(scalars)
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=2)):
        fields.pop(name, None)
    order = draw(st.permutations(sorted(fields)))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), ("\n,\t", " :\r")]))
    text = json.dumps({name: fields[name] for name in order}, separators=separators, ensure_ascii=draw(st.booleans()))
    return text.encode(errors="surrogatepass")


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """Return a message with some bytes removed or inserted."""
    value = draw(source)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(value)))
        value = value[:start] + draw(pieces) + value[start + draw(st.integers(0, 4)) :]
    return value


def values_of(sample: bytes) -> st.SearchStrategy[list[bytes | None]]:
    """Return batches of good, changed, mutated and invalid messages."""
    good = st.just(sample)
    bad = st.one_of(changed(sample), mutated(good), mutated(changed(sample)), st.binary(max_size=40))
    return st.lists(st.one_of(good, bad, st.none()), max_size=8)


@given(values_of(K2_MESSAGE))
def test_both_decoders_agree_on_canonical_messages(values: list[bytes | None]) -> None:
    """Same rows and rejections in the same order, whichever decoder read which message."""
    batch = batch_of(values)
    assert outcome(decode(batch)) == outcome(decode_by_reference(batch))


@pytest.mark.parametrize("venue", ["k2-monotonic", "k2-identity-only"])
def test_all_canonical_venues_decode_alike(venue: str) -> None:
    """With either decoder: the venues differ only in the meaning of numbers."""
    values: list[bytes | None] = [*TAKEN, b"x", *LEFT_TO_THE_REFERENCE, None]
    expected = outcome(decode(batch_of(values)))
    batch = batch_of(values, venue)
    assert outcome(decode(batch)) == outcome(decode_by_reference(batch)) == expected
    assert VENUES[venue].key(K2_MESSAGE) == VENUES["k2"].key(K2_MESSAGE) == "binance|BTCUSDT"


@given(values_of(BINANCE_MESSAGE))
def test_both_decoders_agree_on_binance_events(values: list[bytes | None]) -> None:
    """Same rows and rejections in the same order, whichever decoder read which message."""
    batch = batch_of(values, "binance-spot")
    assert outcome(decode(batch)) == outcome(decode_by_reference(batch))


@given(st.lists(mutated(st.sampled_from(LINES)), min_size=1, max_size=8))
def test_both_decoders_agree_on_a_mutated_capture(values: list[bytes]) -> None:
    """The same for real messages with bytes removed and inserted."""
    batch = batch_of(values, "binance-spot")
    assert outcome(decode(batch)) == outcome(decode_by_reference(batch))


@pytest.mark.parametrize("sample", [K2_MESSAGE, BINANCE_MESSAGE])
def test_both_decoders_agree_on_every_changed_byte(sample: bytes) -> None:
    """Each byte of a message is replaced by each of many, and each is removed."""
    others = b'\x00\x1f "+-./09:;AZ\\]`eEz{}~\x7f\x80\xff,[tn'
    values: list[bytes | None] = [sample[:at] + sample[at + 1 :] for at in range(len(sample))]
    values += [sample[:at] + bytes([byte]) + sample[at + 1 :] for at in range(len(sample)) for byte in others]
    values += [sample[:at] for at in range(len(sample))]
    batch = batch_of(values, "k2" if sample is K2_MESSAGE else "binance-spot")
    assert outcome(decode(batch)) == outcome(decode_by_reference(batch))


def left_by_the_kernel(values: list[bytes]) -> int:
    """Count the messages that the compiled decoder of canonical messages leaves to the reference."""
    batch, kernel = batch_of(values), VENUES["k2"].decode_compiled
    assert kernel is not None
    rows, left = np.empty((len(values), WIDTH), dtype=np.int64), np.empty((len(values), 2), dtype=np.int32)
    return kernel(batch.data, batch.value_starts, batch.value_sizes, Symbols().table, rows, left)[2]


def test_the_kernel_decodes_plain_messages_only() -> None:
    """All of these are trades; only the decoder that reads them differs."""
    assert left_by_the_kernel(TAKEN) == 0
    assert left_by_the_kernel(LEFT_TO_THE_REFERENCE) == len(LEFT_TO_THE_REFERENCE)
    decoded = decode(batch_of([*TAKEN, *LEFT_TO_THE_REFERENCE]))
    assert len(decoded.trades.columns) == len(TAKEN) + len(LEFT_TO_THE_REFERENCE)


def test_rows_of_the_reference_are_in_message_order() -> None:
    """A merged batch equals one that a single decoder read, ids of both kinds included."""
    odd = LEFT_TO_THE_REFERENCE[1].replace(b'"a7"', '"ü7"'.encode())
    decoded = decode(batch_of([odd, K2_MESSAGE, b"x", odd, K2_MESSAGE, None]))
    columns = decoded.trades.columns
    assert columns.messages.tolist() == [0, 1, 3, 4]
    assert [columns.trade_id(row) for row in range(4)] == ["ü7", "a7", "ü7", "a7"]
    assert [decoded.trades.offset(row) for row in range(4)] == [100, 101, 103, 104]
    assert [message for message, _ in decoded.rejected] == [2, 5]


def test_trades_of_one_message_stay_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between those of the loop, however many there are; non-market trades are marked by their rows."""
    venue = VENUES["k2"]

    def several(value: bytes) -> list[Trade]:
        (trade,) = venue.decode(value)
        return [trade._replace(is_market=index % 3 > 0) for index in range(100)]

    monkeypatch.setitem(VENUES, "k2", replace(venue, decode=several))
    decoded = decode(batch_of([K2_MESSAGE, LEFT_TO_THE_REFERENCE[0], K2_MESSAGE, LEFT_TO_THE_REFERENCE[0]]))
    columns = decoded.trades.columns
    assert columns.messages.tolist() == [0, *[1] * 100, 2, *[3] * 100]
    assert columns.indexes.tolist() == [0, *range(100), 0, *range(100)]
    assert decoded.non_market.tolist() == [*range(1, 101, 3), *range(102, 202, 3)]


def test_a_batch_without_trades_has_no_non_market_rows() -> None:
    """The reference rejected all messages that the loop left."""
    assert decode(batch_of([K2_MESSAGE, b"x"])).non_market.tolist() == []


def test_a_capture_is_decoded_digit_for_digit() -> None:
    """Nine thousand real trades, compared with a plain script's reading of each line."""
    decoded = decode(batch_of(LINES, "binance-spot"))
    assert not decoded.rejected
    assert not len(decoded.skipped)
    columns = decoded.trades.columns
    assert len(columns) == len(LINES) == 9_757
    for row, line in enumerate(LINES):
        event = json.loads(line)
        assert columns.name(row) == ("binance", "BTCUSDT")
        assert Decimal(f"{value_of(columns.prices[row])}e-18") == Decimal(event["p"])
        assert Decimal(f"{value_of(columns.quantities[row])}e-18") == Decimal(event["q"])
        assert columns.trade_id(row) == str(event["t"])
        assert columns.sequences[row] == event["t"]
        assert columns.sides[row] == (SELL if event["m"] else BUY)
        assert columns.timestamps[row] == event["T"] * 1000
    assert columns.has_sequence.all()
    assert (columns.received == NULL_TIME).all()
    assert (np.diff(columns.sequences) == 1).all()
    first = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(columns.timestamps[0]))
    assert first.date().isoformat() in ("2024-08-08", "2024-08-09")


def test_a_message_too_large_is_rejected_unread() -> None:
    """A message at the limit is read; with one byte more it is not, even if it is a valid trade."""
    fits = K2_MESSAGE + b" " * (MESSAGE_BYTES_MAX - len(K2_MESSAGE))
    decoded = decode(batch_of([fits, fits + b" "]))
    assert decoded.trades.columns.messages.tolist() == [0]
    assert [(number, str(error)) for number, error in decoded.rejected] == [
        (1, "too_large: value: 1048577 bytes, more than 1048576")
    ]


def test_the_reference_has_the_same_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message at the limit is read, one with a byte more is not."""
    monkeypatch.setattr("k2.venues.decode.MESSAGE_BYTES_MAX", len(K2_MESSAGE))
    rows, rejected, _ = outcome(decode_by_reference(batch_of([K2_MESSAGE, K2_MESSAGE + b" "])))
    assert ([row[0] for row in rows], [number for number, _ in rejected]) == ([0], [1])


@pytest.mark.parametrize(("venue", "sample"), [("k2", K2_MESSAGE), ("binance-spot", BINANCE_MESSAGE)])
def test_new_symbols_are_interned_from_their_messages(venue: str, sample: bytes) -> None:
    """Each unknown pair, with its own exchange name or the venue's; afterwards the loop knows it.

    The pairs are new in this process, whatever ran in it before.
    """
    new = uuid4().hex
    names = [f"{new}{number}" for number in (1, 22, 1, 333)]
    batch = batch_of([sample.replace(b"BTCUSDT", name.encode()) for name in names], venue)
    for _ in range(2):
        assert [row[2] for row in rows_of(decode(batch).trades.columns)] == [("binance", name) for name in names]


def test_a_tombstone_is_malformed_and_a_reply_skipped() -> None:
    """The error names the null value; messages that are not market trades are counted separately."""
    _, rejected, skipped = outcome(decode(batch_of([None, b'{"result":null,"id":1}', b""], "binance-spot")))
    assert rejected == [
        (0, "malformed: value: null (a tombstone)"),
        (2, "malformed: value: Input data was truncated"),
    ]
    assert skipped == [1]


@pytest.mark.parametrize("venue", ["k2", "binance-spot", "coinbase"])
def test_messages_without_a_trade_do_not_keep_the_batch(venue: str) -> None:
    """The bytes of a poll are free once nothing refers to the batch, and need no garbage collection."""
    gc.disable()
    try:
        for function in (decode, decode_by_reference):
            batch = batch_of([None, b"{", b'{"result":null,"id":1}', b"[1]", K2_MESSAGE], venue)
            data = weakref.ref(batch.data)
            decoded = function(batch)
            errors = decoded.rejected
            assert errors
            del batch, decoded
            assert data() is None
    finally:
        gc.enable()


def test_an_empty_batch_has_no_rows() -> None:
    """Its result is only the batch itself, without slices."""
    batch = batch_of([])
    decoded = decode(batch)
    assert outcome(decoded) == ([], [], [])
    assert decode_by_reference(batch).non_market.tolist() == decoded.non_market.tolist() == []
    assert decode(batch).trades.source is decode_by_reference(batch).trades.source is batch
    assert split(decoded.trades) == []


def test_symbols_first_met_in_a_loop_get_ids() -> None:
    """Ten thousand new pairs in one poll get the right names, and the loop knows them in the next."""
    values: list[bytes | None] = [K2_MESSAGE.replace(b"BTCUSDT", f"NEW{number}".encode()) for number in range(10_000)]
    batch = batch_of(values)
    names = [row[2] for row in rows_of(decode(batch).trades.columns)]
    assert names == [("binance", f"NEW{number}") for number in range(10_000)]
    assert [row[2] for row in rows_of(decode(batch).trades.columns)] == names


def test_an_unexpected_error_rejects_only_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Value, type and key errors of a decoder reject one record; any other is a bug, and ends the process."""
    faults = {b"value": ValueError("odd"), b"type": TypeError("odd"), b"key": KeyError("odd"), b"bug": OSError("odd")}

    def faulty(value: bytes) -> list[Trade]:
        raise faults[value]

    venue = Venue("faulty", SequenceMode.CONTIGUOUS, faulty, None, lambda value: value.decode())
    monkeypatch.setitem(VENUES, "faulty", venue)
    _, rejected, _ = outcome(decode(batch_of([b"value", b"type", b"key"], "faulty")))
    assert [error[: error.index("Error:") + 6] for _, error in rejected] == [
        "invalid: value: ValueError:",
        "invalid: value: TypeError:",
        "invalid: value: KeyError:",
    ]
    assert all("odd" in error for _, error in rejected)
    with pytest.raises(OSError, match="odd"):
        decode(batch_of([b"bug"], "faulty"))


@given(st.lists(st.integers(0, 40), max_size=60))
def test_split_puts_every_row_in_its_group_once(symbols: list[int]) -> None:
    """Slices partition the rows by key group, in order, with arrays for the verdicts."""
    values: list[bytes | None] = [K2_MESSAGE.replace(b"BTCUSDT", f"S{symbol}".encode()) for symbol in symbols]
    slices = split(decode(batch_of(values)).trades)
    assert sorted(row for part in slices for row in part.rows.tolist()) == list(range(len(symbols)))
    assert [part.group for part in slices] == sorted({part.group for part in slices})
    for part in slices:
        assert 0 <= part.group < GROUPS
        assert part.rows.tolist() == sorted(part.rows.tolist())
        assert {group_of("binance", f"S{symbols[row]}") for row in part.rows} == {part.group}
        assert len(part.verdicts) == len(part.sessions) == len(part)
        assert [part.rows.dtype, part.verdicts.dtype, part.sessions.dtype] == [np.int32, np.uint8, np.int32]
        assert not part.verdicts.any()
        assert not part.sessions.any()


def test_a_group_without_rows_still_has_a_slice() -> None:
    """It has the usual dtypes and the same batch, so that the group gets the offsets."""
    trades = decode(batch_of([K2_MESSAGE])).trades
    piece = empty_slice(trades, 7)
    assert (piece.batch, piece.group, len(piece)) == (trades, 7, 0)
    columns = piece.rows, piece.verdicts, piece.sessions
    assert [(len(column), column.dtype) for column in columns] == [(0, np.int32), (0, np.uint8), (0, np.int32)]


SMALL: Final = """
from tests.venues.messages import BINANCE_MESSAGE, batch_of, outcome
from tests.venues.test_decode import LEFT_TO_THE_REFERENCE, TAKEN
from k2.venues.decode import decode, decode_by_reference
from k2.venues.slices import split
for values, venue in ((TAKEN + LEFT_TO_THE_REFERENCE, "k2"), ([BINANCE_MESSAGE, b"x"], "binance-spot")):
    batch = batch_of(values, venue)
    print(repr((outcome(decode(batch)), [part.rows.tolist() for part in split(decode(batch).trades)])))
    assert outcome(decode(batch)) == outcome(decode_by_reference(batch))
"""


def test_uncompiled_loops_give_the_same_outcome() -> None:
    """Without numba's compiler the loops are plain Python, with the same result."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SMALL], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    expected: list[Any] = []
    for values, venue in (([*TAKEN, *LEFT_TO_THE_REFERENCE], "k2"), ([BINANCE_MESSAGE, b"x"], "binance-spot")):
        decoded = decode(batch_of(values, venue))
        expected.append(repr((outcome(decoded), [part.rows.tolist() for part in split(decoded.trades)])))
    assert done.stdout.splitlines() == expected
