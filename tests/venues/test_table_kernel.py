"""The kernel of all tables gives what the reference decoder of each table gives, for any messages."""

import json
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import config

from k2.model.batch import MessageBatch
from k2.model.symbols import Symbols
from k2.venues import VENUES
from k2.venues.decode import decode, decode_by_reference
from k2.venues.rows import TRADES_MAX, WIDTH
from k2.venues.table import VenueTable
from k2.venues.table_decoder import venue_of
from k2.venues.table_kernel import decode_table
from k2.venues.table_rules import check_table
from tests.venues.messages import batch_of, outcome
from tests.venues.recordings import RECORDINGS, lines_of
from tests.venues.test_mangled_messages import SAMPLES, mangled

UNCOMPILED: Final = frozenset({"alpaca", "iex", "polygon"})
"""Their ids have several parts, and two have corrections: plain Python reads them."""
OTHERS: Final = b'\x00 "+-.09:A\\]`e{}\x7f\x80\xff,['
"""Bytes that a message is tried with in other places."""


def agree(batch: MessageBatch) -> bool:
    """Return whether both decoders have the same result, with the reasons of the messages that are skipped."""
    both = decode(batch), decode_by_reference(batch)
    reasons = [[(number, why.why) for number, why in one.skipped] for one in both]
    rows = [one.non_market.tolist() for one in both]
    return outcome(both[0]) == outcome(both[1]) and reasons[0] == reasons[1] and rows[0] == rows[1]


def left_of(venue: str, values: list[bytes]) -> list[int]:
    """Return the messages that the kernel leaves to the reference decoder."""
    batch, kernel = batch_of(values, venue), VENUES[venue].decode_compiled
    assert kernel is not None
    rows = np.empty((10 * len(values) + TRADES_MAX, WIDTH), dtype=np.int64)
    left = np.empty(len(values), dtype=np.int32)
    read, _, count = kernel(batch.data, batch.value_starts, batch.value_sizes, Symbols().table, rows, left)
    assert read == len(values)
    return left[:count].tolist()


@pytest.mark.parametrize("venue", SAMPLES)
@settings(max_examples=80)
@given(data=st.data())
def test_both_decoders_agree_on_mangled_messages(venue: str, data: st.DataObject) -> None:
    """In batches of plain and mangled messages, bytes of no meaning, and tombstones."""
    one = st.one_of(mangled(venue), mangled(venue), st.sampled_from(SAMPLES[venue]), st.binary(max_size=20), st.none())
    assert agree(batch_of(data.draw(st.lists(one, min_size=1, max_size=6)), venue))


@pytest.mark.parametrize("venue", SAMPLES)
def test_both_decoders_agree_on_every_changed_byte(venue: str) -> None:
    """Each byte of a message of each form is removed, doubled, and replaced; and the message ends at each."""
    forms = {json.dumps(shape(json.loads(value))): value[:450] for value in SAMPLES[venue]}
    for sample in forms.values():
        values = [sample[:at] + sample[at + 1 :] for at in range(len(sample))]
        values += [sample[:at] + sample[at : at + 1] + sample[at:] for at in range(len(sample))]
        values += [sample[:at] + OTHERS[at * 7 % len(OTHERS) :][:1] + sample[at + 1 :] for at in range(len(sample))]
        values += [sample[:at] for at in range(len(sample))]
        assert agree(batch_of(values, venue))


