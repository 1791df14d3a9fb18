"""The dashboard over a real run: `python -m benchmarks.dashboard`, after which docs/dashboard.png is drawn again.

It runs a broker, a market with faults, the job under its supervisor, `k2 serve` and Prometheus with the rules of
k8s/alerts. The panels are drawn by `benchmarks.dashboard_drawing` from the queries in k8s/dashboard.json, because
Grafana itself is in no package registry.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from benchmarks.dashboard_drawing import Panel, Series, draw
from k2.kafka.producer import TradeProducer
from k2.ops.child_process import ChildProcess, free_port
from k2.ops.settings import read_settings
from tests.brokers import own_broker

ROOT: Final = Path(__file__).resolve().parents[1]
SYMBOLS: Final = {"binance": 8, "coinbase": 4, "kraken": 3, "okx": 5}
"""Symbols of each exchange."""
TRADES_PER_SECOND: Final = 300
SCRAPE_SECONDS: Final = 5
STEP_SECONDS: Final = 10
RATE_INTERVAL: Final = "1m"
"""Grafana chooses it from the interval of the scrapes and the width of a panel."""


class Market:
    """A market whose faults come at fixed shares of its time: gaps, a late fill, a burst, bad messages, a conflict."""

    def __init__(self, producer: TradeProducer, seconds: float) -> None:
        self._producer = producer
        self._seconds = seconds
        self._random = random.Random(7)
        self._numbers: dict[tuple[str, str], int] = {}
        self._late: list[tuple[str, str, int]] = []
        self._faults: dict[float, Callable[[], None]] = {
            0.25: lambda: self._skip("okx", "OKX-1", 40),
            0.35: lambda: self._skip("kraken", "KRAKEN-1", 3),
            0.50: self._send_late,
            0.60: lambda: self._reject(60),
            0.80: lambda: self._send("binance", "BINANCE-1", self._numbers["binance", "BINANCE-1"] // 2, price="1"),
        }

    def second(self, elapsed: float) -> None:
        """Publish what one second brings, and the faults that are due."""
        share = elapsed / self._seconds
        for due in [at for at in self._faults if at <= share]:
            self._faults.pop(due)()
        count = TRADES_PER_SECOND * (6 if 0.40 < share < 0.47 else 1) * self._random.uniform(0.7, 1.3)
        for _ in range(int(count)):
            exchange = self._random.choice([*SYMBOLS])
            symbol = f"{exchange.upper()}-{self._random.randrange(SYMBOLS[exchange])}"
            self._numbers[exchange, symbol] = number = self._numbers.get((exchange, symbol), 0) + 1
            self._send(exchange, symbol, number)
            if self._random.random() < 0.005:
                self._send(exchange, symbol, number)

    def _skip(self, exchange: str, symbol: str, count: int) -> None:
        last = self._numbers[exchange, symbol]
        self._late = [(exchange, symbol, number) for number in range(last + 1, last + 1 + count)]
        self._numbers[exchange, symbol] = last + count

    def _send_late(self) -> None:
        for exchange, symbol, number in self._late:
            self._send(exchange, symbol, number)

    def _reject(self, count: int) -> None:
        for number in range(count):
            self._producer.send(None, b"{" if number % 3 else b'{"exchange": "okx", "symbol": "OKX-1"}')

    def _send(self, exchange: str, symbol: str, number: int, price: str | None = None) -> None:
        trade = {"exchange": exchange, "symbol": symbol, "sequence": number, "price": price or f"{100 + number % 7}.5"}
        value = {**trade, "quantity": "0.5", "side": "buy", "timestamp": time.time_ns() // 1000}
        self._producer.send(f"{exchange}|{symbol}".encode(), json.dumps(value).encode())


@contextmanager
def running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[ChildProcess]:
    """Run a command for the duration of the block."""
    child = ChildProcess(command, log, environment)
    child.start()
    try:
        yield child
    finally:
        child.stop()


def prometheus(folder: Path, port: int, targets: dict[str, int]) -> list[str]:
    """Return the command of a Prometheus that scrapes the targets, by job, and evaluates the rules."""
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(ROOT / "k8s" / "alerts" / "rules.yaml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
            for job, target in targets.items()
        ],
    }
    file = folder / "prometheus.json"
    # Prometheus reads YAML, of which JSON is a part.
    file.write_text(json.dumps(config), encoding="utf-8")
    data, address = folder / "prometheus", f"127.0.0.1:{port}"
    return ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={data}", f"--web.listen-address={address}"]


def capture(folder: Path, seconds: float) -> list[Panel]:
    """Run all for some time, return the panels with what Prometheus has."""
    ports = {"k2": free_port(), "k2-query": free_port()}
    with ExitStack() as stack:
        broker = stack.enter_context(own_broker())
        topic = broker.topic(partitions=4)
        settings = {
            "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "K2_TOPICS": topic,
            "K2_DATA_DIR": str(folder / "data"),
            "K2_METRICS_PORT": str(ports["k2"]),
        }
        environment = {"PATH": "/usr/bin:/bin", **settings}
        k2 = [sys.executable, "-m", "k2.cli"]
        job = [*k2, "run", "--supervise", "-s", "5"]
        stack.enter_context(running(job, folder / "job.log", environment))
        serve = [*k2, "serve", "--port", str(ports["k2-query"])]
        stack.enter_context(running(serve, folder / "serve.log", environment))
        port = free_port()
        stack.enter_context(running(prometheus(folder, port, ports), folder / "prometheus.log", environment))
        producer = stack.enter_context(TradeProducer(read_settings(settings), topic))
        market, began = Market(producer, seconds), time.time()
        while (elapsed := time.time() - began) < seconds:
            market.second(elapsed)
            print(f"\r{elapsed / seconds:4.0%}", end="", file=sys.stderr)
            time.sleep(max(0.0, 1 - (time.time() - began - elapsed)))
        return panels(port, began, time.time())


def panels(port: int, start: float, end: float) -> list[Panel]:
    """Return the panels of the dashboard with the series that Prometheus answers to their queries."""
    document = json.loads((ROOT / "k8s" / "dashboard.json").read_text(encoding="utf-8"))
    found = []
    for panel in document["panels"]:
        series = [one for target in panel.get("targets", ()) for one in answer(port, target, start, end)]
        place = panel["gridPos"]
        unit = panel.get("fieldConfig", {}).get("defaults", {}).get("unit", "short")
        box = (place["x"], place["y"], place["w"], place["h"])
        found.append(Panel(panel["title"], panel["type"], box, unit, tuple(series)))
    return found


def answer(port: int, target: dict[str, Any], start: float, end: float) -> Iterator[Series]:
    """Yield the series of a query over the time of the run."""
    query = target["expr"].replace("$__rate_interval", RATE_INTERVAL)
    query = query.replace("$job", "k2").replace("$serve", "k2-query")
    parameters = urlencode({"query": query, "start": start, "end": end, "step": STEP_SECONDS})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query_range?{parameters}", timeout=60) as response:
        body = json.load(response)
    for result in body["data"]["result"]:
        legend = target["legendFormat"]
        for label, value in result["metric"].items():
            legend = legend.replace(f"{{{{{label}}}}}", value)
        points = [((float(at) - start) / 60, float(value)) for at, value in result["values"]]
        yield Series(legend, tuple(points))


def main() -> None:
    """Run for some minutes, and draw."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--output", type=Path, default=ROOT / "docs" / "dashboard.png")
    chosen = arguments.parse_args()
    if shutil.which("prometheus") is None:
        raise SystemExit("prometheus is not installed; on Debian and Ubuntu: apt install prometheus")
    with tempfile.TemporaryDirectory() as folder:
        draw(capture(Path(folder), chosen.minutes * 60), chosen.output)
    print(f"\n{chosen.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
