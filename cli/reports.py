"""`k2 gaps` and `k2 reconcile`: what is missing, and whether the sums come out."""

from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from cli.arguments import given_text
from cli.console import Json, say_json
from cli.rows import print_table
from query.reports import MissingRange, Reconciliation, is_known
from query.reports import gaps as find_gaps
from query.reports import reconcile as reconcile_all
from runtime.settings import Settings, read_settings
from trades.errors import SettingsError

__all__ = ["gaps", "reconcile"]


def gaps(
    *,
    exchange: Annotated[str | None, typer.Option(parser=given_text, help="Only of an exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(parser=given_text, help="Only of a symbol.")] = None,
    as_of: Annotated[
        str | None, typer.Option(help="What was missing then: RFC 3339, such as 2024-08-09T12:00:00Z.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List each range of sequence numbers that is missing now, or was at a time."""
    settings = read_settings()
    rows = find_gaps(settings, exchange, symbol, None if as_of is None else _time("--as-of", as_of))
    _print("Missing", MissingRange, rows, as_json=as_json)
    if not as_json:
        typer.echo(f"{sum(row.missing for row in rows):,} missing in {len(rows):,} ranges", err=True)
    if not rows and (exchange or symbol) and not is_known(settings, exchange, symbol):
        names = " and ".join(repr(name) for name in (exchange, symbol) if name)
        typer.echo(f"no sequence number of {names} was ever seen, so none can be missing", err=True)


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
    """Give what a wrong setting, or another hand on the table, makes of the sums."""
    foreign = [f"{row.topic}:{row.partition}" for row in rows if row.stored and not row.received]
    if foreign:
        yield f"rows of {', '.join(foreign)} are in the table without any progress: the job did not write them"
    if not settings.dead_letter_folder.is_dir():
        yield f"there is no folder {settings.dead_letter_folder}, so no dead letter was counted; K2_DLQ_DIR names it"


def _print(title: str, row_type: type[Any], rows: list[Any], *, as_json: bool) -> None:
    if as_json:
        say_json(rows)
        return
    names = [field.name for field in fields(row_type)]
    print_table(title, names, [[getattr(row, name) for name in names] for row in rows])


def _time(option: str, text: str) -> datetime:
    """Read a time; without a zone it is UTC."""
    try:
        time = msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{option} {text!r}: not a time such as 2024-08-09T12:00:00Z") from error
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
