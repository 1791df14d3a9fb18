"""Where reading begins: law 6."""

import pytest

from connectors.kafka.start import Origin, Start, Watermarks, decide_start
from trades.errors import OffsetError
from trades.progress import PartitionProgress, Progress, TopicPartition

WHERE = TopicPartition("trades", 3)


def _progress(*entries: PartitionProgress) -> Progress:
    return Progress({str(writer): {WHERE: entry} for writer, entry in enumerate(entries)})


NONE = Progress()
IN_TABLE = _progress(PartitionProgress(offset=120, start=20))
TWO_WRITERS = _progress(PartitionProgress(offset=120, start=20), PartitionProgress(offset=90, start=25))


@pytest.mark.parametrize(
    ("recovered", "progress", "watermarks", "offset", "origin"),
    [
        (None, NONE, Watermarks(0, 0), 0, Origin.BEGINNING),
        (None, NONE, Watermarks(40, 200), 40, Origin.BEGINNING),
        (100, NONE, Watermarks(0, 200), 100, Origin.RECOVERY_STORE),
        (100, IN_TABLE, Watermarks(0, 200), 100, Origin.RECOVERY_STORE),
        (200, IN_TABLE, Watermarks(0, 200), 200, Origin.RECOVERY_STORE),
        (None, IN_TABLE, Watermarks(0, 200), 20, Origin.TABLE),
        (None, IN_TABLE, Watermarks(20, 120), 20, Origin.TABLE),
        (None, TWO_WRITERS, Watermarks(0, 200), 20, Origin.TABLE),
    ],
)
def test_begins_where_the_record_says(
    recovered: int | None, progress: Progress, watermarks: Watermarks, offset: int, origin: Origin
) -> None:
    """The recovery store wins, then the table's first offset, then the beginning of the partition."""
    start = decide_start(WHERE, recovered, progress, watermarks)
    assert (start.offset, start.origin) == (offset, origin)
    assert isinstance(start, Start)
    assert start.why


@pytest.mark.parametrize(
    ("recovered", "progress", "watermarks", "words"),
    [
        (100, NONE, Watermarks(101, 200), "begins at offset 101, but 100"),
        (None, IN_TABLE, Watermarks(21, 200), "begins at offset 21, but 20"),
        (100, NONE, Watermarks(0, 99), "ends at offset 99, but was read to 100"),
        (None, IN_TABLE, Watermarks(0, 119), "ends at offset 119, but was read to 120"),
        (100, IN_TABLE, Watermarks(0, 110), "ends at offset 110, but was read to 120"),
    ],
)
def test_refuses_an_offset_that_is_not_there(
    recovered: int | None, progress: Progress, watermarks: Watermarks, words: str
) -> None:
    """Nothing jumps over what expired, or begins anew in a topic made anew; the sentence names the partition."""
    with pytest.raises(OffsetError, match="trades:3") as caught:
        decide_start(WHERE, recovered, progress, watermarks)
    assert words in str(caught.value)
