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

from k2.ops.failpoints import JOB_NAMES
from tests.simulation.checks import at_end
from tests.simulation.disk_state import DeadLetter, DiskState
from tests.simulation.market import Market, publish
from tests.simulation.numbered import publish_numberings
from tests.simulation.oracle import Expected, expected_results
from tests.simulation.other_writer import ACTS, Journal
from tests.simulation.plan import ENDING, REFUSALS, make_plan
from tests.simulation.run import MULTI_PARTITION_EVERY, is_corrected, is_multi_partition
from tests.simulation.stocks import Corrected, with_corrections

ROOT: Final = Path(__file__).parent.parent.parent
SEEDS: Final = 28
"""About a minute on two cores; `make torture SEEDS=1000` is the long form."""
SEEDS_IN_STORE: Final = 14
"""Fewer, for time: these too reach every failpoint."""


def torture(seeds: int, *options: str) -> dict[str, str]:
    """Run the seeds, of which none may lose or double anything, or leave a failpoint out; return the totals."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seeds", str(seeds), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    totals = dict(re.findall(r"^([a-z ]+): (.*)$", done.stdout, re.MULTILINE))
    assert (totals["seeds"], totals["lost"], totals["doubled"], totals["wrong"]) == (str(seeds), "0", "0", "0")
    assert totals["failpoints never reached"] == "none"
    return totals


@pytest.mark.timeout(1200)
def test_crashes_and_rescales_lose_and_double_nothing() -> None:
    """Laws 1 and 2 and the ledger hold after every crash, and every failpoint was hit."""
    totals = torture(SEEDS)
    assert int(totals["crashes"]) > SEEDS
    assert int(totals["rescales"]) > SEEDS
    assert int(totals["fenced"]) > 0
    assert int(totals["starts refused"]) > 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_crashes_lose_and_double_nothing_with_dead_letters_in_an_object_store() -> None:
    """The same holds if a start can neither lock nor cut what an earlier one wrote."""
    torture(SEEDS_IN_STORE, "--object-store")


@pytest.mark.parametrize("multi_partition", [False, True])
def test_a_seed_determines_the_simulation(*, multi_partition: bool) -> None:
    """The same seed gives the same messages and the same lives; another gives others."""
    markets = [publish(seed, multi_partition=multi_partition) for seed in (5, 5, 6)]
    assert markets[0] == markets[1] != markets[2]
    plans = [make_plan(seed, market) for seed, market in zip((5, 5, 6), markets, strict=True)]
    assert plans[0] == plans[1] != plans[2]


def test_markets_contain_every_fault() -> None:
    """Among a few seeds: copies, gaps, restarts, holes in the offsets, noise, tombstones, several topics and venues."""
    markets = [publish(seed, multi_partition=False) for seed in range(20)]
    logs = [log for market in markets for log in market.logs.values()]
    messages = [message for log in logs for message in log.messages]
    assert {message.kind for message in messages} == {"trade", "conflict", "unreadable", "skipped"}
    assert any(message.value is None for message in messages)
    assert any(len(log.messages) < log.end for log in logs)
    assert {log.venue for log in logs} == {"k2", "binance-spot"}
    copies = Counter(message.trade for message in messages if message.trade)
    assert max(copies.values()) > 1
    assert {trade.session for trade in copies} == {0, 1, 2, 3}
    assert any(missing for market in markets for missing in expected_results(market).missing.values())
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


def _market(seed: int, market: Market) -> Market:
    return with_corrections(market, seed) if is_corrected(seed, multi_partition=False) else market


def test_markets_of_stocks_contain_every_fault() -> None:
    """Among a few seeds: copies, corrections before their trade, others without one; the same for the same seed."""
    markets = [with_corrections(publish(seed, multi_partition=False), seed) for seed in (5, 5, 6)]
    assert markets[0] == markets[1] != markets[2]
    messages = [message for market in markets for message in market.logs["stocks", 0].messages]
    assert {message.kind for message in messages} == {"trade", "correction", "skipped", "unreadable"}
    expected = expected_results(markets[0])
    sent = [one for one in expected.messages.values() if one.kind == "correction"]
    assert 0 < len(expected.corrections) < len(sent)


def test_plans_use_every_failpoint() -> None:
    """The choice of faults leaves no failpoint out."""
    markets = (_market(seed, publish(seed, multi_partition=False)) for seed in range(150))
    plans = (make_plan(seed, market) for seed, market in enumerate(markets))
    assert {fault.name for plan in plans for life in plan.lives for fault in life.faults} == {None, *JOB_NAMES}


def test_plans_contain_every_kind_of_harm() -> None:
    """The seeds that CI runs include all faults, rejections, changes of the store, and other writers' actions."""
    plans = [
        make_plan(seed, publish(seed, multi_partition=is_multi_partition(seed, MULTI_PARTITION_EVERY)))
        for seed in range(SEEDS)
    ]
    lives = [life for plan in plans for life in plan.lives]
    answers = {"lost", "reset", "unknown", "conflict"}
    assert {fault.kind for life in lives for fault in life.faults} == {*ENDING, *ACTS, *answers, "transient", "freeze"}
    assert {life.refused for life in lives} == {None, *REFUSALS}
    assert {life.store for life in lives} == {"kept", "lost", "older", "none"}
    assert {act for life in lives for act in life.before} == {*ACTS}
    for is_so in ("is_elsewhere", "is_back", "is_expired", "is_put_back", "is_ledger_dropped"):
        assert any(getattr(life, is_so) for life in lives)


