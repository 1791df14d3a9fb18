"""`k2 compile` leaves nothing for the first start to compile, and compiles each rule once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows import rehearsal
from k2.kafka.producer import TradeProducer
from k2.ops.settings import read_settings
from tests.brokers import Broker

ROOT = Path(__file__).parents[2]
FORMS = """
import k2.venues.connection_kernel, k2.venues.k2_compiled, k2.venues.table_kernel
import flows.trades
from numba.core.registry import cpu_target
from k2.model.compiled import RULES
cpu = cpu_target.target_context.codegen().magic_tuple()
for rule in RULES:
    forms = [key for key in rule._cache._cache_file._load_index() if key[1] == cpu]
    print(f"{rule.py_func.__module__}.{rule.py_func.__name__}", len(forms))
"""
SEVERAL = {
    # With the limit of symbols and ids, and with that of exchanges.
    "k2.venues.table_values.read_name": 2,
    # On the bytes of messages, and on constants, which cannot be written.
    "k2.model.words_compiled.word_at": 2,
    "k2.model.words_compiled.equal_bytes": 2,
    # For each kind of event; a few lines.
    "k2.sequencing.recent_ranges.add_event": 5,
}
"""Forms of the rules that have more than one."""

pytestmark = pytest.mark.timeout(900)


def run(environment: dict[str, str], *command: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a process of its own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("K2_", "NUMBA_"))}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**own, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return variables of a cache that `k2 compile` has filled for another CPU, of which the checkout has no rules."""
    environment = {"NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cache")), "NUMBA_CPU_NAME": "generic"}
    done = run(environment, "-m", "k2.cli", "compile")
    assert done.returncode == 0, done.stderr
    begun, ended = done.stderr.splitlines()
    assert begun.startswith("Compiling the rules (once, about ")
    assert ended.endswith(" rules; 0 were compiled before.")
    return environment


def test_each_rule_is_compiled_once(cache: dict[str, str]) -> None:
    """A rule with an argument of two types, such as an array that cannot be written, is compiled for both."""
    done = run(cache, "-c", FORMS)
    assert done.returncode == 0, done.stderr
    forms = {name: int(count) for name, count in (line.split() for line in done.stdout.splitlines())}
    assert len(forms) > 100
    assert {name: count for name, count in forms.items() if count != 1} == SEVERAL


def test_a_job_on_all_kinds_of_venues_compiles_nothing(cache: dict[str, str], broker: Broker, tmp_path: Path) -> None:
    """At its first start, and at one that goes on from the tables."""
    topics = {topic: broker.topic(name=topic) for topic in rehearsal.TOPICS}
    settings = {
        "K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "K2_TOPICS": ",".join(f"{name}={rehearsal.TOPICS[topic][0]}" for topic, name in topics.items()),
        "K2_FEEDS": f"{topics['numbers']}=A,{topics['copies']}=B",
        "K2_DATA_DIR": str(tmp_path),
        "K2_METRICS_PORT": "0",
        "K2_RUN_TO_END": "true",
    }
    for start in range(2):
        for topic, name in topics.items():
            with TradeProducer(read_settings(settings), name) as producer:
                for number in rehearsal.numbers_of(start):
                    producer.send(None, json.dumps(rehearsal.TOPICS[topic][1](number)).encode())
        done = run({**cache, **settings}, "-m", "bytewax.run", "flows.trades", "-s", "1")
        assert done.returncode == 0, done.stderr
        assert '"event": "committed"' in done.stderr
        assert "rules_compil" not in done.stderr


def test_a_second_call_compiles_nothing(cache: dict[str, str]) -> None:
    """It says so."""
    (line,) = run(cache, "-m", "k2.cli", "compile").stderr.splitlines()
    assert line.startswith("Compiled 0 rules; ")


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"NUMBA_DISABLE_JIT": "1"}, "NUMBA_DISABLE_JIT is set"),
        ({"NUMBA_CACHE_DIR": os.devnull}, "name one by NUMBA_CACHE_DIR"),
    ],
)
def test_what_prevents_compilation_is_said(variables: dict[str, str], error: str) -> None:
    """In one sentence."""
    done = run(variables, "-m", "k2.cli", "compile")
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr
