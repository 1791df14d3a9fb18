"""A venue whose form changed: each message is decoded by the table that was valid when its trades happened."""

import gzip
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.batch import TradeSlice
from k2.model.correction import Correction
from k2.model.errors import SettingsError
from k2.model.reasons import Reason, RejectedError, SkippedError
from k2.model.trade import Trade
from k2.model.verdicts import DUPLICATE, STORED
from k2.venues import VENUES
from k2.venues.decode import decode, decode_by_reference
from k2.venues.table_files import read_table
from k2.venues.table_history import venue_of_file
from k2.venues.venue import Venue
from tests.flows.job_io import message_batch, run_in_memory
from tests.venues.messages import batch_of, outcome
from tests.venues.recordings import lines_of

BEFORE_MS: Final = 1_735_689_599_999
"""The last millisecond of 2024."""
FROM_MS: Final = BEFORE_MS + 1
RECORDING: Final = "gateio-v4-spot-trades"
LATER: Final = """
name = "later"
source = "https://example.com"
exchange = "x"
numbering = "{numbering}"
valid_from = 2025-01-01
before = "earlier"
symbol = {{ path = "s" }}
sequence = {{ path = "n" }}
price = {{ path = "p" }}
quantity = {{ path = "q" }}
time = {{ path = "t", unit = "ms" }}
[[messages]]
trades = "d[]"
"""
EARLIER: Final = """
name = "earlier"
source = "https://example.com"
exchange = "x"
numbering = "monotonic"
symbol = { path = "s" }
sequence = { path = "n" }
price = { path = "p" }
quantity = { path = "old_q" }
time = { path = "t", unit = "ms" }
[[messages]]
trades = "d[]"
[[skip]]
reason = "status"
when = [{ path = "old_status", present = true }]
"""


def gate(number: int, time_ms: int, market_number: int | None = None) -> bytes:
    """Return a trade of Gate, in the form since 2025 if it has a market's number."""
    own = {} if market_number is None else {"id_market": market_number}
    trade = {"id": number, "create_time_ms": f"{time_ms}.5", "side": "buy", "amount": "1", "price": "2"}
    result = own | trade | {"currency_pair": "GT_USDT"}
    return msgspec.json.encode({"channel": "spot.trades", "event": "update", "result": result})


def numbers(venue: str, value: bytes) -> list[tuple[str | None, int | None]]:
    """Return ids and numbers of the trades of a message."""
    return [(trade.trade_id, trade.sequence) for trade in VENUES[venue].decode(value)]


def test_a_message_that_fits_both_tables_is_decoded_by_its_time() -> None:
    """The first microsecond of the day is that of the later table; both read the id, one the market's number."""
    assert numbers("gate", gate(70, FROM_MS, 7)) == [("70", 7)]
    assert numbers("gate", gate(70, BEFORE_MS, 7)) == [("70", None)]


def test_a_message_of_the_earlier_form_is_decoded_if_it_is_of_that_time() -> None:
    """Else it is unsupported, with both tables, the day and what is missing; an error of both is that of the later."""
    assert numbers("gate", gate(70, BEFORE_MS)) == [("70", None)]
    with pytest.raises(RejectedError) as caught:
        VENUES["gate"].decode(gate(70, FROM_MS))
    assert caught.value.reason is Reason.UNSUPPORTED
    assert caught.value.error == (
        "value: a message of gate-until-2024, dated 2025-01-01, but gate is valid from 2025-01-01 "
        "(result.id_market: missing)"
    )
    with pytest.raises(RejectedError, match=r"invalid: result\.id_market: missing"):
        VENUES["gate"].decode(gate(70, BEFORE_MS).replace(b'"buy"', b'"bid"'))
    with pytest.raises(RejectedError, match="malformed"):
        VENUES["gate"].decode(b"{")


def test_an_old_recording_has_the_trades_of_the_earlier_table() -> None:
    """Without their numbers, which are not those of the market; replies are skipped, and keys are equal."""
    for line in lines_of(RECORDING):
        try:
            expected = [trade._replace(sequence=None) for trade in VENUES["gate-until-2024"].decode(line)]
        except SkippedError as skipped:
            with pytest.raises(SkippedError, match=skipped.why):
                VENUES["gate"].decode(line)
            continue
        assert VENUES["gate"].decode(line) == expected
        assert VENUES["gate"].key(line) == VENUES["gate-until-2024"].key(line)
        finder = VENUES["gate"].drift
        assert finder is not None
        assert finder.drift(line) == finder.unused_keys(line) == []


