"""Copies of corrections: known by their content within the window, however the stream is cut."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.dedup import corrections as module
from k2.dedup.corrections import SeenCorrections
from k2.model.correction import Correction, CorrectionKind, PlacedCorrection

WINDOW = 100


def placed(trade_id: str, kafka_timestamp: int | None, offset: int = 0, price: str = "1") -> PlacedCorrection:
    """Return a cancel with a content that its id and price decide."""
    values = (Decimal(price), None, None, None, None, None)
    said = Correction(CorrectionKind.CANCELLED, "x", "A", trade_id, None, *values, 5)
    return PlacedCorrection(said, "t", 0, offset, 0, kafka_timestamp)


@st.composite
def streams(draw: st.DrawFn) -> list[PlacedCorrection]:
    """Return corrections whose Kafka timestamps grow, with disorder of half a window."""
    clock, found = 0, []
    for offset in range(draw(st.integers(1, 25))):
        clock += draw(st.integers(0, WINDOW))
        time = clock - draw(st.integers(0, WINDOW // 2))
        found.append(placed(draw(st.sampled_from("abc")), time, offset))
    return found


def plain(stream: list[PlacedCorrection]) -> list[bool]:
    """Return whether each is new, by comparison with the last stored one of its content."""
    stored: dict[str, int] = {}
    verdicts = []
    for one in stream:
        time = one.kafka_timestamp or 0
        last = stored.get(one.correction.trade_id)
        verdicts.append(last is None or abs(time - last) > WINDOW)
        if verdicts[-1]:
            stored[one.correction.trade_id] = time
    return verdicts


@given(streams(), st.data())
def test_cuts_change_no_verdict(stream: list[PlacedCorrection], data: st.DataObject) -> None:
    """A start that knows the stored ones of two windows goes on as if nothing had happened."""
    cut = data.draw(st.integers(0, len(stream)))
    before = SeenCorrections(WINDOW)
    verdicts = [before.add(one) for one in stream[:cut]]
    stored = [one for one, is_new in zip(stream, verdicts, strict=False) if is_new]
    newest = max((one.kafka_timestamp or 0 for one in stored), default=0)
    after = SeenCorrections(WINDOW)
    for one in sorted(stored, key=lambda one: one.kafka_timestamp or 0):
        if (one.kafka_timestamp or 0) >= newest - 2 * WINDOW:
            after.add(one)
    assert [*verdicts, *(after.add(one) for one in stream[cut:])] == plain(stream)


def test_content_decides() -> None:
    """Zeros at the end of a decimal, which the table adds, are no other content, and the capture's time is none."""
    seen = SeenCorrections(WINDOW)
    assert seen.add(placed("a", 0, price="1.5"))
    assert not seen.add(placed("a", 0, price="1.500000000000000000"))
    again = placed("a", 0, price="1.5")
    said = again.correction._replace(received=7)
    assert not seen.add(PlacedCorrection(said, "t", 1, 9, 0, 0))
    assert seen.add(placed("a", 0, price="1.6"))


def test_without_a_kafka_timestamp_content_alone_decides() -> None:
    """Of the message, or of the stored one."""
    seen = SeenCorrections(WINDOW)
    assert seen.add(placed("a", None))
    assert not seen.add(placed("a", 10**9))
    assert seen.add(placed("b", 10**9))
    assert not seen.add(placed("b", None))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those older than two windows go, but one wrong time expires none of the newest."""
    monkeypatch.setattr(module, "KEPT_MIN", 10)
    seen = SeenCorrections(WINDOW)
    for number in range(50):
        seen.add(placed(f"{number}", number * WINDOW))
    assert len(seen) == 10
    seen.add(placed("wrong", 10**15))
    assert not seen.add(placed("49", 49 * WINDOW))
