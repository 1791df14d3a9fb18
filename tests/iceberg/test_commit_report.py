"""The log lines of commits: counts, and one warning when the share of rejected messages rises."""

from typing import Any

import pytest
import structlog

from k2.iceberg.commit_report import CommitReport, RejectedShare
from k2.model.dead_letter import DeadLetter
from k2.model.errors import error_pattern
from k2.model.progress import Counts
from k2.model.reasons import Reason
from k2.storage.dead_letters.rejections import Rejections
from tests.model.dead_letters import dead_letter

NANOSECONDS = "timestamp: looks like nanoseconds: {}; send microseconds"


def lines_of(
    report: CommitReport, counts: Counts, *dead_letters: DeadLetter, lag: int | None = None
) -> list[dict[str, Any]]:
    """Return what the log says of one commit."""
    rejections = Rejections()
    for one in dead_letters:
        rejections.add([one])
    with structlog.testing.capture_logs() as logs:
        report.log(counts, rejections, lag, 0.25)
    return [dict(entry) for entry in logs]


def test_a_commit_is_one_line() -> None:
    """With the counts of the epoch, dead letters by reason, and seconds."""
    report = CommitReport("3")
    rejected = dead_letter(offset=5, reason=Reason.MALFORMED), dead_letter(offset=6, reason=Reason.TOO_LARGE)
    counts = Counts(received=1_000, stored=990, duplicates=5, dead_letters=2, skipped=3)
    (line,) = lines_of(report, counts, *rejected, lag=7)
    assert line == {
        "event": "committed",
        "log_level": "info",
        "writer": "3",
        "received": 1_000,
        "rows": 990,
        "duplicates": 5,
        "dead_letters": {"malformed": 1, "too_large": 1},
        "skipped": 3,
        "corrections": 0,
        "lag": 7,
        "seconds": 0.25,
    }
    (line,) = lines_of(report, Counts(received=1, stored=1), lag=None)
    assert (line["dead_letters"], line["lag"]) == ({}, None)


def test_a_rise_names_the_commonest_error_and_an_example() -> None:
    """Errors that differ in their values alone count as one."""
    report = CommitReport("0")
    one = dead_letter(offset=7, reason=Reason.INVALID, error="price: empty")
    same = [
        dead_letter(offset=offset, reason=Reason.INVALID, error=NANOSECONDS.format(1_723_161_255_342_999_000 + offset))
        for offset in (8, 9)
    ]
    _, warning = lines_of(report, Counts(received=4, stored=1, dead_letters=3), one, *same)
    assert warning["log_level"] == "warning"
    assert warning["event"] == "rejected_share_rose"
    assert warning["commonest_error"] == NANOSECONDS.format(1_723_161_255_342_999_008)
    assert (warning["of_this_error"], warning["example"]) == (2, "trades:0:8")
    assert warning["hint"] == "k2 dlq show trades 0 8"


@pytest.mark.parametrize(
    ("shares", "rises"),
    [
        ([0.009] * 5, [False] * 5),
        ([1.0] * 4, [True, False, False, False]),
        ([0.01, 0.015, 0.02, 0.05], [True, False, False, True]),
        ([0.5, *[0.0] * 3, 0.5], [True, False, False, False, False]),
        ([0.5, *[0.0] * 30, 0.5], [True, *[False] * 30, True]),
    ],
)
def test_a_rise_is_reported_once(shares: list[float], rises: list[bool]) -> None:
    """A share that stays is the usual one; once it has fallen for long, its return is a rise again."""
    share = RejectedShare()
    assert [share.rises(round(1_000 * one), 1_000) for one in shares] == rises


def test_an_epoch_that_received_nothing_is_no_rise() -> None:
    """Offsets without a message move, too."""
    assert not RejectedShare().rises(0, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("price: not a decimal: 'abc'", 'price: not a decimal: "it\'s"'),
        ("value: 17 bytes, more than 9", "value: 1,048,577 bytes, more than 1,048,576"),
        ("time: no zone: '2024-01-01T00:00:00'", "time: no zone: ''"),
    ],
)
def test_errors_of_one_cause_have_one_pattern(one: str, other: str) -> None:
    """Numbers and quoted values do not count."""
    assert error_pattern(one) == error_pattern(other)
    assert error_pattern(one) != error_pattern("price: absent")
