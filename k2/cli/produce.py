"""`k2 produce`: publish captures to Kafka, each line unchanged."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final

import typer

from k2.cli.capture_check import FirstLines, PlacedLine, check_first_lines
from k2.cli.captures import CaptureError, check_captures, read_capture
from k2.cli.console import Json, print_record, progress
from k2.cli.pacing import NO_TIMES, Pace, RateLimit, parse_speed, times_of
from k2.kafka.producer import TradeProducer
from k2.model.errors import SettingsError
from k2.model.reasons import RejectedError, SkippedError
from k2.ops.settings import Settings, checked_topic, read_settings
from k2.venues import VENUES, Venue

__all__ = ["produce"]

PARTITIONS_MAX: Final = 100_000
RATE_MAX: Final = 1e9
LINES_BETWEEN_PROGRESS: Final = 1_000


class KafkaTimes(StrEnum):
    """What Kafka timestamps are taken from."""

    NOW = "now"
    TRADE = "trade"


class Order(StrEnum):
    """Order of stored trades: `k2.query.replay.ReplayOrder`, without DuckDB, which captures do not need."""

    TIME = "time"
    OFFSET = "offset"


class _Counts:
    """Outcome counts of the lines."""

    def __init__(self) -> None:
        self.published = 0
        self.unkeyed = 0
        self.blank = 0
        self.refused = 0
        """Lines in which the venue finds no key, without those that it skips, such as heartbeats."""
        self.first_refusal: str | None = None
        self.skipped: Counter[str] = Counter()
        """Lines without a key that the venue skips, by cause."""


Rate = Annotated[
    float | None, typer.Option(min=0.001, max=RATE_MAX, help="Limit the rate to this many messages per second.")
]
Speed = Annotated[
    str | None,
    typer.Option(help="Publish at the pace of the recording, times this: 1x, 10x, 0.5; by default without a wait."),
]
Timestamps = Annotated[
    KafkaTimes,
    typer.Option(
        help="Kafka timestamps: now, or the venue's time of the trade (the latest of a message with several)."
    ),
]
Partitions = Annotated[
    int, typer.Option(min=1, max=PARTITIONS_MAX, help="Create the topic, if it is absent, with this many partitions.")
]


def produce(
    *,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="NDJSON file, plain, gzip or zstd, or DBN file; - is standard input."),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Publish to this topic; captures by default to trades.")] = None,
    venue: Annotated[
        str | None,
        typer.Option(help="Derive message keys by this venue; by default the venue of K2_TOPICS, else k2."),
    ] = None,
    rate: Rate = None,
    speed: Speed = None,
    timestamps: Timestamps = KafkaTimes.NOW,
    partitions: Partitions = 1,
    force: Annotated[
        bool, typer.Option("--force", help="Publish even if the job would reject most of the first lines.")
    ] = False,
    table: Annotated[bool, typer.Option("--table", help="Publish stored trades, in the canonical form.")] = False,
    exchange: Annotated[str | None, typer.Option(help="With --table: filter by exchange.")] = None,
    symbol: Annotated[str | None, typer.Option(help="With --table: filter by symbol.")] = None,
    start: Annotated[str | None, typer.Option(help="With --table: start of the venue times, inclusive.")] = None,
    end: Annotated[str | None, typer.Option(help="With --table: end of the venue times, exclusive.")] = None,
    day: Annotated[str | None, typer.Option(help="With --table: one day (UTC), such as 2024-08-09.")] = None,
    order: Annotated[Order | None, typer.Option(help="With --table: by venue time, or by Kafka offset.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --table: publish to a topic that the job reads.")] = False,
    json: Json = False,
) -> None:
    """Publish captures to Kafka, each line unchanged, keyed exchange|symbol by the venue's rule.

    The first 200 lines are decoded by the venue of K2_TOPICS (for another topic, by --venue). If the job would reject
    more than half of them, nothing is published and the exit code is 2, unless --force is given. A line without a
    readable key is published without a key, and a warning gives the number of such lines. Blank lines are left out. The
    topic is created if it is absent. The command ends when the broker has acknowledged every message, or reports how
    many it has not. A capture that cannot be read to its end is published up to the fault; the exit code is then 1.

    With --table, the stored trades are published instead of files, as canonical messages, for a replay or for the test
    of a consumer. A topic that the job reads is refused, because its own trades would come back.
    """
    settings = read_settings()
    if table:
        _check_alone(files, venue, force=force)
        if topic is None:
            raise SettingsError("--table needs a --topic; name one that the job of this table does not read")
    topic = topic or "trades"
    _check_topic(topic)
    pacing = _pacing(rate, speed)
    selected = {"exchange": exchange, "symbol": symbol, "start": start, "end": end, "day": day, "order": order}
    if table:
        _produce_table(settings, topic, selected, partitions, pacing, timestamps, is_confirmed=yes, as_json=json)
        return
    given = [f"--{name}" for name, value in selected.items() if value is not None] + ["--yes"] * yes
    if given:
        raise SettingsError(f"{given[0]} selects stored trades; add --table, or leave it out")
    if not files:
        raise SettingsError("Missing argument 'FILE'; see `k2 produce --help`")
    _produce_files(settings, files, topic, venue, partitions, pacing, timestamps, is_forced=force, as_json=json)


def _pacing(rate: float | None, speed: str | None) -> "RateLimit | Pace | None":
    if rate is not None and speed is not None:
        raise SettingsError("--rate and --speed are two paces; leave one out")
    if speed is not None:
        return Pace(parse_speed(speed))
    return None if rate is None else RateLimit(rate)


def _check_alone(files: list[str] | None, venue: str | None, *, force: bool) -> None:
    given = [text for text, is_given in (("FILE", files), ("--venue", venue), ("--force", force)) if is_given]
    if given:
        raise SettingsError(f"{given[0]} is for captures, not for stored trades; leave it out, or --table")


def _produce_table(
    settings: Settings,
    topic: str,
    selected: dict[str, Any],
    partitions: int,
    pacing: "RateLimit | Pace | None",
    timestamps: KafkaTimes,
    *,
    is_confirmed: bool,
    as_json: bool,
) -> None:
    from k2.cli.produce_table import Selection, check_not_read, publish_table  # noqa: PLC0415  captures need no queries

    order = selected.pop("order") or Order.TIME
    check_not_read(settings, topic, is_confirmed=is_confirmed)
    publish_table(
        settings,
        topic,
        Selection(**selected),
        order.value,
        partitions,
        _waiting(pacing),
        has_trade_times=timestamps is KafkaTimes.TRADE,
        as_json=as_json,
    )


def _waiting(pacing: "RateLimit | Pace | None") -> Callable[[int | None], None]:
    """Return what waits before a message, by the time at which it was recorded; None if it has none."""
    if pacing is None:
        return lambda _: None
    if isinstance(pacing, RateLimit):
        return lambda _: pacing.wait()
    return lambda recorded_us: None if recorded_us is None else pacing.wait(recorded_us)


def _produce_files(
    settings: Settings,
    files: list[str],
    topic: str,
    venue: str | None,
    partitions: int,
    pacing: "RateLimit | Pace | None",
    timestamps: KafkaTimes,
    *,
    is_forced: bool,
    as_json: bool,
) -> None:
    chosen = _resolve_venue(settings, topic, venue)
    total = check_captures(files)
    counts, start = _Counts(), time.monotonic()
    check = partial(check_first_lines, settings, topic, dict(settings.topics).get(topic, chosen.name))
    try:
        with TradeProducer(settings, topic) as producer:
            publish = _Publisher(producer, chosen, partitions, pacing, timestamps, counts)
            _publish_files(files, total, publish, FirstLines(None if is_forced else check, publish))
    except CaptureError as error:
        raise CaptureError(f"{error}; {counts.published:,} messages were published") from None
    finally:
        _warn_unkeyed(chosen, counts)
        _report_skipped(chosen, counts)
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
        as_json=as_json,
    )


def _check_topic(name: str) -> None:
    try:
        checked_topic(name)
    except ValueError as error:
        raise SettingsError(f"--topic: {error}") from None


def _resolve_venue(settings: Settings, topic: str, name: str | None) -> Venue:
    chosen = dict(settings.topics).get(topic, "k2") if name is None else name
    if chosen not in VENUES:
        raise SettingsError(VENUES.unknown_message(chosen))
    return VENUES[chosen]


class _Publisher:
    """Publish lines at the rate, each with its key. The topic is created before the first."""

    def __init__(
        self,
        producer: TradeProducer,
        venue: Venue,
        partitions: int,
        pacing: "RateLimit | Pace | None",
        timestamps: KafkaTimes,
        counts: _Counts,
    ) -> None:
        self._producer = producer
        self._venue = venue
        self._partitions = partitions
        self._wait = _waiting(pacing)
        self._has_trade_times = timestamps is KafkaTimes.TRADE
        self._needs_times = self._has_trade_times or isinstance(pacing, Pace)
        self._counts = counts
        self._has_topic = False

    def ensure_topic(self) -> None:
        """Create the topic if it is absent."""
        if not self._has_topic:
            self._producer.ensure_topic(partitions=self._partitions)
            self._has_topic = True

    def __call__(self, line: PlacedLine) -> None:
        self.ensure_topic()
        times = times_of(self._venue, line.value) if self._needs_times else NO_TIMES
        self._wait(times.recorded)
        key = _read_key(self._venue, line, self._counts)
        timestamp_ms = None if not self._has_trade_times or times.trade is None else times.trade // 1_000
        self._producer.send(key, line.value, line=line.number, timestamp_ms=timestamp_ms)
        self._counts.published += 1
        self._counts.unkeyed += key is None

    def count_blank(self) -> None:
        """Count a line that is left out."""
        self._counts.blank += 1


def _publish_files(files: list[str], total: int | None, publish: _Publisher, first_lines: FirstLines) -> None:
    try:
        for line in _read_with_progress(files, total, first_lines.release):
            if line.value.strip():
                first_lines.add(line)
            else:
                publish.count_blank()
    except CaptureError:
        first_lines.release()
        raise
    first_lines.release()
    publish.ensure_topic()


def _read_with_progress(files: list[str], total: int | None, on_quiet: Callable[[], None]) -> Iterator[PlacedLine]:
    """Yield every line, and advance a progress bar by the bytes read."""
    bytes_before = 0
    with progress("publishing", total) as bar:
        for file in files:
            bytes_read = 0
            for number, value, bytes_read in read_capture(file, on_quiet):
                if number % LINES_BETWEEN_PROGRESS == 0:
                    bar.update(bar.task_ids[0], completed=bytes_before + bytes_read)
                yield PlacedLine(file, number, value)
            bytes_before += bytes_read


def _read_key(venue: Venue, line: PlacedLine, counts: _Counts) -> bytes | None:
    try:
        return venue.key(line.value).encode()
    except SkippedError as skipped:
        counts.skipped[skipped.why] += 1
        return None
    except RejectedError as error:
        counts.refused += 1
        if counts.first_refusal is None:
            counts.first_refusal = f"{line.place}: {error.error}"
        return None


def _warn_unkeyed(venue: Venue, counts: _Counts) -> None:
    """Warn about lines without a key; if all have none, the wrong venue was probably chosen."""
    if counts.first_refusal is None:
        return
    typer.echo(
        f"k2: warning: {counts.refused:,} of {counts.published:,} messages have no key by the rule of venue "
        f"{venue.name} (for others see `k2 venues list`); the first is {counts.first_refusal}",
        err=True,
    )


def _report_skipped(venue: Venue, counts: _Counts) -> None:
    """Report messages that need no key, because the job skips them."""
    if not counts.skipped:
        return
    why, count = counts.skipped.most_common(1)[0]
    typer.echo(
        f"k2: {counts.skipped.total():,} of {counts.published:,} messages have no key, because the job "
        f"skips them by the rule of venue {venue.name}; the commonest cause is {why.replace('_', ' ')} ({count:,})",
        err=True,
    )
