"""What to fix if no broker answers: address, TLS and SASL have different fixes."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from k2.kafka.config import cluster_metadata
from k2.kafka.connection_advice import connection_advice
from k2.model.errors import UnreachableError
from k2.ops.settings import read_settings
from tests.brokers import Broker

SASL = "sasl.mechanism=PLAIN\nsasl.username=k2\nsasl.password=hunter2hunter2\n"


@pytest.mark.parametrize(
    ("code", "text", "advice"),
    [
        (KafkaError._RESOLVE, "Failed to resolve 'x:1'", "fix the host name in K2_BOOTSTRAP_SERVERS"),
        (KafkaError._TRANSPORT, "Connect to ipv4#1.1.1.1:1 failed: Connection refused", "start the broker"),
        (KafkaError._TIMED_OUT, "Local: Timed out", "start the broker"),
        (KafkaError._SSL, "SSL handshake failed: certificate verify failed", "fix ssl.ca.location"),
        (KafkaError._TRANSPORT, "error:0A000086:SSL routines::certificate verify failed", "or the host name"),
        (
            KafkaError._TRANSPORT,
            "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
            "that listener may have none",
        ),
        (KafkaError._AUTHENTICATION, "SASL authentication error: Authentication failed", "fix sasl.mechanism"),
        (KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down", "set security.protocol"),
    ],
)
def test_each_cause_has_its_advice(code: int, text: str, advice: str) -> None:
    """By librdkafka's code, or by its text where TLS has the code of a lost connection."""
    assert advice in connection_advice(KafkaError(code, text))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("listener", "properties", "advice"),
    [
        ("login", f"security.protocol=SASL_PLAINTEXT\n{SASL}", "SASL failed"),
        ("login", "", "set security.protocol in K2_KAFKA_CONFIG"),
        ("plain", "security.protocol=SSL\n", "TLS failed, and that listener may have none"),
        ("plain", f"security.protocol=SASL_PLAINTEXT\n{SASL}", "SASL failed"),
    ],
    ids=["wrong password", "plain at a login", "TLS at a plain one", "login at a plain one"],
)
def test_real_kafka_refuses_a_wrong_protocol(
    shared_kafka: Broker, tmp_path: Path, listener: str, properties: str, advice: str
) -> None:
    """The advice fits the errors that librdkafka really reports, and no password is in the message."""
    servers = shared_kafka.login_servers if listener == "login" else shared_kafka.bootstrap_servers
    file = tmp_path / "kafka.properties"
    file.write_text(properties, encoding="utf-8")
    settings = read_settings({"K2_BOOTSTRAP_SERVERS": servers, "K2_KAFKA_CONFIG": str(file)})
    with pytest.raises(UnreachableError, match=advice) as caught:
        cluster_metadata(settings, seconds_max=3)
    assert "hunter2" not in str(caught.value)
