"""A folder of dead letters that another job writes to as well, in turn."""

from pathlib import Path

import msgspec

from tests.connectors.test_dead_letters import contents, letter, offsets, opened


def test_letters_of_another_job_stay_where_they_are(tmp_path: Path) -> None:
    """Two jobs with other topics take turns on one folder: neither removes what no replay of its own brings again."""
    with opened(tmp_path) as ours:
        ours.write_batch([[letter(1)]])
        state = ours.snapshot()
    with opened(tmp_path) as theirs:
        theirs.write_batch([[msgspec.structs.replace(letter(1), topic="other")]])
        theirs.snapshot()
    before = contents(tmp_path)
    with opened(tmp_path, state) as ours:
        assert contents(tmp_path) == before
        ours.write_batch([[letter(2)]])
    assert offsets(tmp_path) == [1, 1, 2]
