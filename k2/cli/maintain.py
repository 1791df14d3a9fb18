"""`k2 maintain`: upkeep of the tables next to the job that writes them."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from k2.cli.console import Json, print_json, print_record, progress
from k2.cli.table_output import print_table
from k2.iceberg.tables import TableName
from k2.maintenance.compaction import TARGET_BYTES, CompactedGroup
from k2.maintenance.compaction import compact as compact_table
from k2.maintenance.orphans import AGE_MIN, SAFE_AGE, Orphan, find_orphans, remove_orphans
from k2.maintenance.retention import retain as retain_days
from k2.model.errors import SettingsError
from k2.model.wording import format_count
from k2.ops.settings import Settings, read_settings
from k2.query.tables import no_table_error
from k2.storage.catalog import find_table

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Keep the tables small and fast while the job writes them.")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and change nothing.")]
TableOption = Annotated[TableName | None, typer.Option("--table", help="Select one table; all three by default.")]


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
    """Rewrite the small files of closed hours and days into few sorted ones."""
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
    """Remove whole days of trades in one commit that records the removal, so that `k2 reconcile` still holds."""
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
    """Delete files in the tables' folders that nothing names, such as those of killed processes."""
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
