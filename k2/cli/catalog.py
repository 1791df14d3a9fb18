"""`k2 catalog`: bring back, back up and restore the catalog."""

from pathlib import Path
from typing import Annotated, Any

import typer

from k2.cli.console import Json, print_json, print_record
from k2.cli.options import parse_path
from k2.cli.table_output import print_table
from k2.ops.settings import read_settings
from k2.storage.catalog_backup import back_up
from k2.storage.catalog_backup import restore as restore_catalog
from k2.storage.catalog_register import Registered, register_tables
from k2.storage.table_properties import PROGRESS

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Bring back, back up and restore the catalog.")


@app.command()
def register(
    *,
    skip_damaged: Annotated[
        bool,
        typer.Option("--skip-damaged", help="Go back to the newest version that is whole if the newest is damaged."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Register the job's tables from the newest metadata files in the warehouse, if the catalog is lost."""
    settings = read_settings()
    tables = register_tables(settings, skip_damaged=skip_damaged)
    for table in tables:
        for other in table.others:
            typer.echo(f"k2: {other} has the same version and is not registered; at most one was committed", err=True)
    if as_json:
        print_json({"catalog": settings.catalog, "tables": [_record(settings.namespace, one) for one in tables]})
        return
    rows = [[*_record(settings.namespace, one).values()] for one in tables]
    print_table("Registered", ["table", "metadata", "snapshot", "rows", "next offsets"], [_text(row) for row in rows])


@app.command()
def backup(
    target: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="DEST", help="File of the backup, which must not exist.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Back up an SQLite catalog while the job runs; the files of the warehouse are not in the backup."""
    tables = back_up(read_settings(), target)
    print_record({"backup": target, "bytes": target.stat().st_size, "tables": [*tables]}, as_json=as_json)


@app.command()
def restore(
    file: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="FILE", help="A backup made by `k2 catalog backup`.")
    ],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Rename a catalog that has tables out of the way.")
    ] = False,
    older: Annotated[
        bool, typer.Option("--older", help="Restore although the warehouse has later versions of the tables.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore a backup of an SQLite catalog; nothing is deleted. Stop the job first."""
    restored = restore_catalog(read_settings(), file, replace=replace, older=older)
    record = {"catalog": restored.database, "replaced": restored.replaced, "tables": [*restored.tables]}
    print_record(record, as_json=as_json)


def _record(namespace: str, table: Registered) -> dict[str, Any]:
    progress, snapshot = PROGRESS.read(table.metadata.properties), table.metadata.current_snapshot()
    summary = {} if snapshot is None or snapshot.summary is None else snapshot.summary.additional_properties
    return {
        "table": f"{namespace}.{table.name}",
        "metadata": table.location,
        "snapshot_id": table.metadata.current_snapshot_id,
        "rows": int(summary.get("total-records", 0)),
        "progress": {str(one): progress.next_offset(one, progress.writers) for one in sorted(progress.partitions())},
    }


def _text(row: list[Any]) -> list[Any]:
    *values, progress = row
    return [*values, ", ".join(f"{partition} at {offset}" for partition, offset in progress.items()) or None]
