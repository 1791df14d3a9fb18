"""The report on a capture: each message is counted once, and steps between numbers by their kind."""

from k2.venues import VENUES
from k2.venues.capture_report import FIRST_TRADES, DriftKind, NumberSteps, report_on
from k2.venues.rows import MESSAGE_BYTES_MAX
from tests.venues.test_recorded_venues import ABSENT, message


def futures(number: int, kind: str = "MARKET") -> bytes:
    """Return a trade of Binance futures."""
    return message("binance-futures", {"t": number, "X": kind})


def test_messages_are_counted_once() -> None:
    """As trades, skipped by reason, or dead letters by kind of error with the line of the first."""
    reply, large = b'{"result":null,"id":1}', b" " * (MESSAGE_BYTES_MAX + 1)
    bad = [message("binance-futures", {"p": text}) for text in ("x", "y")]
    lines = [futures(1), futures(2, "ADL"), reply, *bad, large, message("binance-futures", {"t": ABSENT})]
    report = report_on(VENUES["binance-futures"], enumerate(lines, 1))
    assert (report.messages, report.with_trades, report.trades, report.non_market) == (7, 2, 1, 1)
    assert (report.skipped, report.unkeyed) == ({"subscription_reply": 1}, 0)
    assert [(kind.reason, kind.count, kind.line) for kind in report.dead_letters] == [
        ("invalid", 2, 4),
        ("too_large", 1, 6),
        ("invalid", 1, 7),
    ]


def test_steps_are_counted_by_their_kind() -> None:
    """Against the highest number of the symbol, so that a late one is no second hole."""
    report = report_on(VENUES["binance-futures"], enumerate(map(futures, [5, 6, 6, 9, 7, 10]), 1))
    assert report.numbers == NumberSteps(symbols=1, steps=5, contiguous=2, ahead=1, missing=2, repeated=1, back=1)


def test_only_the_first_trades_are_kept() -> None:
    """However long the capture is."""
    report = report_on(VENUES["binance-futures"], enumerate(map(futures, range(100)), 1))
    assert [trade.sequence for trade in report.first_trades] == [*range(FIRST_TRADES)]


def test_trades_without_a_key_are_counted() -> None:
    """They are stored, but come to any partition."""
    value = message("okx", {"arg": {"channel": "trades"}})
    assert report_on(VENUES["okx"], [(1, value)]).unkeyed == 1


def test_drift_and_unused_keys_are_listed() -> None:
    """Each change once, with the number of its messages and the line of the first; dead letters are listed as such."""
    lines = [futures(1), *(message("binance-futures", {"t": number, "rpi": number}) for number in (2, 3))]
    report = report_on(VENUES["binance-futures"], enumerate([*lines, futures(4, "NEW")], 1))
    assert report.unused_keys == ["rpi"]
    assert report.drift == [DriftKind("new_key", "rpi", 2, 2, "'2'")]
    assert [kind.line for kind in report.dead_letters] == [4]
