"""Messages of stocks with trades, corrections and cancels, run through the real flow into real tables."""

import json
from pathlib import Path
from typing import Any, Final

from k2.model.batch import MessageBatch
from k2.ops.settings import Settings, read_settings
from k2.query.market import open_market
from k2.query.reconcile import Reconciliation, reconcile
from tests.flows.crash import run_to_end
from tests.flows.job_io import message_batch

ENVIRONMENT: Final = {"K2_TOPICS": "stocks=alpaca"}
TIME: Final = "2026-11-27T15:51:44.208Z"


def settings_of(folder: Path, **values: str) -> Settings:
    """Return the settings of a job that reads stocks."""
    return read_settings({**ENVIRONMENT, "K2_DATA_DIR": str(folder), **values})


def traded(number: int, **changes: Any) -> dict[str, Any]:
    """Return a trade as an entry of a message."""
    return {
        "T": "t",
        "i": number,
        "S": "AAPL",
        "x": "D",
        "p": 126.55,
        "s": 10,
        "t": TIME,
        "c": ["@"],
        "z": "C",
    } | changes


def cancelled(number: int, **changes: Any) -> dict[str, Any]:
    """Return the cancel of a trade."""
    values = {"T": "x", "S": "AAPL", "i": number, "x": "D", "p": 126.55, "s": 10, "a": "C", "t": TIME, "z": "C"}
    return values | changes


def corrected(number: int, new: int, price: float, **changes: Any) -> dict[str, Any]:
    """Return the correction of a trade."""
    old = {"T": "c", "S": "AAPL", "x": "D", "oi": number, "op": 126.55, "os": 10, "oc": ["@"]}
    return old | {"ci": new, "cp": price, "cs": 20, "cc": ["@", "I"], "t": TIME, "z": "C"} | changes


def batch_of(messages: list[list[dict[str, Any]]], first_offset: int = 0, partition: int = 0) -> MessageBatch:
    """Return messages as one poll."""
    pairs = [(None, json.dumps(message).encode()) for message in messages]
    return message_batch(pairs, first_offset, partition, "stocks", "alpaca")


def run(settings: Settings, *batches: MessageBatch) -> None:
    """Run the flow from the tables' progress, without a recovery store, until all is committed."""
    source: dict[str, list[MessageBatch]] = {}
    for batch in batches:
        source.setdefault(f"{batch.topic}:{batch.partition}", []).append(batch)
    run_to_end(settings, source)


def rows_of(settings: Settings, sql: str) -> list[dict[str, Any]]:
    """Return the result of a statement."""
    with open_market(settings) as market:
        found: list[dict[str, Any]] = market.sql_table(sql).to_pylist()
        return found


def reconciled(settings: Settings) -> Reconciliation:
    """Return the counts of the only partition."""
    [one] = reconcile(settings)
    return one


MIXED: Final = [
    [{"T": "success", "msg": "authenticated"}],
    [traded(1), traded(2), traded(3)],
    [cancelled(1), traded(4), corrected(2, 12, 127.5), {"T": "q", "S": "AAPL"}],
    [corrected(12, 13, 128.25)],
    [cancelled(99)],
    [cancelled(1), corrected(2, 12, 127.5), {"T": "success"}],
]
