"""`k2 dlq replay`: publish dead letters again, each once."""

import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer

from k2.cli.console import Json, print_record, progress
from k2.cli.dlq_transform import Transform, TransformError, load_transform
from k2.cli.options import parse_name, parse_path, parse_time_option
from k2.cli.table_output import print_table
from k2.model.dead_letter import Coordinates, DeadLetter
from k2.model.errors import K2Error
from k2.model.progress import TopicPartition
from k2.model.reasons import Reason
from k2.model.replay import Choice, LetterMessage, batches, waiting_letters
from k2.ops.settings import Settings, read_settings
from k2.query.replays import committed_letters
from k2.storage.dead_letters.folders import replay_journal
from k2.storage.dead_letters.replay_journal import JournalEntry, replayed_letters, taken_trades

__all__ = ["replay"]

FAILURES_SHOWN_MAX: Final = 10


@dataclass
class _Letters:
    """The chosen letters, as messages to publish, with the counts of those that are not published."""

    read: Callable[[], Iterator[DeadLetter]]
    choice: Choice
    transform: Transform | None
    left: int = 0
    failures: list[str] = field(default_factory=list)

    def waiting(self, replayed: Container[Coordinates]) -> Iterator[DeadLetter]:
        """Yield the chosen letters that wait, the oldest first."""
        return waiting_letters(filter(self.choice.matches, self.read()), replayed)

    def messages(self, entries: Sequence[JournalEntry]) -> Iterator[LetterMessage]:
        """Yield the messages to publish; `entries` is the journal of what was."""
        taken = taken_trades(entries)
        for letter in self.waiting(replayed_letters(entries)):
            value = letter.value_bytes()
            if self.transform is not None:
                try:
                    value = self.transform(letter)
                except TransformError as error:
                    self.failures.append(str(error))
                    continue
                if value is None:
                    self.left += 1
                    continue
            yield LetterMessage.of(letter, value, taken)


def replay(
    *,
    reason: Annotated[Reason | None, typer.Option(help="Filter by reason.")] = None,
    topic: Annotated[str | None, typer.Option(parser=parse_name, help="Filter by topic.")] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Filter by partition.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Filter by time: only those written at this time or later, RFC 3339 or a day.")
    ] = None,
    error: Annotated[
        str | None, typer.Option(parser=parse_name, help="Filter by error, as `k2 dlq stats --by error` prints it.")
    ] = None,
    transform: Annotated[
        Path | None,
        typer.Option(parser=parse_path, help="Python file whose function transform(letter) returns the new value."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be published, and send nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Publish waiting dead letters again, each once.

    All of them by default, each to its own topic and partition, where the job receives it as a new message. Run the
    command again if it was stopped: nothing is published twice. Exits with code 1 if a transform failed.
    """
    settings = read_settings()
    choice = Choice(reason, topic, partition, None if since is None else parse_time_option("--since", since), error)
    fix = None if transform is None else load_transform(transform)
    letters = _Letters(committed_letters(settings, _warn_unreadable), choice, fix)
    record = _show(settings, letters, as_json=as_json) if dry_run else _publish(settings, letters)
    for failure in letters.failures[:FAILURES_SHOWN_MAX]:
        typer.echo(f"k2: {failure}", err=True)
    if len(letters.failures) > FAILURES_SHOWN_MAX:
        typer.echo(f"k2: {len(letters.failures) - FAILURES_SHOWN_MAX:,} more failed in transform", err=True)
    print_record(record, as_json=as_json)
    if letters.failures:
        raise typer.Exit(1)


def _show(settings: Settings, letters: _Letters, *, as_json: bool) -> dict[str, object]:
    """Return what would be published, without a request to the broker."""
    entries = replay_journal(settings).entries()
    unknown = sum(sum(1 for _ in entry.batch.letters()) for entry in entries if not entry.is_settled)
    found = Counter((one.letter.topic, one.letter.partition) for one in letters.messages(entries))
    if found and not as_json:
        rows = [(*where, count) for where, count in sorted(found.items())]
        print_table("To be published", ("topic", "partition", "dead_letters"), rows)
    if unknown:
        typer.echo(
            f"k2: a replay was stopped, and {unknown:,} of its dead letters count as waiting here; the next one finds "
            "out whether they were published before it begins",
            err=True,
        )
    return {"to_publish": found.total(), "left": letters.left, "failed": len(letters.failures)}


def _publish(settings: Settings, letters: _Letters) -> dict[str, object]:
    from k2.kafka.replay import Replayer  # noqa: PLC0415  the commands that only read need no client of Kafka

    start, published, looked_up = time.monotonic(), 0, 0
    entries = replay_journal(settings).entries()
    chosen = Counter(
        TopicPartition(letter.topic, letter.partition) for letter in letters.waiting(replayed_letters(entries))
    )
    if not chosen:
        typer.echo("k2: no waiting dead letter is chosen, so there is nothing to publish", err=True)
    if chosen or not all(entry.is_settled for entry in entries):
        _warn_unread(settings, chosen)
        with Replayer(settings, replay_journal(settings)) as replayer:
            looked_up = replayer.looked_up
            replayer.check_partitions(chosen)
            try:
                with progress("publishing", chosen.total()) as bar:
                    for batch in batches(letters.messages(replayer.entries)):
                        published += replayer.publish(batch)
                        bar.update(bar.task_ids[0], completed=published + letters.left + len(letters.failures))
            except K2Error as error:
                error.add_note(f"{published:,} dead letters were published before")
                raise
    return {
        "published": published,
        "left": letters.left,
        "failed": len(letters.failures),
        "looked_up": looked_up,
        "seconds": round(time.monotonic() - start, 3),
    }


def _warn_unread(settings: Settings, chosen: Counter[TopicPartition]) -> None:
    unread = sorted({where.topic for where in chosen} - set(dict(settings.topics)))
    if unread:
        typer.echo(f"k2: warning: {', '.join(unread)} not in K2_TOPICS, so these settings do not read it", err=True)


def _warn_unreadable(line: str) -> None:
    typer.echo(f"dead letter cannot be read: {line}", err=True)
