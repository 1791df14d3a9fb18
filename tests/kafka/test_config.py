"""librdkafka's configuration comes from the settings and the file, and errors in the file are located."""

from pathlib import Path

import pytest
from confluent_kafka import Consumer
from hypothesis import given
from hypothesis import strategies as st

from k2.kafka.config import (
    CODE_ONLY,
    OWNED,
    admin_client,
    bootstrap_servers,
    cluster_metadata,
    config_errors,
    consumer_config,
    producer_config,
    read_kafka_config,
)
from k2.model.errors import SettingsError, UnreachableError
from k2.ops.child_process import free_port
from k2.ops.settings import Settings, read_settings
from tests.brokers import Broker


def _settings(tmp_path: Path, text: str | bytes, **environment: str) -> Settings:
    path = tmp_path / "kafka.properties"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_settings({"K2_KAFKA_CONFIG": str(path), **environment})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\ufeff# TLS\n\n  security.protocol = SSL  \r\n", {"security.protocol": "SSL"}),
        ("sasl.password=a=b#c!\n", {"sasl.password": "a=b#c!"}),
        ("client.id=a\nclient.id=b", {"client.id": "b"}),
        ("client.id=", {"client.id": ""}),
        ("group.id=mine\n", {"group.id": "mine"}),
    ],
)
def test_properties_are_read(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    """A line is property=value, taken literally; blank lines and comments are skipped."""
    assert read_kafka_config(_settings(tmp_path, text)) == expected


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]+(\.[a-z]+){1,3}", fullmatch=True), st.from_regex(r"[!-~]{0,20}", fullmatch=True)
    )
)
def test_properties_survive_a_round_trip(tmp_path_factory: pytest.TempPathFactory, properties: dict[str, str]) -> None:
    """Any properties that the job does not set itself are read as they were written."""
    mine = {name: value for name, value in properties.items() if name not in OWNED}
    text = "".join(f"{name}={value}\n" for name, value in mine.items())
    assert read_kafka_config(_settings(tmp_path_factory.mktemp("config"), text)) == mine


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("client.id=a\n\nhunter2\n", "line 3 of"),
        ("=hunter2\n", "line 1 of"),
        (b"sasl.password=hunter2\xff\n", "is not UTF-8"),
        *[(f"{name}=hunter2\n", f"sets {name}, which the job sets itself") for name in sorted(OWNED)],
        *[(f"{name}=hunter2\n", f"sets {name}, which only a program can set") for name in sorted(CODE_ONLY)],
        ("client.id=a\noauth_cb=hunter2.token\n", "sets oauth_cb, which only a program can set"),
        ("ssl.certificate.verify_cb=hunter2\n", "sets ssl.certificate.verify_cb, which only a program can set"),
    ],
)
def test_a_bad_file_is_named_without_secrets(tmp_path: Path, text: str | bytes, expected: str) -> None:
    """An invalid line, a property that the job sets, or one that no file can set, is named, never its text."""
    with pytest.raises(SettingsError, match="K2_KAFKA_CONFIG") as caught:
        read_kafka_config(_settings(tmp_path, text))
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    """A file that is missing, or is a folder, is a wrong setting."""
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(SettingsError, match=path.name):
            read_kafka_config(read_settings({"K2_KAFKA_CONFIG": str(path)}))


def test_an_unknown_property_is_reported_by_librdkafka(tmp_path: Path) -> None:
    """A property that librdkafka does not have is a wrong setting, with librdkafka's message."""
    settings = _settings(tmp_path, "sasl.pasword=hunter2\n")
    with pytest.raises(SettingsError, match=r'No such configuration property: "sasl\.pasword"'):
        admin_client(settings)
    with pytest.raises(SettingsError, match="pasword"), config_errors(settings):
        Consumer(consumer_config(settings))


