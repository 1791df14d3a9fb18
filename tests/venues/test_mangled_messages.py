"""Mangled messages of every built-in table are trades, skipped or refused; no other error leaves a decoder."""

import json
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k2.model.correction import Correction
from k2.model.reasons import RejectedError, SkippedError
from k2.venues import VENUES
from k2.venues.reading import INT64_MAX, INT64_MIN
from k2.venues.table import VenueTable
from tests.venues.documented import DOCUMENTED
from tests.venues.documented_stocks import STOCKS
from tests.venues.recordings import RECORDINGS, lines_of
from tests.venues.skipped_messages import skipped_messages, skipped_texts
from tests.venues.test_recorded_venues import ALL_SAMPLES

HUGE: Final = "HUGE"
"""Replaced in the text by a number of 5,000 digits, more than Python converts."""


def _samples() -> dict[str, list[bytes]]:
    """Return messages of each built-in table, some of each form."""
    samples: dict[str, list[bytes]] = {name: [] for name in VENUES.tables}
    for one in (*DOCUMENTED, *STOCKS):
        samples[one.venue].append(msgspec.json.encode(one.message))
    for recording in RECORDINGS:
        lines = lines_of(recording.file)
        samples[recording.venue] += [*lines[:40:4], *lines[-10:]]
    for venue in samples:
        samples[venue] += [ALL_SAMPLES[venue]] if venue in ALL_SAMPLES else []
        samples[venue] += skipped_messages(_table(venue))
    return samples


def _known_values(table: VenueTable) -> list[Any]:
    conditions = [one for form in (*table.messages, *table.skip) for one in form.when]
    kinds = [value for one in table.kinds for value in (*one.market, *one.non_market, *one.skipped)]
    return [*(value for one in conditions for value in one.one_of or ()), *kinds, [], None]


def _table(venue: str) -> VenueTable:
    table = VENUES.table_of(venue)
    assert table is not None
    return table


SAMPLES: Final = _samples()
KNOWN: Final = {venue: _known_values(_table(venue)) for venue in SAMPLES}
"""Values that the tables name, of all their keys."""
TEXTS: Final = {venue: [b"pong", *skipped_texts(_table(venue))] for venue in SAMPLES}
"""Messages that are no objects, of each table."""
FIRST_YEAR, LAST_YEAR = -62_135_596_800_000_000, 253_402_300_800_000_000
"""The years 1 and 10000, as microseconds."""
values: Final = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
        st.text(st.sampled_from('a/\\"\n\x7f\x80\x9f\xa0é한￿\ud800\udfff😀'), max_size=4),
        st.sampled_from(["", "0", "-1", "NaN", "1e99", "9" * 40, "trade", "update", HUGE, "\x00", "x" * 300]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of each value within a message, with that of the message itself."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, one in inner for found in _places(one, (*path, key)))]


@st.composite
def mangled(draw: st.DrawFn, venue: str) -> bytes:
    """Return a message with values replaced, removed, added or doubled, or with its bytes damaged."""
    message = json.loads(draw(st.sampled_from(SAMPLES[venue])))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(_places(message)))
        if not path:
            continue
        container = message
        for key in path[:-1]:
            container = container[key]
        match draw(st.sampled_from(["replace", "known", "remove", "nest"])):
            case "replace":
                container[path[-1]] = draw(values)
            case "known":
                container[path[-1]] = draw(st.sampled_from(KNOWN[venue]))
            case "remove":
                del container[path[-1]]
            case _:
                container[path[-1]] = [container[path[-1]]] * draw(st.integers(1, 3))
    text = json.dumps(message, ensure_ascii=draw(st.booleans())).replace(f'"{HUGE}"', "9" * 5_000)
    if draw(st.booleans()) and text.startswith("{") and len(text) > 2:
        text = text[:-1] + "," + text[1:]  # every key twice
    value = text.encode(errors="surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(value)))
        value = value[:at] + draw(st.binary(max_size=3)) + value[at + draw(st.integers(0, 3)) :]
    return value


@pytest.mark.parametrize("venue", SAMPLES)
def test_every_table_has_a_message_to_mangle(venue: str) -> None:
    """And at least one is a trade as it stands."""
    trades = []
    for value in SAMPLES[venue]:
        try:
            trades += VENUES[venue].decode(value)
        except SkippedError:
            continue
    assert trades


@pytest.mark.parametrize("venue", SAMPLES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_mangled_message_is_a_trade_or_refused(venue: str, data: st.DataObject) -> None:
    """The trades are within the limits of the columns, and the key is text that Kafka takes."""
    value = data.draw(mangled(venue))
    for read in (VENUES[venue].decode, VENUES[venue].key):
        try:
            result: Any = read(value)
        except (RejectedError, SkippedError):
            continue
        if isinstance(result, str):
            assert result.encode()
            continue
        assert result
        for trade in result:
            assert 0 < len(trade.symbol.encode()) <= 255
            if isinstance(trade, Correction):
                assert 0 < len(trade.trade_id.encode()) <= 255
                continue
            assert trade.sequence is None or INT64_MIN <= trade.sequence <= INT64_MAX
            assert trade.trade_id is None or 0 < len(trade.trade_id.encode()) <= 255
            assert max(abs(trade.price), trade.quantity) < 10**38
            assert trade.quantity > 0 or not trade.is_market
            assert FIRST_YEAR <= trade.timestamp < LAST_YEAR
