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
from tests.venues.test_mangled_messages import SAMPLES, TEXTS, mangled

UNCOMPILED: Final = frozenset({"alpaca", "iex", "polygon"})
"""Their ids have several parts, and two have corrections: plain Python reads them."""
OTHERS: Final = b'\x00 "+-.09:A\\]`e{}\x7f\x80\xff,['
"""Bytes that a message is tried with in other places."""


def agree(batch: MessageBatch) -> bool:
    """Return whether both decoders have the same result, with the reasons of the messages that are skipped."""
    both = decode(batch), decode_by_reference(batch)
    reasons = [[(number, why.why) for number, why in one.skipped] for one in both]
    rows = [(one.non_market.tolist(), one.heads.tolist()) for one in both]
    return outcome(both[0]) == outcome(both[1]) and reasons[0] == reasons[1] and rows[0] == rows[1]


def left_of(venue: str, values: list[bytes]) -> list[int]:
    """Return the messages that the kernel leaves to the reference decoder."""
    batch, kernel = batch_of(values, venue), VENUES[venue].decode_compiled
    assert kernel is not None
    rows = np.empty((10 * len(values) + TRADES_MAX, WIDTH), dtype=np.int64)
    others = np.empty((len(values), 2), dtype=np.int32)
    read, _, count = kernel(batch.data, batch.value_starts, batch.value_sizes, Symbols().table, rows, others)
    assert read == len(values)
    return [message for message, reason in others[:count].tolist() if not reason]


@pytest.mark.parametrize("venue", SAMPLES)
@settings(max_examples=80)
@given(data=st.data())
def test_both_decoders_agree_on_mangled_messages(venue: str, data: st.DataObject) -> None:
    """In batches of plain and mangled messages, texts that are skipped, bytes of no meaning, and tombstones."""
    plain, texts = st.sampled_from(SAMPLES[venue]), st.sampled_from(TEXTS[venue])
    one = st.one_of(mangled(venue), mangled(venue), plain, texts, st.binary(max_size=20), st.none())
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
    """And the kernel leaves none of their messages."""
    values = lines_of(recording.file)
    assert agree(batch_of(values, recording.venue))
    assert left_of(recording.venue, values) == []


@pytest.mark.parametrize("venue", [venue for venue in SAMPLES if venue not in {*UNCOMPILED, "k2-head"}])
def test_plain_messages_are_not_left(venue: str) -> None:
    """The kernel reads all messages of each table: trades, non-market trades, and what is skipped.

    Those of `k2 head` are few, and name their exchange, which the kernel does not read of a head number.
    """
    assert left_of(venue, SAMPLES[venue]) == []


