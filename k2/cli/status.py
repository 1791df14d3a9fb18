"""`k2 status`: one screen with the verdict on the capture, its reasons, and the state of each partition."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Console

from k2.cli.console import Json, print_json
from k2.cli.table_output import format_time, print_table, printable
from k2.kafka.config import admin_client
from k2.model.wording import format_count
from k2.ops.settings import read_settings
from k2.status.findings import Verdict
from k2.status.reader import PartitionStatus, Status, StatusReader
from k2.status.wording import duration

__all__ = ["status"]

WATCH_SECONDS: Final = 5.0
CERTAIN_SECONDS_MAX: Final = 30.0
"""How long to watch unread messages whose timestamps do not tell since when they wait, before they count as new."""
PARTITIONS_MAX: Final = 24


def status(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Print it again every 5 seconds, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Say whether the capture is complete, and if not, why, the worst first; exit with code 1 unless it is.

    The verdict is complete, behind, missing, rejecting, in doubt, stopped or unknown. Set
    K2_BOOTSTRAP_SERVERS so that unread messages can be counted.
    """
    settings = read_settings()
    # Properties that librdkafka rejects are wrong settings here, while a server goes on and reports them.
    admin_client(settings)
    reader = StatusReader(settings)
    found = reader.read()
    deadline = time.monotonic() + (0 if watch else CERTAIN_SECONDS_MAX)
    while not reader.is_certain and found.verdict is Verdict.COMPLETE and time.monotonic() < deadline:
        typer.echo("k2: watching whether the unread messages are read, since their timestamps do not say", err=True)
        time.sleep(WATCH_SECONDS)
        found = reader.read()
    _print(found, as_json=as_json)
    while watch:
        time.sleep(WATCH_SECONDS)
        found = reader.read()
        if not as_json:
            Console().clear()
        _print(found, as_json=as_json)
    if found.verdict is not Verdict.COMPLETE:
        raise typer.Exit(1)


def _print(found: Status, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for line in _lines(found):
        typer.echo(printable(line))
    if found.partitions:
        columns = ["partition", "verdict", "offset", "end", "unread", "per second", "newest", "committed"]
        rows = [_row(one) for one in sorted(found.partitions, key=_rank)[:PARTITIONS_MAX]]
        typer.echo("")
        print_table("Partitions", columns, rows)
        if (rest := len(found.partitions) - PARTITIONS_MAX) > 0:
            typer.echo(f"and {format_count(rest, 'partition')} with less unread")


def _lines(found: Status) -> Iterator[str]:
    sound = "  all messages are accounted for, and no sequence number is missing"
    yield f"{found.verdict.upper()}{sound if found.verdict is Verdict.COMPLETE else ''}"
    for reason in found.reasons:
        yield ""
        yield f"  {reason.verdict}: {reason.sentence}"
        yield f"    -> {reason.next_step}"
    yield ""
    yield (
        f"received {found.received:,} = stored {found.stored:,} + duplicates {found.duplicates:,} + dead letters "
        f"{found.dead_letters:,} + skipped {found.skipped:,}"
        + f" + corrections {found.corrections:,}"
        * bool(found.corrections)
    )
    if found.canary_left_out:
        yield (
            f"canary        {format_count(found.canary_left_out, 'number')} that it left out on purpose, which "
            f"{'does' if found.canary_left_out == 1 else 'do'} not count"
        )
    for loss in found.losses:
        yield f"connections   {loss.sentence}"
    if found.left_out:
        yield f"left out      {found.left_out}"
    yield f"last commit   {_when(found, found.last_commit_at)}"
    if found.last_commit_at is not None and found.kafka_timestamp is None and found.timestamp is None:
        yield "newest trade  none in the newest commits"
    else:
        kafka, venue = _when(found, found.kafka_timestamp), _when(found, found.timestamp)
        yield f"newest trade  {kafka} by Kafka, {venue} by the venue"
    yield f"yesterday     {found.yesterday.sentence}"
    yield f"last hour     {found.activity.last_hour.sentence}"
    yield f"23 h before   {found.activity.hours_before.sentence}"
    broker = "no broker configured" if found.broker is None else f"broker {found.broker}"
    yield f"catalog {found.catalog} at {found.location}, namespace {found.namespace}; {broker}"


def _when(found: Status, time: datetime | None) -> str:
    if time is None:
        return "unknown"
    seconds = (found.checked_at - time).total_seconds()
    ago = f"{duration(seconds)} ago" if seconds >= 0 else f"{duration(-seconds)} ahead"
    return f"{format_time(time)} ({ago})"


def _row(one: PartitionStatus) -> list[object]:
    return [
        f"{one.topic}:{one.partition}",
        one.verdict.value,
        _number(one.offset),
        _number(one.end_offset),
        _number(one.unread),
        "-" if one.messages_per_second is None else f"{one.messages_per_second:,.0f}",
        "-" if one.kafka_timestamp is None else format_time(one.kafka_timestamp),
        "-" if one.committed_at is None else format_time(one.committed_at),
    ]


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _rank(one: PartitionStatus) -> tuple[bool, int, str, int]:
    return one.verdict is Verdict.COMPLETE, -(one.unread or 0), one.topic, one.partition
