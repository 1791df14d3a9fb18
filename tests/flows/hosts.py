"""A cluster of three processes on three hosts: `unshare --net --mount .venv/bin/python -m tests.flows.hosts`.

Each host is a network namespace behind a bridge; Kafka listens on the bridge. All of it is in the network and mount
namespaces of this process, and disappears with it; without root: `unshare --user --map-root-user --net --mount`. The
tables are in a folder that all hosts reach even while their network is cut, so that nothing but the job itself keeps a
host that was cut off from storing what its peers store.

Prints a line for each experiment, and fails if trades are lost or doubled.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from k2.kafka.producer import TradeProducer
from k2.query.gaps import gaps
from tests.brokers import Broker, real_kafka
from tests.flows.job import Job, wait_until
from tests.flows.market import assert_reconciled, trade
from tests.flows.supervised import Supervised

HOSTS: Final = 3
NETWORK: Final = "10.77.0"
BRIDGE: Final = f"{NETWORK}.254"
PORT: Final = 2101
METRICS_PORT: Final = 9464
SYMBOLS: Final = 20
START_SECONDS_MAX: Final = 300.0
PROBE: Final = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print(0)
"""


def make_network() -> None:
    """Make a bridge, and a namespace for each host with one end of a cable in it."""
    for command in [
        "mount --make-rprivate /",
        "mount -t tmpfs k2 /run",
        "ip link set lo up",
        "ip link add k2 type bridge",
        f"ip addr add {BRIDGE}/24 dev k2",
        "ip link set k2 up",
    ]:
        _run(command)
    for host in range(HOSTS):
        for command in [
            f"ip netns add host{host}",
            f"ip link add cable{host} type veth peer name eth0 netns host{host}",
            f"ip link set cable{host} master k2 up",
            f"ip -n host{host} link set lo up",
            f"ip -n host{host} addr add {_address(host)}/24 dev eth0",
            f"ip -n host{host} link set eth0 up",
        ]:
            _run(command)


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def _address(host: int) -> str:
    return f"{NETWORK}.{host + 1}"


class Cluster:
    """The processes of a job, one on each host, each under its own supervisor."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.processes: dict[int, Supervised] = {}
        self.messages = 0

    def start(self, host: int) -> None:
        """Start the process of a host."""
        addresses = ";".join(f"{_address(one)}:{PORT}" for one in range(HOSTS))
        self.processes[host] = Supervised(self.job, host, addresses, ["ip", "netns", "exec", f"host{host}"])

    def stop(self, host: int) -> None:
        """End the process of a host on SIGTERM, as an operator does."""
        process = self.processes.pop(host).process
        process.terminate()
        process.wait(10)

    def cut(self, host: int) -> None:
        """Pull the cable of a host."""
        _run(f"ip link set cable{host} down")

    def plug(self, host: int) -> None:
        """Put the cable back."""
        _run(f"ip link set cable{host} up")

    def health(self) -> list[int]:
        """Return the status of `/healthz` of each host, asked on that host; 0 if nothing answers."""
        return [self._probe(host) for host in range(HOSTS)]

    def _probe(self, host: int) -> int:
        probe = ["ip", "netns", "exec", f"host{host}", sys.executable, "-I", "-S", "-c", PROBE]
        done = subprocess.run(
            [*probe, f"http://127.0.0.1:{METRICS_PORT}/healthz"], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    def restarts(self) -> list[int]:
        """Return how often each host's supervisor has started the job again."""
        return [self.processes[host].restarts() for host in sorted(self.processes)]

    def publish(self, is_over: threading.Event) -> None:
        """Publish a trade of each symbol ten times a second."""
        number = 0
        with TradeProducer(self.job.settings, self.job.topics) as producer:
            while not is_over.wait(0.1):
                number += 1
                for symbol in range(SYMBOLS):
                    producer.send(*trade(number, f"S{symbol}"))
                    self.messages += 1

    def wait_for_commit(self, seconds_max: float = START_SECONDS_MAX) -> float:
        """Wait until all that is published now is committed; return the time that took, in seconds."""
        wanted, begun = self.messages, time.monotonic()
        wait_until(lambda: self.job.committed() >= wanted, "nothing is committed", seconds_max)
        return time.monotonic() - begun


def form(cluster: Cluster, order: Sequence[int], pause_seconds: float) -> dict[str, Any]:
    """Start the hosts in an order; measure from the last start to the first commit."""
    for host in order[:-1]:
        cluster.start(host)
        time.sleep(pause_seconds)
    cluster.start(order[-1])
    return {"order": list(order), "seconds to the first commit": cluster.wait_for_commit()}


