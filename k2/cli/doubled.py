"""`k2 audit --doubled`: list trades that an earlier version stored twice, in two sessions."""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import typer

from k2.cli.result_output import ROWS_SHOWN, check_output, output_rows
from k2.cli.table_output import Identifier, format_decimal, format_time, print_table
from k2.model.wording import format_count
from k2.ops.settings import Settings
from k2.query.doubled import doubled
from k2.query.engine import RecordBatchStream
from k2.query.output_formats import objects

__all__ = ["report_doubled"]

_TITLE: Final = "Stored in more than one session"
_COLUMNS: Final = ("exchange", "symbol", "sequence", "price", "quantity", "side", "copies")


def report_doubled(settings: Settings, limit: int | None, output: Path | None, *, as_json: bool) -> None:
    """Print one line for each number that is stored twice, or write them to a file; exit with code 1 if there are any.

    The limit applies to the lines, not to the count on stderr.
    """
    check_output(output)
    with doubled(settings) as rows:
        tally = _Tally(rows.batches)
        shown = RecordBatchStream(rows.schema, tally.batches)
        if output is not None or as_json:
            output_rows(_TITLE, shown if limit is None else shown.first(limit), limit, output, as_json=as_json)
        else:
            _print_numbers(shown.first(ROWS_SHOWN if limit is None else limit))
        tally.finish()
    if tally.numbers:
        numbers, copies = format_count(tally.numbers, "number"), format_count(tally.copies, "row")
        typer.echo(
            f"{numbers} with {copies}: the same number and content in more than one session; nothing was deleted",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo("no number is stored with the same content in more than one session", err=True)


class _Tally:
    """Count numbers and their rows while the batches are consumed."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self.numbers = self.copies = 0
        self.batches = self._count(batches)

    def _count(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.numbers += batch.num_rows
            self.copies += sum(pc.list_value_length(batch.column("copies")).to_pylist())
            yield batch

    def finish(self) -> None:
        """Consume and count the remaining batches."""
        for _ in self.batches:
            pass


def _print_numbers(rows: RecordBatchStream) -> None:
    found = chain.from_iterable(objects(batch) for batch in rows.batches)
    print_table(_TITLE, _COLUMNS, [[_cell(name, row[name]) for name in _COLUMNS] for row in found])


def _cell(name: str, value: Any) -> object:
    match name:
        case "copies":
            return "; ".join(map(_describe_copy, value))
        case "sequence":
            return Identifier(value)
        case "price" | "quantity":
            return format_decimal(value)
        case _:
            return value


def _describe_copy(copy: Mapping[str, Any]) -> str:
    index = f", index {copy['index']}" if copy["index"] else ""
    coordinates = f"{copy['topic']}:{copy['partition']} offset {copy['offset']}{index}"
    return f"session {copy['session']}, {format_time(copy['timestamp'], 'auto')}, {coordinates}"
