"""Output of query results: a table for people, JSON for programs, or a file whose suffix selects the format."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from k2.cli.options import parse_path
from k2.cli.table_output import Identifier, format_decimal, print_table
from k2.model.errors import SettingsError
from k2.model.wording import format_count
from k2.query.engine import RecordBatchStream
from k2.query.output_formats import Format, objects, write, write_records

__all__ = ["ROWS_SHOWN", "Output", "atomic_file", "check_output", "output_rows", "query_limit", "write_report"]

Output = Annotated[
    Path | None,
    typer.Option("--output", parser=parse_path, help="Write to a .parquet, .csv, .arrow or .json file instead."),
]
ROWS_SHOWN: Final = 100
"""Default number of rows of a table."""
_IDENTIFIER_COLUMNS: Final = frozenset(
    {"sequence", "first_sequence", "last_sequence", "sequence_number", "session", "partition", "offset", "index"}
    | {"snapshot_id", "parent_id", "previous_id"}
)


def query_limit(limit: int | None, output: Path | None, *, as_json: bool) -> int | None:
    """Return the row limit of a query. A table gets one row more than it shows, to detect that there are more rows.

    Raises:
        SettingsError: If the name of the file has no known format.
    """
    check_output(output)
    return limit if limit is not None or as_json or output is not None else ROWS_SHOWN + 1


def check_output(output: Path | None) -> None:
    """Check the name of the output file before the query runs.

    Raises:
        SettingsError: If the name has no known format.
    """
    if output is not None:
        _output_format(output)


def write_report(kind: type[Any], rows: Sequence[Any], output: Path) -> None:
    """Write a report's rows, instances of the dataclass `kind`, to a file atomically."""
    _save(output, partial(write_records, kind, rows))


def output_rows(
    title: str,
    rows: RecordBatchStream,
    limit: int | None,
    output: Path | None,
    *,
    as_json: bool,
    columns: Sequence[str] | None = None,
) -> int:
    """Print rows, or write them to a file atomically, and return their number.

    `columns` are those of a printed table.
    """
    if output is not None:
        return _save(output, partial(write, rows))
    if as_json:
        return write(rows, Format.JSON, typer.get_binary_stream("stdout"))
    return _print_rows(title, rows, limit, columns or rows.schema.names)


def _save(output: Path, write_to: Callable[[Format, BinaryIO], int]) -> int:
    with atomic_file(output) as stream:
        count = write_to(_output_format(output), stream)
    typer.echo(f"{format_count(count, 'row')} in {output}", err=True)
    return count


def _print_rows(title: str, rows: RecordBatchStream, limit: int | None, names: Sequence[str]) -> int:
    found = (row for batch in rows.batches for row in objects(batch))
    shown = [*islice(found, ROWS_SHOWN if limit is None else limit)]
    print_table(title, names, [[_cell(name, row[name]) for name in names] for row in shown])
    if limit is None and next(found, None) is not None:
        typer.echo(
            f"the first {len(shown)} rows are shown, and there are more; use --limit, --json or --output", err=True
        )
    return len(shown)


def _cell(name: str, value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(" ").removesuffix("+00:00")
    if isinstance(value, Decimal):
        return format_decimal(value)
    if isinstance(value, int) and name in _IDENTIFIER_COLUMNS:
        return Identifier(value)
    return value


def _output_format(output: Path) -> Format:
    try:
        return Format(output.suffix.lower().removeprefix("."))
    except ValueError:
        known = ", ".join(f".{form}" for form in Format)
        raise SettingsError(f"--output {output}: its name must end with one of {known}") from None


@contextmanager
def atomic_file(output: Path) -> Iterator[BinaryIO]:
    """Yield a stream whose content becomes the file at the end of the block; an error leaves the file as it was.

    Raises:
        SettingsError: If the folder cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise SettingsError(f"--output {output}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        Path(name).replace(output)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
