"""`k2 dlq`: list and count dead letters, and write the original bytes of one."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from enum import StrEnum
from itertools import islice
from typing import Annotated, Final

import typer
from msgspec import structs

from k2.cli.console import Json, print_json, print_record
from k2.cli.dlq_replay import replay
from k2.cli.options import parse_name
from k2.cli.result_output import Output, check_output, output_rows
from k2.cli.table_output import Identifier, format_time, print_table
from k2.model.dead_letter import DeadLetter
from k2.model.errors import SettingsError
from k2.model.reasons import Reason
from k2.model.replay import waiting_letters
from k2.ops.settings import Settings, read_settings
from k2.query.dead_letters import (
    ErrorDeadLetters,
    ErrorStatistics,
    count_by_error,
    count_dead_letters,
    count_with_replays,
    dead_letter_rows,
    open_dead_letters,
)
from k2.query.replays import replay_sentence
from k2.storage.dead_letters.folders import replay_journal
from k2.storage.dead_letters.replay_journal import replayed_letters

__all__ = ["app"]

VALUE_CHARACTERS_MAX: Final = 60
ROWS_MAX: Final = 1_000
"""Default row limit of a table, which is laid out in memory. JSON output is streamed and has no default limit."""
ERRORS_MAX: Final = 100
"""Maximum number of errors in a table."""


class Grouping(StrEnum):
    """By what dead letters are counted."""

    REASON = "reason"
    ERROR = "error"


app = typer.Typer(no_args_is_help=True, help="Inspect and replay dead letters: messages that were not stored.")
app.command("replay")(replay)


@app.command("list")
def list_dead_letters(
    *,
    reason: Annotated[Reason | None, typer.Option(help="Filter by reason.")] = None,
    topic: Annotated[str | None, typer.Option(parser=parse_name, help="Filter by topic.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Filter by partition.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that were not replayed.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=0, max=sys.maxsize, help="Maximum rows; 1,000 by default, or all with --json or --output."),
    ] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """List dead letters, oldest first.

    With --json one per line, as in the files.
    """
    check_output(output)
    wanted = {"reason": reason, "topic": topic, "partition": partition}
    settings = read_settings()
    matching = _find(settings, wanted)
    if waiting:
        matching = waiting_letters(matching, replayed_letters(replay_journal(settings).entries(_warn_journal)))
    if output is not None:
        output_rows("Dead letters", dead_letter_rows(islice(matching, limit)), limit, output, as_json=as_json)
    elif as_json:
        for dead_letter in islice(matching, limit):
            print_json(dead_letter)
    else:
        shown = [*islice(matching, ROWS_MAX if limit is None else limit)]
        print_table("Dead letters", ("topic", "partition", "offset", "reason", "error", "value"), map(_row, shown))
        if next(matching, None) is not None:
            typer.echo(
                f"the oldest {len(shown):,} are shown, and there are more; use --limit, --json or --output", err=True
            )


@app.command()
def stats(
    *,
    by: Annotated[
        Grouping, typer.Option(help="Count by reason and topic partition, or by error, without the values in it.")
    ] = Grouping.REASON,
    as_json: Json = False,
) -> None:
    """Count dead letters by reason and by topic partition, or by error."""
    count = count_by_error if by is Grouping.ERROR else count_dead_letters
    settings = read_settings()
    found = count_with_replays(count, settings, open_dead_letters(settings, _warn_unreadable), _warn_journal)
    if as_json:
        print_json(found)
        return
    if isinstance(found, ErrorStatistics):
        _print_errors(found.errors)
    else:
        print_table("By reason", ("reason", "dead_letters"), found.reasons.items())
        print_table("By topic partition", ("topic", "partition", "dead_letters"), map(astuple, found.partitions))
    if found.dead_letters:
        times = [format_time(time) for time in (found.oldest, found.newest) if time]
        typer.echo(f"{found.dead_letters:,} in all{', from ' if times else ''}{' to '.join(times)}")
    if found.replays is not None and found.replays.replayed:
        typer.echo(replay_sentence(found.replays))
        if found.replays.rejected_again:
            typer.echo(
                "those rejected again wait as other dead letters; fix their cause before the next replay", err=True
            )


def _print_errors(errors: Sequence[ErrorDeadLetters]) -> None:
    columns = ("dead_letters", "reason", "error", "topic", "partition", "offset")
    rows = [
        (one.dead_letters, one.reason, one.error, one.topic, one.partition, Identifier(one.offset))
        for one in errors[:ERRORS_MAX]
    ]
    print_table("By error, with the first dead letter of each", columns, rows)
    if len(errors) > ERRORS_MAX:
        typer.echo(f"the commonest {ERRORS_MAX:,} of {len(errors):,} errors are shown; use --json for all", err=True)


@app.command()
def show(
    topic: Annotated[str, typer.Argument(parser=parse_name)],
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    *,
    index: Annotated[int | None, typer.Option(min=0, help="Select a trade of a message that has several.")] = None,
    key: Annotated[bool, typer.Option("--key", help="Write the original bytes of the message's key.")] = False,
    value: Annotated[bool, typer.Option("--value", help="Write the original bytes of the message's value.")] = False,
    as_json: Json = False,
) -> None:
    """Show one dead letter, or write the message's original bytes.

    With --value or --key, only those bytes are written to stdout.
    """
    wanted = {"topic": topic, "partition": partition, "offset": offset, "index": index}
    if key + value + as_json > 1:
        raise SettingsError("--key, --value and --json exclude each other; choose one")
    dead_letter = next(_find(read_settings(), wanted), None)
    if dead_letter is None:
        typer.echo(f"no dead letter for offset {offset} of {topic}:{partition}", err=True)
        raise typer.Exit(1)
    if key or value:
        _write_bytes("key" if key else "value", dead_letter.key_bytes() if key else dead_letter.value_bytes())
    else:
        record = structs.asdict(dead_letter)
        print_record(record if as_json else record | {"offset": str(offset)}, as_json=as_json)


def _find(settings: Settings, wanted: Mapping[str, object]) -> Iterator[DeadLetter]:
    """Yield the dead letters whose fields equal the wanted values; None matches every value."""
    conditions = {name: value for name, value in wanted.items() if value is not None}
    found = open_dead_letters(settings, _warn_unreadable)
    return (
        dead_letter
        for dead_letter in found
        if all(getattr(dead_letter, name) == value for name, value in conditions.items())
    )


def _warn_journal(file: str) -> None:
    typer.echo(f"journal of replays cannot be read: {file}", err=True)


def _warn_unreadable(line: str) -> None:
    typer.echo(f"dead letter cannot be read: {line}", err=True)


def _row(dead_letter: DeadLetter) -> tuple[object, ...]:
    text = "null" if dead_letter.value is None else dead_letter.value
    if dead_letter.value_encoding:
        text = f"{dead_letter.value_encoding}: {text}"
    shown = text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "..."
    return (
        dead_letter.topic,
        dead_letter.partition,
        Identifier(dead_letter.offset),
        dead_letter.reason.value,
        dead_letter.error,
        shown,
    )


def _write_bytes(field: str, data: bytes | None) -> None:
    if data is None:
        typer.echo(f"the message's {field} is null; there are no bytes to write", err=True)
        raise typer.Exit(1)
    typer.echo(data, nl=False)
