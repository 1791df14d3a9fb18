"""`k2 produce`: publishes captures to Kafka, each line as it is."""

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Final, NamedTuple

import typer

from k2.cli.captures import CaptureError, capture_name, check_captures, read_capture
from k2.cli.console import Json, progress, show_record
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
NAP_SECONDS_MIN: Final = 0.001


class RateLimit:
    """Spaces calls evenly: `per_second` of them, and no burst to catch up after a stall."""

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
        # A system's sleep is not exact to less than this; what is left is waited for with a later call.
        if self._due - now > NAP_SECONDS_MIN:
            self._sleep(self._due - now)
        self._due += self._interval


class _Counts:
    """What became of the lines."""

    published = 0
    unkeyed = 0
    blank = 0
    refused = 0
    """Lines in which the venue's rule finds no key, though they are no heartbeat or the like."""
    first_refusal: str | None = None


def produce(
    *,
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="NDJSON, plain or gzip; - is standard input.")],
    topic: Annotated[str, typer.Option(help="Topic to publish to.")] = "trades",
    venue: Annotated[
        str | None,
        typer.Option(help="Whose messages these are, for their keys; else what K2_TOPICS says, else k2."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, max=RATE_MAX, help="Messages a second, evenly; else as fast as it goes."),
    ] = None,
    partitions: Annotated[
        int, typer.Option(min=1, max=PARTITIONS_MAX, help="Partitions of the topic where it is absent and made.")
    ] = 1,
    json: Json = False,
) -> None:
    """Publish captures to Kafka, each line's bytes as they are, keyed exchange|symbol by the venue's rule.

    A line whose key cannot be read is published all the same, without a key, and a warning tells how many there
    were; blank lines are passed over. The topic is made where it is absent. Ends when the broker has acknowledged
    every message, or says how many it has not. A capture that cannot be read to its end is published as far as it
    can; then exit code 1.
    """
    settings = read_settings()
    chosen = _venue(settings, _topic(topic), venue)
    total = check_captures(files)
    counts, start = _Counts(), time.monotonic()
    try:
        with TradeProducer(settings, topic) as producer:
            producer.ensure_topic(partitions=partitions)
            limit = RateLimit(rate) if rate else None
            for place, value in _progressing(files, total):
                if limit:
                    limit.wait()
                _publish(producer, chosen, value, place, counts)
    except CaptureError as error:
        raise CaptureError(f"{error}; {counts.published:,} messages were published") from None
    finally:
        _warn(chosen, counts)
    show_record(
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


def _topic(name: str) -> str:
    try:
        return checked_topic(name)
    except ValueError as error:
        raise SettingsError(f"--topic: {error}") from None


def _venue(settings: Settings, topic: str, name: str | None) -> Venue:
    chosen = dict(settings.topics).get(topic, "k2") if name is None else name
    if chosen not in VENUES:
        raise SettingsError(f"unknown venue {chosen!r}; known are {', '.join(sorted(VENUES))}")
    return VENUES[chosen]


class _Place(NamedTuple):
    """Where a line stands."""

    file: str
    number: int


def _progressing(files: list[str], total: int | None) -> Iterator[tuple[_Place, bytes]]:
    """Yield every line's place and bytes, moving a progress bar on by the bytes of the files."""
    before = 0
    with progress("publishing", total) as bar:
        for file in files:
            position = 0
            for number, value, position in read_capture(file):
                if number % LINES_BETWEEN_PROGRESS == 0:
                    bar.update(bar.task_ids[0], completed=before + position)
                yield _Place(file, number), value
            before += position


def _publish(producer: TradeProducer, venue: Venue, value: bytes, place: _Place, counts: _Counts) -> None:
    if not value.strip():
        counts.blank += 1
        return
    key = _key(venue, value, place, counts)
    producer.send(key, value, line=place.number)
    counts.published += 1
    counts.unkeyed += key is None


def _key(venue: Venue, value: bytes, place: _Place, counts: _Counts) -> bytes | None:
    try:
        return venue.key(value).encode()
    except SkippedError:
        return None
    except RejectedError as error:
        counts.refused += 1
        if counts.first_refusal is None:
            counts.first_refusal = f"line {place.number:,} of {capture_name(place.file)}: {error.error}"
        return None


def _warn(venue: Venue, counts: _Counts) -> None:
    """Tell of lines that are not the venue's, as they would all be if another venue was meant."""
    if counts.first_refusal is None:
        return
    others = ", ".join(sorted({*VENUES} - {venue.name}))
    typer.echo(
        f"k2: warning: {counts.refused:,} of {counts.published:,} messages have no key by the rule of venue "
        f"{venue.name} (--venue knows also {others}); the first is {counts.first_refusal}",
        err=True,
    )
