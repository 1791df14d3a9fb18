"""Numbers of connections: read from every message, by the compiled reader as by the reference."""

import gzip
import itertools
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import MessageBatch
from k2.model.errors import SettingsError
from k2.venues import VENUES
from k2.venues.connection_reader import _Reader
from k2.venues.table import ConnectionField, ConnectionNumbers
from k2.venues.table_files import read_table
from tests.venues.messages import batch_of

DYDX = VENUES["dydx"].connection
Found = list[tuple[str | None, list[int], list[int]]]


def reader(number: str, name: str | None = None) -> _Reader:
    """Return a reader of an exchange's messages."""
    rule = ConnectionNumbers(
        number=ConnectionField(path=number), id=None if name is None else ConnectionField(path=name)
    )
    return _Reader("venue", rule)


def found(one: _Reader, batch: MessageBatch, *, is_compiled: bool = True) -> Found:
    """Return the name, the numbers and the messages of each slice."""
    one._is_compiled = one._is_compiled and is_compiled
    return sorted(
        (
            (part.name, part.numbers.tolist(), (part.offsets - 100).tolist())
            for part in one.read(batch)
            if len(part.numbers)
        ),
        key=str,
    )


def test_every_message_is_read() -> None:
    """Also those without a trade, and those that are dead letters for another reason."""
    values = [
        b'{"type":"connected","connection_id":"a-1","message_id":0}',
        b'{"type":"error","connection_id":"a-1","message_id":1,"message":"no such market"}',
        b'{"type":"channel_data","connection_id":"b-2","message_id":0,"contents":{"trades":[{"price":"no price"}]}}',
        b'{"type":"channel_data","connection_id":"a-1","message_id":4,"id":"BTC-USD"}',
    ]
    assert DYDX is not None
    slices = DYDX(batch_of(values, venue="dydx"))
    assert [(one.name, one.numbers.tolist(), one.offsets.tolist()) for one in slices] == [
        ("a-1", [0, 1, 4], [100, 101, 103]),
        ("b-2", [0], [102]),
    ]
    assert {(one.exchange, str(one.topic_partition)) for one in slices} == {("dydx", "trades:0")}
    assert slices[0].timestamps.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"pong",
        b"{}",
        b"[]",
        b"[4]",
        b'{"n":null,"id":"x"}',
        b'{"n":-1,"id":"x"}',
        b'{"n":1.5,"id":"x"}',
        b'{"n":true,"id":"x"}',
        b'{"n":[1],"id":"x"}',
        b'{"n":"1e3","id":"x"}',
        b'{"n":4611686018427387904,"id":"x"}',
        b'{"n":1}',
        b'{"n":1,"id":null}',
        b'{"n":1,"id":""}',
        b'{"n":1,"id":"\\n"}',
        b'{"n":1,"id":{"x":1}}',
        b'{"n":1,"id":"x"',
        b'{"n":1,"id":"x"} 2',
    ],
)
def test_a_message_may_have_no_number(value: bytes | None) -> None:
    """It is left out; what is wrong with it otherwise is for the decoder to say."""
    batch = batch_of([value, b'{"n":1,"id":"x"}'])
    assert found(reader("$.n", "$.id"), batch) == [("x", [1], [1])]
    assert found(reader("$.n", "$.id"), batch, is_compiled=False) == [("x", [1], [1])]


@pytest.mark.parametrize(
    ("value", "number", "name"),
    [
        (b'{"n":"12","id":7}', 12, "7"),
        (b'{"n":4611686018427387903,"id":"x"}', 2**62 - 1, "x"),
        (b'{"a":{"n":5,"x":"}\\"]"},"n":1,"id":"x"}', 1, "x"),
        (b'\t{ "n" : 1 , "b" : [ [ ] , { } , "\\\\" ] , "id" : "x" } ', 1, "x"),
        ('{"né":2,"n":1,"id":"ü"}'.encode(), 1, "ü"),
        (b'{"\\u006e":3,"id":"x"}', 3, "x"),
        (b'{"n":1,"n":2,"id":"x"}', 2, "x"),
        (b'{"n":1,"id":123456789012345678901}', 1, "123456789012345678901"),
    ],
)
def test_values_are_read_in_any_form_of_json(value: bytes, number: int, name: str) -> None:
    """What the compiled reader does not accept, the reference reads."""
    batch = batch_of([value])
    assert found(reader("$.n", "$.id"), batch) == [(name, [number], [0])]
    assert found(reader("$.n", "$.id"), batch, is_compiled=False) == [(name, [number], [0])]


