"""Checks of the warehouse and of the folder of dead letters: they can be written, and have room."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from pyiceberg.io import FileIO, load_file_io
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from k2.doctor.findings import Finding, Shared, failed, ok, unknown, warning
from k2.doctor.tables import Found
from k2.iceberg.tables import TableName
from k2.model.errors import first_line
from k2.ops.settings import Settings
from k2.status.gather import is_full
from k2.status.wording import duration
from k2.storage.catalog import catalog_properties
from k2.storage.warehouse import local_path, table_location

__all__ = ["bytes_per_day", "check_dead_letters", "check_warehouse"]

DAY_SECONDS: Final = 86_400
SPAN_SECONDS_MIN: Final = 600
"""Commits of a shorter time do not show what a day takes."""
DAYS_MIN: Final = 7
_PROBE: Final = ".k2-doctor-"


def check_dead_letters(settings: Settings) -> Iterator[Finding]:
    """Check the folder of dead letters, or the folder in which it will be created, or the object store."""
    check, address = "dead letters", settings.dead_letter_address
    if address is None:
        yield from check_folder(check, settings.dead_letter_folder, "K2_DLQ_DIR", None)
    else:
        yield _probe(check, address, load_file_io(catalog_properties(settings), address))


def check_warehouse(settings: Settings, shared: Shared[Found]) -> Iterator[Finding]:
    """Check the warehouse, on this machine or elsewhere, by the catalog's properties or the table's location."""
    check, trades = "warehouse", shared.get()[TableName.TRADES]
    properties = catalog_properties(settings)
    if trades is None and "warehouse" not in properties:
        yield unknown(check, "the catalog names a location only when it creates the tables; start the job")
        return
    location = trades.location() if trades else table_location(properties["warehouse"], settings, TableName.TRADES)
    rate = None if trades is None else bytes_per_day(trades, time.time())
    try:
        folder = local_path(location)
    except ValueError:
        # A REST catalog may take a name in place of a location.
        yield unknown(check, f"{location!r} is not a location that can be tried before the tables exist; start the job")
        return
    if folder is not None:
        yield from check_folder(check, folder, "the warehouse of the catalog", rate)
    else:
        yield _probe(check, location, trades.io if trades else load_file_io(properties, location))


def check_folder(check: str, folder: Path, setting: str, rate: float | None) -> Iterator[Finding]:
    """Write and remove a file in a folder, and compare the free space with the use of a day, in bytes, if known.

    For a folder that does not exist, only the rights of the folder are checked in which it will be created.
    """
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    try:
        if existing == folder:
            _write_probe(folder)
        elif not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            yield failed(check, f"{folder} cannot be created in {existing}; grant access, or fix {setting}")
            return
    except OSError as error:
        yield failed(check, f"{folder} cannot be written: {error.strerror}; grant access, free space, or fix {setting}")
        return
    free = shutil.disk_usage(existing).free
    what = "can be written" if existing == folder else "does not exist yet, and can be created"
    text = f"{folder} {what}, {free / 1e9:,.1f} GB are free"
    days = free / rate if rate else None
    if is_full(existing) or (days is not None and days < 1):
        yield failed(check, f"{text}, which is too little; free some, or move it to another disk")
    elif days is None:
        yield ok(check, text)
    else:
        lasts = f"{text}, enough for {duration(days * DAY_SECONDS)} at the present rate"
        yield ok(check, lasts) if days >= DAYS_MIN else warning(check, f"{lasts}; free some")


def _write_probe(folder: Path) -> None:
    probe = folder / f"{_PROBE}{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"k2 doctor\n")
    finally:
        with suppress(FileNotFoundError):
            probe.unlink()


def _probe(check: str, location: str, io: FileIO) -> Finding:
    """Write and remove an object at a location."""
    probe = f"{location}/{_PROBE}{uuid.uuid4().hex}"
    try:
        with io.new_output(probe).create() as stream:
            stream.write(b"k2 doctor\n")
    except OSError as error:
        reason = first_line(error)
        return failed(check, f"{location} cannot be written: {reason}; check its address, keys and permissions")
    try:
        io.delete(probe)
    except OSError as error:
        return warning(check, f"{probe} cannot be deleted: {first_line(error)}; delete it, and permit deletes")
    return ok(check, f"{location} can be written")


def bytes_per_day(trades: Table, now: float) -> float | None:
    """Return the bytes of data files that the commits of the last day add in a day; None if they span too little.

    `now` is in seconds since the epoch. Snapshots that expired since are not counted, so the rate is that of the rest;
    nor are compactions, which write rows again.
    """
    recent = [
        one
        for one in trades.metadata.snapshots
        if now - one.timestamp_ms / 1_000 <= DAY_SECONDS
        and (one.summary is None or one.summary.operation != Operation.REPLACE)
    ]
    if not recent:
        return None
    begun = min(one.timestamp_ms for one in recent) / 1_000
    span = now - begun
    added = sum(
        int(one.summary.additional_properties.get("added-files-size", 0)) for one in recent if one.summary is not None
    )
    return added / span * DAY_SECONDS if span >= SPAN_SECONDS_MIN else None
