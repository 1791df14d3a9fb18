"""Pinned pool: its tables stay as they were first read, so that several reports agree."""

from contextlib import AbstractContextManager

from pyiceberg.table import Table

from k2.ops.settings import Settings
from k2.query.engine import Engine
from k2.query.pool import EnginePool

__all__ = ["PinnedPool"]


class PinnedPool:
    """Lends the connections of another pool; each table is looked up once."""

    def __init__(self, pool: EnginePool) -> None:
        """Use the connections of a pool."""
        self._pool = pool
        self._tables: dict[str, Table | None] = {}

    @property
    def settings(self) -> Settings:
        """The settings that locate the tables."""
        return self._pool.settings

    def engine(self) -> AbstractContextManager[Engine]:
        """Lend a connection for a block."""
        return self._pool.engine()

    def find_table(self, name: str) -> Table | None:
        """Return one of the job's tables as it was at the first call; None if it did not exist."""
        if name not in self._tables:
            self._tables[name] = self._pool.find_table(name)
        return self._tables[name]
