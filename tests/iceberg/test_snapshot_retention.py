"""Which snapshots are kept: never fewer than documented, never more than the bound."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.table.snapshots import Operation, Snapshot, Summary

from k2.iceberg.snapshot_retention import (
    DAY_MS,
    HOUR_MS,
    PROPERTIES,
    REMOVED_MIN,
    Retention,
    expired,
    is_own,
    retention_of,
)

SMALL = Retention(newest=1, hourly_age_ms=2 * HOUR_MS, age_ms=3 * DAY_MS)
MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


def snapshot(number: int, timestamp_ms: int, *, by_job: bool = True) -> Snapshot:
    """Return a snapshot of a table with that sequence number."""
    properties = {"k2.writer": "0"} if by_job else {"spark.app.id": "k2.writer"}
    return Snapshot(
        snapshot_id=1_000 - number,
        sequence_number=number,
        timestamp_ms=timestamp_ms,
        manifest_list="",
        summary=Summary(Operation.APPEND, **properties),
    )


def moment(text: str) -> int:
    """Return the milliseconds of a weekday and time, such as `2 12:30`, in the week that began on MONDAY."""
    day, clock = text.split()
    hour, minute = clock.split(":")
    return int((MONDAY + timedelta(days=int(day), hours=int(hour), minutes=int(minute))).timestamp()) * 1_000


@pytest.mark.parametrize(
    ("gone", "kept"),
    [
        ([], []),
        ([], ["5 12:30"]),
        (["5 12:10", "5 12:20"], ["5 12:30"]),
        (["5 11:10"], ["5 11:50", "5 12:30"]),
        (["5 11:00", "5 11:58"], ["5 10:59", "5 11:59", "5 12:30"]),
        (["5 10:29"], ["5 10:30", "5 12:30"]),
        (["5 08:50", "5 09:50"], ["5 10:40", "5 12:30"]),
        (["4 00:00", "4 23:58"], ["4 23:59", "5 00:30"]),
        (["3 10:00", "4 10:00"], ["3 23:00", "4 11:00", "5 12:30"]),
        (["2 12:29"], ["5 12:30"]),
        ([], ["2 12:30", "5 12:30"]),
    ],
)
def test_the_last_of_each_hour_is_kept_then_the_last_of_each_day(gone: list[str], kept: list[str]) -> None:
    """The newest is always kept: two hours by the hour, three days by the day, then nothing."""
    numbered = {text: snapshot(number, moment(text)) for number, text in enumerate(sorted(gone + kept))}
    ids = expired(list(numbered.values()), set(), SMALL)
    assert ids == [numbered[text].snapshot_id for text in sorted(gone)]


@pytest.mark.parametrize(
    ("younger", "too_old"),
    [("2 12:40", "2 12:20"), ("5 10:40", "5 10:20")],
)
def test_a_snapshot_is_not_removed_for_one_that_is_too_old(younger: str, too_old: str) -> None:
    """A clock that went back made the last snapshot of the day, or hour, older than the one before it."""
    made = [snapshot(number, moment(text)) for number, text in enumerate([younger, too_old, "5 12:30"])]
    assert made[0].snapshot_id not in expired(made, set(), SMALL)


def test_nothing_is_removed_if_removal_is_off() -> None:
    """The rule can be switched off."""
    old = [snapshot(number, number) for number in range(20)]
    assert len(expired(old, set(), Retention(newest=1))) == 19
    assert expired(old, set(), Retention(is_on=False, newest=1)) == []


RETENTIONS = st.builds(
    Retention,
    newest=st.integers(1, 6),
    hourly_age_ms=st.integers(0, 30 * HOUR_MS),
    age_ms=st.integers(0, 6 * DAY_MS),
)
FORWARD = st.one_of(st.just(0), st.integers(1, HOUR_MS), st.integers(HOUR_MS, DAY_MS))
STEPS = st.one_of(FORWARD, st.integers(-2 * HOUR_MS, 0))


def snapshots_at(steps: Sequence[int], owners: Sequence[bool]) -> list[Snapshot]:
    """Return snapshots that are that far apart, some of them the job's."""
    time_ms = moment("0 00:00")
    made = []
    for number, (step, by_job) in enumerate(zip(steps, owners, strict=False)):
        time_ms += step
        made.append(snapshot(number, time_ms, by_job=by_job))
    return made


