"""A job that is stopped and restarted judges numbers as a single run does: contents come from the table."""

import json
from collections import Counter
from pathlib import Path

import pytest

from k2.query.gaps import gaps
from tests.brokers import Broker
from tests.flows.job import Job
from tests.flows.market import publish
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
    columns = job.table().select(["symbol", "sequence", "session", "price", "timestamp"]).to_pylist()
    rows = Counter[object](tuple(row.values()) for row in columns)
    letters = Counter[object]((letter.reason, letter.value) for letter in job.letters())
    missing = [(gap.symbol, gap.session, gap.first_sequence, gap.last_sequence) for gap in gaps(job.settings)]
    return rows, letters, sorted(missing)


@pytest.mark.parametrize("recovery", [False, True])
def test_starts_without_a_store_give_the_verdicts_of_one_run(broker: Broker, tmp_path: Path, *, recovery: bool) -> None:
    """Rows, sessions, conflicts and gaps are those of one run, although each part of the topic is a new start."""
    scripts = {kind: script([*KINDS].index(kind) + 7 * len(KINDS)).sent for kind in SYMBOLS}
    topic = broker.topic()
    parted = Job(broker.bootstrap_servers, tmp_path / "parted", topic)
    for part in range(PARTS):
        for kind, sent in scripts.items():
            bounds = part * len(sent) // PARTS, (part + 1) * len(sent) // PARTS
            publish(broker.bootstrap_servers, topic, [message(kind, one) for one in sent[slice(*bounds)]])
        said = parted.run(recovery=recovery)
        assert "Traceback" not in said
    whole = Job(broker.bootstrap_servers, tmp_path / "whole", topic)
    whole.run(recovery=False)
    assert outcome(parted) == outcome(whole)
    assert sum(outcome(whole)[1].values()) > 0