def test_what_the_python_client_rejects_is_a_wrong_setting(tmp_path: Path) -> None:
    """A value of the wrong type is one sentence, as what librdkafka rejects; errors of settings pass unchanged."""
    settings = _settings(tmp_path, "client.id=a\n")
    with (
        pytest.raises(SettingsError, match=r"kafka\.properties\): expected throttle_cb property"),
        config_errors(settings),
    ):
        Consumer({**consumer_config(settings), "throttle_cb": "text"})
    with pytest.raises(SettingsError, match="unchanged"), config_errors(settings):
        raise SettingsError("unchanged")


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("", {}, "127.0.0.1:9092"),
        ("bootstrap.servers=file:1", {}, "file:1"),
        ("metadata.broker.list=file:1", {}, "file:1"),
        ("bootstrap.servers=file:1", {"K2_BOOTSTRAP_SERVERS": "set:2"}, "set:2"),
        ("bootstrap.servers=file:1", {"K2_BOOTSTRAP_SERVERS": "127.0.0.1:9092"}, "127.0.0.1:9092"),
    ],
)
def test_the_environment_outranks_the_file(
    tmp_path: Path, text: str, environment: dict[str, str], expected: str
) -> None:
    """K2_BOOTSTRAP_SERVERS takes precedence if set, then the file, then the default; all clients get the same."""
    settings = _settings(tmp_path, text, **environment)
    assert bootstrap_servers(settings) == expected
    for config in (consumer_config(settings), producer_config(settings)):
        assert config["bootstrap.servers"] == expected
        assert "metadata.broker.list" not in config


def test_each_client_gets_its_own_properties(tmp_path: Path) -> None:
    """The file's group applies only to the consumer; guarantees override everything configured."""
    settings = _settings(tmp_path, "group.id=mine\nlinger.ms=1\n")
    assert consumer_config(settings)["group.id"] == "mine"
    assert consumer_config(settings, **{"group.id": "other"})["group.id"] == "other"
    assert consumer_config(settings)["isolation.level"] == "read_committed"
    produced = producer_config(settings, acks=0)
    assert (produced["acks"], produced["linger.ms"], "group.id" in produced) == ("all", "1", False)


def test_log_lines_of_an_absent_broker_are_limited(tmp_path: Path) -> None:
    """At most one line a second, unless more is configured."""
    assert consumer_config(_settings(tmp_path, ""))["reconnect.backoff.ms"] == 1_000
    assert consumer_config(_settings(tmp_path, "reconnect.backoff.ms=50\n"))["reconnect.backoff.ms"] == "50"


def test_a_partition_that_lags_waits_briefly_for_the_others(tmp_path: Path) -> None:
    """A request that waits for new messages of other partitions holds it up, so its wait is short unless configured."""
    assert consumer_config(_settings(tmp_path, ""))["fetch.wait.max.ms"] <= 50
    assert consumer_config(_settings(tmp_path, "fetch.wait.max.ms=500\n"))["fetch.wait.max.ms"] == "500"


def test_a_running_broker_answers(broker: Broker) -> None:
    """The metadata of a running broker names at least itself."""
    settings = read_settings({"K2_BOOTSTRAP_SERVERS": broker.bootstrap_servers})
    assert cluster_metadata(settings).brokers


def test_a_broker_that_is_absent_is_named() -> None:
    """If nothing listens at the address, the error says which address, and why."""
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnreachableError, match=f"{address}: .*refused"):
        cluster_metadata(read_settings({"K2_BOOTSTRAP_SERVERS": address}), seconds_max=0.5)


@pytest.mark.parametrize(
    ("partitions", "kilobytes", "messages"), [(1, 4_096, 25_000), (4, 2_048, 12_500), (16, 512, 3_125)]
)
def test_partitions_share_what_is_read_ahead(tmp_path: Path, partitions: int, kilobytes: int, messages: int) -> None:
    """Librdkafka limits the queue of each partition, so the limits fall with their number; a fetch is a part of it."""
    config = consumer_config(_settings(tmp_path, ""), partitions)
    assert (config["queued.max.messages.kbytes"], config["queued.min.messages"]) == (kilobytes, messages)
    assert config["fetch.message.max.bytes"] == 262_144
    Consumer(config).close()


def test_a_queue_is_never_too_short_and_can_be_configured(tmp_path: Path) -> None:
    """A thousand partitions still fetch enough at a time; the file outranks what is computed, by either name."""
    config = consumer_config(_settings(tmp_path, ""), 1_000)
    assert (config["queued.max.messages.kbytes"], config["queued.min.messages"]) == (512, 2_000)
    file = "queued.max.messages.kbytes=7\nqueued.min.messages=8\nmax.partition.fetch.bytes=9\n"
    config = consumer_config(_settings(tmp_path, file), 4)
    assert (config["queued.max.messages.kbytes"], config["queued.min.messages"]) == ("7", "8")
    assert [*config].index("max.partition.fetch.bytes") > [*config].index("fetch.message.max.bytes")
