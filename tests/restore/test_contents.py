"""A job that is stopped and restarted judges numbers as a single run does: contents come from the table."""

import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from k2.iceberg.tables import TableName
from k2.model.state_source import SessionKey, WantedContents
from k2.ops.settings import read_settings
from k2.query import engine
from k2.query.gaps import gaps
from k2.restore.contents import read_contents
from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import publish
from tests.query.tables import EPOCH, append, made, numbered
from tests.sequencing.numberings import KINDS, Sent, script

SYMBOLS = [
    "restart_without_its_head",
    "stragglers_and_copies",
    "old_numbering_again_with_send_times",
    "newest_corrected",
    "older_corrected",
    "each_twice",
    "block_again_with_send_times",
    "restart_with_a_slow_clock",
]
PARTS = 4


def message(symbol: str, one: Sent) -> tuple[bytes, bytes]:
    """Return a trade as key and canonical message."""
    side = (None, "buy", "sell")[one.side]
    fields = {"exchange": "x", "symbol": symbol, "sequence": one.sequence, "price": one.price, "side": side}
    fields |= {"quantity": one.quantity, "timestamp": one.timestamp}
    return f"x|{symbol}".encode(), json.dumps(fields).encode()


def outcome(job: Job) -> tuple[Counter[object], Counter[object], list[object]]:
    """Return the rows with their verdicts, the conflicts, and the missing numbers."""
    columns = job.table().select(["symbol", "sequence", "session", "price", "timestamp", "first_sequence"]).to_pylist()
    rows = Counter[object](tuple(row.values()) for row in columns)
    letters = Counter[object]((letter.reason, letter.value) for letter in job.letters())
    missing = [(gap.symbol, gap.session, gap.first_sequence, gap.last_sequence) for gap in gaps(job.settings)]
    return rows, letters, sorted(missing)


def test_starts_give_the_verdicts_of_one_run(broker: Broker, tmp_path: Path) -> None:
    """Rows, sessions, conflicts and gaps are those of one run, although each part of the topic is a new start.

    One job has a recovery store, the other has none.
    """
    scripts = {kind: script([*KINDS].index(kind) + 7 * len(KINDS)).sent for kind in SYMBOLS}
    topic = broker.topic()
    jobs = {recovery: Job(broker.bootstrap_servers, tmp_path / str(recovery), topic) for recovery in (False, True)}
    for part in range(PARTS):
        for kind, sent in scripts.items():
            bounds = part * len(sent) // PARTS, (part + 1) * len(sent) // PARTS
            publish(broker.bootstrap_servers, topic, [message(kind, one) for one in sent[slice(*bounds)]])
        for recovery, job in jobs.items():
            assert "Traceback" not in job.run(recovery=recovery)
    whole = Job(broker.bootstrap_servers, tmp_path / "whole", topic)
    whole.run(recovery=False)
    expected = outcome(whole)
    assert [outcome(job) for job in jobs.values()] == [expected, expected]
    assert sum(expected[1].values()) > 0


def okx(symbol: str, first: int, last: int, at: int, price: int | None = None) -> tuple[bytes, bytes]:
    """Return OKX's message of a trade that stands for a range of numbers."""
    trade = {"instId": symbol, "tradeId": str(last), "count": str(last - first + 1), "px": str(price or last + 1)}
    trade |= {"sz": "1", "side": "buy", "ts": str(1_652_459_199_000 + at)}
    message = {"arg": {"channel": "trades", "instId": symbol}, "data": [trade]}
    return symbol.encode(), json.dumps(message).encode()


def interleaving(symbol: str, seed: int) -> list[tuple[bytes, bytes]]:
    """Return the trades of bursts of numbers, dealt to a few trades each, with losses, copies and contradictions."""
    random, sent, start = Random(f"{symbol} {seed}"), list[tuple[bytes, bytes]](), 1
    for at in range(120):
        size = random.randint(1, 400 if at % 20 == 0 else 9)
        owners = [random.randint(0, 2) for _ in range(size)]
        groups = [[start + place for place in range(size) if owners[place] == one] for one in sorted({*owners})]
        trades = [okx(symbol, group[-1] - len(group) + 1, group[-1], at) for group in groups]
        random.shuffle(trades)
        sent += [one for one in trades if random.random() > 0.1]
        if sent and random.random() < 0.3:
            sent.append(random.choice(sent[-60:]))
        if random.random() < 0.05:
            sent.append(okx(symbol, start - 1, start - 1, at, 77))
        start += size
    return sent


def test_starts_place_ranges_as_one_run_does(broker: Broker, tmp_path: Path) -> None:
    """Which numbers a trade took is in its row, so that a start knows them; covered numbers are no copies."""
    symbols = [f"S{number}" for number in range(6)]
    scripts = [interleaving(symbol, 1) for symbol in symbols]
    topic = broker.topic()
    jobs = {recovery: Job(broker.bootstrap_servers, tmp_path / str(recovery), f"{topic}=okx") for recovery in (0, 1)}
    for part in range(PARTS):
        for sent in scripts:
            publish(broker.bootstrap_servers, topic, sent[part * len(sent) // PARTS : (part + 1) * len(sent) // PARTS])
        for recovery, job in jobs.items():
            assert "Traceback" not in job.run(recovery=bool(recovery))
    whole = Job(broker.bootstrap_servers, tmp_path / "whole", f"{topic}=okx")
    whole.run(recovery=False)
    expected = outcome(whole)
    assert [outcome(job) for job in jobs.values()] == [expected, expected]
    assert expected[1].total() > 0
    assert expected[2]


@pytest.mark.parametrize(
    ("symbol", "hours", "is_any_age", "files"),
    [("BTCUSDT", 20, False, 1), ("BTCUSDT", 20, True, 2), ("ETHUSDT", 0, True, 1), ("BTCUSDT", 40, False, 0)],
)
def test_files_of_other_times_and_symbols_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symbol: str, hours: int, files: int, *, is_any_age: bool
) -> None:
    """However old the table is, a lookup opens the files that can have the wanted trades."""
    settings = read_settings({}, data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    for number, name in enumerate(["BTCUSDT", "BTCUSDT", "ETHUSDT", "BTCUSDT"]):
        at = EPOCH + timedelta(hours=10 * number)
        append(table, [numbered(number, 10 * number, symbol=name, kafka_timestamp=at)])
    planned = list[str]()
    plan = engine.planned_files

    def noted(*arguments: Any) -> list[str]:
        planned.extend(plan(*arguments))
        return plan(*arguments)

    monkeypatch.setattr(engine, "planned_files", noted)
    floor = int((EPOCH + timedelta(hours=hours)).timestamp()) * 1_000_000
    since = floor - 10 * 3_600_000_000
    wanted = WantedContents(SessionKey("binance", symbol, 1), 0, 9, since, is_any_age)
    found = read_contents(settings, [wanted], floor, [])
    assert (len(planned), len(found.sequences)) == (files, files)
