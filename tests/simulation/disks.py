"""The disks of one simulation: the tables, and for each machine its own recovery store and dead letters."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from bytewax.recovery import init_db_dir

from k2.ops.settings import Settings, read_settings
from tests.simulation.market import Market
from tests.simulation.object_store import address_of
from tests.simulation.other_writer import Journal
from tests.simulation.plan import Plan

__all__ = ["Disks"]

STORE_PARTITIONS: Final = 2


class Disks:
    """The folders and files of a simulation."""

    def __init__(self, folder: Path, market: Market, plan: Plan, *, is_object_store: bool = False) -> None:
        """Use a folder; with `is_object_store` the machines share the dead letters in an object store."""
        self._folder, self._market, self._plan = folder, market, plan
        self.is_object_store = is_object_store
        self._machine = 0
        self.data = folder / "data"
        self.journal = Journal(folder / "foreign.jsonl")

    @property
    def dead_letters(self) -> Path:
        """The folder of this machine's dead letters."""
        return self._folder / "objects" if self.is_object_store else self._own / "dlq"

    def all_dead_letters(self) -> list[Path]:
        """Return the dead-letter folders of all machines, that of the machine used at the end last."""
        others = sorted(path for path in self._folder.glob("machine-*/dlq") if path != self.dead_letters)
        return [*others, self.dead_letters]

    @property
    def store(self) -> Path:
        """The recovery store of this machine."""
        return self._own / "recovery"

    @property
    def _own(self) -> Path:
        return self._folder / f"machine-{self._machine}"

    def stderr_file(self, who: object) -> Path:
        """Return the file for a process's standard error."""
        return self._folder / f"stderr-{who}.txt"

    def move(self, machine: int) -> None:
        """Continue on another machine: the first is 0, and a new one has empty disks."""
        self._machine = machine

    def treat_store(self, treatment: str) -> None:
        """Change the recovery store as the plan says, and keep a copy of it that a later life may restore."""
        older = self._own / "recovery-older"
        if treatment == "older" and older.exists():
            shutil.rmtree(self.store)
            shutil.copytree(older, self.store)
            return
        if treatment == "lost" and self.store.exists():
            shutil.rmtree(self.store)
        if not self.store.exists():
            self.store.mkdir(parents=True)
            init_db_dir(self.store, STORE_PARTITIONS)
        shutil.rmtree(older, ignore_errors=True)
        shutil.copytree(self.store, older)

    def damage_checkpoints(self, damage: str) -> bool:
        """Damage the checkpoints in the warehouse as the plan says; return whether there were any."""
        files = sorted(self.data.glob("warehouse/**/checkpoints-*.bin"), key=lambda file: file.stat().st_mtime_ns)
        if damage == "kept":
            return False
        for place, file in enumerate(files):
            data = file.read_bytes()
            if damage == "removed" or (damage == "newest removed" and place == len(files) - 1):
                file.unlink()
            elif damage == "torn" and place % 2:
                file.write_bytes(data[: len(data) // 2] if place % 4 == 1 else data[:-1] + bytes([data[-1] ^ 1]))
        return bool(files)

    def settings(self) -> Settings:
        """Return the settings for the next life."""
        environment = {
            "K2_DATA_DIR": str(self.data),
            "K2_DLQ_DIR": address_of(self.dead_letters) if self.is_object_store else str(self.dead_letters),
            "K2_TOPICS": ",".join(f"{topic}={venue}" for topic, venue in sorted(self._market.topics.items())),
            "K2_WRITERS": str(self._plan.writers),
            "K2_DEDUP_WINDOW_SECONDS": str(self._market.window_seconds),
            "K2_DLQ_FILE_BYTES_MAX": str(self._plan.dead_letter_file_bytes_max),
            "K2_RUN_TO_END": "true",
        }
        return read_settings(environment)

    def drop_ledger(self) -> None:
        """Drop the ledger from the catalog."""
        catalog = self.data / "catalog.db"
        if catalog.exists():
            with closing(sqlite3.connect(catalog, isolation_level=None)) as connection:
                if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'iceberg_tables'").fetchone():
                    connection.execute("DELETE FROM iceberg_tables WHERE table_name = 'sequence_events'")

    def point_to(self, metadata: str) -> str:
        """Point the catalog to another metadata file; return the former one."""
        query = "SELECT metadata_location FROM iceberg_tables WHERE table_name = 'trades'"
        change = "UPDATE iceberg_tables SET metadata_location = ? WHERE table_name = 'trades'"
        with closing(sqlite3.connect(self.data / "catalog.db", isolation_level=None)) as connection:
            (now,) = connection.execute(query).fetchone()
            connection.execute(change, (f"file://{metadata}",))
        return str(now).removeprefix("file://")
