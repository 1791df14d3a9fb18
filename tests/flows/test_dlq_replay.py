"""Dead letters of a venue's table that lacked a kind of message: once it is mended, `k2 dlq replay` is all to do."""

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
import pytest

from k2.query.dead_letters import count_dead_letters, count_with_replays, open_dead_letters
from k2.query.replays import ReplayCounts
from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import FIRST_TIME, assert_reconciled, publish
from tests.query.tables import missing_now

KINDS: Final = "when = [{ path = 'kind', one_of = ['trade'] }]"
MENDED: Final = "when = [{ path = 'kind', one_of = ['trade', 'block'] }]"
TABLE: Final = f"""
name = "mine"
source = "made up"
exchange = "market"
numbering = "contiguous"
symbol = {{ path = "symbol" }}
sequence = {{ path = "number", type = "number" }}
price = {{ path = "price" }}
quantity = {{ path = "quantity" }}
time = {{ path = "time", unit = "us" }}
[[messages]]
trades = "data[]"
{KINDS}
"""
BLOCKS: Final = (5, 6, 7, 20)
"""Numbers of the trades whose kind the table lacks."""
CONFLICT: Final = (41, 30)
"""Numbers of a message with two trades, the second of which is stored with another price."""
TORN: Final = 42
"""Number of the trade whose message is torn."""
LAST: Final = 43
FIX: Final = """
def transform(letter):
    return letter.value + "]}" if letter.reason == "malformed" else letter.value
"""


def _message(*numbers: int, kind: str = "trade", price: str = "2.5") -> bytes:
    trades = [
        {"symbol": "S", "number": number, "price": price, "quantity": "1", "time": FIRST_TIME + number}
        for number in numbers
    ]
    return json.dumps({"kind": kind, "data": trades}).encode()


def _feed() -> list[tuple[bytes, bytes]]:
    messages = [_message(number, kind="block" if number in BLOCKS else "trade") for number in range(1, 41)]
    messages += [_message(*CONFLICT, price="3"), _message(TORN)[:-2], _message(LAST)]
    return [(b"market|S", message) for message in messages]


def _replay(job: Job, *arguments: str, kill_at: str = "") -> dict[str, Any]:
    """Run `k2 dlq replay`, and return what it prints; at a failpoint it is killed, and prints nothing."""
    done = job.k2("dlq", "replay", *arguments, failpoint=kill_at)
    assert done.returncode == (-signal.SIGKILL if kill_at else 0), done.stderr
    found: dict[str, Any] = {} if kill_at else json.loads(done.stdout)
    return found


def _counts(job: Job) -> ReplayCounts | None:
    letters = open_dead_letters(job.settings, pytest.fail)
    return count_with_replays(count_dead_letters, job.settings, letters, pytest.fail).replays


def test_a_mended_table_and_a_replay_store_each_trade_once(broker: Broker, tmp_path: Path) -> None:
    """With a kill at each step of the replay: gaps are closed, law 1 holds, and a sibling of a conflict stays out."""
    if not broker.is_kafka:
        pytest.skip("needs Java and Maven: real Kafka")
    topic, table = broker.topic(), tmp_path / "mine.toml"
    table.write_text(TABLE)
    job = Job(broker.bootstrap_servers, tmp_path, f"{topic}=mine", {"K2_VENUES": str(table)})
    publish(broker.bootstrap_servers, topic, _feed())
    job.run()
    assert Counter(letter.reason for letter in job.letters()) == {"unsupported": 4, "conflict": 1, "malformed": 1}
    assert [gap[3:] for gap in missing_now(job.settings)] == [(5, 7), (20, 20), (TORN, TORN)]

    table.write_text(TABLE.replace(KINDS, MENDED))
    unsupported = ("--reason", "unsupported")
    for step in ("replay.intended", "replay.produced", "replay.committed", "replay.recorded"):
        _replay(job, *unsupported, kill_at=step)
    fix = tmp_path / "fix.py"
    fix.write_text(FIX)
    found = _replay(job, "--transform", str(fix))
    assert (found["published"], found["looked_up"]) == (2, 0)
    assert _counts(job) == ReplayCounts(0, 6, stored=0, rejected_again=0, corrections=0, unread=6, other=0)

    job.run()
    rows = job.table().filter(pc.field("sequence") != 0).sort_by("sequence")
    assert rows["sequence"].to_pylist() == [*range(1, LAST + 1)]
    origins = {row["sequence"]: row["origin"] for row in rows.to_pylist() if row["origin"] is not None}
    assert origins == {
        number: f"replay {topic}:0:{offset}" for number, offset in zip((*BLOCKS, TORN), (4, 5, 6, 19, 41), strict=True)
    }
    assert missing_now(job.settings) == []
    assert_reconciled(job)
    # The conflict is one again; the trade next to it in its message was not received a second time.
    assert _counts(job) == ReplayCounts(1, 6, stored=5, rejected_again=1, corrections=0, unread=0, other=0)
    assert job.committed() == len(_feed()) + 1 + 6
    (again,) = [letter for letter in job.letters() if letter.origin is not None]
    assert (again.reason, again.index, again.origin) == ("conflict", 1, f"replay {topic}:0:40")
