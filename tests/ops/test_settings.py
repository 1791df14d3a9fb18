"""Settings: read once, and rejected in one sentence that names the variable."""

import re
from pathlib import Path

import pytest

from k2.model.errors import SettingsError
from k2.ops.settings import TopicVenue, read_settings


def test_defaults_are_the_documented_ones() -> None:
    """An empty environment gives the documented defaults."""
    settings = read_settings({})
    assert settings.bootstrap_servers == "127.0.0.1:9092"
    assert settings.topics == (TopicVenue("trades", "k2"),)
    assert settings.dead_letter_folder == Path("data/dlq")
    assert (settings.writers, settings.gap_large_min, settings.dedup_window_seconds) == (1, 11, 86_400)
    assert (settings.metrics_port, settings.stall_seconds_max, settings.run_to_end) == (9464, 60, False)
    assert settings.dlq_file_bytes_max == 104_857_600
    assert (settings.dlq_ratio_max, settings.dlq_ratio_messages_min) == (0.5, 10_000)
    assert settings.time_ahead_seconds_max == 86_400
    assert settings.api_body_bytes_max == 10_485_760
    assert settings.query_memory_limit == "4GB"
    assert settings.start == "earliest"


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("trades", [("trades", "k2")]),
        ("trades=k2,binance.trade=binance-spot", [("trades", "k2"), ("binance.trade", "binance-spot")]),
        ("trades=k2-monotonic,ticks=k2-identity-only", [("trades", "k2-monotonic"), ("ticks", "k2-identity-only")]),
        (" a , b = binance-spot ,", [("a", "k2"), ("b", "binance-spot")]),
    ],
)
def test_topics_name_their_venues(text: str, topics: list[tuple[str, str]]) -> None:
    """Each is `topic` or `topic=venue`."""
    assert list(read_settings({"K2_TOPICS": text}).topics) == topics


