"""`k2 backfill`: fill what is missing from a venue's archives, captures and REST answers."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from k2.cli.captures import STDIN, capture_name, read_capture
from k2.cli.console import Json, print_json
from k2.cli.options import parse_name
from k2.cli.table_output import print_table
from k2.fill.archives import Archive, Names, read_archive, read_messages
from k2.fill.backfill import Backfilled
from k2.fill.backfill import backfill as fill
from k2.fill.fetch import Fetcher
from k2.fill.forms import Form, named_form
from k2.fill.open_gaps import open_gaps
from k2.fill.plan import make_plan
from k2.model.errors import SettingsError
from k2.model.origin import archive_origin, rest_origin
from k2.model.wording import format_count
from k2.ops.settings import Settings, read_settings
from k2.venues import VENUES

__all__ = ["backfill"]

WAIT_SECONDS: Final = 60.0


def backfill(
    *,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="Archive or REST answer, plain, gzip or zip; or a capture."),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Request what is missing from the venues, as k2 gaps --export plans it.")
    ] = False,
    base_url: Annotated[str | None, typer.Option(help="With --fetch: send all requests to this address.")] = None,
    venue: Annotated[
        str | None, typer.Option(help="Read the files as captures: each line is a message of this venue.")
    ] = None,
    form: Annotated[str | None, typer.Option(help="Name the form of the files, if it is not recognised.")] = None,
    exchange: Annotated[
        str | None,
        typer.Option(
            parser=parse_name, help="Exchange of the trades, instead of that of the form; with --fetch, filter by it."
        ),
    ] = None,
    symbol: Annotated[
        str | None,
        typer.Option(
            parser=parse_name, help="Symbol, if the file does not name it; else, and with --fetch, filter by it."
        ),
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Publish to this topic of K2_TOPICS.")] = None,
    source: Annotated[str | None, typer.Option(help="Record this address, from which the file was downloaded.")] = None,
    wait: Annotated[
        float, typer.Option(min=0, max=86_400, help="Wait this many seconds for the job to read what is in the topic.")
    ] = WAIT_SECONDS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Publish nothing; report what would be.")] = False,
    json: Json = False,
) -> None:
    """Publish the trades of archives that are missing, with their origin, to the topic of their symbol.

    The job reads them as any message, and stores each number once. Only numbers that the ledger has as missing are
    published; of a venue without contiguous numbers, trades whose id is not stored. A trade that is stored with other
    content is reported and not published.
    """
    settings = read_settings()
    options: dict[str, Any] = {"topic": topic, "wait_seconds": wait, "dry_run": dry_run}
    if fetch:
        if files or venue is not None or form is not None or source is not None:
            raise SettingsError("--fetch takes no FILE, --venue, --form and --source; the plan has them")
        fetch_and_fill(settings, Names(exchange, symbol), base_url, options, as_json=json)
        return
    if not files or base_url is not None:
        raise SettingsError("name a FILE, or use --fetch to request what is missing (--base-url belongs to it)")
    if source is not None and len(files) != 1:
        raise SettingsError("--source is the address of one file; name one FILE")
    if venue is not None and form is not None:
        raise SettingsError("--venue and --form cannot be used together; a capture has the form of its venue")
    found = _archives(files, venue, None if form is None else named_form(form), Names(exchange, symbol), source)
    report(fill(settings, found, **options), dry_run=dry_run, as_json=json)


def fetch_and_fill(
    settings: Settings, names: Names, base_url: str | None, options: dict[str, Any], *, as_json: bool
) -> None:
    """Send the requests of the plan, and backfill from each answer; exit with 1 if one gives none."""
    plan = make_plan(open_gaps(settings, names.exchange, names.symbol), datetime.now(UTC))
    problems = [
        f"{one.exchange} {one.symbol} {one.first_sequence} to {one.last_sequence}: {one.reason}"
        for one in plan.uncovered
    ]

    def answers() -> Iterator[tuple[Archive, str]]:
        for one in Fetcher(settings, base_url).fetch(plan):
            if one.archive is None:
                problems.append(one.problem)
            else:
                yield one.archive, one.origin
                _note_absence(one.archive)

    report(fill(settings, answers(), **options), dry_run=options["dry_run"], as_json=as_json)
    for problem in problems:
        typer.echo(f"k2: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _archives(
    files: Sequence[str], venue: str | None, form: Form | None, names: Names, source: str | None
) -> Iterator[tuple[Archive, str]]:
    if venue is not None and venue not in VENUES:
        raise SettingsError(VENUES.unknown_message(venue))
    for file in files:
        if venue is not None:
            lines = (line.value for line in read_capture(file))
            name = capture_name(file) if file == STDIN else Path(file).name
            archive = read_messages(name, lines, VENUES[venue], names)
        else:
            archive = read_archive(Path(file), form, names)
        yield archive, origin_of(archive, source)
        _note_absence(archive)
        if archive.rejected:
            typer.echo(
                f"k2: warning: {archive.name}: venue {venue} rejects {format_count(archive.rejected, 'message')}",
                err=True,
            )


def _note_absence(archive: Archive) -> None:
    if not archive.trades.num_rows:
        typer.echo(f"{archive.name}: it has no trades, or none of that symbol", err=True)


def origin_of(archive: Archive, address: str | None = None) -> str:
    """Return the origin of an archive's trades: an answer's if it was downloaded and is one, else a file's."""
    if address is not None and archive.form.endswith("-rest"):
        return rest_origin(archive.sha256, address)
    return archive_origin(archive.sha256, address or archive.name)


def report(found: Iterator[Backfilled], *, dry_run: bool, as_json: bool) -> None:
    """Print what was published, and on stderr what the archives say about the rest."""
    rows: list[Backfilled] = []
    try:
        for one in found:
            rows.append(one)
            _print_notes(one)
    except BaseException:
        # What was published by then is.
        if rows:
            _print_rows(rows, dry_run=dry_run, as_json=as_json)
        raise
    _print_rows(rows, dry_run=dry_run, as_json=as_json)


def _print_rows(rows: Sequence[Backfilled], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        title = "Would be published" if dry_run else "Published"
        print_table(title, _COLUMNS, [[getattr(row, name) for name in _COLUMNS] for row in rows])


_COLUMNS: Final = (
    "file",
    "exchange",
    "symbol",
    "read",
    "published",
    "stored",
    "contradictions",
    "elsewhere",
    "still_missing",
)


def _print_notes(row: Backfilled) -> None:
    if row.contradictions:
        shown = ", ".join(row.contradicting)
        typer.echo(
            f"{row.file}: {format_count(row.contradictions, 'trade')} of {row.symbol} differ from what is stored under "
            f"the same number or id, such as {shown}; none was published",
            err=True,
        )
    if row.overlapping:
        typer.echo(
            f"{row.file}: {format_count(row.overlapping, 'trade')} of {row.symbol} stand for numbers of which some are "
            "stored; none was published; use an archive of single trades",
            err=True,
        )
    for first, last in row.absent[:ABSENT_SHOWN]:
        typer.echo(f"{row.file}: {row.symbol} {first} to {last} are missing in the file as well", err=True)
    if row.absent:
        typer.echo("if these numbers never existed, record it with `k2 gaps accept`", err=True)
    if len(row.absent) > ABSENT_SHOWN:
        typer.echo(f"{row.file}: {row.still_missing:,} numbers in {len(row.absent):,} ranges; see --json", err=True)
    if row.without_id:
        typer.echo(
            f"{row.file}: {format_count(row.without_id, 'trade')} of {row.symbol} have neither number nor id; none was "
            "published",
            err=True,
        )


ABSENT_SHOWN: Final = 10
