"""A topic whose messages are not those of its venue stops the job early, and nothing is lost by it."""

import gzip
from dataclasses import replace
from pathlib import Path

from tests.brokers import Broker
from tests.flows.job import ROOT, Job
from tests.flows.market import assert_reconciled, publish

CAPTURE = ROOT / "tests" / "data" / "binance-spot-btcusdt-20240808.ndjson.gz"
JUDGED = 500
"""Real trades that are read before there are enough to judge."""


def test_a_wrong_venue_stops_the_job_and_the_right_one_stores_everything(broker: Broker, tmp_path: Path) -> None:
    """In a run to the end: what was committed before remains dead letters; all other messages are read again.

    The sentence names the topic, its venue, the share, the commonest reason with its first error, and the way on.
    """
    lines = [(b"binance|BTCUSDT", line) for line in gzip.decompress(CAPTURE.read_bytes()).splitlines()]
    topic = broker.topic(partitions=2)
    wrong = Job(broker.bootstrap_servers, tmp_path, f"{topic}=k2", {"K2_DLQ_RATIO_MESSAGES_MIN": "1000"})
    publish(broker.bootstrap_servers, topic, lines[:JUDGED])
    wrong.run()
    publish(broker.bootstrap_servers, topic, lines[JUDGED:])
    for recovery in (True, False):
        code, said = wrong.outcome(recovery=recovery)
        assert code == 1, said
        assert f"topic '{topic}': 100.0 % of the last " in said
        assert "are dead letters by venue 'k2'" in said
        assert "of them invalid, the first at" in said
        assert "fix the topic's venue in K2_TOPICS, or set K2_DLQ_RATIO_MAX=0" in said
        assert "Traceback" not in said
        assert (wrong.committed(), wrong.snapshots()) == (JUDGED, 1)
    right = replace(wrong, topics=f"{topic}=binance-spot")
    right.run()
    assert right.committed() == len(lines)
    assert (right.table().num_rows, len(right.letters())) == (len(lines) - JUDGED, JUDGED)
    assert_reconciled(right)


def test_a_limit_of_0_dead_letters_everything(broker: Broker, tmp_path: Path) -> None:
    """As before there was a limit."""
    topic = broker.topic()
    publish(broker.bootstrap_servers, topic, [(b"", b"no JSON")] * 12_000)
    job = Job(broker.bootstrap_servers, tmp_path, topic)
    assert job.outcome()[0] == 1
    replace(job, environment={"K2_DLQ_RATIO_MAX": "0"}).run()
    assert (job.committed(), len(job.letters())) == (12_000, 12_000)
    assert_reconciled(job)
