"""`k2 venues`: list the venues, show a table, and check a table of one's own against a capture."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from k2.cli.captures import check_captures, read_capture
from k2.cli.console import Json, print_json, print_record
from k2.cli.options import parse_path
from k2.cli.table_output import Identifier, format_time, print_table
from k2.model.decimals import spell_decimal
from k2.model.errors import SettingsError
from k2.model.times import time_of
from k2.model.trade import SIDES, Trade
from k2.model.wording import format_count
from k2.ops.settings import read_settings
from k2.venues import VENUES, SequenceMode
from k2.venues.capture_report import CaptureReport, report_on
from k2.venues.table import table_schema
from k2.venues.table_history import venue_of_file
from k2.venues.user_tables import read_user_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="List the venues, and check tables of your own.")


@app.command("list")
def list_venues(*, as_json: Json = False) -> None:
    """List the venues that K2_TOPICS may name, built in or of K2_VENUES."""
    read_settings()
    rows = [
        {
            "venue": name,
            "exchange": VENUES[name].exchange,
            "numbering": VENUES[name].mode.value if (table := VENUES.table_of(name)) is None else table.numbering,
            "table": "K2_VENUES" if VENUES.user_digest(name) else "built in" if VENUES.file_of(name) else None,
            "file": VENUES.file_of(name) if VENUES.user_digest(name) else None,
            "digest": VENUES.user_digest(name),
        }
        for name in VENUES
    ]
    if as_json:
        print_json(rows)
        return
    words = {"exchange": "of the message", "table": "none, in code"}
    shown = [[value or words.get(name) for name, value in row.items()] for row in rows]
    print_table("Venues", [*rows[0]], shown)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a venue.")], *, as_json: Json = False
) -> None:
    """Print the table of a venue, to begin one of your own with."""
    read_settings()
    if name not in VENUES:
        raise SettingsError(VENUES.unknown_message(name))
    file, table = VENUES.file_of(name), VENUES.table_of(name)
    if file is None or table is None:
        raise SettingsError(f"venue {name} is in code and has no table; see docs/messages.md for its messages")
    if as_json:
        print_json(msgspec.to_builtins(table))
    else:
        typer.echo(file.read_text(encoding="utf-8"), nl=False)


@app.command()
def schema(*, as_json: Json = False) -> None:  # noqa: ARG001  it is JSON in any case
    """Print the JSON schema of a table, for editors that check TOML."""
    print_json(table_schema())


@app.command()
def check(
    file: Annotated[Path, typer.Argument(parser=parse_path, metavar="FILE", help="Table of a venue, in TOML.")],
    *,
    against: Annotated[
        str | None, typer.Option(metavar="CAPTURE", help="Decode this capture; - is standard input.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a table, and what it makes of a capture.

    A capture has one message per line, plain or gzip. Prints how many messages are trades, which are skipped and why,
    the first dead letter of each kind, the keys and values that the table does not know, the first trades, and whether
    their numbers are contiguous. The exit code is
    1 if a message is a dead letter, or none is a trade, and 2 if the table is invalid.
    """
    read_settings()
    known = {name: path for name in VENUES if (path := VENUES.file_of(name))}
    table = read_user_table(file, VENUES.builtin, known, VENUES.tables)
    venue = venue_of_file(table)
    summary: dict[str, Any] = {
        "file": file,
        "venue": venue.name,
        "exchange": venue.exchange,
        "numbering": table.table.numbering,
        "digest": table.digest,
    }
    if against is None:
        print_record(summary, as_json=as_json)
        return
    if venue.payload is not None and venue.payload.schema_kind is not None:
        raise SettingsError(
            f"{file} reads {venue.payload.schema_kind} messages, which no capture of lines holds; `k2 doctor` tries "
            "the table on the newest messages of a topic"
        )
    check_captures([against])
    report = report_on(venue, _lines(against))
    verdict = _verdict(report, venue.mode)
    if as_json:
        print_json({**summary, "capture": against, **_as_record(report), "numbers_verdict": verdict})
    else:
        _print_report(summary, report, verdict)
    if report.dead_letters or not report.trades:
        raise typer.Exit(1)


