"""Candles of one symbol, with the volume below."""

from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from k2.analysis.plots.picture import DAY, LINE, LOOK, Picture, number_format, set_time_axis, to_days

__all__ = ["draw_candles"]

UP: Final = "#17805a"
DOWN: Final = "#c6423a"
BODY_WIDTH: Final = 0.7
"""Share of the interval."""
VOLUME_ALPHA: Final = 0.45


@LOOK()
def draw_candles(
    title: str, subtitle: str, bars: pa.Table, interval: timedelta, start: datetime, end: datetime
) -> Picture:
    """Draw the bars of one symbol (the columns of `ohlcv`) on an axis of time from `start` to `end`.

    A rising candle is hollow, a falling one is filled, so that colour is not needed to tell them apart.
    """
    prices = {name: _floats(bars, name) for name in ("open", "high", "low", "close", "volume")}
    step = interval / DAY
    middle = to_days(bars["start"].to_numpy()) + step / 2
    is_up = prices["close"] >= prices["open"]
    colors = [UP if rises else DOWN for rises in is_up]
    picture = Picture(title, subtitle, heights=(3, 1), inches=6.5)
    price_axes, volume_axes = picture.panels
    body_low, body_high = (choose(prices["open"], prices["close"]) for choose in (np.minimum, np.maximum))
    price_axes.vlines(middle, prices["low"], body_low, colors=colors, linewidth=0.8)
    price_axes.vlines(middle, body_high, prices["high"], colors=colors, linewidth=0.8)
    price_axes.bar(
        middle,
        body_high - body_low,
        step * BODY_WIDTH,
        bottom=body_low,
        color=["white" if rises else DOWN for rises in is_up],
        edgecolor=colors,
        linewidth=0.8,
    )
    volume_axes.bar(middle, prices["volume"], step * BODY_WIDTH, color=colors, alpha=VOLUME_ALPHA)
    # Bars would begin the axis at zero.
    low, high = prices["low"].min(), prices["high"].max()
    margin = 0.05 * (high - low) or 0.01 * abs(high) or 1
    price_axes.set_ylim(low - margin, high + margin)
    for axes, name in ((price_axes, "price"), (volume_axes, "volume (quantity)")):
        axes.set_ylabel(name)
        axes.grid(axis="y", color=LINE)
        axes.set_axisbelow(True)
    price_axes.yaxis.set_major_formatter(number_format(0))
    volume_axes.yaxis.set_major_formatter(number_format(prices["volume"].max()))
    set_time_axis(volume_axes, start, end)
    price_axes.tick_params(labelbottom=False)
    picture.align_ylabels()
    return picture


def _floats(bars: pa.Table, name: str) -> NDArray[np.float64]:
    return bars[name].cast(pa.float64()).to_numpy()
