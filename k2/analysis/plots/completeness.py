"""Heat map of completeness: a row for each symbol, a column for each hour or day."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Final, NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from numpy.typing import NDArray

from k2.analysis.plots.picture import DAY, LINE, LOOK, MUTED, Picture, set_time_axis, short_name, to_days
from k2.query.completeness import Day, Hour

__all__ = ["draw_completeness"]

ROW_INCHES: Final = 0.22
HEAD_INCHES: Final = 1.9
HOUR: Final = timedelta(hours=1)
COLUMNS_MAX: Final = 240
EDGED_MAX: Final = 150
"""Columns up to which cells have an edge."""
IN_DOUBT: Final = " ?"


class Level(NamedTuple):
    """A colour for a cell of which at least `percent` is stored."""

    percent: float
    color: str
    meaning: str


LEVELS: Final = (
    Level(100, "#a6dcbd", "all stored"),
    Level(99, "#f1e2a0", "from 99 %"),
    Level(90, "#f6c98b", "from 90 %"),
    Level(50, "#ec8f6a", "from 50 %"),
    Level(0, "#d9534f", "less"),
)
NONE: Final = Level(0, "#7a1712", "none stored")
NOTHING: Final = Level(0, "#ffffff", "none expected")
NOT_NUMBERED: Final = Level(0, "#cfd6de", "not numbered")
_ALL: Final = (*LEVELS, NONE, NOTHING, NOT_NUMBERED)

Name = tuple[str, str]


@LOOK()
def draw_completeness(
    subtitle: str, cells: Sequence[Day | Hour], names: Sequence[Name], in_doubt: Collection[Name]
) -> Picture:
    """Draw the symbols `names` in this order, with the percentage of the numbers that are stored.

    All cells are days, or all are hours; where there are more than 240 columns, several make one. A symbol of
    `in_doubt` gets a question mark.
    """
    unit = DAY if isinstance(cells[0], Day) else HOUR
    first, last = min(map(_start, cells)), max(map(_start, cells))
    units = -(-((last - first) // unit + 1) // COLUMNS_MAX)
    span = units * unit
    count = (last - first) // span + 1
    title = f"Completeness by {f'{units} ' * (units > 1)}{'day' if unit is DAY else 'hour'}{'s' * (units > 1)}"
    note = f"; {IN_DOUBT.strip()} numbering in doubt" * any(name in in_doubt for name in names)
    picture = Picture(title, f"{subtitle}{note}", inches=HEAD_INCHES + ROW_INCHES * max(3, len(names)))
    (axes,) = picture.panels
    edges = to_days([first])[0] + np.arange(count + 1) * (span / DAY)
    axes.pcolormesh(
        edges,
        np.arange(len(names) + 1),
        _levels(cells, names, first, span),
        cmap=ListedColormap([level.color for level in _ALL]),
        vmin=-0.5,
        vmax=len(_ALL) - 0.5,
        edgecolors="white",
        linewidth=0.5 if count < EDGED_MAX else 0,
    )
    axes.invert_yaxis()
    axes.set_yticks(np.arange(len(names)) + 0.5, [short_name(*name) for name in names])
    axes.tick_params(axis="y", length=0)
    percents = axes.secondary_yaxis("right")
    percents.set_yticks(np.arange(len(names)) + 0.5, _percents(cells, names, in_doubt))
    percents.tick_params(axis="y", length=0)
    for spine in (*axes.spines.values(), *percents.spines.values()):
        spine.set_visible(False)
    set_time_axis(axes, first, first + count * span)
    axes.set_ylabel("symbol")
    percents.set_ylabel("stored (% of expected)", color=MUTED)
    picture.legend(
        handles=[Patch(facecolor=level.color, edgecolor=LINE, label=level.meaning) for level in _ALL],
        loc="outside lower left",
        ncols=len(_ALL),
        handlelength=1,
        handleheight=1,
        columnspacing=1.2,
    )
    return picture


def level_of(expected: int, stored: int, not_numbered: int = 0) -> Level:
    """Return the level of a cell by its numbers; only a complete one gets that of 100 %.

    `stored` of the `expected` numbers are there; trades without numbers count only if no number is expected.
    """
    if not expected:
        return NOT_NUMBERED if not_numbered else NOTHING
    if not stored:
        return NONE
    return next(level for level in LEVELS if 100 * stored >= level.percent * expected)


def _start(cell: Day | Hour) -> datetime:
    return cell.hour if isinstance(cell, Hour) else datetime.combine(cell.day, time(), UTC)


def _levels(cells: Sequence[Day | Hour], names: Sequence[Name], first: datetime, span: timedelta) -> NDArray[np.int64]:
    """Return the index in `_ALL` for each symbol and column."""
    rows = {name: row for row, name in enumerate(names)}
    columns = [(_start(cell) - first) // span for cell in cells]
    # A session may lack more numbers than 64 bits hold.
    expected, stored, not_numbered = np.zeros((3, len(names), max(columns) + 1), dtype=object)
    for cell, column in zip(cells, columns, strict=True):
        place = rows[cell.exchange, cell.symbol], column
        expected[place] += cell.expected or 0
        stored[place] += cell.stored - cell.not_numbered
        not_numbered[place] += cell.not_numbered
    counts = zip(expected.flat, stored.flat, not_numbered.flat, strict=True)
    return np.array([_ALL.index(level_of(*count)) for count in counts]).reshape(expected.shape)


def _percents(cells: Sequence[Day | Hour], names: Sequence[Name], in_doubt: Collection[Name]) -> list[str]:
    expected, stored = defaultdict[Name, int](int), defaultdict[Name, int](int)
    for cell in cells:
        expected[cell.exchange, cell.symbol] += cell.expected or 0
        stored[cell.exchange, cell.symbol] += cell.stored - cell.not_numbered
    # Truncated, so that only a complete symbol shows 100.
    texts = {name: f"{10_000 * stored[name] // count / 100:.2f}" for name, count in expected.items() if count}
    return [texts.get(name, "") + (IN_DOUBT if name in in_doubt else "") for name in names]
