"""Files of dead letters: read as one list, up to the committed positions."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from k2.storage.dead_letters.files import (
    Position,
    committed_lines,
    read_dead_letters,
)
from k2.storage.dead_letters.local_folder import LocalFolder
from k2.storage.dead_letters.local_log import LocalLog
from k2.storage.dead_letters.queue import DeadLetterQueue
from tests.storage.test_dead_letters import NOW, OTHER, PREFIX, offsets, only_file, opened, unwritten


def test_dead_letters_of_several_series_are_sorted_by_time(tmp_path: Path) -> None:
    """Two writers' files are read as one list, oldest first, each series in its own order."""
    for prefix, minutes in ((PREFIX, (0, 2, 2, 5)), (OTHER, (1, 3, 4))):
        times = iter(minutes)
        part = DeadLetterQueue(
            LocalLog(tmp_path, prefix, {}, 1), lambda times=times: NOW + timedelta(minutes=next(times))
        )
        for minute in minutes:
            part.append([unwritten(minute)])
        part.sync()
        part.close()
    assert offsets(tmp_path) == [0, 1, 2, 2, 3, 4, 5]


@pytest.mark.parametrize("file_bytes_max", [1, 1_000_000])
def test_committed_lines_are_those_before_the_position(tmp_path: Path, file_bytes_max: int) -> None:
    """What a report counts ends at the last commit, in the middle of a file or across several."""
    with opened(tmp_path, file_bytes_max=file_bytes_max) as part:
        part.append([unwritten(0), unwritten(1)])
        positions = dict(part.sync())
        part.append([unwritten(2), unwritten(3)])
        part.sync()
    found = committed_lines(LocalFolder(tmp_path), [positions, {}])
    assert [json.loads(line.text)["offset"] for line in found] == [0, 1]
    assert not [*committed_lines(LocalFolder(tmp_path), [{}])]


def test_an_unreadable_line_is_kept(tmp_path: Path) -> None:
    """A foreign line among the committed ones is reported by file and line, and not removed."""
    with opened(tmp_path) as part:
        part.append([unwritten(0)])
        (series,) = part.sync()
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes() + b"not a letter\n")
    with opened(tmp_path, {series: Position(1, path.stat().st_size)}) as part:
        part.append([unwritten(1)])
        part.sync()
    unreadable: list[str] = []
    assert [one.offset for one in read_dead_letters(LocalFolder(tmp_path), unreadable.append)] == [0, 1]
    assert [f"{path}:2: " in line for line in unreadable] == [True]