def cut_off(cluster: Cluster, host: int, seconds: float) -> dict[str, Any]:
    """Cut a host off for some time; measure when its peers and it report that, and when all goes on."""
    before = cluster.restarts()
    committed, begun = cluster.job.committed(), time.monotonic()
    cluster.cut(host)
    seen: dict[int, float] = {}
    while time.monotonic() - begun < seconds:
        for one, status in enumerate(cluster.health()):
            if status != 200:
                seen.setdefault(one, round(time.monotonic() - begun, 1))
        time.sleep(0.5)
    moved = cluster.job.committed() - committed
    cluster.plug(host)
    back = cluster.wait_for_commit()
    wait_until(lambda: cluster.health() == [200] * HOSTS, "a host stays unhealthy")
    return {
        "host": host,
        "cut for seconds": seconds,
        "unhealthy after seconds": dict(sorted(seen.items())),
        "committed meanwhile": moved,
        "published in an epoch": 2 * SYMBOLS * 10,
        "seconds from the plug to the next commit of all": back,
        "restarts": [after - one for after, one in zip(cluster.restarts(), before, strict=True)],
    }


def roll(cluster: Cluster, environment: dict[str, str], *, at_once: bool) -> dict[str, Any]:
    """Start all hosts with other settings: all at once, or one after the other once its peers are well again."""
    cluster.job = replace(cluster.job, environment={**cluster.job.environment, **environment})
    begun = time.monotonic()
    if at_once:
        for host in range(HOSTS):
            cluster.stop(host)
        for host in range(HOSTS):
            cluster.start(host)
    for host in () if at_once else range(HOSTS):
        cluster.stop(host)
        cluster.start(host)
        wait_until(lambda: cluster.health() == [200] * HOSTS, "a host stays unhealthy")
        cluster.wait_for_commit()
    back = cluster.wait_for_commit()
    return {"at once": at_once, "seconds in all": time.monotonic() - begun, "of them to the last commit": back}


@contextmanager
def running(broker: Broker, folder: Path, environment: dict[str, str]) -> Iterator[Cluster]:
    """Yield a cluster whose topic is published to; end it, and check that nothing is lost or doubled."""
    environment = {"K2_RUN_TO_END": "false", "K2_METRICS_PORT": str(METRICS_PORT), **environment}
    cluster = Cluster(Job(broker.bootstrap_servers, folder, broker.topic(partitions=6), environment))
    is_over = threading.Event()
    publisher = threading.Thread(target=cluster.publish, args=(is_over,))
    publisher.start()
    try:
        yield cluster
        is_over.set()
        publisher.join()
        cluster.wait_for_commit()
    except BaseException:
        for host, process in cluster.processes.items():
            sys.stderr.write(f"host {host}:\n{process.said[-3000:]}\n")
        raise
    finally:
        is_over.set()
        for host in [*cluster.processes]:
            cluster.stop(host)
    assert cluster.job.committed() == cluster.messages
    assert cluster.job.table().num_rows == cluster.messages
    assert gaps(cluster.job.settings) == []
    assert_reconciled(cluster.job)


def main() -> int:
    """Run the experiments; print a line of JSON for each."""
    arguments = _arguments()
    make_network()
    with real_kafka(BRIDGE) as broker, tempfile.TemporaryDirectory(prefix="k2-hosts-") as folder:
        environment = {"K2_STALL_SECONDS_MAX": str(arguments.stall)}
        for number, order in enumerate(arguments.orders.split()):
            with running(broker, Path(folder) / f"order-{number}", environment) as cluster:
                _write(form(cluster, [*map(int, order)], 2))
                if number:
                    continue
                cluster.wait_for_commit()
                for text in arguments.cuts.split():
                    host, seconds = text.split(":")
                    _write(cut_off(cluster, int(host), float(seconds)))
                _write(roll(cluster, {"K2_GAP_LARGE_MIN": "12"}, at_once=False))
                _write(roll(cluster, {"K2_GAP_LARGE_MIN": "13"}, at_once=True))
                messages = cluster.messages
            _write({"messages": messages, "lost or doubled": 0})
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.flows.hosts", description=__doc__)
    parser.add_argument("--orders", default="012 210 120", help="orders in which the hosts are started")
    parser.add_argument("--cuts", default="2:60 0:60", help="hosts that are cut off, and for how many seconds")
    parser.add_argument("--stall", type=int, default=60, metavar="SECONDS", help="K2_STALL_SECONDS_MAX (default 60)")
    return parser.parse_args()


def _write(found: dict[str, Any]) -> None:
    found = {name: round(value, 1) if isinstance(value, float) else value for name, value in found.items()}
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
