"""The simulation in small: some seeds of crashes and rescales, and the simulator's own parts."""

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from k2.ops.failpoints import NAMES
from tests.simulation.checks import at_end
from tests.simulation.foreign import ACTS, Journal
from tests.simulation.found import Found, Letter
from tests.simulation.market import Market, publish
from tests.simulation.numbered import publish_numberings
from tests.simulation.oracle import Truth, know
from tests.simulation.plan import ENDING, REFUSALS, make_plan
from tests.simulation.run import ACROSS_EVERY, is_across

ROOT: Final = Path(__file__).parent.parent.parent
SEEDS: Final = 25
"""About a minute on two cores; `make torture SEEDS=1000` is the long form."""


@pytest.mark.timeout(1200)
def test_crashes_and_rescales_lose_and_double_nothing() -> None:
    """Laws 1 and 2 and the ledger hold after every crash, and every failpoint was passed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seeds", str(SEEDS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(re.findall(r"^([a-z ]+): (.*)$", done.stdout, re.MULTILINE))
    assert (said["seeds"], said["lost"], said["doubled"], said["wrong"]) == (str(SEEDS), "0", "0", "0")
    assert int(said["crashes"]) > SEEDS
    assert int(said["rescales"]) > SEEDS
    assert int(said["fenced"]) > 0
    assert int(said["starts refused"]) > 0
    assert said["failpoints never reached"] == "none"


@pytest.mark.parametrize("across", [False, True])
def test_a_seed_determines_the_simulation(*, across: bool) -> None:
    """The same seed gives the same messages and the same lives; another gives others."""
    markets = [publish(seed, across=across) for seed in (5, 5, 6)]
    assert markets[0] == markets[1] != markets[2]
    plans = [make_plan(seed, market) for seed, market in zip((5, 5, 6), markets, strict=True)]
    assert plans[0] == plans[1] != plans[2]


def test_markets_contain_every_fault() -> None:
    """Among a few seeds: copies, gaps, restarts, holes in the offsets, noise, tombstones, several topics and venues."""
    markets = [publish(seed, across=False) for seed in range(20)]
    logs = [log for market in markets for log in market.logs.values()]
    messages = [message for log in logs for message in log.messages]
    assert {message.kind for message in messages} == {"trade", "conflict", "unreadable", "skipped"}
    assert any(message.value is None for message in messages)
    assert any(len(log.messages) < log.end for log in logs)
    assert {log.venue for log in logs} == {"k2", "binance-spot"}
    copies = Counter(message.trade for message in messages if message.trade)
    assert max(copies.values()) > 1
    assert {trade.session for trade in copies} == {0, 1, 2, 3}
    assert any(missing for market in markets for missing in know(market).missing.values())
    # A batch that a producer sent twice.
    assert any(log.messages[n][2:] == log.messages[n + 3][2:] for log in logs for n in range(len(log.messages) - 3))


def test_markets_of_numberings_contain_every_fault() -> None:
    """Among a few seeds: copies, conflicts, restarts; the same for the same seed."""
    assert publish_numberings(5) == publish_numberings(5) != publish_numberings(6)
    markets = [publish_numberings(seed) for seed in range(40)]
    messages = [message for market in markets for log in market.logs.values() for message in log.messages]
    assert {message.kind for message in messages} >= {"trade", "copy", "conflict"}
    assert max(message.trade.session for message in messages if message.trade) > 2
    assert {len(market.logs) for market in markets} == {1, 3}


def test_plans_use_every_failpoint() -> None:
    """The choice of faults leaves no failpoint out."""
    plans = (make_plan(seed, publish(seed, across=False)) for seed in range(150))
    assert {fault.name for plan in plans for life in plan.lives for fault in life.faults} == {None, *NAMES}


def test_plans_contain_every_kind_of_harm() -> None:
    """The seeds that CI runs include all faults, rejections, changes of the store, and other writers' actions."""
    plans = [make_plan(seed, publish(seed, across=is_across(seed, ACROSS_EVERY))) for seed in range(SEEDS)]
    lives = [life for plan in plans for life in plan.lives]
    answers = {"lost", "reset", "unknown", "conflict"}
    assert {fault.kind for life in lives for fault in life.faults} == {*ENDING, *ACTS, *answers, "transient", "freeze"}
    assert {life.refused for life in lives} == {None, *REFUSALS}
    assert {life.store for life in lives} == {"kept", "lost", "older", "none"}
    assert {act for life in lives for act in life.before} == {*ACTS}
    for is_so in ("is_elsewhere", "is_back", "is_expired", "is_put_back", "is_ledger_dropped"):
        assert any(getattr(life, is_so) for life in lives)


