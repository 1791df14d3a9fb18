"""Answers of queries: a table for people, JSON for programs, a file of the format that its name says."""

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

from k2.cli.options import given_path
from k2.cli.table_output import Name, print_table, spell_count
from k2.model.errors import SettingsError
from k2.query.engine import Rows
from k2.query.output_formats import Format, objects, write, write_records

__all__ = ["ROWS_SHOWN", "Output", "check_output", "save_records", "say_rows", "shown_limit"]

Output = Annotated[
    Path | None,
    typer.Option("--output", parser=given_path, help="Write to a file instead: .parquet, .csv, .arrow or .json."),
]
ROWS_SHOWN: Final = 100
"""So many are shown to people where no limit is given."""
_NAMES: Final = frozenset(
    {"sequence", "first_sequence", "last_sequence", "sequence_number", "session", "partition", "offset", "index"}
    | {"snapshot_id", "parent_id", "previous_id"}
)


def shown_limit(limit: int | None, output: Path | None, *, as_json: bool) -> int | None:
    """Return how many rows are to be asked for: of a table one more than is shown, so that it can be said that there are.

    Raises:
        SettingsError: the name of the file says no format.
    """
    check_output(output)
    return limit if limit is not None or as_json or output is not None else ROWS_SHOWN + 1


def check_output(output: Path | None) -> None:
    """Refuse a file before anything is asked for it.

    Raises:
        SettingsError: its name says no format.
    """
    if output is not None:
        _format(output)


def save_records(kind: type[Any], found: Sequence[Any], output: Path) -> None:
    """Write a report's rows, each an instance of a data class, to a file, which is there whole or not at all."""
    _save(output, partial(write_records, kind, found))


def say_rows(
    title: str,
    rows: Rows,
    limit: int | None,
    output: Path | None,
    *,
    as_json: bool,
    columns: Sequence[str] | None = None,
) -> None:
    """Print rows, or write them to a file, which is there whole or not at all; `columns` are those shown to people."""
    if output is not None:
        _save(output, partial(write, rows))
    elif as_json:
        write(rows, Format.JSON, typer.get_binary_stream("stdout"))
    else:
        _show(title, rows, limit, columns or rows.schema.names)


def _save(output: Path, put: Callable[[Format, BinaryIO], int]) -> None:
    with _whole_file(output) as stream:
        count = put(_format(output), stream)
    typer.echo(f"{spell_count(count, 'row')} in {output}", err=True)


def _show(title: str, rows: Rows, limit: int | None, names: Sequence[str]) -> None:
    found = (row for batch in rows.batches for row in objects(batch))
    shown = [*islice(found, ROWS_SHOWN if limit is None else limit)]
    print_table(title, names, [[_cell(name, row[name]) for name in names] for row in shown])
    if limit is None and next(found, None) is not None:
        typer.echo(f"the first {len(shown)} rows are shown, and there are more: --limit, --json or --output", err=True)


def _cell(name: str, value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(" ").removesuffix("+00:00")
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value.is_finite() else str(value)
    if isinstance(value, int) and name in _NAMES:
        return Name(value)
    return value


def _format(output: Path) -> Format:
    try:
        return Format(output.suffix.lower().removeprefix("."))
    except ValueError:
        known = ", ".join(f".{form}" for form in Format)
        raise SettingsError(f"--output {output}: its name must end with one of {known}") from None


@contextmanager
def _whole_file(output: Path) -> Iterator[BinaryIO]:
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
