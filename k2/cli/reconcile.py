"""`k2 reconcile`: check that every received message is accounted for."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import typer

from k2.cli.console import Json, print_json
from k2.cli.table_output import print_table
from k2.ops.settings import Settings, read_settings
from k2.query.reconcile import Reconciliation
from k2.query.reconcile import reconcile as reconcile_all

__all__ = ["reconcile"]


def reconcile(*, as_json: Json = False) -> None:
    """Compare the received messages of each topic partition with their outcomes; exit with code 1 if they differ."""
    settings = read_settings()
    rows = reconcile_all(settings)
    if rows or as_json:
        _print("Reconciliation", Reconciliation, rows, as_json=as_json)
    if not rows:
        typer.echo("nothing is stored yet, so there is nothing to reconcile", err=True)
    if not all(row.holds for row in rows):
        for reason in _reasons(settings, rows):
            typer.echo(reason, err=True)
        raise typer.Exit(1)


def _reasons(settings: Settings, rows: list[Reconciliation]) -> Iterator[str]:
    """Yield the difference of each partition, and its likely causes: a wrong setting, or another writer."""
    yield from (_describe_difference(row) for row in rows if row.received and not row.holds)
    foreign = [f"{row.topic}:{row.partition}" for row in rows if row.stored and not row.received]
    if foreign:
        yield f"rows of {', '.join(foreign)} are in the table without any progress: the job did not write them"
    if settings.dead_letter_address is None and not settings.dead_letter_folder.is_dir():
        yield f"dead letters were not counted: folder {settings.dead_letter_folder} does not exist; set K2_DLQ_DIR"


def _describe_difference(row: Reconciliation) -> str:
    accounted = row.stored + row.removed + row.duplicates + row.dead_letters + row.skipped + row.corrections
    unaccounted = row.received - accounted
    if unaccounted > 0:
        difference = f"{unaccounted:,} of {row.received:,} received are not accounted for"
    elif unaccounted < 0:
        difference = f"{-unaccounted:,} more are accounted for than were received"
    else:
        difference = (
            "the sum holds, but a row exists twice, or rows or dead letters differ from the counts in the progress"
        )
    return f"{row.topic}:{row.partition}: {difference}"


def _print(title: str, row_type: type[Any], rows: list[Any], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    names = [field.name for field in fields(row_type)]
    print_table(title, names, [[getattr(row, name) for name in names] for row in rows])
