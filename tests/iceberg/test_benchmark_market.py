"""The market of the benchmarks has the columns of the table, whose number grows."""

from pathlib import Path

from benchmarks.market import fill
from k2.ops.settings import Settings


def test_a_market_is_committed_whole(tmp_path: Path) -> None:
    """All its rows are in the table, in as many commits."""
    table = fill(Settings(data_dir=tmp_path), rows=100, commits=2)
    assert table.scan().to_arrow().num_rows == 100
    assert sum(snapshot.summary["added-records"] == "50" for snapshot in table.snapshots() if snapshot.summary) == 2
