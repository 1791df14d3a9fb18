"""Heat map of completeness by symbol and hour; the height of a mark says the same as its colour.

Only days with trades, stored or missing, are shown. A cut marks where days between two of them are left out.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from k2.cli.table_output import printable
from k2.query.completeness import Hour

__all__ = ["print_heat_map"]

HOURS: Final = 24
LABEL_CELLS_MAX: Final = 32
LABEL_CELLS_MIN: Final = 8
PERCENT_CELLS: Final = 9
DOUBT_CELLS: Final = 2
IN_DOUBT: Final = " ?"
NOT_NUMBERED: Final = " not numbered"


class Mark(NamedTuple):
    """Mark of an hour of which at least `percent` of the numbers are stored."""

    percent: float
    block: str
    ascii_char: str
    """Replaces `block` on a terminal that supports only ASCII."""
    style: str
    meaning: str


MARKS: Final = (
    Mark(100, "█", "#", "green", "all"),
    Mark(99, "▆", "=", "yellow", "from 99 %"),
    Mark(90, "▄", "-", "dark_orange", "from 90 %"),
    Mark(50, "▂", "_", "red", "from 50 %"),
    Mark(0, "▁", ",", "red", "less"),
)
NONE: Final = Mark(0, "x", "x", "bold red", "none")
UNKNOWN: Final = Mark(0, "░", "~", "cyan", "not numbered")
"""Trades are stored, and without gapless numbers it is unknown how many are missing."""
NOTHING: Final = Mark(0, "·", ".", "dim", "none expected")
CUT: Final = Mark(0, "┊", "|", "dim", "days without trades left out")
"""Between two days that do not follow each other."""

Cells = Mapping[tuple[str, str], Mapping[tuple[date, int], Hour]]


def print_heat_map(hours: Sequence[Hour], in_doubt: Collection[tuple[str, str]] = ()) -> None:
    """Print one line per symbol, with as many days side by side as fit, and the stored percentage of those days.

    Lines of symbols whose numbering is `in_doubt` are marked.
    """
    console = Console(markup=False, highlight=False)
    cells: defaultdict[tuple[str, str], dict[tuple[date, int], Hour]] = defaultdict(dict)
    for hour in hours:
        cells[hour.exchange, hour.symbol][hour.hour.date(), hour.hour.hour] = hour
    days = sorted({hour.hour.date() for hour in hours})
    has_unknown = any(hour.expected is None for hour in hours)
    suffix_cells = (len(NOT_NUMBERED) if has_unknown else PERCENT_CELLS) + (DOUBT_CELLS if in_doubt else 0)
    label_cells = min(
        LABEL_CELLS_MAX,
        max(LABEL_CELLS_MIN, console.width - HOURS - 1 - suffix_cells),
        max((cell_len(_label(*name)) for name in cells), default=0),
    )
    days_per_block = max(1, (console.width - label_cells - suffix_cells) // (HOURS + 1))
    cuts = {later for day, later in pairwise(days) if later - day > timedelta(days=1)}
    is_ascii = console.options.ascii_only
    for first in range(0, len(days), days_per_block):
        block = [(day, CUT if day in cuts else None) for day in days[first : first + days_per_block]]
        for line in _block_lines(cells, block, label_cells, in_doubt, is_ascii=is_ascii):
            console.print(line, no_wrap=True, overflow="crop")
        console.print()
    if days:
        marks = (*MARKS, NONE, *([UNKNOWN] if has_unknown else []), NOTHING, *([CUT] if cuts else []))
        console.print(_legend(marks, is_ascii=is_ascii, has_doubts=bool(in_doubt)))


def _block_lines(
    cells: Cells,
    block: Sequence[tuple[date, Mark | None]],
    label_cells: int,
    in_doubt: Collection[tuple[str, str]],
    *,
    is_ascii: bool,
) -> Iterator[Text]:
    """Yield the lines of some days, each with the mark of a cut before it, or None."""
    hours = "".join(f"{hour:<6}" for hour in range(0, HOURS, 6))
    for texts in ([f"{day!s:<{HOURS}}" for day, _ in block], [hours for _ in block]):
        line = Text(" " * label_cells)
        for (_, cut), text in zip(block, texts, strict=True):
            _append_mark(line, cut, is_ascii=is_ascii)
            line.append(text)
        yield line
    days = {day for day, _ in block}
    for name, found in cells.items():
        line = Text(_fit(_label(*name), label_cells, is_ascii=is_ascii))
        for day, cut in block:
            _append_mark(line, cut, is_ascii=is_ascii)
            for hour in range(HOURS):
                _append_mark(line, mark_of(found.get((day, hour))), is_ascii=is_ascii)
        line.append(_percent([hour for (day, _), hour in found.items() if day in days]))
        yield line.append(IN_DOUBT, style="bold yellow") if name in in_doubt else line


def _append_mark(line: Text, mark: Mark | None, *, is_ascii: bool) -> None:
    if mark is None:
        line.append(" ")
    else:
        line.append(mark.ascii_char if is_ascii else mark.block, style=mark.style)


def mark_of(hour: Hour | None) -> Mark:
    """Return the mark of an hour; only a complete hour gets the mark of 100 %."""
    if hour is None:
        return NOTHING
    if hour.expected is None or hour.missing is None:
        return UNKNOWN
    if not hour.expected:
        return NOTHING
    stored = hour.expected - hour.missing
    if not stored:
        return NONE
    return next(mark for mark in MARKS if 100 * stored >= mark.percent * hour.expected)


def _percent(hours: Sequence[Hour]) -> str:
    expected = sum(hour.expected or 0 for hour in hours)
    if not expected:
        return NOT_NUMBERED if any(hour.expected is None for hour in hours) else ""
    # Truncated, so that only complete hours show 100.
    return f"{10_000 * (expected - sum(hour.missing or 0 for hour in hours)) // expected / 100:>7.2f} %"


def _label(exchange: str, symbol: str) -> str:
    return printable(f"{exchange} {symbol}")


def _fit(label: str, cells: int, *, is_ascii: bool) -> str:
    """Return a label of this width. Long labels keep begin and end, since contracts often differ only in their end."""
    if cell_len(label) <= cells:
        return set_cell_size(label, cells)
    begin, end = set_cell_size(label, cells // 2), label
    while cell_len(end) >= cells - cells // 2:
        end = end[1:]
    return set_cell_size(f"{begin}{'~' if is_ascii else '…'}{end}", cells)


def _legend(marks: Sequence[Mark], *, is_ascii: bool, has_doubts: bool) -> Text:
    texts = [f"{mark.ascii_char if is_ascii else mark.block} {mark.meaning}" for mark in marks]
    return Text("  ".join(texts) + ("\n? numbering in doubt" if has_doubts else ""), style="dim")
