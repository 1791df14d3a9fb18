"""`k2 maintain`: upkeep of the tables next to the job that writes them."""

import re
import time
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from k2.cli.console import Json, print_json, print_record, progress
from k2.cli.table_output import print_table
from k2.iceberg.tables import TableName
from k2.maintenance.compaction import TARGET_BYTES, CompactedGroup
from k2.maintenance.compaction import compact as compact_table
from k2.maintenance.expiry import AGE_MIN as EXPIRED_AGE_MIN
from k2.maintenance.expiry import DEFAULT_AGE as EXPIRED_AGE
from k2.maintenance.expiry import expire as expire_snapshots
from k2.maintenance.orphans import AGE_MIN, SAFE_AGE, Orphan, find_orphans, remove_orphans
from k2.maintenance.retention import retain as retain_days
from k2.model.errors import SettingsError, UnreachableError
from k2.model.wording import format_count
from k2.ops.settings import Settings, read_settings
from k2.query.tables import NoTableError, no_table_error
from k2.storage.catalog import find_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Keep the tables small and fast while the job writes them.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and change nothing.")]
TableOption = Annotated[TableName | None, typer.Option("--table", help="Select one table; all by default.")]


@app.command()
def compact(
    *,
    table: TableOption = None,
    file_bytes: Annotated[
        int, typer.Option(min=1_048_576, help="Size of a new data file, at which the next one begins.")
    ] = TARGET_BYTES,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Rewrite small files of closed hours and days as few sorted ones."""
    settings = read_settings()
    groups: list[CompactedGroup] = []
    with progress("Compacting") as bar:
        for which in _tables(settings, table):
            bar.update(bar.tasks[0].id, description=f"Compacting {settings.namespace}.{which}")
            groups.extend(compact_table(settings, which, target_bytes=file_bytes, dry_run=dry_run))
    if as_json:
        print_json([asdict(group) for group in groups])
        return
    if groups:
        rows = [[*asdict(group).values()] for group in groups]
        print_table("To compact" if dry_run else "Compacted", [*asdict(groups[0])], rows)
    files, verb = sum(group.files for group in groups), "would rewrite" if dry_run else "rewrote"
    typer.echo(f"{verb} {format_count(files, 'file')}", err=True)


@app.command()
def retain(
    *,
    days: Annotated[int, typer.Option(min=1, help="Keep the trades of today and of this many days before (UTC).")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove old days of trades, and record the removal.

    Counts and numbers of what is removed stay on record, so that `k2 reconcile` still holds.
    """
    settings = read_settings()
    _tables(settings, TableName.TRADES)
    with progress("Removing days"):
        removal = retain_days(settings, days, dry_run=dry_run)
    if removal.kept_days:
        kept = format_count(len(removal.kept_days), "earlier day")
        typer.echo(
            f"k2: {kept} stay for now, the oldest {removal.kept_days[0]}: "
            "messages of them are within two deduplication windows (K2_DEDUP_WINDOW_SECONDS)",
            err=True,
        )
    print_record(asdict(removal), as_json=as_json)


@app.command()
def orphans(
    *,
    table: TableOption = None,
    older_than_hours: Annotated[
        float, typer.Option(min=0, help="Age in hours from which a file that nothing names is an orphan.")
    ] = SAFE_AGE.total_seconds() / 3600,
    force: Annotated[
        bool, typer.Option("--force", help="Permit less than an hour: only if nothing writes to the tables.")
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete old files that nothing names.

    They are in the tables' folders and among the dead letters in an object store, such as those of killed processes.
    """
    settings, age = read_settings(), timedelta(hours=older_than_hours)
    if age < AGE_MIN and not force:
        raise SettingsError(
            f"--older-than-hours {older_than_hours:g}: files of a commit in flight may be older; use at least 1, or "
            "stop all writers and confirm with --force"
        )
    found: list[Orphan] = []
    with progress("Looking for orphans"):
        for which in _tables(settings, table):
            there = find_orphans(settings, which, age)
            found.extend(there if dry_run else remove_orphans(settings, which, there))
    if as_json:
        print_json([asdict(orphan) for orphan in found])
    elif found:
        rows = [[*asdict(orphan).values()] for orphan in found]
        print_table("Orphans" if dry_run else "Deleted", [*asdict(found[0])], rows)
    total, verb = sum(orphan.bytes for orphan in found), "would delete" if dry_run else "deleted"
    typer.echo(f"{verb} {format_count(len(found), 'orphan')} with {format_count(total, 'byte')}", err=True)


@app.command()
def expire(
    *,
    table: TableOption = None,
    older_than_hours: Annotated[
        float,
        typer.Option(min=EXPIRED_AGE_MIN.total_seconds() / 3600, help="Age in hours from which snapshots expire."),
    ] = EXPIRED_AGE.total_seconds() / 3600,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove old snapshots of the tables.

    Files that only they refer to become orphans.
    """
    settings, age = read_settings(), timedelta(hours=older_than_hours)
    with progress("Expiring snapshots"):
        found = [expire_snapshots(settings, which, age, dry_run=dry_run) for which in _tables(settings, table)]
    if as_json:
        print_json([asdict(one) for one in found])
        return
    print_table("To expire" if dry_run else "Expired", [*asdict(found[0])], [[*asdict(one).values()] for one in found])


@app.command(name="all")
def run_all(
    *,
    days: Annotated[
        int | None, typer.Option(min=1, help="Also remove days of trades, as `retain` does; none by default.")
    ] = None,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="Begin again so long after the last beginning: 30m, 1h, 1d.")
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Run compact, retain (with --days), expire and orphans in turn.

    With --every they are run again and again, until Ctrl-C. With --json each prints its document on a line of its own.
    """
    interval = None if every is None else _parse_every(every)
    while True:
        began = time.monotonic()
        try:
            compact(dry_run=dry_run, as_json=as_json)
            if days is not None:
                retain(days=days, dry_run=dry_run, as_json=as_json)
            expire(dry_run=dry_run, as_json=as_json)
            orphans(dry_run=dry_run, as_json=as_json)
        except (NoTableError, UnreachableError) as error:
            if interval is None:
                raise
            # The next round may find the catalog again, and the tables of a job that has not started yet.
            typer.echo(f"k2: {error}; trying again in the next round", err=True)
        if interval is None:
            return
        time.sleep(max(0.0, interval - (time.monotonic() - began)))


def _parse_every(text: str) -> float:
    """Return a time such as 30m in seconds.

    Raises:
        SettingsError: it is not a number and a unit.
    """
    match = re.fullmatch(r"(\d+)(s|m|h|d)", text)
    seconds = 0 if match is None else int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]
    if not seconds:
        raise SettingsError(f"--every {text}: not a time such as 30m, 1h or 1d")
    return float(seconds)


def _tables(settings: Settings, table: TableName | None) -> list[TableName]:
    """Return the selected tables that exist.

    Raises:
        NoTableError: the selected table does not exist, or none does.
    """
    wanted = [*TableName] if table is None else [table]
    found = [which for which in wanted if find_table(settings, which) is not None]
    if not found:
        raise no_table_error(settings, wanted[0])
    return found
