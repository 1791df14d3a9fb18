"""Venue times ahead of Kafka timestamps: the message is rejected beyond the limit, the row marked beyond 5 seconds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import NULL_TIME, MessageBatch
from k2.model.times import TIME_AHEAD_TOLERANCE_US
from k2.venues.decode import Decoded, decode, decode_by_reference
from k2.venues.time_ahead import TIME_AHEAD_SECONDS_MAX, time_ahead, too_far_ahead
from tests.venues.messages import K2_MESSAGE, batch_of, outcome
from tests.venues.test_decode import LEFT_TO_THE_REFERENCE
from tests.venues.test_recorded_venues import ALL_SAMPLES, OKX_TRADE, message

TIME: Final = 1_723_161_255_342_000
"""The venue time of the sample messages of `k2` and Binance, in microseconds."""
LIMIT_US: Final = 1_000_000 * TIME_AHEAD_SECONDS_MAX
FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 and 9999, as microseconds."""
MIN, MAX = -(2**63), 2**63 - 1


def stamped(values: Sequence[bytes | None], kafka_timestamps: Sequence[int], venue: str = "k2") -> MessageBatch:
    """Return the messages as a batch with these Kafka timestamps, in microseconds."""
    return replace(batch_of(values, venue), kafka_timestamps=np.array(kafka_timestamps, dtype=np.int64))


def whole(decoded: Decoded) -> tuple[Any, ...]:
    """Return the whole result of decoding as plain values."""
    return *outcome(decoded), decoded.non_market.tolist(), decoded.dated_ahead.tolist()


def decoded_twice(batch: MessageBatch, seconds_max: int = TIME_AHEAD_SECONDS_MAX) -> Decoded:
    """Decode with both decoders, which must agree."""
    decoded = decode(batch, seconds_max)
    assert whole(decoded) == whole(decode_by_reference(batch, seconds_max))
    return decoded


@pytest.mark.parametrize("sample", [K2_MESSAGE, LEFT_TO_THE_REFERENCE[0]])
def test_a_trade_at_the_limit_is_accepted_and_one_beyond_rejected(sample: bytes) -> None:
    """One microsecond decides, whichever decoder reads the message; its neighbours are unaffected."""
    kafka = [TIME - LIMIT_US, TIME - LIMIT_US - 1, TIME, TIME + LIMIT_US, NULL_TIME]
    rows, [(number, error)], _ = outcome(decoded_twice(stamped([sample] * 5, kafka)))
    assert ([row[0] for row in rows], number) == ([0, 2, 3, 4], 1)
    assert error == (
        "invalid: timestamp: 2024-08-08T23:54:15.342000Z is 1 d 0.000001 s ahead of the message's Kafka timestamp"
        " 2024-08-07T23:54:15.341999Z; at most K2_TIME_AHEAD_SECONDS_MAX (86400) seconds are accepted: raise that"
        " setting if the time is right"
    )


@pytest.mark.parametrize(
    ("venue", "field"),
    [
        ("k2", "timestamp"),
        ("binance-spot", "T"),
        ("binance-futures", "T"),
        ("coinbase", "time"),
        ("okx", "data[0].ts"),
        ("bybit", "data[0].trade_time_ms"),
    ],
)
def test_the_error_names_the_venues_own_field(venue: str, field: str) -> None:
    """As in the venue's other errors, with the index of the first trade too far ahead."""
    [(_, error)] = decoded_twice(stamped([ALL_SAMPLES[venue]], [10**15], venue)).rejected
    assert (error.reason, error.error.split(": ")[0]) == ("invalid", field)


def test_one_trade_rejects_its_whole_message() -> None:
    """None of its trades remains, before or after the one too far ahead, and other messages keep theirs."""
    late = OKX_TRADE | {"ts": f"{int(OKX_TRADE['ts']) + 2_000}"}
    values = [message("okx", {"data": [OKX_TRADE, late, OKX_TRADE, late]}), ALL_SAMPLES["okx"]]
    kafka = [int(OKX_TRADE["ts"]) * 1_000] * 2
    rows, rejected, _ = outcome(decoded_twice(stamped(values, kafka, "okx"), 1))
    assert [row[:2] for row in rows] == [(1, 0), (1, 1)]
    assert [(number, error.split(" ")[1]) for number, error in rejected] == [(0, "data[1].ts:")]


def test_rejections_are_in_message_order() -> None:
    """Those of the decoders and those of the limit form one list."""
    values = [b"x", K2_MESSAGE, None, K2_MESSAGE, b"{"]
    decoded = decoded_twice(stamped(values, [10**15] * 5))
    assert [number for number, _ in decoded.rejected] == [0, 1, 2, 3, 4]
    assert len(decoded.trades.columns) == 0


