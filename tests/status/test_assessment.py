"""The rules of the status: what is said of each kind of evidence, and what holds for all of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.kafka.unread import PartitionEnd
from k2.model.dead_letter import DeadLetter
from k2.model.progress import Counts
from k2.model.reasons import Reason as DeadLetterReason
from k2.query.partition_progress import PartitionState
from k2.status.assessment import assess
from k2.status.evidence import BrokerState, MissingNumbers, StoredCounts, TopicRejections
from k2.status.feeds import DatedAhead, SilentSymbols
from k2.status.findings import Cause, Finding, Verdict
from k2.status.lag import is_read_until, partition_verdict
from k2.storage.dead_letters.rejections import CommonError
from tests.status.evidence import NOW, OTHER, PARTITION, ago, evidence, state, with_unread

NANOSECONDS = DeadLetter(
    topic="trades",
    partition=0,
    offset=7,
    kafka_timestamp=None,
    key=None,
    value="{}",
    reason=DeadLetterReason.INVALID,
    error="timestamp: looks like nanoseconds: 1723161255342999000; send microseconds",
    error_type="RejectedError",
    venue="k2",
)
STUCK = (state(committed_at=ago(300)), state(OTHER))
ENDS = {PARTITION: PartitionEnd(1_500, 500, ago(290)), OTHER: PartitionEnd(1_000, 0, None)}
MISSING = MissingNumbers(1_698, 40, 12, ago(7_200), ago(60), "x S 1-900")
EXAMPLES: list[tuple[str, dict[str, Any], Cause, Verdict, str]] = [
    (
        "job killed",
        {"states": (state(committed_at=ago(720)),), "last_commit_at": ago(720), **with_unread(21_313, 719)},
        Cause.JOB_STOPPED,
        Verdict.STOPPED,
        (
            "nothing has been committed for 12 minutes, while 21,313 messages of 1 partition are unread, the oldest of "
            "2026-11-28 11:48:01 UTC"
        ),
    ),
    (
        "one partition stuck",
        {"states": STUCK, "stored": StoredCounts(1_980), "broker": BrokerState("b:9092", ends=ENDS)},
        Cause.PARTITION_STUCK,
        Verdict.BEHIND,
        (
            "trades:0 does not advance while others do; 500 messages of 1 partition are unread, the oldest of "
            "2026-11-28 11:55:10 UTC"
        ),
    ),
    (
        "a transaction is open",
        {"broker": BrokerState("b:9092", ends={PARTITION: PartitionEnd(1_000, 0, None, held_back=501)})},
        Cause.TRANSACTION_OPEN,
        Verdict.BEHIND,
        "501 messages of trades:0 wait for the end of a transaction",
    ),
    (
        "a topic made again",
        {"broker": BrokerState("b:9092", recreated_topics=("trades",), lost_partitions=(PARTITION,))},
        Cause.OFFSET_GONE,
        Verdict.STOPPED,
        "topic trades was deleted and created again since it was first read",
    ),
    (
        "a partition gone",
        {"broker": BrokerState("b:9092", lost_partitions=(PARTITION,))},
        Cause.OFFSET_GONE,
        Verdict.STOPPED,
        "trades:0 was read before, and its topic no longer has it",
    ),
    (
        "the ledger gone",
        {"stored": StoredCounts(990, is_ledger_lost=True)},
        Cause.LEDGER_LOST,
        Verdict.UNKNOWN,
        "which numbers are missing is not known: the ledger is gone, or is not that of these trades",
    ),
    (
        "delete files",
        {"stored": StoredCounts(None)},
        Cause.ROWS_UNKNOWN,
        Verdict.UNKNOWN,
        "the rows of the table cannot be counted by its metadata: another writer left delete files, or no totals",
    ),
    (
        "too slow",
        with_unread(100_000, 900),
        Cause.JOB_BEHIND,
        Verdict.BEHIND,
        "100,000 messages of 1 partition are unread; at the present rate they take 17 minutes",
    ),
    (
        "broker gone",
        {"broker": BrokerState("b:9092", error="no Kafka broker answers at b:9092: refused")},
        Cause.BROKER_UNREACHABLE,
        Verdict.UNKNOWN,
        "whether messages are unread is not known: no Kafka broker answers at b:9092: refused",
    ),
    (
        "no broker configured",
        {"broker": BrokerState(None)},
        Cause.BROKER_NOT_ASKED,
        Verdict.UNKNOWN,
        "whether messages are unread is not known: K2_BOOTSTRAP_SERVERS is not set here",
    ),
    (
        "topic absent",
        {"broker": BrokerState("b:9092", absent_topics=("tardes",))},
        Cause.TOPIC_ABSENT,
        Verdict.UNKNOWN,
        "topic tardes does not exist at b:9092",
    ),
    (
        "expired",
        {"broker": BrokerState("b:9092", ends={PARTITION: PartitionEnd(9_000, 8_000, None, first_offset=5_000)})},
        Cause.OFFSET_GONE,
        Verdict.STOPPED,
        "trades:0 begins at offset 5,000, but 1,000 is to be read next: messages have expired unread",
    ),
    (
        "recreated",
        {"broker": BrokerState("b:9092", ends={PARTITION: PartitionEnd(30, 0, None, first_offset=0)})},
        Cause.OFFSET_GONE,
        Verdict.STOPPED,
        "trades:0 ends at offset 30, but was read to 1,000: the topic was recreated, or lost data",
    ),
    (
        "all rejected",
        {
            "rejections": (
                TopicRejections(
                    "trades",
                    Counts(42_626, 0, 0, 42_626, 0),
                    Counts(42_626, 0, 0, 42_626, 0),
                    CommonError(2_000, NANOSECONDS),
                ),
            )
        },
        Cause.MESSAGES_REJECTED,
        Verdict.REJECTING,
        (
            "42,626 of the last 42,626 messages of topic trades were not stored (42,626 of 42,626 in all); most often "
            "as invalid, venue k2: timestamp: looks like nanoseconds: 1723161255342999000; send microseconds"
        ),
    ),
    (
        "rejected before",
        {"rejections": (TopicRejections("trades", Counts(500, 500, 0, 0, 0), Counts(1_000, 900, 0, 100, 0), None),)},
        Cause.MESSAGES_REJECTED,
        Verdict.REJECTING,
        (
            "100 of 1,000 messages of topic trades were not stored; none of the last 500 messages of topic trades is "
            "among them"
        ),
    ),
    (
        "some were replayed",
        {
            "rejections": (
                TopicRejections("trades", Counts(500, 480, 0, 20, 0), Counts(1_000, 900, 0, 100, 0), None, replayed=85),
            )
        },
        Cause.MESSAGES_REJECTED,
        Verdict.REJECTING,
        "15 of the last 500 messages of topic trades were not stored (15 of 1,000 in all)",
    ),
    (
        "numbers missing",
        {"missing": MISSING},
        Cause.NUMBERS_MISSING,
        Verdict.MISSING,
        (
            "1,698 sequence numbers of 12 symbols are missing in 40 ranges, the first found 2 hours ago, the "
            "last 60 s ago; the largest is x S 1-900"
        ),
    ),
    (
        "one number missing",
        {"missing": MissingNumbers(1, 1, 1, ago(60), ago(60), "x S 5-5")},
        Cause.NUMBERS_MISSING,
        Verdict.MISSING,
        "1 sequence number of 1 symbol is missing in 1 range, found 60 s ago; the largest is x S 5-5",
    ),
    (
        "rows lost",
        {"stored": StoredCounts(900)},
        Cause.ROWS_LOST,
        Verdict.MISSING,
        "the table has 900 rows, but the job stored 990",
    ),
    (
        "rows lost besides those removed",
        {"stored": StoredCounts(799, removed=190)},
        Cause.ROWS_LOST,
        Verdict.MISSING,
        "the table has 799 rows, but the job stored 990, and 190 were removed by k2 maintain retain",
    ),
    (
        "rows added",
        {"stored": StoredCounts(1_980)},
        Cause.ROWS_ADDED,
        Verdict.IN_DOUBT,
        "the table has 1,980 rows, but the job stored 990: another writer added rows",
    ),
    (
        "dead letters lost",
        {"stored": StoredCounts(990, ("dlq-a-00000001.jsonl",))},
        Cause.DEAD_LETTERS_LOST,
        Verdict.MISSING,
        "dead letters are gone: dlq-a-00000001.jsonl is absent, unreadable or shorter than recorded",
    ),
    (
        "conflicts",
        {"conflicts": 3, "conflicting_symbols": ("x A", "x B")},
        Cause.CONFLICTS,
        Verdict.IN_DOUBT,
        "3 trades contradict stored trades of x A, x B",
    ),
    (
        "dated ahead",
        {"dated_ahead": (DatedAhead("x", 4, 3_600),)},
        Cause.DATED_AHEAD,
        Verdict.IN_DOUBT,
        "4 new trades of x are dated up to 60 minutes ahead of Kafka's time",
    ),
    (
        "half silent",
        {"silent": (SilentSymbols("x", ["A", "B"], 4, ago(40)),)},
        Cause.SYMBOLS_SILENT,
        Verdict.IN_DOUBT,
        "2 of 4 steady symbols of x have no trade since 2026-11-28 11:59:20 UTC, while others trade: A, B",
    ),
    (
        "disk full",
        {"full_folders": (Path("data/dlq"),)},
        Cause.DISK_FULL,
        Verdict.STOPPED,
        "the disk of data/dlq is full, so the job cannot write there",
    ),
    (
        "nothing stored",
        {"states": (), "last_commit_at": None, "stored": StoredCounts(0), "broker": BrokerState("b:9092")},
        Cause.NOTHING_STORED,
        Verdict.UNKNOWN,
        "the job has committed nothing yet",
    ),
]


def test_sound_evidence_is_complete() -> None:
    """Nothing is said of a capture without a fault."""
    assert assess(evidence()) == []
    assert partition_verdict(evidence(), PARTITION) is Verdict.COMPLETE


@pytest.mark.parametrize(
    ("changes", "cause", "verdict", "sentence"), [one[1:] for one in EXAMPLES], ids=[one[0] for one in EXAMPLES]
)
def test_each_fault_is_said(changes: dict[str, Any], cause: Cause, verdict: Verdict, sentence: str) -> None:
    """One reason, in a sentence that names what was found, and a next step."""
    (reason,) = assess(evidence(**changes))
    assert (reason.cause, reason.verdict, reason.sentence) == (cause, verdict, sentence)
    assert reason.next_step


def test_every_cause_has_an_example() -> None:
    """None is left out, except that of a table that cannot be read, which has no evidence."""
    assert {one[2] for one in EXAMPLES} == {*Cause} - {Cause.TABLE_UNREADABLE}


@pytest.mark.parametrize(
    "changes",
    [
        with_unread(50, 3),
        {"messages_per_second": {PARTITION: 0.1}, **with_unread(2_000, 15)},
        {"states": (state(committed_at=ago(3_600)),), "last_commit_at": ago(3_600), **with_unread(1, 4)},
        {"states": (state(committed_at=ago(3_600)),), "last_commit_at": ago(3_600)},
        {"rejections": (TopicRejections("t", Counts(1_000, 995, 0, 5, 0), Counts(9_000, 8_990, 0, 10, 0), None),)},
        {
            "rejections": (
                TopicRejections("t", Counts(148, 74, 0, 74, 0), Counts(148, 74, 0, 74, 0), None, replayed=74),
            )
        },
    ],
    ids=[
        "an epoch unread",
        "a burst after a quiet hour",
        "the first message after a pause",
        "a pause",
        "the noise of a feed",
        "all dead letters replayed",
    ],
)
def test_a_sound_job_is_complete(changes: dict[str, Any]) -> None:
    """What a sound job looks like at times is not called otherwise."""
    assert assess(evidence(**changes)) == []


def test_silence_is_not_judged_while_the_job_catches_up() -> None:
    """Partitions that are read at different speeds are at different times of the feed."""
    silent = (SilentSymbols("x", ["A", "B"], 4, ago(40)),)
    behind = assess(evidence(silent=silent, **with_unread(100_000, 900)))
    unknown = assess(evidence(silent=silent, broker=BrokerState(None)))
    assert [one.cause for one in behind + unknown] == [Cause.JOB_BEHIND, Cause.BROKER_NOT_ASKED]


def test_the_worst_comes_first() -> None:
    """A stopped job before what is missing, and that before doubts."""
    found = assess(
        evidence(
            states=(state(committed_at=ago(720)),),
            last_commit_at=ago(720),
            missing=MISSING,
            conflicts=1,
            conflicting_symbols=("x A",),
            **with_unread(10, 700),
        )
    )
    assert [one.cause for one in found] == [Cause.JOB_STOPPED, Cause.NUMBERS_MISSING, Cause.CONFLICTS]


@given(
    unread=st.integers(0, 10**9),
    oldest_seconds=st.floats(0, 10**6),
    committed_seconds=st.floats(0, 10**6),
    rate=st.one_of(st.none(), st.floats(0.01, 10**6)),
)
def test_lag_is_judged_by_one_rule(
    unread: int, oldest_seconds: float, committed_seconds: float, rate: float | None
) -> None:
    """Stopped if and only if a message waits, and neither it nor the last commit is recent; the partition agrees."""
    given = evidence(
        states=(state(committed_at=ago(committed_seconds)),),
        last_commit_at=ago(committed_seconds),
        messages_per_second={} if rate is None else {PARTITION: rate},
        **with_unread(unread, oldest_seconds),
    )
    is_overdue = unread > 0 and min(oldest_seconds, committed_seconds) > given.patience_seconds + 1e-6
    is_recent = unread == 0 or min(oldest_seconds, committed_seconds) <= given.patience_seconds - 1e-6
    causes = [one.cause for one in assess(given)]
    if is_overdue:
        assert causes == [Cause.JOB_STOPPED]
    elif is_recent:
        is_slow = rate is not None and unread / rate > given.patience_seconds
        is_behind = is_slow and ago(oldest_seconds) < ago(given.patience_seconds)
        assert causes == ([Cause.JOB_BEHIND] if is_behind else [])
    verdicts = {Cause.JOB_STOPPED: Verdict.STOPPED, Cause.JOB_BEHIND: Verdict.BEHIND}
    assert partition_verdict(given, PARTITION) is (verdicts[causes[0]] if causes else Verdict.COMPLETE)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        (with_unread(5, 59), True),
        (with_unread(5, 61), False),
        ({"broker": BrokerState("b:9092", ends={PARTITION: PartitionEnd(1_000, 5, None)})}, None),
        (
            {"broker": BrokerState("b:9092", ends={PARTITION: PartitionEnd(9_000, 5, ago(1), first_offset=2_000)})},
            False,
        ),
        ({"broker": BrokerState(None)}, True),
        ({"broker": BrokerState(None), "states": (state(), replace(state(OTHER), kafka_timestamp=ago(61)))}, None),
        ({"broker": BrokerState("b:9092", error="refused"), "states": ()}, None),
    ],
)
def test_a_day_is_read_to_its_end(changes: dict[str, Any], expected: bool | None) -> None:  # noqa: FBT001
    """If no unread message is older than its end, or each partition has newer trades; the end is a minute ago here."""
    assert is_read_until(evidence(**changes), ago(60)) is expected


def test_a_partition_that_nobody_has_read_counts() -> None:
    """A partition without any commit is unread from its beginning."""
    ends = {PARTITION: PartitionEnd(1_000, 0, None), OTHER: PartitionEnd(70, 70, ago(600))}
    found = assess(evidence(broker=BrokerState("b:9092", ends=ends)))
    assert [one.cause for one in found] == [Cause.PARTITION_STUCK]
    assert "trades:1 does not advance" in found[0].sentence


def test_messages_without_a_time_are_judged_by_the_commit() -> None:
    """A topic of an old format has no timestamps."""
    broker = BrokerState("b:9092", ends={PARTITION: PartitionEnd(1_001, 1, None)})
    old: tuple[PartitionState, ...] = (state(committed_at=ago(30)),)
    assert [one.cause for one in assess(evidence(broker=broker, states=old, last_commit_at=ago(30)))] == [
        Cause.JOB_STOPPED
    ]
    assert assess(evidence(broker=broker)) == []
    assert evidence().now == NOW


def test_the_documentation_lists_every_cause() -> None:
    """docs/status.md has each with its verdict, in the order of severity."""
    text = (Path(__file__).parents[2] / "docs" / "status.md").read_text(encoding="utf-8")
    rows = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith("| `")]
    assert rows == [[f"| `{cause.value}`", Finding.of(cause, "", "").verdict.value] for cause in Cause]
