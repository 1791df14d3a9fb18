"""Queries of the tables for a start. DuckDB is imported for the first of them, since most starts make none."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from k2.ops.settings import Settings

if TYPE_CHECKING:
    from k2.query.engine import Engine

__all__ = ["open_engine"]


def open_engine(settings: Settings) -> "AbstractContextManager[Engine]":
    """Open an engine for queries, as `k2.query.pool.open_engine`.

    DuckDB and the modules of queries take 0.1 s to import, a tenth of a start.
    """
    from k2.query import pool  # noqa: PLC0415

    return pool.open_engine(settings)