def test_feeds_are_topics_of_one_venue() -> None:
    """Each knows how many feeds its venue has; two venues may use the same names."""
    topics = "a,b,c,x=binance-spot,y=binance-spot"
    feeds = read_settings({"K2_TOPICS": topics, "K2_FEEDS": " a=A, b=B,x=A,y=B "}).feeds
    assert [tuple(one) for one in feeds] == [("a", "A", 2), ("b", "B", 2), ("x", "A", 2), ("y", "B", 2)]
    assert read_settings({}).feeds == ()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (",", "K2_FEEDS=',': names no feed"),
        ("a", "invalid feed 'a': use TOPIC=FEED"),
        ("a=A B", "invalid feed 'a=A B'"),
        ("a=A,z=B", "topic 'z' is not read; add it to K2_TOPICS"),
        ("a=A,a=B", "names topic 'a' twice"),
        ("a=A,b=A", "names feed 'A' of venue 'k2' twice"),
        ("a=A", "topic 'a' is the only feed of venue 'k2'"),
        ("a=A,x=B", "topic 'a' is the only feed of venue 'k2'"),
        ("m=A,n=B", "the numbers of venue 'k2-monotonic' do not show what a feed lost: 'm'"),
    ],
)
def test_wrong_feeds_are_refused(value: str, words: str) -> None:
    """In a sentence that names the topic or the feed."""
    topics = "a,b,x=binance-spot,m=k2-monotonic,n=k2-monotonic"
    with pytest.raises(SettingsError, match=re.escape(words)):
        read_settings({"K2_TOPICS": topics, "K2_FEEDS": value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("K2_TOPIC", "trades", "K2_TOPIC is not a setting of this job; did you mean K2_TOPICS?"),
        ("K2_NONSENSE", "", "K2_NONSENSE is not a setting"),
        ("K2_WRITERS", "0", "K2_WRITERS='0': Input should be greater than or equal to 1"),
        ("K2_WRITERS", "two", "K2_WRITERS='two': Input should be a valid integer"),
        ("K2_TOPICS", ",", "K2_TOPICS=',': names no topic"),
        (
            "K2_TOPICS",
            "a=nyse",
            "K2_TOPICS='a=nyse': unknown venue 'nyse'; see `k2 venues list`",
        ),
        ("K2_TOPICS", "a=k2-monotone", "unknown venue 'k2-monotone'; did you mean 'k2-monotonic'?"),
        ("K2_TOPICS", "a=", "no venue after 'a='"),
        ("K2_TOPICS", "a,a", "names topic 'a' twice"),
        ("K2_TOPICS", "a/b", "invalid topic name 'a/b'"),
        ("K2_TOPICS", "..", "invalid topic name '..'"),
        ("K2_NAMESPACE", "a b", "invalid namespace 'a b'"),
        ("K2_METRICS_PORT", "70000", "K2_METRICS_PORT='70000'"),
        ("K2_RUN_TO_END", "perhaps", "K2_RUN_TO_END='perhaps'"),
        ("K2_QUERY_MEMORY_LIMIT", "lots", "invalid amount of memory 'lots'"),
        ("K2_QUERY_MEMORY_LIMIT", "50%", "invalid amount of memory '50%'"),
        ("K2_QUERY_TIMEOUT_SECONDS", "inf", "K2_QUERY_TIMEOUT_SECONDS='inf'"),
        ("K2_GAP_LARGE_MIN", "1", "K2_GAP_LARGE_MIN='1'"),
        (
            "K2_DLQ_DIR",
            "ftp://host/dlq",
            "K2_DLQ_DIR='ftp://host/dlq': no object store has the scheme 'ftp': use a folder",
        ),
        (
            "K2_DLQ_DIR",
            "s3:///dlq",
            "K2_DLQ_DIR='s3:///dlq': names no bucket: use an address such as s3://bucket/prefix",
        ),
        (
            "K2_DLQ_DIR",
            "s3:/bucket/dlq",
            "K2_DLQ_DIR='s3:/bucket/dlq': an address has '://' after its scheme; use s3://bucket/prefix",
        ),
        (
            "K2_CANARY_TOPIC",
            "canary",
            "K2_CANARY_TOPIC='canary': is not a topic of venue k2 in K2_TOPICS; add it there",
        ),
        (
            "K2_CANARY_EXCHANGE",
            "binance",
            "K2_CANARY_EXCHANGE='binance': does not contain 'canary'; every hundredth number of this exchange may be",
        ),
        ("K2_START", "now", "K2_START='now': not an RFC 3339 time: 'now'; use earliest, latest, or a time such as"),
        ("K2_CANARY_INTERVAL_SECONDS", "0", "K2_CANARY_INTERVAL_SECONDS='0': Input should be greater than 0"),
        ("K2_DLQ_RATIO_MAX", "1.1", "K2_DLQ_RATIO_MAX='1.1': Input should be less than or equal to 1"),
        ("K2_DLQ_RATIO_MAX", "nan", "K2_DLQ_RATIO_MAX='nan'"),
        ("K2_DLQ_RATIO_MESSAGES_MIN", "0", "K2_DLQ_RATIO_MESSAGES_MIN='0'"),
        ("K2_TIME_AHEAD_SECONDS_MAX", "0", "K2_TIME_AHEAD_SECONDS_MAX='0': Input should be greater than or equal to 1"),
        ("K2_TIME_AHEAD_SECONDS_MAX", "1.5", "K2_TIME_AHEAD_SECONDS_MAX='1.5': Input should be a valid integer"),
        ("K2_API_KEYS", " , ", "K2_API_KEYS=...: contains no key"),
        ("K2_BOOTSTRAP_SERVERS", " ", "K2_BOOTSTRAP_SERVERS=' ': is empty"),
        ("K2_BOOTSTRAP_SERVERS", "http://kafka:9092", "invalid broker 'http://kafka:9092'"),
        ("K2_BOOTSTRAP_SERVERS", "kafka:port", "invalid broker 'kafka:port'"),
        ("K2_BOOTSTRAP_SERVERS", "kafka:99999", "invalid broker 'kafka:99999'"),
        ("K2_BOOTSTRAP_SERVERS", "kafka:9092,", "invalid broker ''"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, words: str) -> None:
    """Unknown names and bad values end with exit code 2 and one sentence."""
    with pytest.raises(SettingsError) as caught:
        read_settings({name: value})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "servers", ["kafka", "kafka-1:9092, kafka-2:9092", "[::1]:9092", "SASL_SSL://kafka.example:9092", "10.0.0.1:1"]
)
def test_broker_addresses_take_the_forms_of_librdkafka(servers: str) -> None:
    """Hosts with or without a port, one or several, with or without a protocol."""
    assert read_settings({"K2_BOOTSTRAP_SERVERS": servers}).bootstrap_servers == servers


def test_settings_of_the_tests_are_ignored_by_the_job() -> None:
    """The environment may contain `K2_TEST_…` variables."""
    assert read_settings({"K2_TEST_BOOTSTRAP_SERVERS": "x"}).bootstrap_servers == "127.0.0.1:9092"


def test_settings_are_frozen() -> None:
    """An attribute cannot be changed later."""
    with pytest.raises(ValueError, match="frozen"):
        read_settings({}).writers = 2


@pytest.mark.parametrize(
    ("value", "folder"),
    [("elsewhere/dlq", "elsewhere/dlq"), ("file:///var/dlq", "/var/dlq"), (Path("a"), "a"), (None, "data/dlq")],
)
def test_dead_letters_are_in_a_folder(value: object, folder: str) -> None:
    """A path, as text or not, or the address of a file."""
    settings = read_settings({}, **({} if value is None else {"dlq_dir": value}))
    assert (settings.dead_letter_folder, settings.dead_letter_address) == (Path(folder), None)


@pytest.mark.parametrize("scheme", ["s3", "gs", "abfss"])
def test_dead_letters_may_be_in_an_object_store(scheme: str) -> None:
    """The address is kept as text, without a slash at its end."""
    assert read_settings({"K2_DLQ_DIR": f"{scheme}://bucket/a/b/"}).dead_letter_address == f"{scheme}://bucket/a/b"


def test_the_canary_needs_a_topic_of_venue_k2() -> None:
    """One of another venue is refused; each namespace has a symbol of its own."""
    topics = {"K2_TOPICS": "trades=bybit,canary", "K2_NAMESPACE": "prod"}
    assert read_settings(topics).canary_topic is None
    assert read_settings({**topics, "K2_CANARY_TOPIC": "canary"}).canary_name == ("k2-canary", "prod")
    assert read_settings({**topics, "K2_CANARY_SYMBOL": "S"}).canary_name == ("k2-canary", "S")
    with pytest.raises(SettingsError, match=r"^K2_CANARY_TOPIC='trades': is not a topic of venue k2 in K2_TOPICS"):
        read_settings({**topics, "K2_CANARY_TOPIC": "trades"})
