"""Trade capture from Kafka to Apache Iceberg; `docs/architecture.md` is the map, `docs/python.md` the Python interface.

import k2

with k2.open(data_dir="data") as market:
    bars = market.ohlcv(exchange="binance", symbol="BTCUSDT", interval="5m").to_pandas()
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from os import PathLike

    from k2.analysis.market_data import MarketData
    from k2.analysis.result import Result
    from k2.model.errors import K2Error
    from k2.status.reader import Status

__all__ = ["K2Error", "MarketData", "Result", "Status", "open"]

_MODULES = {
    "K2Error": "k2.model.errors",
    "MarketData": "k2.analysis.market_data",
    "Result": "k2.analysis.result",
    "Status": "k2.status.reader",
}


def open(  # noqa: A001  reads as k2.open()
    *,
    catalog: str | None = None,
    namespace: str | None = None,
    data_dir: "str | PathLike[str] | None" = None,
    dlq_dir: "str | PathLike[str] | None" = None,
    bootstrap_servers: str | None = None,
    query_timeout_seconds: float | None = None,
    query_memory_limit: str | None = None,
    query_connections: int | None = None,
) -> "MarketData":
    """Open the tables for queries, reports and plots; nothing is created, and nothing is read before the first query.

    Each argument is the setting of that name; one that is None has the value of its environment variable
    (`data_dir`: `K2_DATA_DIR`), or the default. Close the result, or use it as a context manager.

    Raises:
        SettingsError: an argument, or an environment variable with the prefix `K2_`, is invalid.
    """
    from k2.analysis.market_data import open_market_data  # noqa: PLC0415  `import k2` stays cheap

    given = {
        "catalog": catalog,
        "namespace": namespace,
        "data_dir": data_dir,
        "dlq_dir": dlq_dir,
        "bootstrap_servers": bootstrap_servers,
        "query_timeout_seconds": query_timeout_seconds,
        "query_memory_limit": query_memory_limit,
        "query_connections": query_connections,
    }
    return open_market_data(**{name: value for name, value in given.items() if value is not None})


def __getattr__(name: str) -> Any:
    """Import a class when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'k2' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415  as above

    return getattr(import_module(_MODULES[name]), name)