@given(
    steps=st.lists(STEPS, max_size=60),
    owners=st.lists(st.integers(0, 4).map(bool), min_size=60, max_size=60),
    referred=st.sets(st.integers(930, 1_000)),
    retention=RETENTIONS,
)
def test_retention_keeps_what_is_documented_within_the_bound(
    steps: list[int], owners: list[bool], referred: set[int], retention: Retention
) -> None:
    """Foreign, referenced and newest snapshots stay; each removed one has a later one in its hour or day; few stay.

    All of it holds when a clock jumps back, and nothing is left to remove after a removal.
    """
    made = snapshots_at(steps, owners)
    gone = set(expired(made, referred, retention))
    own = [one for one in made if is_own(one)]
    kept = [one for one in own if one.snapshot_id not in gone]
    assert gone <= {one.snapshot_id for one in own[: -retention.newest]} - referred
    assert len({one.snapshot_id for one in kept} - referred) <= retention.own_max - REMOVED_MIN
    now_ms = max((one.timestamp_ms for one in made), default=0)
    for one in own:
        age_ms = now_ms - one.timestamp_ms
        if one.snapshot_id in gone and age_ms <= retention.age_ms:
            period_ms = HOUR_MS if age_ms <= retention.hourly_age_ms else DAY_MS
            assert any(
                later.sequence_number > one.sequence_number
                and later.timestamp_ms // period_ms == one.timestamp_ms // period_ms
                for later in kept
            )
    assert expired([one for one in made if one.snapshot_id not in gone], referred, retention) == []


@given(steps=st.lists(FORWARD, max_size=60), retention=RETENTIONS)
def test_removing_with_each_commit_equals_removing_once(steps: list[int], retention: Retention) -> None:
    """What is kept does not depend on when, or how often, snapshots were removed."""
    made = snapshots_at(steps, [True] * len(steps))
    left: list[Snapshot] = []
    for one in made:
        left.append(one)
        gone = set(expired(left, set(), retention))
        left = [other for other in left if other.snapshot_id not in gone]
    gone = set(expired(made, set(), retention))
    assert left == [one for one in made if one.snapshot_id not in gone]


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        ({}, Retention()),
        (PROPERTIES, Retention()),
        ({"history.expire.min-snapshots-to-keep": "1"}, Retention(newest=1)),
        ({"history.expire.max-snapshot-age-ms": "0"}, Retention(age_ms=0)),
        ({"k2.expire.hourly-age-ms": "0"}, Retention(hourly_age_ms=0)),
        ({"k2.expire.enabled": "false"}, Retention(is_on=False)),
        ({"gc.enabled": "false"}, Retention(is_on=False)),
    ],
)
def test_table_properties_set_the_rules(properties: dict[str, str], wanted: Retention) -> None:
    """Each property sets its rule; a table created before the properties existed is treated like a new one."""
    assert retention_of(properties) == wanted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("history.expire.min-snapshots-to-keep", "0"),
        ("history.expire.max-snapshot-age-ms", "-1"),
        ("k2.expire.hourly-age-ms", "5d"),
        ("k2.expire.enabled", "perhaps"),
    ],
)
def test_a_bad_property_is_named(name: str, value: str) -> None:
    """An invalid value is rejected by property name; no snapshot is removed by guess."""
    with pytest.raises(ValueError, match=name):
        retention_of({name: value})


def test_the_documented_bound_is_the_real_one() -> None:
    """With the defaults a table never has more than 257 of the job's snapshots."""
    assert Retention().own_max == 257
