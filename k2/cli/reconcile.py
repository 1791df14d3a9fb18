"""`k2 reconcile`: whether the sums come out."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import typer

from k2.cli.console import Json, say_json
from k2.cli.table_output import print_table
from k2.ops.settings import Settings, read_settings
from k2.query.reconcile import Reconciliation
from k2.query.reconcile import reconcile as reconcile_all

__all__ = ["reconcile"]


def reconcile(*, as_json: Json = False) -> None:
    """Hold, for each topic partition, what was received against what became of it; else exit code 1."""
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
    """Yield how far each sum is out, and what a wrong setting, or another hand on the table, makes of it."""
    yield from (_difference(row) for row in rows if row.received and not row.holds)
    foreign = [f"{row.topic}:{row.partition}" for row in rows if row.stored and not row.received]
    if foreign:
        yield f"rows of {', '.join(foreign)} are in the table without any progress: the job did not write them"
    if not settings.dead_letter_folder.is_dir():
        yield f"there is no folder {settings.dead_letter_folder}, so no dead letter was counted; K2_DLQ_DIR names it"


def _difference(row: Reconciliation) -> str:
    lacking = row.received - row.stored - row.duplicates - row.dead_letters - row.skipped
    if lacking > 0:
        what = f"{lacking:,} of {row.received:,} received are neither stored nor anywhere else"
    elif lacking < 0:
        what = f"{-lacking:,} more accounted for than received"
    else:
        what = "the sum comes out, but one is there twice, or rows or letters are not as many as the progress says"
    return f"{row.topic}:{row.partition}: {what}"


def _print(title: str, row_type: type[Any], rows: list[Any], *, as_json: bool) -> None:
    if as_json:
        say_json(rows)
        return
    names = [field.name for field in fields(row_type)]
    print_table(title, names, [[getattr(row, name) for name in names] for row in rows])