WHOLE_TEXTS: Final = [b"pong", b'{"events":[]}', b"[pong", b"pon"]
TEXT: Final = ["é", "\x7f", "\x80", "\n", '"', "\ud800", "😀"]
NESTED: Final[dict[str, Any]] = {
    "name": "nested",
    "source": "made up",
    "exchange": {"path": "$.from", "pattern": "x-(.+)"},
    "numbering": "contiguous",
    "symbol": {"path": "pair[0]", "type": "any"},
    "sequence": {"path": "number"},
    "trade_id": {"path": "id", "type": "any", "optional": False},
    "price": {"path": "p", "absolute": True},
    "quantity": {"path": "q", "scale": -2},
    "time": {"path": "t", "unit": "us", "fraction": True},
    "side": {"path": "s", "by_sign": True, "optional": True, "of": "maker"},
    "kinds": [{"path": "k", "market": [1, True, "a"], "non_market": [2], "skipped": [3], "absent": "market"}],
    "messages": [
        {"when": [{"path": "events[0].n", "one_of": [0, "0", False]}], "trades": "events[].trades[]"},
        {"when": [{"path": "one", "present": True}], "trades": "one", "order": "newest_first"},
    ],
    "skip": [
        {"reason": "status", "when": [{"path": "one", "absent": True}, {"path": "events[1].n", "one_of": [9]}]},
        {"reason": "error", "texts": ["pong", '{"events":[]}', "[pong"]},
        {"reason": "heartbeat", "when": [{"path": "hb", "present": True}]},
        {"reason": "other_channel", "when": [{"path": "from", "matches": "y-.+"}]},
        {"reason": "subscription_reply", "when": [{"path": "from", "one_of": ["y-1"]}]},
    ],
    "envelope": {"path": "outer.inner", "unless": "first"},
}
UNFIT: Final[list[dict[str, Any]]] = [
    {"symbol": {"path": "pair[0]", "pattern": "(BTC|ETH).*"}},
    {"symbol": {"path": "pair[0]", "pattern": "(.+)[0-9]"}},
    {"messages": [{"trades": "events[]"}, {"trades": "events[].p[]"}], "price": {"path": "p[0]"}},
    {"side": {"path": "s.x", "by_sign": True, "optional": True}},
    {"side": {"path": "$.s", "by_sign": True, "optional": True}},
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
    numbers = [0, 1, 2, 3, "-0", "007", 1.5, -1e3, "1e-7", 10**18, 2**63]
    odd = st.sampled_from([None, True, [], {}, "a", "BTC", *numbers, *TEXT])
    names = st.sampled_from(list(nested()))
    kinds = st.sampled_from([{}, {}, {"k": 2}, {"k": 3}, {"k": 3, "p": "?"}, {"other": '"\\'}])
    changes = st.dictionaries(names, odd, max_size=draw(st.integers(0, 2)))
    trades = st.tuples(kinds, changes).map(lambda both: nested(**{**both[0], **both[1]}))
    lists = st.lists(trades, max_size=2)
    event = st.fixed_dictionaries({"n": st.sampled_from([0, "0", False, 0.0, 9])}, optional={"trades": lists})
    names_from = ["x-a", "x-a", "x-é", "x-", "a", "y-1", "y-é", "y-\x7f", "x-\n"]
    root = {"from": draw(st.sampled_from(names_from)), "first": draw(st.sampled_from([7, "7"]))}
    root |= draw(st.sampled_from([{}, {}, {}, {"hb": draw(odd)}]))
    root |= draw(st.sampled_from([{}, {}, {"one": draw(trades)}]))
    root |= draw(st.sampled_from([{}, {"events": draw(st.lists(event, min_size=1, max_size=3))}]))
    wrapped = {name: one for name, one in root.items() if name != "first"} if draw(st.booleans()) else root
    message = draw(st.sampled_from([root, {"outer": {"inner": wrapped}}, {"outer": {"inner": root}, "first": 1}]))
    message = draw(st.sampled_from([message, message, message, {"outer": {"inner": draw(odd)}}, draw(odd)]))
    return json.dumps(message, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")


def table_of(changes: dict[str, Any]) -> VenueTable:
    """Return the table above with other values of some keys."""
    table = msgspec.convert({**NESTED, **changes}, VenueTable)
    check_table(table)
    return table


@settings(max_examples=200)
@given(
    st.lists(nested_messages() | st.sampled_from([b"pong", b'{"events":[]}', b"[pong", b"pon"]), min_size=1, max_size=5)
)
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


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b'{"from":"x-a","first":7,"events":[{"n":0,"trades":[]}]}', None),
        (b'{"from":"y-\xc3\xa9","first":7,"note":"\\ud83d\\ude00\\n"}', "other_channel"),
        (b'{"outer":{"inner":{"hb":1,"\xc3\xa9":null}}}', "heartbeat"),
        (b'{"first":7,"hb":null,"from":"y-1"}', "heartbeat"),
        (b'{"events":[]}', "error"),
        (b'{"first":7,"from":"x-a","one":{"k":3}}', "non_market"),
    ],
)
def test_the_kernel_skips_messages(message: bytes, why: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the first rule that holds; a message without trades is left if its list is in another."""
    monkeypatch.setitem(VENUES, "nested", venue_of(table_of({})))
    batch = batch_of([message], "nested")
    assert agree(batch)
    assert left_of("nested", [message]) == ([0] if why is None else [])
    if why is not None:
        assert [error.why for _, error in decode(batch).skipped] == [why]


def test_the_kernel_decodes_non_market_trades(monkeypatch: pytest.MonkeyPatch) -> None:
    """They need neither price nor side, and entries that are left out need nothing."""
    monkeypatch.setitem(VENUES, "nested", venue_of(table_of({})))
    trades = [nested(), nested(k=2, p="?", q=None, s={}), {"k": 3}, nested(number=9, k=2), nested(id="é")]
    message = json.dumps({"from": "x-a", "first": "7", "events": [{"n": 0, "trades": trades}]}, ensure_ascii=False)
    batch = batch_of([message.encode()], "nested")
    assert agree(batch)
    assert left_of("nested", [message.encode()]) == []
    assert decode(batch).non_market.tolist() == [1, 2]


def test_an_empty_list_has_no_trades() -> None:
    """A list that is missing, or is another value, is left to the reference decoder, which refuses it."""
    values = [b'{"arg":{"channel":"trades"},"data":%s}' % data for data in (b"[]", b"{}", b"null", b'"\\n"')]
    values.append(b'{"arg":{"channel":"trades"}}')
    assert agree(batch_of(values, "okx"))
    assert left_of("okx", values) == [1, 2, 3, 4]
    assert [error.why for _, error in decode(batch_of(values, "okx")).skipped] == ["no_trades"]


def test_a_rule_of_messages_to_skip_that_is_no_affix_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all rules that follow it, but not those before."""
    rules = [
        {"reason": "heartbeat", "when": [{"path": "hb", "present": True}]},
        {"reason": "status", "when": [{"path": "one", "absent": True}, {"path": "events", "matches": "a|b"}]},
        {"reason": "error", "when": [{"path": "error", "present": True}]},
    ]
    when = [{"path": "one", "present": True}, {"path": "events", "absent": True}, {"path": "error", "absent": True}]
    changes = {"skip": rules, "messages": [{"when": [*when, {"path": "hb", "absent": True}], "trades": "one"}]}
    monkeypatch.setitem(VENUES, "nested", venue_of(table_of(changes)))
    values = [b'{"first":1,"hb":2}', b'{"first":1,"events":"a"}', b'{"first":1,"error":2}']
    assert agree(batch_of(values, "nested"))
    assert left_of("nested", values) == [1, 2]


@pytest.mark.parametrize("side", ["a", "", "--1", "-", "1e5", "-1e5", 7, "+1"])
def test_the_sign_of_a_text_is_that_of_a_number(side: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is no number has no sign."""
    monkeypatch.setitem(VENUES, "nested", venue_of(table_of({})))
    message = {"from": "x-a", "first": "7", "events": [{"n": 0, "trades": [nested(s=side)]}]}
    assert agree(batch_of([json.dumps(message).encode()], "nested"))


@pytest.mark.parametrize("changes", UNFIT)
def test_other_tables_have_no_compiled_decoder(changes: dict[str, Any]) -> None:
    """Patterns with alternatives, lists that overlap, and optional fields in values that may be of another type."""
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
