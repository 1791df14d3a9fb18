"""Heat map of completeness by symbol and hour; the height of a mark says the same as its colour."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
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


class Mark(NamedTuple):
    """Mark of an hour of which at least `percent` is stored."""

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
NOTHING: Final = Mark(0, "·", ".", "dim", "none expected")

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
    suffix_cells = PERCENT_CELLS + (DOUBT_CELLS if in_doubt else 0)
    label_cells = min(
        LABEL_CELLS_MAX,
        max(LABEL_CELLS_MIN, console.width - HOURS - 1 - suffix_cells),
        max((cell_len(_label(*name)) for name in cells), default=0),
    )
    days_per_block = max(1, (console.width - label_cells - suffix_cells) // (HOURS + 1))
    for first in range(0, len(days), days_per_block):
        block = days[first : first + days_per_block]
        for line in _block_lines(cells, block, label_cells, in_doubt, is_ascii=console.options.ascii_only):
            console.print(line, no_wrap=True, overflow="crop")
        console.print()
    if days:
        console.print(_legend(is_ascii=console.options.ascii_only, has_doubts=bool(in_doubt)))


def _block_lines(
    cells: Cells, days: Sequence[date], label_cells: int, in_doubt: Collection[tuple[str, str]], *, is_ascii: bool
) -> Iterator[Text]:
    yield Text(" " * label_cells + "".join(f" {day!s:<{HOURS}}" for day in days))
    yield Text(" " * label_cells + "".join(" " + "".join(f"{hour:<6}" for hour in range(0, HOURS, 6)) for _ in days))
    for name, found in cells.items():
        line = Text(_fit(_label(*name), label_cells, is_ascii=is_ascii))
        for day in days:
            line.append(" ")
            for hour in range(HOURS):
                mark = mark_of(found.get((day, hour)))
                line.append(mark.ascii_char if is_ascii else mark.block, style=mark.style)
        line.append(_percent([hour for (day, _), hour in found.items() if day in days]))
        yield line.append(IN_DOUBT, style="bold yellow") if name in in_doubt else line


def mark_of(hour: Hour | None) -> Mark:
    """Return the mark of an hour; only a complete hour gets the mark of 100 %."""
    if hour is None or not hour.expected:
        return NOTHING
    if not hour.stored:
        return NONE
    return next(mark for mark in MARKS if 100 * hour.stored >= mark.percent * hour.expected)


def _percent(hours: Sequence[Hour]) -> str:
    expected = sum(hour.expected for hour in hours)
    if not expected:
        return ""
    # Truncated, so that only complete hours show 100.
    return f"{10_000 * sum(hour.stored for hour in hours) // expected / 100:>7.2f} %"


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


def _legend(*, is_ascii: bool, has_doubts: bool) -> Text:
    marks = [f"{mark.ascii_char if is_ascii else mark.block} {mark.meaning}" for mark in (*MARKS, NONE, NOTHING)]
    return Text("  ".join(marks) + ("\n? numbering in doubt" if has_doubts else ""), style="dim")