@pytest.mark.parametrize(
    ("path", "numbers", "messages"),
    [("$[-1]", [9, 1, 3], [0, 3, 5]), ("$[0]", [4, 5, 1, 3], [0, 2, 3, 5]), ("$[1]", [9], [0]), ("$.a[-1]", [8], [4])],
)
def test_elements_of_arrays_are_read(path: str, numbers: list[int], messages: list[int]) -> None:
    """By their place, or from the end: `[-1]` is the last one, if it is a number."""
    values = [b"[4,9]", b"[]", b'[5,["te",7]]', b"[1]", b'{"a":[1,8]}', b'[3,{"x":[1,"]"]},"a",3]']
    batch = batch_of(values)
    assert found(reader(path), batch) == [(None, numbers, messages)]
    assert found(reader(path), batch, is_compiled=False) == [(None, numbers, messages)]


def test_paths_below_the_top_level_are_read() -> None:
    """By the reference alone."""
    one = reader("$.meta.seq", "$.meta.conn")
    assert not one._is_compiled
    assert found(one, batch_of([b'{"meta":{"seq":3,"conn":"x"}}', b'{"meta":3}'])) == [("x", [3], [0])]


SCALARS = st.one_of(st.integers(-5, 2**63), st.text(max_size=4), st.none(), st.booleans(), st.floats(0, 9))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["n", "id", "x", "é"]), inner)
)


@given(
    st.lists(VALUES, max_size=8), st.sampled_from([("$.n", "$.id"), ("$.n", None), ("$[-1]", None), ("$[1]", "$[0]")])
)
def test_both_readers_agree_on_every_json_value(values: list[object], paths: tuple[str, str | None]) -> None:
    """The compiled reader leaves a message, or reads the same from it."""
    batch = batch_of([msgspec.json.encode(value) for value in values])
    assert found(reader(*paths), batch) == found(reader(*paths), batch, is_compiled=False)


def test_messages_of_many_connections_are_told_apart() -> None:
    """By their ids, in whatever order they come."""
    pairs = [*itertools.product(range(3), [f"connection-{idx}" for idx in range(20)])]
    batch = batch_of([f'{{"n":{number},"id":"{name}"}}'.encode() for number, name in pairs])
    assert found(reader("$.n", "$.id"), batch) == sorted(
        (
            (name, [0, 1, 2], [idx, idx + 20, idx + 40])
            for idx, name in enumerate(f"connection-{idx}" for idx in range(20))
        ),
        key=str,
    )


def test_a_recorded_connection_is_read() -> None:
    """Bitfinex with SEQ_ALL: each array has the next number, also heartbeats; the capture lacks other channels."""
    lines = gzip.decompress(Path("tests/data/bitfinex-trades-seq.ndjson.gz").read_bytes()).splitlines()
    batch = batch_of(lines, venue="bitfinex-seq")
    connection = VENUES["bitfinex-seq"].connection
    assert connection is not None
    [one] = connection(batch)
    arrays = [idx for idx, line in enumerate(lines) if line.startswith(b"[")]
    assert (one.offsets - 100).tolist() == arrays
    assert one.numbers.tolist() == [msgspec.json.decode(lines[idx])[-1] for idx in arrays]
    assert (np.diff(one.numbers) > 0).all()


def test_kafka_timestamps_are_those_of_the_messages() -> None:
    """In microseconds; 0 if there is none."""
    batch = replace(batch_of([b'{"n":1}', b"{}", b'{"n":2}']), kafka_timestamps=np.array([5, 6, 7]))
    [one] = reader("$.n").read(batch)
    assert one.timestamps.tolist() == [5, 7]


@pytest.mark.parametrize(
    ("number", "exchange", "sentence"),
    [
        ("seq", "'x'", "connection.number.path: begins at the trade: 'seq'; each message has one number"),
        ("$.a b", "'x'", "connection.number.path: not a path: '$.a b'"),
        ("$", "'x'", "connection.number.path: an empty path; name a field"),
        ("$[-2]", "'x'", "connection.number.path: not a path: '$[-2]'"),
        ("$.n", "{ path = 'x' }", "connection: needs one exchange for all messages; give exchange as text"),
    ],
)
def test_a_wrong_rule_is_refused(tmp_path: Path, number: str, exchange: str, sentence: str) -> None:
    """In one sentence with file, line and key."""
    path = tmp_path / "mine.toml"
    path.write_text(
        f"name = 'mine'\nextends = 'dydx'\nexchange = {exchange}\nconnection = {{ number = {{ path = '{number}' }} }}\n"
    )
    with pytest.raises(SettingsError) as caught:
        read_table(path, VENUES.tables.get)
    assert str(caught.value).startswith(f"{path} line 4: {sentence}")


def test_tables_without_the_rule_read_nothing() -> None:
    """So that their batches pass without a cost."""
    assert {name for name in VENUES.tables if VENUES[name].connection is not None} == {
        "bitfinex-seq",
        "coinbase-advanced-connection",
        "dydx",
    }
    assert VENUES["k2"].connection is None