def test_non_market_rows_are_renumbered_when_rows_are_removed() -> None:
    """They are checked like any row, and the remaining ones are found at their new indexes."""
    kinds = ["MARKET", "ADL", "ADL", "MARKET", "NA", "MARKET", "NA"]
    values = [message("binance-futures", {"X": kind, "t": place}) for place, kind in enumerate(kinds)]
    kafka = [NULL_TIME if place in {1, 3, 4, 6} else 10**15 for place in range(7)]
    decoded = decoded_twice(stamped(values, kafka, "binance-futures"))
    assert decoded.trades.columns.sequences.tolist() == [1, 3, 4, 6]
    assert decoded.non_market.tolist() == [0, 2, 3]
    assert [number for number, _ in decoded.rejected] == [0, 2, 5]


def test_rows_ahead_by_more_than_the_tolerance_are_marked() -> None:
    """At exactly 5 seconds they are not; row indexes do not count rejected rows."""
    kafka = [TIME - LIMIT_US - 1, TIME - TIME_AHEAD_TOLERANCE_US, TIME - TIME_AHEAD_TOLERANCE_US - 1, NULL_TIME, TIME]
    decoded = decoded_twice(stamped([K2_MESSAGE] * 5, kafka))
    assert decoded.dated_ahead.tolist() == [1]
    assert decoded.trades.columns.messages.tolist() == [1, 2, 3, 4]


def test_a_limit_below_the_tolerance_applies() -> None:
    """It rejects messages that would otherwise not be marked."""
    decoded = decoded_twice(stamped([K2_MESSAGE] * 2, [TIME - 1_000_000, TIME - 1_000_001]), 1)
    assert ([number for number, _ in decoded.rejected], decoded.dated_ahead.tolist()) == ([1], [])


def test_a_limit_beyond_64_bits_rejects_nothing() -> None:
    """However far apart the times are."""
    last = K2_MESSAGE.replace(b"1723161255342000", b'"9999-12-31T23:59:59.999999Z"')
    assert decoded_twice(stamped([last, last], [0, MIN + 1]), 2**70).rejected == []


any_kafka_time = st.one_of(
    st.integers(MIN, MAX),
    st.sampled_from([MIN, MIN + 1, -1, 0, 1, 2**62, MAX, FIRST, LAST]),
)


@given(st.lists(st.tuples(st.integers(FIRST, LAST), any_kafka_time), max_size=20))
def test_differences_do_not_overflow_64_bits(times: list[tuple[int, int]]) -> None:
    """They equal those of unbounded integers, except that Kafka timestamps beyond 2**62 count as 2**62."""
    venue = np.array([time for time, _ in times], dtype=np.int64)
    kafka = np.array([time for _, time in times], dtype=np.int64)
    bound = 2**62
    expected = [0 if stamp == NULL_TIME else time - max(-bound, min(bound, stamp)) for time, stamp in times]
    assert time_ahead(venue, kafka).tolist() == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from([K2_MESSAGE, LEFT_TO_THE_REFERENCE[1], b"x", None]),
            st.sampled_from([TIME - LIMIT_US - 1, TIME - LIMIT_US, TIME - 6_000_000, TIME, NULL_TIME, MIN + 1, MAX]),
        ),
        max_size=12,
    )
)
def test_both_decoders_reject_the_same(messages: list[tuple[bytes | None, int]]) -> None:
    """The remaining rows, and their numbers, are only those of the accepted messages."""
    values, kafka = [value for value, _ in messages], [time for _, time in messages]
    decoded = decoded_twice(stamped(values, kafka))
    is_readable = [value is not None and len(value) > 1 for value in values]
    is_near = [time == NULL_TIME or TIME - time <= LIMIT_US for time in kafka]
    accepted = [place for place, good in enumerate(zip(is_readable, is_near, strict=True)) if all(good)]
    assert decoded.trades.columns.messages.tolist() == accepted
    assert [number for number, _ in decoded.rejected] == [n for n in range(len(values)) if n not in accepted]
    noted = [place for place in accepted if kafka[place] != NULL_TIME and TIME - kafka[place] > 5_000_000]
    assert [accepted[row] for row in decoded.dated_ahead.tolist()] == noted


@pytest.mark.parametrize(
    ("timestamp", "kafka_timestamp", "words"),
    [
        (LAST, 0, "9999-12-31T23:59:59.999999Z is 2932896 d 23 h 59 min 59.999999 s ahead of"),
        (28_800_000_000, 0, "1970-01-01T08:00:00Z is 8 h ahead of the message's Kafka timestamp 1970-01-01T00:00:00Z;"),
        (60_000_000, 0, "1970-01-01T00:01:00Z is 1 min ahead of"),
        (70_000_000, 10_000_000, "is 1 min ahead of"),
        (10_000_000, 0, "is 10 s ahead of"),
        (500_000, 0, "1970-01-01T00:00:00.500000Z is 0.5 s ahead of"),
        (FIRST, MIN + 1, "0001-01-01T00:00:00Z is "),
    ],
)
def test_the_difference_of_any_two_times_is_formatted(timestamp: int, kafka_timestamp: int, words: str) -> None:
    """Whole parts without a fraction, and also times outside Python's calendar."""
    assert words in too_far_ahead("timestamp", timestamp, kafka_timestamp, 1).error
