"""`k2 produce`: publish captures to Kafka, each line unchanged."""

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Final, NamedTuple

import typer

from k2.cli.captures import CaptureError, capture_name, check_captures, read_capture
from k2.cli.console import Json, print_record, progress
from k2.kafka.producer import TradeProducer
from k2.model.errors import SettingsError
from k2.model.reasons import RejectedError, SkippedError
from k2.ops.settings import Settings, checked_topic, read_settings
from k2.venues import VENUES, Venue

__all__ = ["RateLimit", "produce"]

PARTITIONS_MAX: Final = 100_000
RATE_MAX: Final = 1e9
LAG_SECONDS_MAX: Final = 0.1
LINES_BETWEEN_PROGRESS: Final = 1_000
SLEEP_SECONDS_MIN: Final = 0.001


class RateLimit:
    """Space calls evenly at `per_second`, without a burst to catch up after a stall."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def wait(self) -> None:
        """Wait until the next call is due."""
        now = self._clock()
        self._due = max(self._due, now - LAG_SECONDS_MAX)
        # A shorter sleep is not exact; a later call waits for the remainder.
        if self._due - now > SLEEP_SECONDS_MIN:
            self._sleep(self._due - now)
        self._due += self._interval


class _Counts:
    """Outcome counts of the lines."""

    published = 0
    unkeyed = 0
    blank = 0
    refused = 0
    """Lines in which the venue finds no key, without those that it skips, such as heartbeats."""
    first_refusal: str | None = None


def produce(
    *,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="NDJSON file, plain or gzip; - is standard input.")
    ],
    topic: Annotated[str, typer.Option(help="Publish to this topic.")] = "trades",
    venue: Annotated[
        str | None,
        typer.Option(help="Derive message keys by this venue; by default the venue of K2_TOPICS, else k2."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, max=RATE_MAX, help="Limit the rate to this many messages per second."),
    ] = None,
    partitions: Annotated[
        int,
        typer.Option(min=1, max=PARTITIONS_MAX, help="Create the topic, if it is absent, with this many partitions."),
    ] = 1,
    json: Json = False,
) -> None:
    """Publish captures to Kafka, each line unchanged, keyed exchange|symbol by the venue's rule.

    A line without a readable key is published without a key, and a warning gives the number of such lines. Blank lines
    are skipped. The topic is created if it is absent. The command ends when the broker has acknowledged every message,
    or reports how many it has not. A capture that cannot be read to its end is published up to the fault; the exit code
    is then 1.
    """
    settings = read_settings()
    chosen = _resolve_venue(settings, _check_topic(topic), venue)
    total = check_captures(files)
    counts, start = _Counts(), time.monotonic()
    try:
        with TradeProducer(settings, topic) as producer:
            producer.ensure_topic(partitions=partitions)
            limit = RateLimit(rate) if rate else None
            for position, value in _read_with_progress(files, total):
                if limit:
                    limit.wait()
                _publish(producer, chosen, value, position, counts)
    except CaptureError as error:
        raise CaptureError(f"{error}; {counts.published:,} messages were published") from None
    finally:
        _warn_unkeyed(chosen, counts)
    print_record(
        {
            "topic": topic,
            "venue": chosen.name,
            "files": len(files),
            "published": counts.published,
            "unkeyed": counts.unkeyed,
            "blank": counts.blank,
            "seconds": round(time.monotonic() - start, 3),
        },
        as_json=json,
    )


def _check_topic(name: str) -> str:
    try:
        return checked_topic(name)
    except ValueError as error:
        raise SettingsError(f"--topic: {error}") from None


def _resolve_venue(settings: Settings, topic: str, name: str | None) -> Venue:
    chosen = dict(settings.topics).get(topic, "k2") if name is None else name
    if chosen not in VENUES:
        raise SettingsError(f"unknown venue: {chosen!r}; use one of {', '.join(sorted(VENUES))}")
    return VENUES[chosen]


class _LinePosition(NamedTuple):
    """Position of a line."""

    file: str
    number: int


def _read_with_progress(files: list[str], total: int | None) -> Iterator[tuple[_LinePosition, bytes]]:
    """Yield the position and bytes of every line, and advance a progress bar by the bytes read."""
    bytes_before = 0
    with progress("publishing", total) as bar:
        for file in files:
            bytes_read = 0
            for number, value, bytes_read in read_capture(file):
                if number % LINES_BETWEEN_PROGRESS == 0:
                    bar.update(bar.task_ids[0], completed=bytes_before + bytes_read)
                yield _LinePosition(file, number), value
            bytes_before += bytes_read


def _publish(producer: TradeProducer, venue: Venue, value: bytes, position: _LinePosition, counts: _Counts) -> None:
    if not value.strip():
        counts.blank += 1
        return
    key = _read_key(venue, value, position, counts)
    producer.send(key, value, line=position.number)
    counts.published += 1
    counts.unkeyed += key is None


def _read_key(venue: Venue, value: bytes, position: _LinePosition, counts: _Counts) -> bytes | None:
    try:
        return venue.key(value).encode()
    except SkippedError:
        return None
    except RejectedError as error:
        counts.refused += 1
        if counts.first_refusal is None:
            counts.first_refusal = f"line {position.number:,} of {capture_name(position.file)}: {error.error}"
        return None


def _warn_unkeyed(venue: Venue, counts: _Counts) -> None:
    """Warn about lines without a key; if all have none, the wrong venue was probably chosen."""
    if counts.first_refusal is None:
        return
    others = ", ".join(sorted({*VENUES} - {venue.name}))
    typer.echo(
        f"k2: warning: {counts.refused:,} of {counts.published:,} messages have no key by the rule of venue "
        f"{venue.name} (other venues: {others}); the first is {counts.first_refusal}",
        err=True,
    )