def _found(market: Market, truth: Truth) -> Found:
    """Return what a correct job would leave."""
    rows = [
        trade._asdict()
        | {"topic": coordinates.topic, "partition": coordinates.partition, "offset": coordinates.offset}
        | {"price": Decimal(trade.price), "quantity": Decimal(trade.quantity)}
        for coordinates, trade in truth.rows.items()
    ]
    events = [
        {"exchange": session[0], "symbol": session[1], "session": session[2], "event": event}
        | {"first_sequence": first, "last_sequence": first}
        for session, missing in truth.missing.items()
        for event, first in [("session_started", 0), *(("gap_opened", number) for number in sorted(missing))]
    ]
    letters = [
        Letter(coordinates, message.key, message.value, "conflict" if message.kind == "conflict" else "malformed")
        for coordinates, message in truth.dead_letters.items()
    ]
    commits = [{"k2.progress": '{"writers": {"0": {"trades:0": {}}}}', "added-records": "7", "k2.stored": "7"}]
    counts = _partition_counts(market, truth)
    first, *others = counts
    kept = [_noted(1, {where: counts[where] for where in others}), _noted(2, {first: counts[first]})]
    found = Found(rows, events, letters, {"0": counts}, foreign=[0, 1], commits=commits)
    return replace(found, kept=kept, noted=kept[1:])


def _noted(number: int, by_partition: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return a commit as the commit log has it."""
    partitions = [
        {"topic": where.rpartition(":")[0], "partition": int(where.rpartition(":")[2]), **counts}
        for where, counts in by_partition.items()
    ]
    ids = {"snapshot_id": number, "previous_id": number - 1 or None}
    return {**ids, "writer": "0", "partitions": partitions}


def _partition_counts(market: Market, truth: Truth) -> dict[str, dict[str, int]]:
    counts = {}
    for (topic, partition), log in market.logs.items():
        within = {
            name: sum((one.topic, one.partition) == (topic, partition) for one in messages)
            for name, messages in (
                ("received", truth.messages),
                ("stored", truth.rows),
                ("dead_letters", truth.dead_letters),
                ("skipped", truth.skipped),
            )
        }
        within["duplicates"] = 2 * within["received"] - sum(within.values())
        counts[f"{topic}:{partition}"] = within | {"offset": log.end}
    return counts


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        ("found.rows.pop()", "lost"),
        ("found.rows.append(found.rows[0])", "doubled"),
        ("found.rows[0]['price'] += 1", "wrong"),
        ("found.rows[0]['session'] += 1", "wrong"),
        ("found.letters.pop()", "lost"),
        ("found.letters.append(found.letters[0])", "doubled"),
        ("found.events.pop()", "wrong"),
        ("found.events.append(found.events[0])", "doubled"),
        ("found.progress['0']['trades:0']['stored'] += 1", "wrong"),
        ("found.progress['0']['trades:0']['offset'] -= 1", "lost"),
        ("found.commits[0]['k2.stored'] = '8'", "wrong"),
        ("found.commits[0]['k2.progress'] = '{\"writers\": {\"0\": {}}}'", "wrong"),
        ("found.kept.pop(0)", "lost"),
        ("found.noted[0]['partitions'][0]['received'] += 1", "lost"),
        ("found.foreign.remove(0)", "lost"),
        ("found.foreign.append(1)", "doubled"),
        ("found.foreign.append(3)", "wrong"),
    ],
)
def test_the_checkers_detect_each_harm(harm: str, kind: str, tmp_path: Path) -> None:
    """A correct state passes; one row, dead letter, event or count less, more or different fails."""
    market = publish(3, across=False)
    truth = know(market)
    found = _found(market, truth)
    journal = Journal(tmp_path / "foreign.jsonl")
    # The last was started when its writer was killed.
    journal.note("begun", [0, 1, 2])
    journal.note("done", [0, 1])
    assert list(at_end(found, truth, market, journal)) == []
    exec(harm, {"found": found})  # noqa: S102  the cases above, and nothing else
    assert kind in {one for one, _ in at_end(found, truth, market, journal)}