def test_a_change_of_the_form_opens_no_gaps() -> None:
    """Trades of both forms in one topic are stored once each, and the numbers begin with the later form."""
    old = [gate(1_000 * number, BEFORE_MS - 10 + number) for number in range(5)]
    new = [gate(9_000 + number, FROM_MS + number, number) for number in range(1, 4)]
    batch = message_batch([(None, value) for value in [*old, *old, *new, *new]], 0, venue="gate")
    later = replace(batch, kafka_timestamps=np.full(len(batch), (FROM_MS + 50) * 1_000, dtype=np.int64))
    out = run_in_memory({"trades:0": [later]})
    slices = [piece for _, piece in out["iceberg"] if isinstance(piece, TradeSlice)]
    verdicts = Counter(verdict for piece in slices for verdict in piece.verdicts.tolist())
    assert verdicts == {STORED: 8, DUPLICATE: 8}
    assert [event.event for _, events in out["events"] for event in events] == ["session_started"]


@pytest.fixture(scope="module", autouse=True)
def _tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the venues have two tables of several trades a message, the later one with numbers of the same kind."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "later.toml").write_text(LATER.format(numbering="monotonic"), encoding="utf-8")
    (folder / "earlier.toml").write_text(EARLIER, encoding="utf-8")
    VENUES["later"] = venue_of_file(read_table(folder / "later.toml", {"earlier": folder / "earlier.toml"}.get))
    yield
    del VENUES["later"]


CANCELS: Final = """
[[corrections]]
when = [{ path = "T", one_of = ["x"] }]
action = "cancel"
trade_id = { path = "i", type = "number" }
"""
HEADS: Final = """
[[heads]]
reason = "heartbeat"
when = [{ path = "last", present = true }]
number = { path = "last" }
"""


def dated(folder: Path, later: str, earlier: str) -> Venue:
    """Return a venue of two tables."""
    (folder / "later.toml").write_text(later, encoding="utf-8")
    (folder / "earlier.toml").write_text(earlier, encoding="utf-8")
    return venue_of_file(read_table(folder / "later.toml", {"earlier": folder / "earlier.toml"}.get))


@pytest.mark.parametrize("name", ["later", "earlier"])
def test_a_venue_has_the_corrections_of_both_its_tables(tmp_path: Path, name: str) -> None:
    """The job opens their table if it may meet one, in a message of either form."""
    tables = {"later": LATER.format(numbering="monotonic"), "earlier": EARLIER}
    tables[name] += CANCELS
    quantity = {"later": "q", "earlier": "old_q"}[name]
    venue = dated(tmp_path, tables["later"], tables["earlier"])
    [trade, correction] = venue.decode(
        msgspec.json.encode(
            {
                "d": [
                    {"s": "A", "n": 1, "p": "1", "t": BEFORE_MS, quantity: "1"},
                    {"s": "A", "T": "x", "i": 1, "t": BEFORE_MS},
                ]
            }
        )
    )
    assert (type(trade), type(correction)) == (Trade, Correction)
    assert venue.has_corrections


