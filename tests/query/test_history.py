"""The job's history by intervals of time: from its commits and its ledger, each counted once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import schema_to_pyarrow

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.audit import open_commits
from k2.query.history import Interval, history
from k2.query.pool import Pool
from k2.query.tables import NoTableError
from k2.storage.commit_log import Commit
from tests.query.tables import EPOCH, append, event, job_commit, made, set_commit_notes

QUARTER = timedelta(minutes=15)
MINUTES = (3, 14, 15, 50, 51, 200, 1_300)
"""When the market below has its commits."""


def at(minutes: float) -> datetime:
    """Return a time by the minutes since the epoch of the tests."""
    return EPOCH + timedelta(minutes=minutes)


def archive(settings: Settings, commits: list[Commit]) -> None:
    """Append commits to the commit log, as one file."""
    uuid = str(made(settings, TableName.TRADES).metadata.table_uuid)
    table = made(settings, TableName.COMMITS)
    rows = [{**commit.row(), "table_uuid": uuid, "committed_at": commit.committed_at} for commit in commits]
    table.append(pa.Table.from_pylist(rows, schema=schema_to_pyarrow(table.schema())))


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Return settings whose commits are half in the commit log and half in the notes, with gaps in the ledger."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("history") / "data")
    starts = {
        14: "given_up trades:0 5-6; started with no state",
        200: "started from the tables",
        50: "claim 7",
    }
    commits = [
        msgspec.structs.replace(
            job_commit(number, at(minutes), received=10, stored=6, duplicates=2, dead_letters=1, skipped=1),
            remark=starts.get(minutes),
        )
        for number, minutes in enumerate(MINUTES, 1)
    ]
    archive(settings, commits[:4])
    # A commit that is being moved to the log is in both.
    set_commit_notes(made(settings, TableName.TRADES), commits[3:])
    opened = event("gap_opened", 5, 9, detected_at=at(16))
    filled = event("gap_filled", 6, 6, detected_at=at(52))
    huge = event("gap_opened", 1, 2**63 - 1, symbol="ETHUSDT", detected_at=at(52))
    append(made(settings, TableName.SEQUENCE_EVENTS), [opened, filled, {**opened, "detected_at": at(17)}, huge, huge])
    return settings


def by_start(found: list[Interval]) -> dict[datetime, Interval]:
    """Return the intervals in which anything happened."""
    return {one.start: one for one in found if one.commits or one.gaps_opened or one.gaps_filled}


def test_intervals_count_commits_and_gaps(market: Settings) -> None:
    """Each commit, and each event of the ledger, counts in the interval of its time, once."""
    found = history(market, QUARTER, EPOCH, at(240))
    assert [one.start for one in found] == [at(15 * idx) for idx in range(16)]
    assert by_start(found) == {
        at(0): Interval(at(0), 20, 12, 4, 2, 2, 2, 11 * 60.0, None, 0, 0, 0, 0, 1),
        at(15): Interval(at(15), 10, 6, 2, 1, 1, 1, 60.0, None, 1, 0, 5, 0, 0),
        at(45): Interval(at(45), 20, 12, 4, 2, 2, 2, 35 * 60.0, None, 1, 1, 2**63 - 1, 1, 0),
        at(195): Interval(at(195), 10, 6, 2, 1, 1, 1, 149 * 60.0, None, 0, 0, 0, 0, 1),
    }
    assert found[2] == Interval(at(30), 0, 0, 0, 0, 0, 0, None, None, 0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def pool(market: Settings) -> Iterator[Pool]:
    """Yield a pool for that market."""
    with Pool(market, connections=1) as opened:
        yield opened


@hypothesis_settings(max_examples=20)
@given(first=st.integers(0, 1_400), minutes=st.integers(1, 1_400), seconds=st.sampled_from([17, 60, 900, 3_600, 10**6]))
def test_every_commit_is_in_one_interval(pool: Pool, first: int, minutes: int, seconds: int) -> None:
    """Whatever the intervals and the span, the sums are those of the commits in the span."""
    last = first + minutes
    found = history(pool.settings, timedelta(seconds=seconds), at(first), at(last), pool=pool)
    assert sum(one.commits for one in found) == sum(first <= minute < last for minute in MINUTES)
    assert sum(one.received for one in found) == 10 * sum(one.commits for one in found)
    assert all(one.received == one.stored + one.duplicates + one.dead_letters + one.skipped for one in found)
    assert sum(one.missing_opened for one in found) in {0, 5, 2**63 - 1, 2**63 + 4}


def test_the_newest_intervals_are_returned(market: Settings) -> None:
    """With a limit; a span that is not whole intervals begins and ends with a cut one."""
    whole = history(market, QUARTER, at(10), at(202))
    assert [whole[0].start, whole[-1].start] == [at(0), at(195)]
    assert [whole[0].commits, whole[-1].commits] == [1, 1]
    assert history(market, QUARTER, at(10), at(202), 3) == whole[-3:]
    year_1 = datetime(1, 1, 1, tzinfo=UTC)
    assert history(market, timedelta(days=36_525), year_1, at(10), 100)[0].start == year_1
    assert history(market, QUARTER, datetime.now(UTC) + timedelta(days=1)) == []


def test_the_last_day_is_the_default(market: Settings) -> None:
    """24 hours until now, or until an end."""
    found = history(market, QUARTER)
    assert len(found) in {96, 97}
    assert timedelta() <= datetime.now(UTC) - found[-1].start < QUARTER + timedelta(minutes=1)
    assert history(market, QUARTER, end=at(1_440)) == history(market, QUARTER, EPOCH, at(1_440))


def test_only_commits_of_writers_in_the_lineage_count(settings: Settings) -> None:
    """A rolled-back commit and a fencing commit are left out; each writer's own commits are compared."""
    rolled_back = job_commit(2, at(1), snapshot_id=99, received=5, stored=5)
    one = [job_commit(1, at(0), received=1, stored=1), job_commit(2, at(2), writer=None)]
    more = [job_commit(3, at(4), writer="1", received=1, stored=1), job_commit(4, at(6), received=1, stored=1)]
    archive(settings, [one[0], rolled_back])
    set_commit_notes(made(settings, TableName.TRADES), [*one[1:], *more])
    (found,) = history(settings, timedelta(hours=1), EPOCH, at(60))
    assert (found.commits, found.received, found.between_commits_seconds_max) == (3, 3, 6 * 60)


