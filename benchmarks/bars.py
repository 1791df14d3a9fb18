"""Bars of costs, one below the other, for the pictures of the docs."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from k2.analysis.plots.picture import LINE, TEXT

__all__ = ["Bar", "draw_bars", "inches_of"]

_ROW_INCHES: Final = 0.4
_HEAD_INCHES: Final = 1.7


class Bar(NamedTuple):
    """One row of a picture."""

    title: str
    micros: float
    label: str
    """Written at the end of the bar."""
    color: str


def inches_of(count: int) -> float:
    """Return the height of a picture of some bars."""
    return _HEAD_INCHES + _ROW_INCHES * count


def draw_bars(axes: Any, bars: Sequence[Bar]) -> None:
    """Draw bars of CPU microseconds per message from the top down."""
    widest = max(bar.micros for bar in bars)
    for row, bar in enumerate(bars):
        axes.barh(row, bar.micros, height=0.62, color=bar.color)
        axes.text(bar.micros + 0.01 * widest, row, bar.label, va="center", color=TEXT)
    axes.set_yticks(range(len(bars)), [bar.title for bar in bars], color=TEXT)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.grid(axis="x", color=LINE)
    axes.set_axisbelow(True)
