"""Drawing of a Grafana dashboard with matplotlib: the panels at their places, with the series of their queries."""

import math
from pathlib import Path
from typing import Any, Final, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

__all__ = ["Panel", "Series", "draw"]

COLUMNS: Final = 24
COLUMN_INCHES: Final = 0.68
ROW_INCHES: Final = 0.32
DPI: Final = 75
LEGENDS_MAX: Final = 8


class Series(NamedTuple):
    """One series of an answer."""

    legend: str
    points: tuple[tuple[float, float], ...]
    """(minutes since the start, value)."""


class Panel(NamedTuple):
    """One panel of a dashboard."""

    title: str
    kind: str
    """row, stat or timeseries."""
    box: tuple[int, int, int, int]
    """x, y, width and height on Grafana's grid of 24 columns."""
    unit: str
    series: tuple[Series, ...]


def shown(value: float, unit: str) -> str:
    """Return a value as Grafana shows it."""
    if math.isnan(value):
        return "-"
    match unit:
        case "percentunit":
            return f"{value:.3g} %".replace(f"{value:.3g}", f"{100 * value:.3g}")
        case "s":
            return f"{1000 * value:.0f} ms" if 0 < value < 1 else f"{value:.3g} s"
        case "cps":
            return f"{value:,.0f} /s"
        case _:
            return f"{value:,.0f}" if value == int(value) or value >= 10 else f"{value:.2g}"


def draw(panels: list[Panel], output: Path) -> None:
    """Write a picture of the panels."""
    rows = max(y + height for _, _, (_, y, _, height), _, _ in panels)
    figure = Figure(figsize=(COLUMNS * COLUMN_INCHES, rows * ROW_INCHES), dpi=DPI, facecolor="#f4f5f5")
    minutes = max((at for panel in panels for one in panel.series for at, _ in one.points), default=1.0)
    for panel in panels:
        x, y, width, height = panel.box
        if panel.kind == "row":
            place = (x + 0.25) / COLUMNS, 1 - (y + 0.75) / rows
            figure.text(*place, panel.title, fontsize=12, fontweight="bold", color="#24292e")
            continue
        # A margin around each panel, in columns and rows; that of a plot has its title, its ticks and its legend.
        left, right, top, bottom = (1.0, 0.3, 1.2, 1.0) if panel.kind == "timeseries" else (0.15, 0.15, 0.2, 0.2)
        corner = (x + left) / COLUMNS, 1 - (y + height - bottom) / rows
        size = (width - left - right) / COLUMNS, (height - top - bottom) / rows
        axes = figure.add_axes((*corner, *size))
        if panel.kind == "stat":
            _draw_stat(axes, panel)
        else:
            _draw_series(axes, panel, minutes)
    figure.savefig(output)


def _draw_stat(axes: Axes, panel: Panel) -> None:
    """Write the last value of each series, or its name if that is what the panel shows."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(panel.title, fontsize=9, loc="left", y=1.0, pad=-12, x=0.04)
    newest = max((one.points[-1][0] for one in panel.series), default=0.0)
    texts = [one.legend or shown(one.points[-1][1], panel.unit) for one in panel.series if one.points[-1][0] == newest]
    axes.text(0.5, 0.38, ", ".join(texts) or "-", ha="center", va="center", fontsize=19, color="#1f60c4")


def _draw_series(axes: Axes, panel: Panel, minutes: float) -> None:
    axes.set_title(panel.title, fontsize=9, loc="left")
    for one in panel.series:
        axes.plot(
            *zip(*one.points, strict=True), linewidth=1.2, label=one.legend, marker="." if len(one.points) < 3 else ""
        )
    axes.set_xlim(0, minutes)
    top = max((value for one in panel.series for _, value in one.points if math.isfinite(value)), default=0.0)
    axes.set_ylim(0, 1.15 * top or 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, panel.unit)))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} min"))
    axes.tick_params(labelsize=7, length=0)
    axes.grid(color="#e3e4e5", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_color("#d0d1d2")
    if panel.series:
        axes.legend(*_legend(axes), fontsize=7, loc="upper left", frameon=True, framealpha=0.8, edgecolor="none")


def _legend(axes: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return handles[:LEGENDS_MAX], labels[:LEGENDS_MAX]
