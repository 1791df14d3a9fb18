"""A strip of completeness by symbol and hour, read by the height of its marks as well as by their colour."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from k2.cli.table_output import printable
from k2.query.completeness import Hour

__all__ = ["print_heat"]

HOURS: Final = 24
LABEL_CELLS_MAX: Final = 32
LABEL_CELLS_MIN: Final = 8
PERCENT_CELLS: Final = 9
DOUBT_CELLS: Final = 2
IN_DOUBT: Final = " ?"


class Mark(NamedTuple):
    """How an hour is shown of which at least so much is there."""

    percent: float
    block: str
    letter: str
    """For a terminal that knows ASCII alone."""
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


def print_heat(hours: Sequence[Hour], in_doubt: Collection[tuple[str, str]] = ()) -> None:
    """Print a line a symbol, as many days beside each other as fit, with what share of them is there.

    The lines of symbols whose numbering is `in_doubt` are marked.
    """
    console = Console(markup=False, highlight=False)
    cells: defaultdict[tuple[str, str], dict[tuple[date, int], Hour]] = defaultdict(dict)
    for one in hours:
        cells[one.exchange, one.symbol][one.hour.date(), one.hour.hour] = one
    days = sorted({one.hour.date() for one in hours})
    end_cells = PERCENT_CELLS + (DOUBT_CELLS if in_doubt else 0)
    label_cells = min(
        LABEL_CELLS_MAX,
        max(LABEL_CELLS_MIN, console.width - HOURS - 1 - end_cells),
        max((cell_len(_label(*name)) for name in cells), default=0),
    )
    beside = max(1, (console.width - label_cells - end_cells) // (HOURS + 1))
    for first in range(0, len(days), beside):
        block = days[first : first + beside]
        for line in _block(cells, block, label_cells, in_doubt, is_ascii=console.options.ascii_only):
            console.print(line, no_wrap=True, overflow="crop")
        console.print()
    if days:
        console.print(_legend(is_ascii=console.options.ascii_only, has_doubts=bool(in_doubt)))


def _block(
    cells: Cells, days: Sequence[date], label_cells: int, in_doubt: Collection[tuple[str, str]], *, is_ascii: bool
) -> Iterator[Text]:
    yield Text(" " * label_cells + "".join(f" {day!s:<{HOURS}}" for day in days))
    yield Text(" " * label_cells + "".join(" " + "".join(f"{hour:<6}" for hour in range(0, HOURS, 6)) for _ in days))
    for name, found in cells.items():
        line = Text(_fitted(_label(*name), label_cells, is_ascii=is_ascii))
        for day in days:
            line.append(" ")
            for hour in range(HOURS):
                mark = mark_of(found.get((day, hour)))
                line.append(mark.letter if is_ascii else mark.block, style=mark.style)
        line.append(_percent([one for (day, _), one in found.items() if day in days]))
        yield line.append(IN_DOUBT, style="bold yellow") if name in in_doubt else line


def mark_of(hour: Hour | None) -> Mark:
    """Return how an hour is shown; only what is complete is shown as complete."""
    if hour is None or not hour.expected:
        return NOTHING
    if not hour.stored:
        return NONE
    return next(mark for mark in MARKS if 100 * hour.stored >= mark.percent * hour.expected)


def _percent(hours: Sequence[Hour]) -> str:
    expected = sum(one.expected for one in hours)
    if not expected:
        return ""
    # Cut off, so that 100 is said of nothing less.
    return f"{10_000 * sum(one.stored for one in hours) // expected / 100:>7.2f} %"


def _label(exchange: str, symbol: str) -> str:
    return printable(f"{exchange} {symbol}")


def _fitted(label: str, cells: int, *, is_ascii: bool) -> str:
    """Return a label so wide; of one that is too long begin and end, since contracts differ in what comes last."""
    if cell_len(label) <= cells:
        return set_cell_size(label, cells)
    begin, end = set_cell_size(label, cells // 2), label
    while cell_len(end) >= cells - cells // 2:
        end = end[1:]
    return set_cell_size(f"{begin}{'~' if is_ascii else '…'}{end}", cells)


def _legend(*, is_ascii: bool, has_doubts: bool) -> Text:
    marks = [f"{mark.letter if is_ascii else mark.block} {mark.meaning}" for mark in (*MARKS, NONE, NOTHING)]
    return Text("  ".join(marks) + ("\n? numbering in doubt" if has_doubts else ""), style="dim")