@pytest.mark.parametrize("packed", ["earlier", "later"])
def test_a_venue_may_change_its_payload_with_its_form(tmp_path: Path, packed: str) -> None:
    """A message that is damaged for the later table may be one of the earlier; what neither reads is malformed."""
    tables = {"later": LATER.format(numbering="monotonic"), "earlier": EARLIER}
    tables[packed] = f'payload = "gzip"{tables[packed]}'
    venue = dated(tmp_path, tables["later"], tables["earlier"])
    old, new = several(BEFORE_MS, keys=("old_q",)), several(FROM_MS, keys=("q",))
    old, new = (gzip.compress(old), new) if packed == "earlier" else (old, gzip.compress(new))
    assert [venue.decode(value)[0].timestamp // 1_000 for value in (old, new)] == [BEFORE_MS, FROM_MS]
    with pytest.raises(RejectedError, match="malformed"):
        venue.decode(gzip.compress(b"{"))


def test_a_head_of_another_numbering_is_skipped(tmp_path: Path) -> None:
    """Its number says nothing here, and a message that is neither stored nor rejected is counted as skipped."""
    with_trades = EARLIER.replace('"d[]"', '"d[]"\nwhen = [{ path = "d", present = true }]')
    earlier = f'key = {{ path = "$.s" }}{with_trades}{HEADS}'
    venue = dated(tmp_path, LATER.format(numbering="contiguous"), earlier)
    with pytest.raises(SkippedError, match="head_number"):
        venue.decode(b'{"s":"A","last":7}')


def several(*times_ms: int, keys: tuple[str, ...] = ("q", "old_q")) -> bytes:
    """Return a message with a trade of each time, whose quantity has these keys."""
    trades = [
        {"s": "A", "n": at, "p": "1", "t": time, **{key: 1 + len(key) for key in keys}}
        for at, time in enumerate(times_ms)
    ]
    return msgspec.json.encode({"d": trades})


def test_the_newest_trade_of_a_message_decides() -> None:
    """A message is one form; equal numberings keep their numbers, and what the earlier table skips is skipped."""
    [first, second] = VENUES["later"].decode(several(BEFORE_MS, FROM_MS))
    assert first.quantity == second.quantity == 2 * 10**18
    [first, second] = VENUES["later"].decode(several(BEFORE_MS, BEFORE_MS - 1))
    assert first.quantity == second.quantity == 6 * 10**18
    assert (first.sequence, second.sequence) == (0, 1)
    assert VENUES["later"].decode(several(BEFORE_MS, keys=("q",)))[0].quantity == 2 * 10**18
    with pytest.raises(SkippedError, match="status"):
        VENUES["later"].decode(b'{"old_status":1}')


@given(
    st.lists(
        st.tuples(
            st.lists(st.sampled_from([BEFORE_MS - 1, BEFORE_MS, FROM_MS, FROM_MS + 1]), max_size=4),
            st.sampled_from([("q",), ("old_q",), ("q", "old_q"), ()]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_both_decoders_agree_at_the_boundary(messages: list[tuple[list[int], tuple[str, ...]]]) -> None:
    """The compiled decoder leaves what may be of the earlier table, whatever is next to it in the batch."""
    values = [several(*times, keys=keys) for times, keys in messages]
    of_gate = [gate(7, time, 3) for times, _ in messages for time in times]
    for venue, batch in (("later", batch_of(values, "later")), ("gate", batch_of(of_gate, "gate"))):
        assert VENUES[venue].decode_compiled is not None
        assert outcome(decode(batch)) == outcome(decode_by_reference(batch))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (('before = "earlier"\n', ""), "later.toml line 6: valid_from: needs before as well; give both, or neither"),
        (
            ("valid_from = 2025-01-01\n", ""),
            "later.toml line 6: before: needs valid_from as well",
        ),
        (('"earlier"', '"other"'), "later.toml line 7: before: there is no table of a venue 'other'"),
        (('"earlier"', '"later"'), "later.toml line 7: before: 'later' is after this table in turn; remove one"),
        (('exchange = "x"', 'exchange = "y"'), "later.toml line 7: before: 'earlier' has another exchange; give both"),
        (("2025-01-01", '"soon"'), "later.toml line 6: valid_from: "),
    ],
)
def test_a_wrong_history_is_refused(tmp_path: Path, change: tuple[str, str], sentence: str) -> None:
    """In one sentence with file, line and key."""
    later, earlier = tmp_path / "later.toml", tmp_path / "earlier.toml"
    later.write_text(LATER.format(numbering="monotonic").replace(*change), encoding="utf-8")
    earlier.write_text(EARLIER, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_table(later, {"later": later, "earlier": earlier}.get)
    assert sentence in str(caught.value)


def test_histories_follow_one_another(tmp_path: Path) -> None:
    """A table before may have one before it, of an earlier day; the digest depends on all of them."""
    paths = {name: tmp_path / f"{name}.toml" for name in ("third", "later", "earlier")}
    paths["third"].write_text(
        'extends = "later"\nname = "third"\nvalid_from = 2026-01-01\nbefore = "later"\n', encoding="utf-8"
    )
    paths["later"].write_text(LATER.format(numbering="monotonic"), encoding="utf-8")
    paths["earlier"].write_text(EARLIER, encoding="utf-8")
    third = read_table(paths["third"], paths.get)
    assert third.before is not None
    assert third.before.before is not None
    paths["earlier"].write_text(f"{EARLIER}# changed\n", encoding="utf-8")
    assert read_table(paths["third"], paths.get).digest != third.digest
    paths["third"].write_text(paths["third"].read_text(encoding="utf-8").replace("2026", "2025"), encoding="utf-8")
    with pytest.raises(SettingsError, match="'later' is valid from 2025-01-01, which is not earlier"):
        read_table(paths["third"], paths.get)
