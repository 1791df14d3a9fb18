"""Which files a compaction joins."""

from hypothesis import given
from hypothesis import strategies as st

from k2.maintenance.file_groups import GRACE_US, FileSize, file_groups
from k2.model.times import DAY_US

HOUR_US = DAY_US // 24
TARGET = 1_000
NOW = 10 * DAY_US + 5 * HOUR_US + GRACE_US
"""Day 10 is open, and its hour 4 has just closed."""
FILES = st.lists(
    st.builds(
        lambda number, day, size, hour: FileSize(f"{number}", ("x", day), size, day, day * DAY_US + hour * HOUR_US),
        st.integers(0, 1_000_000),
        st.integers(8, 11),
        st.integers(1, 2 * TARGET),
        st.integers(0, 23),
    ),
    unique_by=lambda file: file.path,
)


def _paths(*files: FileSize) -> list[list[str]]:
    return [sorted(file.path for file in group) for group in file_groups(files, NOW, TARGET)]


def _file(path: str, size: int = 10, day: int | None = 9, hour: int | None = 0, exchange: str = "x") -> FileSize:
    at = None if hour is None or day is None else day * DAY_US + hour * HOUR_US
    return FileSize(path, (exchange, day), size, day, at)


@given(FILES)
def test_groups_are_of_small_files_of_closed_periods(files: list[FileSize]) -> None:
    """Each group is of one partition, of two files at least; no file is in two groups, or large, or of an open hour."""
    groups = file_groups(files, NOW, TARGET)
    grouped = [file for group in groups for file in group]
    assert len({file.path for file in grouped}) == len(grouped)
    for group in groups:
        assert len(group) > 1
        assert len({file.partition for file in group}) == 1
    assert all(file.bytes < 0.75 * TARGET for file in grouped)
    assert all((file.newest_us or 0) < 10 * DAY_US + 5 * HOUR_US for file in grouped)


@given(FILES)
def test_repeated_compaction_ends_with_few_files(files: list[FileSize]) -> None:
    """Each group becomes one file; in the end no day that is over has many small files, and nothing is left to do."""
    for number in range(100):
        groups = file_groups(files, NOW, TARGET)
        if not groups:
            break
        gone = {file.path for group in groups for file in group}
        files = [file for file in files if file.path not in gone]
        files += [
            group[0]._replace(path=f"{number}-{one}", bytes=sum(file.bytes for file in group))
            for one, group in enumerate(groups)
        ]
    assert file_groups(files, NOW, TARGET) == []
    for day in (8, 9):
        # Each is more than four times as large as those before it together: 5 ** 5 is beyond the target.
        assert sum(file.day == day and file.bytes < 0.75 * TARGET for file in files) <= 5


def test_an_open_day_is_joined_by_the_hour() -> None:
    """The files of a closed hour are joined with each other only; those of the current hour wait."""
    files = [_file(f"{hour}{name}", day=10, hour=hour) for hour in (3, 4, 5) for name in "ab"]
    assert _paths(*files) == [["3a", "3b"], ["4a", "4b"]]
    assert _paths(*(file._replace(newest_us=None) for file in files)) == []


def test_a_closed_day_is_joined_as_a_whole() -> None:
    """Also without statistics, and by partition."""
    files = [_file("a", hour=1), _file("b", hour=None), _file("c", exchange="y"), _file("d", exchange="y")]
    assert _paths(*files) == [["a", "b"], ["c", "d"]]


def test_a_late_trade_rewrites_no_large_file() -> None:
    """A file joins smaller ones only if they are together a quarter of its size."""
    assert _paths(_file("large", 700), _file("late", 10)) == []
    assert _paths(_file("large", 700), *(_file(f"{number}", 20) for number in range(8))) == [[*"01234567"]]
    assert _paths(_file("large", 700), *(_file(f"{number}", 20) for number in range(9))) == [[*"012345678", "large"]]


def test_a_table_without_days_is_always_closed() -> None:
    """The ledger and the commit log."""
    assert _paths(_file("a", day=None), _file("b", day=None)) == [["a", "b"]]


def test_a_group_has_a_limit() -> None:
    """The rest is the next group, so that a kill loses little."""
    groups = file_groups([_file(f"{number:03d}", 700) for number in range(30)], NOW, TARGET)
    assert [len(group) for group in groups] == [11, 11, 8]
