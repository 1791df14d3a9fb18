"""`k2 dlq`: dead letters listed, counted, and one message's bytes as they were."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import astuple
from itertools import islice
from typing import Annotated, Final

import typer
from msgspec import structs

from k2.cli.console import Json, say_json, show_record
from k2.cli.options import given_text
from k2.cli.table_output import Name, print_table, spell_time
from k2.model.dead_letter import DeadLetter
from k2.model.errors import SettingsError
from k2.model.reasons import Reason
from k2.ops.settings import Settings, read_settings
from k2.query.dead_letters import letters, statistics

__all__ = ["app"]

VALUE_CHARACTERS_MAX: Final = 60
ROWS_MAX: Final = 1_000
"""A table is laid out in memory; longer answers are for programs, which get them line by line."""

app = typer.Typer(no_args_is_help=True, help="Dead letters: messages set aside, with their reasons.")


@app.command("list")
def list_letters(
    *,
    reason: Annotated[Reason | None, typer.Option(help="Only those set aside for it.")] = None,
    topic: Annotated[str | None, typer.Option(parser=given_text, help="Only those of a topic.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Only those of a partition.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, max=sys.maxsize, help="At most so many; 1,000 unless --json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List dead letters, oldest first; with --json a letter a line, as in the files."""
    wanted = {"reason": reason, "topic": topic, "partition": partition}
    chosen = _chosen(read_settings(), wanted)
    if as_json:
        for letter in islice(chosen, limit):
            say_json(letter)
    else:
        shown = [*islice(chosen, ROWS_MAX if limit is None else limit)]
        print_table("Dead letters", ("topic", "partition", "offset", "reason", "error", "value"), map(_row, shown))
        if next(chosen, None) is not None:
            typer.echo(f"the oldest {len(shown):,} are shown, and there are more: --limit, or --json for all", err=True)


@app.command()
def stats(*, as_json: Json = False) -> None:
    """Count dead letters by reason and by topic partition."""
    found = statistics(letters(read_settings(), _unreadable))
    if as_json:
        say_json(found)
        return
    print_table("By reason", ("reason", "letters"), found.reasons.items())
    print_table("By topic partition", ("topic", "partition", "letters"), map(astuple, found.partitions))
    if found.dead_letters:
        ends = [spell_time(end) for end in (found.oldest, found.newest) if end]
        typer.echo(f"{found.dead_letters:,} in all{', from ' if ends else ''}{' to '.join(ends)}")


@app.command()
def show(
    topic: Annotated[str, typer.Argument(parser=given_text)],
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    *,
    index: Annotated[int | None, typer.Option(min=0, help="Which trade of a message that bears several.")] = None,
    key: Annotated[bool, typer.Option("--key", help="The message's key, its very bytes.")] = False,
    value: Annotated[bool, typer.Option("--value", help="The message's value, its very bytes.")] = False,
    as_json: Json = False,
) -> None:
    """Show one dead letter; with --value or --key write the message's bytes to stdout, and nothing else."""
    wanted = {"topic": topic, "partition": partition, "offset": offset, "index": index}
    if key + value + as_json > 1:
        raise SettingsError("--key, --value and --json: choose one, they would run together")
    letter = next(_chosen(read_settings(), wanted), None)
    if letter is None:
        typer.echo(f"no dead letter for offset {offset} of {topic}:{partition}", err=True)
        raise typer.Exit(1)
    if key or value:
        _write_bytes(letter.key_bytes() if key else letter.value_bytes())
    else:
        record = structs.asdict(letter)
        show_record(record if as_json else record | {"offset": str(offset)}, as_json=as_json)


def _chosen(settings: Settings, wanted: Mapping[str, object]) -> Iterator[DeadLetter]:
    """Yield the letters whose fields equal what is wanted; None asks nothing."""
    asked = {name: value for name, value in wanted.items() if value is not None}
    found = letters(settings, _unreadable)
    return (one for one in found if all(getattr(one, name) == value for name, value in asked.items()))


def _unreadable(line: str) -> None:
    typer.echo(f"cannot be read: {line}", err=True)


def _row(letter: DeadLetter) -> tuple[object, ...]:
    text = "null" if letter.value is None else letter.value
    if letter.value_encoding:
        text = f"{letter.value_encoding}: {text}"
    shown = text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "..."
    return letter.topic, letter.partition, Name(letter.offset), letter.reason.value, letter.error, shown


def _write_bytes(data: bytes | None) -> None:
    if data is None:
        typer.echo("it is null: there are no bytes", err=True)
        raise typer.Exit(1)
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
