"""Timeline of gaps: a row for each symbol, a bar from the opening of each gap until it was filled."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from matplotlib.collections import PolyCollection
from matplotlib.patches import Patch

from k2.analysis.plots.picture import DAY, LINE, LOOK, MUTED, Picture, set_time_axis, short_name, to_days
from k2.query.gaps import Gap

__all__ = ["draw_gaps"]

OPEN: Final = "#c6423a"
FILLED: Final = "#7aa6d6"
ACCEPTED: Final = "#9aa0a6"
ROW_INCHES: Final = 0.26
HEAD_INCHES: Final = 1.9
OPEN_HEIGHT: Final = 0.7
FILLED_HEIGHT: Final = 0.36
BAR_SHARE_MIN: Final = 0.004
"""Of the width of the axis, so that a gap of a moment is seen."""
MARGIN_SHARE: Final = 0.02

Name = tuple[str, str]


@LOOK()
def draw_gaps(title: str, subtitle: str, gaps: Sequence[Gap], names: Sequence[Name], until: datetime) -> Picture:
    """Draw the gaps of the symbols `names`, in this order; a gap that is open ends at `until`."""
    rows = {name: row for row, name in enumerate(names)}
    first = min(gap.opened_at for gap in gaps)
    until = max(until, first + timedelta(seconds=1))
    span = until - first
    picture = Picture(title, subtitle, inches=HEAD_INCHES + ROW_INCHES * max(3, len(names)))
    (axes,) = picture.panels
    # Filled gaps are thinner and above, so that they are seen while others of the symbol are open.
    accepted = [gap for gap in gaps if gap.accepted_at is not None]
    for kind, color, height in (
        ([gap for gap in gaps if gap.is_open], OPEN, OPEN_HEIGHT),
        (accepted, ACCEPTED, FILLED_HEIGHT),
        ([gap for gap in gaps if gap.filled_at is not None], FILLED, FILLED_HEIGHT),
    ):
        chosen = sorted(kind, key=lambda gap: gap.opened_at)
        lefts = to_days([gap.opened_at for gap in chosen])
        ends = [gap.filled_at or gap.accepted_at or until for gap in chosen]
        widths = [max(end - gap.opened_at, BAR_SHARE_MIN * span) / DAY for gap, end in zip(chosen, ends, strict=True)]
        middles = [rows[gap.exchange, gap.symbol] for gap in chosen]
        bars = [
            _corners(left, left + width, middle, height)
            for left, width, middle in zip(lefts, widths, middles, strict=True)
        ]
        # The edge of each gap stays visible where another one is longer.
        axes.add_collection(PolyCollection(bars, facecolors=color, edgecolors="white", linewidths=0.4), autolim=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [short_name(*name) for name in names])
    counts = axes.secondary_yaxis("right")
    counts.set_yticks(range(len(names)), _counts(gaps, names))
    counts.set_ylabel("sequence numbers", color=MUTED)
    axes.set_ylabel("symbol")
    axes.grid(axis="x", color=LINE)
    axes.set_axisbelow(True)
    for side in (axes, counts):
        side.tick_params(axis="y", length=0)
        for spine in side.spines.values():
            spine.set_visible(False)
    set_time_axis(axes, first - MARGIN_SHARE * span, until + MARGIN_SHARE * span)
    picture.legend(
        handles=[
            Patch(facecolor=OPEN, label="missing now"),
            Patch(facecolor=FILLED, label="filled by late trades"),
            *([Patch(facecolor=ACCEPTED, label="accepted as missing")] if accepted else []),
        ],
        loc="outside lower left",
        ncols=3,
        handlelength=1,
        handleheight=1,
    )
    return picture


def _corners(left: float, right: float, middle: int, height: float) -> list[tuple[float, float]]:
    low, high = middle - height / 2, middle + height / 2
    return [(left, low), (right, low), (right, high), (left, high)]


def _counts(gaps: Sequence[Gap], names: Sequence[Name]) -> list[str]:
    missing, filled, accepted = (defaultdict[Name, int](int) for _ in range(3))
    for gap in gaps:
        kind = missing if gap.is_open else filled if gap.filled_at is not None else accepted
        kind[gap.exchange, gap.symbol] += gap.missing
    return [
        ", ".join(
            text
            for text, count in (
                (f"{missing[name]:,} missing", missing[name]),
                (f"{filled[name]:,} filled", filled[name]),
                (f"{accepted[name]:,} accepted", accepted[name]),
            )
            if count
        )
        for name in names
    ]
