"""Compile the rules of every kind of venue, by running the job on a few messages of each: a step of `k8s/image/build`.

The arguments of a rule determine its compiled form, and only the job itself surely passes the right ones.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Final

from demo.broker import EmbeddedBroker
from k2.kafka.producer import TradeProducer
from k2.ops.settings import read_settings
from k2.venues import VENUES

MESSAGES: Final = 600
START_US: Final = 1_723_161_300_000_000
NUMBERLESS: Final = "k2"
"""The venue that also gets trades without a number."""
TABLE: Final = "binance-spot"
"""The venue that stands for all tables."""


def canonical(venue: str, number: int, sequence: int | None) -> str:
    """Return a canonical trade."""
    trade = {"exchange": venue, "symbol": f"S{number % 3}", "trade_id": str(number), "sequence": sequence}
    return json.dumps({**trade, "price": "1.5", "quantity": "2", "side": "buy", "timestamp": START_US + number})


def binance(_venue: str, number: int, sequence: int | None) -> str:
    """Return a trade event of Binance."""
    trade = {"e": "trade", "E": START_US // 1000 + number, "s": f"S{number % 3}USDT", "t": sequence}
    return json.dumps({**trade, "p": "1.5", "q": "2", "T": START_US // 1000 + number, "m": True, "M": True})


def messages(venue: str) -> Iterator[str]:
    """Yield trades of the venue: in order, with numbers left out, late ones, and one that comes twice."""
    message = canonical if venue.startswith("k2") else binance
    numbers = [number for number in range(1, MESSAGES) if number % 50]
    for number in [*numbers, 50, 100, 7, MESSAGES, *range(1, 20)]:
        yield message(venue, number, number // 3 + 1)
    if venue == NUMBERLESS:
        for number in [*range(1, MESSAGES), 7, 8]:
            yield message(venue, number, None)


def main() -> None:
    """Run the job on each venue in code and on a table, as all tables have one kernel; exit with 1 if it fails."""
    venues = [name for name in VENUES if name not in VENUES.tables or name == TABLE]
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker() as broker:
        settings = {
            "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "K2_TOPICS": ",".join(f"{venue}={venue}" for venue in venues),
            "K2_DATA_DIR": folder,
            "K2_METRICS_PORT": "0",
            "K2_RUN_TO_END": "true",
        }
        for venue in venues:
            with TradeProducer(read_settings(settings), venue) as producer:
                producer.ensure_topic()
                for message in messages(venue):
                    producer.send(None, message.encode())
        own = {name: value for name, value in os.environ.items() if not name.startswith(("K2_", "BYTEWAX_"))}
        for command in (["run", "-s", "1"], ["reconcile"]):
            k2 = [sys.executable, "-P", "-m", "k2.cli", *command]
            subprocess.run(k2, env={**own, **settings}, cwd=folder, check=True)


if __name__ == "__main__":
    main()