def _lines(capture: str) -> Iterator[tuple[int, bytes]]:
    for line in read_capture(capture):
        if line.value.strip():
            yield line.number, line.value


def _as_record(report: CaptureReport) -> dict[str, Any]:
    return {**asdict(report), "first_trades": [_trade(trade) for trade in report.first_trades]}


def _trade(trade: Trade) -> dict[str, Any]:
    return {
        "exchange": trade.exchange,
        "symbol": trade.symbol,
        "first_sequence": trade.first_sequence,
        "sequence": trade.sequence,
        "trade_id": trade.trade_id,
        "price": spell_decimal(trade.price) if trade.is_market else None,
        "quantity": spell_decimal(trade.quantity) if trade.is_market else None,
        "side": SIDES[trade.side],
        "timestamp": time_of(trade.timestamp),
        "is_market": trade.is_market,
    }


def _verdict(report: CaptureReport, mode: SequenceMode) -> str:
    """Return whether the numbers are contiguous, in a sentence, and what that means for the table."""
    numbers = report.numbers
    if report.first_trades and not numbers.symbols:
        return "the trades have no numbers"
    if not numbers.steps:
        return "too few numbers to say whether they are contiguous"
    symbols = format_count(numbers.symbols, "symbol")
    others = [
        f"{count:,} {words}"
        for count, words in ((numbers.repeated, "repeated"), (numbers.back, "below an earlier one"))
        if count
    ]
    aside = f" ({', '.join(others)})" if others else ""
    counts_gaps = mode in {SequenceMode.CONTIGUOUS, SequenceMode.RANGE}
    if not numbers.ahead:
        hint = "" if counts_gaps else '; numbering = "contiguous" may fit'
        return f"contiguous: none is left out in {numbers.steps:,} steps of {symbols}{aside}{hint}"
    hint = '; numbering = "monotonic" fits if holes mean nothing' if counts_gaps else ""
    return (
        f"not contiguous: {numbers.ahead:,} of {numbers.steps:,} steps of {symbols} leave out "
        f"{numbers.missing:,} numbers{aside}{hint}"
    )


def _print_report(summary: dict[str, Any], report: CaptureReport, verdict: str) -> None:
    skipped = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in report.skipped.items())
    print_record(
        {
            **summary,
            "messages": report.messages,
            "with_trades": report.with_trades,
            "trades": report.trades,
            "non_market": report.non_market,
            **({"corrections": report.corrections} if report.corrections else {}),
            "skipped": skipped or 0,
            "dead_letters": sum(kind.count for kind in report.dead_letters),
            "without_a_key": report.unkeyed,
            "unused_keys": ", ".join(report.unused_keys) or 0,
            "numbers": verdict,
        },
        as_json=False,
    )
    if report.dead_letters:
        rows = [[kind.count, kind.reason, kind.line, kind.error] for kind in report.dead_letters]
        print_table("\nDead letters", ["count", "reason", "first_line", "error"], rows)
    if report.drift:
        rows = [[kind.count, kind.change, kind.path, kind.line, kind.value] for kind in report.drift]
        print_table("\nDrift", ["count", "change", "path", "first_line", "value"], rows)
    if report.first_trades:
        found = [_trade(trade) for trade in report.first_trades]
        names = ["symbol", "sequence", "trade_id", "price", "quantity", "side", "timestamp"]
        rows = [[_cell(one[name]) for name in names] for one in found]
        print_table("\nFirst trades", names, rows)


def _cell(value: object) -> object:
    match value:
        case int():
            return Identifier(value)
        case datetime():
            return format_time(value, "microseconds")
        case _:
            return value