def test_a_first_commit_has_no_previous_one(settings: Settings) -> None:
    """The time between commits is unknown then, and never negative if the clock was put back."""
    set_commit_notes(
        made(settings, TableName.TRADES), [job_commit(1, at(20)), job_commit(2, at(2)), job_commit(3, at(40))]
    )
    found = history(settings, QUARTER, EPOCH, at(60))
    assert [one.commits for one in found] == [1, 1, 1, 0]
    assert [one.between_commits_seconds_max for one in found] == [0, None, 38 * 60, None]


def test_the_largest_lag_of_an_interval(settings: Settings) -> None:
    """None if no commit recorded it; the commit log of an earlier version has no such column."""
    lags = [None, 7, 3, None, None, 0]
    commits = [job_commit(number, at(10 * number), lag=lag) for number, lag in enumerate(lags, 1)]
    set_commit_notes(made(settings, TableName.TRADES), commits)
    expected = [None, 7, 3, None, 0]
    assert [one.lag_max for one in history(settings, QUARTER, at(0), at(75))] == expected
    archive(settings, commits)
    set_commit_notes(made(settings, TableName.TRADES), commits[-1:])
    assert [one.lag_max for one in history(settings, QUARTER, at(0), at(75))] == expected
    with made(settings, TableName.COMMITS).update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("lag")
    assert [one.lag_max for one in history(settings, QUARTER, at(0), at(75))] == [None, None, None, None, 0]


def test_old_files_of_the_commit_log_are_not_read(settings: Settings) -> None:
    """A long commit log costs nothing: files with earlier commits only are skipped, and the lineage still holds."""
    days = [[job_commit(10 * day + one, at(1_440 * day + one)) for one in range(1, 11)] for day in range(9)]
    for commits in days:
        archive(settings, commits)
    table = made(settings, TableName.TRADES)
    set_commit_notes(table, days[-1][-1:])
    with Pool(settings) as pool:
        with open_commits(settings, table, pool, EPOCH + timedelta(days=7)) as engine:
            assert engine.query("SELECT count(*) AS rows FROM archived") == [{"rows": 20}]
        found = history(settings, timedelta(hours=1), EPOCH + timedelta(days=8), EPOCH + timedelta(days=9), pool=pool)
    assert [one.commits for one in found] == [10, *[0] * 23]
    assert found[0].between_commits_seconds_max == (timedelta(days=1) - timedelta(minutes=9)).total_seconds()


def test_a_capture_without_commits_or_ledger_has_empty_intervals(settings: Settings, tmp_path: Path) -> None:
    """An empty table has nothing in any interval; no table is an error."""
    made(settings, TableName.TRADES)
    assert by_start(history(settings, QUARTER)) == {}
    with pytest.raises(NoTableError):
        history(Settings(data_dir=tmp_path / "none"), QUARTER)
