"""Latency of feeds over time: how long after its venue time a trade was received, and was in Kafka."""

from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from k2.analysis.plots.picture import DAY, LINE, LOOK, MUTED, TEXT, Picture, plain, set_time_axis, to_days

__all__ = ["LINES_MAX", "draw_latency"]

COLORS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d", "#8c564b")
"""Okabe and Ito's, which people with any colour vision can tell apart."""
LINES_MAX: Final = len(COLORS)
PANELS: Final = (
    ("kafka", "to Kafka (ms)", "kafka_timestamp - timestamp"),
    ("received", "to the receiver (ms)", "received - timestamp"),
)
_LINEAR_MS_MAX: Final = 1.0
"""The scale is logarithmic beyond this, on both sides of zero."""
_LOG_FROM: Final = 30.0
"""Ratio of the largest to the smallest value from which the scale is logarithmic."""
_BREAK_INTERVALS: Final = 3
"""A line is broken where no trade is for longer."""
_MEDIAN: Final[dict[str, Any]] = {"linestyle": "-", "linewidth": 1.4, "marker": ".", "markersize": 4}
_P99: Final[dict[str, Any]] = {"linestyle": ":", "linewidth": 1.2, "marker": ".", "markersize": 2.5}


@LOOK()
def draw_latency(
    title: str, subtitle: str, latency: pa.Table, interval: timedelta, start: datetime, end: datetime
) -> Picture:
    """Draw the latency of at most 8 exchanges (the columns of `latency`) on an axis of time from `start` to `end`."""
    panels = [panel for panel in PANELS if latency[f"{panel[0]}_ms_p50"].null_count < latency.num_rows]
    names: list[Any] = latency["exchange"].to_pylist()
    exchanges = sorted(set(names))
    picture = Picture(title, subtitle, heights=[1] * len(panels), inches=2.2 + 2.6 * len(panels))
    for axes, (name, label, meaning) in zip(picture.panels, panels, strict=True):
        for exchange, color in zip(exchanges, COLORS, strict=False):
            rows = latency.filter(pc.equal(latency["exchange"], exchange))
            for percentile, style in (("p50", _MEDIAN), ("p99", _P99)):
                axes.plot(*_line(rows, f"{name}_ms_{percentile}", interval), color=color, **style)
        _set_scale(axes, [latency[f"{name}_ms_{percentile}"] for percentile in ("p50", "p99")])
        axes.set_ylabel(label)
        axes.text(1, 1.01, meaning, ha="right", va="bottom", color=MUTED, fontsize=8, transform=axes.transAxes)
        axes.grid(axis="y", color=LINE)
        axes.tick_params(labelbottom=False)
    set_time_axis(picture.panels[-1], start, end)
    picture.panels[-1].tick_params(labelbottom=True)
    colors = [Line2D([], [], color=color, label=plain(name)) for name, color in zip(exchanges, COLORS, strict=False)]
    lines = [
        Line2D([], [], color=TEXT, label="median", **_MEDIAN),
        Line2D([], [], color=TEXT, label="99th percentile", **_P99),
    ]
    picture.legend(handles=[*lines, *colors], loc="outside lower left", ncols=6)
    picture.align_ylabels()
    return picture


def _line(rows: pa.Table, name: str, interval: timedelta) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times in days and latencies in milliseconds, with a NaN where the line is broken."""
    step = interval / DAY
    times = to_days(rows["start"].to_numpy()) + step / 2
    values = rows[name].to_numpy()
    (breaks,) = np.nonzero(np.diff(times) > _BREAK_INTERVALS * step)
    return np.insert(times, breaks + 1, np.nan), np.insert(values, breaks + 1, np.nan)


def _set_scale(axes: Axes, columns: "list[pa.ChunkedArray[Any]]") -> None:
    values = np.concatenate([column.drop_null().to_numpy() for column in columns])
    sizes = np.abs(values[values != 0])
    if not sizes.size or sizes.max() < _LOG_FROM * max(sizes.min(), _LINEAR_MS_MAX):
        if (values >= 0).all():
            axes.set_ylim(bottom=0)
        return
    if (values > 0).all():
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=_LINEAR_MS_MAX)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
