"""The status over HTTP: the verdict as a document and as metrics."""

import json
from math import inf

from prometheus_client.parser import text_string_to_metric_families

from k2.ops.settings import Settings
from k2.query.output_formats import to_json
from k2.status.findings import Cause, Verdict
from k2.status.reader import StatusReader
from tests.http.conftest import Client


def test_the_status_is_that_of_the_command(client: Client, market: Settings) -> None:
    """The same verdict, sentences and partitions; only the times of the two readings differ."""
    found = client.get("/v1/status").json
    expected = json.loads(to_json(StatusReader(market).read()))
    assert found.keys() == expected.keys()
    assert found["verdict"] == expected["verdict"] == "rejecting"
    assert [one["cause"] for one in found["reasons"]] == [one["cause"] for one in expected["reasons"]]
    assert found["partitions"] == expected["partitions"]


def test_without_tables_it_is_no_error(bare: Client) -> None:
    """A server may be started before the job."""
    reply = bare.get("/v1/status")
    assert (reply.status, reply.json["verdict"]) == (200, "unknown")
    assert [one["cause"] for one in reply.json["reasons"]] == ["nothing_stored"]


def test_the_verdict_as_metrics(client: Client) -> None:
    """One verdict is 1, each cause has a count, queries are counted, and no metric of the job is among them."""
    reply = client.get("/metrics", accept="text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain")
    families = {one.name: one for one in text_string_to_metric_families(reply.body.decode())}
    deadlines = "k2_gap_fillable_until_timestamp_seconds"
    assert {*families} == {"k2_verdict", "k2_verdict_reasons", deadlines, "k2_queries"}
    assert {sample.value for sample in families[deadlines].samples} == {inf}
    verdicts = {sample.labels["verdict"]: sample.value for sample in families["k2_verdict"].samples}
    assert {*verdicts} == {*Verdict}
    assert [name for name, value in verdicts.items() if value] == ["rejecting"]
    causes = {sample.labels["cause"]: sample.value for sample in families["k2_verdict_reasons"].samples}
    assert {*causes} == {*Cause}
    assert causes["messages_rejected"] == 1


def test_metrics_only_in_plain_text(client: Client) -> None:
    """A client that accepts only plain text is served as well."""
    assert client.get("/metrics", accept="text/plain").status == 200


def test_no_broker_is_asked_unless_configured(client: Client) -> None:
    """The unread messages of a partition are then absent, not 0."""
    assert b"\nk2_unread_messages{" not in client.get("/metrics").body
    assert [one["unread"] for one in client.get("/v1/status").json["partitions"]] == [None]
