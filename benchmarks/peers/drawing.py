"""The picture of a comparison: a bar of CPU time per message for each contender, with what it does."""

from pathlib import Path
from typing import Final

from benchmarks.peers.contender import Does
from benchmarks.peers.results import Comparison, Figures
from k2.analysis.plots.picture import LINE, LOOK, MUTED, TEXT, Picture

__all__ = ["draw"]

JOB: Final = "job"
BAR: Final = "#8fa3b8"
OURS: Final = "#17805a"
WRONG: Final = "#c6423a"
ROW_INCHES: Final = 0.42
HEAD_INCHES: Final = 1.5


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
        f"{comparison.messages:,} trades of 200 bytes, start-up subtracted, one session, median of {comparison.runs}",
        inches=HEAD_INCHES + ROW_INCHES * len(shown),
    )
    (axes,) = picture.panels
    widest = max(one.cpu_us for one in shown)
    for row, one in enumerate(shown):
        color = WRONG if one.faults else OURS if one.name == JOB else BAR
        axes.barh(row, one.cpu_us, height=0.62, color=color)
        times = comparison.times_bare(one)
        label = f"{one.cpu_us:.1f} µs" + (f", {times:.1f} times bare" if times is not None else "")
        axes.text(one.cpu_us + 0.008 * widest, row, label, va="center", color=TEXT)
        note = (
            "lands wrong rows"
            if one.faults
            else "reads, and does nothing"
            if not one.does and not one.last.commits
            else ""
        )
        for column, does in enumerate(Does):
            mark, tint = ("●", TEXT) if does in one.does else ("-", MUTED)
            axes.text(
                1.16 + 0.085 * column,
                row,
                mark,
                ha="center",
                va="center",
                color=tint,
                transform=axes.get_yaxis_transform(),
            )
        if note:
            axes.text(0.5 * widest, row, note, va="center", color=MUTED)
    for column, does in enumerate(Does):
        axes.text(
            1.16 + 0.085 * column,
            -0.75,
            does.replace(" ", "\n", 1),
            ha="center",
            va="bottom",
            color=MUTED,
            fontsize=8,
            transform=axes.get_yaxis_transform(),
        )
    axes.set_yticks(range(len(shown)), [one.title for one in shown], color=TEXT)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown) - 0.5, -0.6)
    axes.set_xlim(0, 1.0 * widest)
    axes.set_xlabel("CPU µs per message")
    axes.grid(axis="x", color=LINE)
    axes.set_axisbelow(True)
    return picture