def _correct_state(market: Market, expected: Expected) -> DiskState:
    """Return what a correct job would leave."""
    rows = [
        trade._asdict()
        | {"topic": coordinates.topic, "partition": coordinates.partition, "offset": coordinates.offset}
        | {"price": Decimal(trade.price), "quantity": Decimal(trade.quantity)}
        for coordinates, trade in expected.rows.items()
    ]
    events = [
        {"exchange": session[0], "symbol": session[1], "session": session[2], "event": event}
        | {"first_sequence": first, "last_sequence": first}
        for session, missing in expected.missing.items()
        for event, first in [("session_started", 0), *(("gap_opened", number) for number in sorted(missing))]
    ]
    dead_letters = [
        DeadLetter(coordinates, message.key, message.value, "conflict" if message.kind == "conflict" else "malformed")
        for coordinates, message in expected.dead_letters.items()
    ]
    summaries = [{"k2.progress": '{"writers": {"0": {"trades:0": {}}}}', "added-records": "7", "k2.stored": "7"}]
    counts = _partition_counts(market, expected)
    first, *others = counts
    log = [_commit(1, {name: counts[name] for name in others}), _commit(2, {first: counts[first]})]
    state = DiskState(rows, events, dead_letters, {"0": counts}, foreign=[0, 1], commit_summaries=summaries)
    corrections = [
        Corrected(*said)._asdict()
        | {"topic": coordinates.topic, "partition": coordinates.partition, "offset": coordinates.offset, "index": 0}
        for coordinates, said in expected.corrections.items()
    ]
    return replace(state, commit_rows=log, commit_notes=log[1:], corrections=corrections)


def _commit(number: int, by_partition: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return a commit as the commit log has it."""
    partitions = [
        {"topic": name.rpartition(":")[0], "partition": int(name.rpartition(":")[2]), **counts}
        for name, counts in by_partition.items()
    ]
    ids = {"snapshot_id": number, "previous_id": number - 1 or None}
    return {**ids, "writer": "0", "partitions": partitions}


def _partition_counts(market: Market, expected: Expected) -> dict[str, dict[str, int]]:
    counts = {}
    for (topic, partition), log in market.logs.items():
        within = {
            name: sum((one.topic, one.partition) == (topic, partition) for one in messages)
            for name, messages in (
                ("received", expected.messages),
                ("stored", expected.rows),
                ("dead_letters", expected.dead_letters),
                ("skipped", expected.skipped),
                ("corrections", expected.corrections),
            )
        }
        within["duplicates"] = 2 * within["received"] - sum(within.values())
        counts[f"{topic}:{partition}"] = within | {"offset": log.end}
    return counts


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        ("state.rows.pop()", "lost"),
        ("state.rows.append(state.rows[0])", "doubled"),
        ("state.rows[0]['price'] += 1", "wrong"),
        ("state.rows[0]['session'] += 1", "wrong"),
        ("state.dead_letters.pop()", "lost"),
        ("state.dead_letters.append(state.dead_letters[0])", "doubled"),
        ("state.corrections.pop()", "lost"),
        ("state.corrections.append(state.corrections[0])", "doubled"),
        ("state.corrections_twice.append(('t', 0, 1, 0))", "doubled"),
        ("state.corrections[0]['old_price'] = '1'", "wrong"),
        ("state.progress['0']['stocks:0']['corrections'] += 1", "wrong"),
        ("state.events.pop()", "wrong"),
        ("state.events.append(state.events[0])", "doubled"),
        ("state.progress['0']['trades:0']['stored'] += 1", "wrong"),
        ("state.progress['0']['trades:0']['offset'] -= 1", "lost"),
        ("state.commit_summaries[0]['k2.stored'] = '8'", "wrong"),
        ("state.commit_summaries[0]['k2.progress'] = '{\"writers\": {\"0\": {}}}'", "wrong"),
        ("state.commit_rows.pop(0)", "lost"),
        ("state.commit_notes[0]['partitions'][0]['received'] += 1", "lost"),
        ("state.foreign.remove(0)", "lost"),
        ("state.foreign.append(1)", "doubled"),
        ("state.foreign.append(3)", "wrong"),
    ],
)
def test_the_checkers_detect_each_harm(harm: str, kind: str, tmp_path: Path) -> None:
    """A correct state passes; one row, dead letter, event or count less, more or different fails."""
    market = with_corrections(publish(3, multi_partition=False), 3)
    expected = expected_results(market)
    state = _correct_state(market, expected)
    journal = Journal(tmp_path / "foreign.jsonl")
    # The last was started when its writer was killed.
    journal.note("begun", [0, 1, 2])
    journal.note("done", [0, 1])
    assert list(at_end(state, expected, market, journal)) == []
    exec(harm, {"state": state})  # noqa: S102  the cases above, and nothing else
    assert kind in {violation.kind for violation in at_end(state, expected, market, journal)}