def shape(value: Any) -> Any:
    """Return a message with its keys alone, so that those of one form are equal."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    return [shape(one) for one in value[:2]] if isinstance(value, list) else type(value).__name__


@pytest.mark.parametrize("recording", RECORDINGS, ids=[one.file for one in RECORDINGS])
def test_both_decoders_agree_on_recordings(recording: Any) -> None:
    """And the kernel leaves only what is skipped."""
    values = lines_of(recording.file)
    batch = batch_of(values, recording.venue)
    assert agree(batch)
    assert left_of(recording.venue, values) == [number for number, _ in decode(batch).skipped]


@pytest.mark.parametrize("venue", [venue for venue in SAMPLES if venue not in UNCOMPILED])
def test_plain_trades_are_not_left(venue: str) -> None:
    """Of the messages of each table, the kernel leaves those that are skipped, and those with a non-market trade."""
    values = SAMPLES[venue]
    decoded = decode(batch_of(values, venue))
    others = {number for number, _ in decoded.skipped}
    others |= set(decoded.trades.columns.messages[decoded.non_market].tolist())
    assert set(left_of(venue, values)) == others


NESTED: Final[dict[str, Any]] = {
    "name": "nested",
    "source": "made up",
    "exchange": {"path": "$.from", "pattern": "x-(.+)"},
    "numbering": "contiguous",
    "symbol": {"path": "pair[0]", "type": "any"},
    "sequence": {"path": "number"},
    "trade_id": {"path": "id", "type": "any", "optional": False},
    "price": {"path": "p", "absolute": True},
    "quantity": {"path": "q"},
    "time": {"path": "t", "unit": "us", "fraction": True},
    "side": {"path": "s", "by_sign": True, "optional": True, "of": "maker"},
    "kinds": [{"path": "k", "market": [1, True, "a"], "non_market": [2], "skipped": [3], "absent": "market"}],
    "messages": [
        {"when": [{"path": "events[0].n", "one_of": [0, "0", False]}], "trades": "events[].trades[]"},
        {"when": [{"path": "one", "present": True}], "trades": "one", "order": "newest_first"},
    ],
    "skip": [{"reason": "status", "when": [{"path": "one", "absent": True}, {"path": "events[1].n", "one_of": [9]}]}],
    "envelope": {"path": "outer.inner", "unless": "first"},
}
UNFIT: Final[list[dict[str, Any]]] = [
    {"symbol": {"path": "pair[0]", "pattern": "(BTC|ETH).*"}},
    {"symbol": {"path": "pair[0]", "pattern": "(.+)[0-9]"}},
    {"skip": [{"reason": "status", "texts": ['{"one":1}']}]},
    {"messages": [{"trades": "events[]"}, {"trades": "events[].p[]"}], "price": {"path": "p[0]"}},
]


def nested(**changes: Any) -> dict[str, Any]:
    """Return a trade of the table above."""
    trade = {
        "pair": ["BTC"],
        "number": 7,
        "id": "a",
        "p": "-1.5e1",
        "q": 2,
        "t": "1723161255342000.9",
        "s": "-1",
        "k": 1,
    }
    return {name: one for name, one in {**trade, **changes}.items() if one is not None}


@st.composite
def nested_messages(draw: st.DrawFn) -> bytes:
    """Return a message of the table above, in one of its forms, with odd values here and there."""
    odd = st.sampled_from([None, 0, 1, 2, 3, "a", "-0", "007", 1.5, -1e3, "1e-7", True, [], {}, "BTC", 10**18, 2**63])
    names = st.sampled_from(list(nested()))
    trades = st.dictionaries(names, odd, max_size=draw(st.integers(0, 2))).map(lambda changes: nested(**changes))
    lists = st.lists(trades, max_size=2)
    event = st.fixed_dictionaries({"n": st.sampled_from([0, "0", False, 0.0, 9])}, optional={"trades": lists})
    root = {"from": draw(st.sampled_from(["x-a", "x-a", "x-a", "x-", "a"])), "first": draw(st.sampled_from([7, "7"]))}
    root |= draw(st.sampled_from([{}, {}, {"one": draw(trades)}]))
    root |= draw(st.sampled_from([{}, {"events": draw(st.lists(event, min_size=1, max_size=3))}]))
    wrapped = {name: one for name, one in root.items() if name != "first"} if draw(st.booleans()) else root
    message = draw(st.sampled_from([root, {"outer": {"inner": wrapped}}, {"outer": {"inner": root}, "first": 1}]))
    return json.dumps(message).encode()


def table_of(changes: dict[str, Any]) -> VenueTable:
    """Return the table above with other values of some keys."""
    table = msgspec.convert({**NESTED, **changes}, VenueTable)
    check_table(table)
    return table


@settings(max_examples=200)
@given(st.lists(nested_messages(), min_size=1, max_size=5))
def test_both_decoders_agree_on_a_table_with_all_options(values: list[bytes]) -> None:
    """Lists in lists, an envelope, kinds, a maker's side from a sign, names from patterns, and odd values."""
    VENUES["nested"] = venue_of(table_of({}))
    try:
        assert agree(batch_of(values, "nested"))
    finally:
        del VENUES["nested"]


def test_a_table_with_all_options_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reads its messages, those within the envelope included."""
    monkeypatch.setitem(VENUES, "nested", venue_of(table_of({})))
    events = [{"n": 0, "trades": [nested(id=5, k=None), nested(s=None)]}, {"n": 1, "trades": [nested()]}]
    message = {"from": "x-a", "first": "7", "events": events}
    values = [json.dumps(one).encode() for one in (message, {"from": "x-a", "first": 7, "one": nested()})]
    assert left_of("nested", values) == []
    assert len(decode(batch_of(values, "nested")).trades.columns) == 4


@pytest.mark.parametrize("changes", UNFIT)
def test_other_tables_have_no_compiled_decoder(changes: dict[str, Any]) -> None:
    """Patterns with alternatives, lists that overlap, and a skipped text that is a message."""
    assert venue_of(table_of(changes)).decode_compiled is None


def test_messages_of_many_trades_are_read() -> None:
    """More rows than messages, of several calls of the kernel; and one message with more trades than it reads."""
    trade = {"instId": "A", "tradeId": "1", "px": "1", "sz": "1", "side": "buy", "ts": "1652459235576"}
    counts = [1, TRADES_MAX, 1, TRADES_MAX + 1, TRADES_MAX - 1, 0, 2]
    values = [
        json.dumps({"arg": {"channel": "trades"}, "data": [{**trade, "tradeId": str(one)} for one in range(count)]})
        for count in counts
    ]
    batch = batch_of([value.encode() for value in values], "okx")
    assert agree(batch)
    assert len(decode(batch).trades.columns) == sum(counts)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
def test_all_tables_share_one_compiled_form() -> None:
    """The kernel is compiled for no table of its own, nor for messages that cannot be written."""
    count = None
    for venue, values in SAMPLES.items():
        batch = batch_of(values[:1], venue)
        for data in (batch.data, np.frombuffer(batch.data.tobytes(), dtype=np.uint8)):
            decode(replace(batch, data=data))
            signatures: list[Any] = decode_table.signatures  # type: ignore[attr-defined]
            count = len(signatures) if count is None else count
            assert len(signatures) == count
