"""The picture of a comparison: a bar of CPU time per message for each contender, with what it does."""

from pathlib import Path
from typing import Final

from benchmarks.bars import Bar, draw_bars, inches_of
from benchmarks.peers.contender import Ability
from benchmarks.peers.results import Comparison, Figures
from k2.analysis.plots.picture import LOOK, MUTED, Picture

__all__ = ["draw"]

JOB: Final = "job"
BAR: Final = "#8fa3b8"
OURS: Final = "#17805a"
WRONG: Final = "#c6423a"
MARKS_START: Final = 1.5
"""Where the marks of what a contender does begin, in lengths of the longest bar."""
MARKS_STEP: Final = 0.21


def draw(comparison: Comparison, path: Path) -> None:
    """Write the picture as SVG, the cheapest contender first; the same figures give the same bytes."""
    shown = sorted(comparison.contenders, key=lambda one: one.cpu_us)
    picture = _picture(comparison, shown)
    with path.open("wb") as stream:
        picture.write(stream, "svg")


@LOOK()
def _picture(comparison: Comparison, shown: list[Figures]) -> Picture:
    picture = Picture(
        "CPU time per message, from Kafka into Iceberg",
        f"{comparison.messages:,} trades of 200 bytes, start-up subtracted, {comparison.shown_runs}",
        inches=inches_of(len(shown)),
    )
    (axes,) = picture.panels
    widest, bars = max(one.cpu_us for one in shown), list[Bar]()
    for row, one in enumerate(shown):
        color = WRONG if one.faults else OURS if one.name == JOB else BAR
        times = comparison.times_bare(one)
        label = f"{one.cpu_us:.1f} µs" + (f", {times:.1f} times bare" if times is not None else "")
        bars.append(Bar(one.title, one.cpu_us, label, color))
        for column, ability in enumerate(Ability):
            axes.text(
                _place(column, widest),
                row,
                "●" if ability in one.abilities else "",
                ha="center",
                va="center",
                color=color,
            )
        note = _note(one)
        if note:
            axes.text(_place(0, widest), row, note, va="center", color=MUTED)
    for column, ability in enumerate(Ability):
        head = ability.replace(" ", "\n", 1)
        axes.text(_place(column, widest), -0.55, head, ha="center", va="bottom", color=MUTED, fontsize=8)
    draw_bars(axes, bars)
    axes.set_xlim(0, _place(len(Ability), widest))
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= 1.05 * widest])
    axes.set_xlabel("CPU µs per message", x=0.5 * widest / _place(len(Ability), widest))
    axes.spines["bottom"].set_visible(False)
    return picture


def _place(column: int, widest: float) -> float:
    return (MARKS_START + MARKS_STEP * column) * widest


def _note(figures: Figures) -> str:
    """Return what is to be said of a contender instead of marks."""
    if figures.faults:
        return "lands wrong rows"
    return "" if figures.last.commits else "reads, and does nothing"
