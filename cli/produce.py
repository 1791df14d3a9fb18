"""`k2 produce`: publishes captures to Kafka, each line as it is."""

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Final

import typer

from cli.captures import check_captures, read_capture
from cli.console import Json, progress, show_record
from connectors.kafka.producer import TradeProducer
from runtime.settings import Settings, read_settings
from trades.errors import SettingsError
from trades.reasons import RejectedError, SkippedError
from trades.venues import VENUES, Venue

__all__ = ["RateLimit", "produce"]

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


def produce(
    *,
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="NDJSON, plain or gzip; - is standard input.")],
    topic: Annotated[str, typer.Option(help="Topic to publish to.")] = "trades",
    venue: Annotated[
        str | None,
        typer.Option(help="Whose messages these are, for their keys; else what K2_TOPICS says, else k2."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, help="Messages a second, evenly; else as fast as it goes.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of the topic where it is absent and made.")] = 1,
    json: Json = False,
) -> None:
    """Publish captures to Kafka, each line's bytes as they are, keyed exchange|symbol by the venue's rule.

    A line whose key cannot be read is published all the same, without a key; blank lines are passed over. The
    topic is made where it is absent. Ends when the broker has acknowledged every message, or says how many it
    has not.
    """
    settings = read_settings()
    chosen = _venue(settings, topic, venue)
    total = check_captures(files)
    counts, start = _Counts(), time.monotonic()
    try:
        with TradeProducer(settings, topic) as producer:
            producer.ensure_topic(partitions=partitions)
            limit = RateLimit(rate) if rate else None
            for number, value in _progressing(files, total):
                if limit:
                    limit.wait()
                _publish(producer, chosen, value, number, counts)
    except SettingsError as error:
        raise SettingsError(f"{error}; {counts.published} messages were published") from None
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


def _venue(settings: Settings, topic: str, name: str | None) -> Venue:
    chosen = name or dict(settings.topics).get(topic, "k2")
    if chosen not in VENUES:
        raise SettingsError(f"unknown venue {chosen!r}; known are {', '.join(sorted(VENUES))}")
    return VENUES[chosen]


def _progressing(files: list[str], total: int | None) -> Iterator[tuple[int, bytes]]:
    """Give every line's number and bytes, moving a progress bar on by the bytes of the files."""
    before = 0
    with progress("publishing", total) as bar:
        for file in files:
            position = 0
            for number, value, position in read_capture(file):
                if number % LINES_BETWEEN_PROGRESS == 0:
                    bar.update(bar.task_ids[0], completed=before + position)
                yield number, value
            before += position


def _publish(producer: TradeProducer, venue: Venue, value: bytes, number: int, counts: _Counts) -> None:
    if not value.strip():
        counts.blank += 1
        return
    key = _key(venue, value)
    producer.send(key, value, line=number)
    counts.published += 1
    counts.unkeyed += key is None


def _key(venue: Venue, value: bytes) -> bytes | None:
    try:
        return venue.key(value).encode()
    except (RejectedError, SkippedError):
        return None
