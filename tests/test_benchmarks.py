"""What the benchmarks compute: costs without the start, and plans, whose figures are those of docs/performance.md."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mixture import Mixture
from benchmarks.plan import CLOSING_SHARE_MAX, MEASURED, plan, report
from benchmarks.process import Measured
from benchmarks.scaling import Run, Written, cost_of, rows_of
from k2.model.key_groups import GROUPS

PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"
RATES: Final = st.floats(1, 1e8)


def test_the_page_has_the_plans_and_their_constants() -> None:
    """The table is that of the command without options, and the formulas name the measured costs."""
    _, _, section = PAGE.read_text(encoding="utf-8").partition("## Planning a cluster")
    assert report([1e6, 1e7], 200, 10, 600) in section
    shown = MEASURED._replace(group_share=MEASURED.group_share * 100)
    for name, value in shown._asdict().items():
        if name not in ("crossing_bytes", "process_mb"):
            assert f"{value:g}" in section, name


@given(rate=RATES, factor=st.floats(1, 10), is_split=st.booleans())
def test_more_messages_never_take_less(rate: float, factor: float, *, is_split: bool) -> None:
    """A higher rate takes as many cores and jobs or more; a job has at most one writer for each key group."""
    less, more = (plan(one, is_split=is_split) for one in (rate, rate * factor))
    for low, high in ((less.cores_busy, more.cores_busy), (less.jobs, more.jobs)):
        assert low <= high * (1 + 1e-9)
    for one in (less, more):
        assert one.pods >= one.cores_busy
        assert GROUPS % one.writers == 0
        assert one.closing_ms / 1000 <= CLOSING_SHARE_MAX * one.epoch_seconds * (1 + 1e-9)


def test_split_jobs_send_nothing_to_one_another() -> None:
    """Each is one process, so a message costs no crossing."""
    split, cluster = plan(1e6, is_split=True), plan(1e6)
    assert split.pods == split.jobs
    assert (split.pods_mb_a_second, split.writers) == (0, 1)
    assert cluster.cores_busy - split.cores_busy == pytest.approx(2 * MEASURED.crossing_us)


def test_a_cost_is_without_the_start() -> None:
    """The short run is subtracted, of the job and of the bare loop; what it takes beyond its messages is the start."""
    mixture = Mixture(2_000_000)

    def run(full: float, short: float) -> Run:
        return Run(Measured(full, 2 * full, 10, ""), Measured(short, 2 * short, 5, ""), Written(3, 15.0))

    cost = cost_of(mixture, [run(5.8, 2.0)], [run(2.1, 0.2)])
    assert (cost.cpu_us, cost.times_bare, cost.messages_per_second) == pytest.approx((2.0, 2.0, 250_000))
    assert (cost.start_cpu_seconds, cost.peak_mb, cost.commits) == pytest.approx((1.8, 10, 3))


def test_each_row_changes_one_thing() -> None:
    """Every table begins with the standard, from which each other row differs in one field."""
    for first, *others in rows_of(1_000).values():
        for row in others:
            changed = [name for name in row._fields if name != "label" and getattr(row, name) != getattr(first, name)]
            assert len(changed) == 1, row.label
