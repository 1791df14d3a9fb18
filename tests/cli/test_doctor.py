"""`k2 doctor`: one line for each check, exit codes, no secrets, and nothing is changed."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from k2.cli import doctor as command
from k2.cli.main import app
from k2.doctor.findings import Check, Finding, ok
from k2.kafka.producer import TradeProducer
from k2.model.progress import PartitionProgress, Progress, TopicPartition
from k2.ops.child_process import free_port
from k2.ops.settings import read_settings
from k2.storage.recovery.backup import make_store
from tests.brokers import Broker
from tests.cli.moved import store
from tests.query.tables import set_progress

K2 = Callable[..., Result]
VALUE = b'{"exchange":"x","symbol":"A-B","sequence":%d,"price":"1","quantity":"1","timestamp":1723161255342000}'


@pytest.fixture
def topic(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a topic of ten trades, and set the environment for a job that reads it."""
    name = broker.topic()
    monkeypatch.setenv("K2_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    monkeypatch.setenv("K2_TOPICS", name)
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    with TradeProducer(read_settings(), name) as producer:
        for number in range(10):
            producer.send(b"x|A-B", VALUE % number)
    return name


def doctor(*arguments: str) -> tuple[int, dict[str, Finding]]:
    """Run `k2 doctor --json`, and return the exit code and each finding."""
    done = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    assert "Traceback" not in done.output
    rows = json.loads(done.stdout)
    assert all(set(row) == {"check", "state", "text"} for row in rows)
    assert {row["state"] for row in rows} <= {"ok", "warning", "failed", "unknown"}
    return done.exit_code, {row["check"]: Finding(**row) for row in rows}


def test_a_sound_environment_fails_no_check(topic: str, broker: Broker, tmp_path: Path) -> None:
    """Before the first start: the topic can be read, and nothing is created."""
    code, found = doctor()
    assert [one for one in found.values() if one.state == "failed"] == []
    assert code == 0
    for check in ("settings", "python", "packages", "broker", f"topic {topic}", "catalog", "progress", "dead letters"):
        assert found[check].state == "ok", found[check]
    assert "10 newest messages read, each with a key" in found[f"topic {topic} keys"].text
    assert "10 newest messages read, none rejected by venue k2" in found[f"topic {topic} venue"].text
    if broker.is_kafka:
        assert "have leader epochs" in found[f"topic {topic} epochs"].text
        assert found[f"topic {topic} replicas"].state == "warning"
    assert not (tmp_path / "data").exists()


def test_text_is_one_line_for_each_check(topic: str, k2: K2) -> None:
    """Each begins with its state."""
    done = k2("doctor")
    assert done.exit_code == 0
    assert all(line.split()[0] in {"ok", "warning", "failed", "unknown"} for line in done.stdout.splitlines())
    assert f"topic {topic}: 1 partition, read as venue k2" in done.stdout


def test_lost_messages_are_counted(topic: str, broker: Broker) -> None:
    """The table's progress is below the first offset that the broker has: it fails, with how many are lost."""
    settings = read_settings()
    set_progress(store(settings), Progress({"0": {TopicPartition(topic, 0): PartitionProgress(3)}}))
    assert "1 partition can be continued, 7 messages unread" in doctor()[1]["progress"].text
    if not broker.is_kafka:
        return
    broker.delete_records(topic, 8)
    code, found = doctor()
    assert (code, found["progress"].state) == (1, "failed")
    assert f"5 messages lost: {topic}:0 begins at offset 8, but 3 is to be read next" in found["progress"].text
    assert f"k2 recovery skip {topic}:0" in found["progress"].text


def test_a_topic_that_is_absent_or_read_by_another_venue_fails(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other topics are checked all the same."""
    monkeypatch.setenv("K2_TOPICS", f"no-such-topic,{topic}=okx")
    code, found = doctor()
    assert code == 1
    assert "topic 'no-such-topic' does not exist" in found["topic no-such-topic"].text
    assert f"set {topic}=k2 in K2_TOPICS" in found[f"topic {topic} venue"].text


def test_a_broker_that_is_absent_is_reported_with_all_else(
    topic: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The exit code is 3, and the catalog is checked; topics are not."""
    monkeypatch.setattr("k2.doctor.broker.ANSWER_SECONDS_MAX", 0.5)
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("K2_BOOTSTRAP_SERVERS", address)
    code, found = doctor()
    assert (code, found["broker"].state, found[f"topic {topic}"].state) == (3, "failed", "unknown")
    assert address in found["broker"].text
    assert "start the broker" in found["broker"].text
    assert found["catalog"].state == "ok"


def test_a_catalog_that_is_absent_is_reported_with_all_else(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 3, and the topics are checked."""
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", f"http://127.0.0.1:{free_port()}")
    code, found = doctor()
    assert (code, found["catalog"].state, found["tables"].state) == (3, "failed", "unknown")
    assert found[f"topic {topic} keys"].state == "ok"
    assert "not checked, because the progress of the table is not known" in found[f"topic {topic} retention"].text


@pytest.mark.parametrize("line", ["oauth_cb=mine.token", "security.protocol=nonsense"])
def test_a_wrong_kafka_property_is_a_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """The exit code is 2, and property and file are named; what needs no broker is checked."""
    file = tmp_path / "kafka.properties"
    file.write_text(f"{line}\n", encoding="utf-8")
    monkeypatch.setenv("K2_KAFKA_CONFIG", str(file))
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    code, found = doctor()
    assert (code, found["settings"].state, found["catalog"].state) == (2, "failed", "ok")
    assert line.partition("=")[0] in found["settings"].text
    assert str(file) in found["settings"].text


def test_a_wrong_setting_leaves_the_checks_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is 2."""
    monkeypatch.setenv("K2_TOPIC", "trades")
    code, found = doctor()
    assert (code, found["settings"].state, found["python"].state) == (2, "failed", "ok")
    assert "did you mean K2_TOPICS?" in found["settings"].text


def test_no_secret_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k2: K2) -> None:
    """Passwords of Kafka and keys of S3 are replaced, also where an error repeats them."""
    file = tmp_path / "kafka.properties"
    file.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=me\nsasl.password=hunter2-kafka\n"
        "ssl.key.password=hunter2-ssl\nssl.ca.location=/no/such/hunter2-kafka\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("K2_KAFKA_CONFIG", str(file))
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", "postgresql://me:hunter2-pg@127.0.0.1:1/db")
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__WAREHOUSE", "s3://hunter2-s3/warehouse")
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__S3__SECRET_ACCESS_KEY", "hunter2-s3")
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__S3__ACCESS_KEY_ID", "hunter2-id")

    def repeat() -> list[Finding]:
        return [ok("all", f"hunter2-kafka hunter2-ssl hunter2-s3 hunter2-id hunter2-pg {file.read_text('utf-8')}")]

    checks = command.all_checks
    monkeypatch.setattr(command, "all_checks", lambda *given: [*checks(*given), Check("all", repeat, 5)])
    for arguments in ((), ("--json",)):
        done = k2("doctor", *arguments)
        assert "hunter2" not in done.output
        assert "…" in done.stdout


@pytest.mark.parametrize("mark", ["#", "/", "?"])
def test_no_part_of_a_catalogs_password_is_printed(monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    """SQLAlchemy takes a password with these characters unquoted; host and port are shown."""
    port = free_port()
    password = f"hunter2{mark}rest"
    monkeypatch.setattr("k2.doctor.broker.ANSWER_SECONDS_MAX", 0.5)
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__URI", f"postgresql+psycopg2://me:{password}@127.0.0.1:{port}/db")
    finding = doctor()[1]["catalog"]
    assert f"at 127.0.0.1:{port} cannot be reached" in finding.text
    assert "hunter2" not in finding.text
    assert "rest" not in finding.text


@pytest.mark.parametrize("arguments", [(), ("-a", "127.0.0.1:1;127.0.0.1:2")])
def test_a_part_of_a_store_is_checked_as_the_start_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """A cluster is known by its addresses, as for `k2 run`."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("K2_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr("k2.doctor.broker.ANSWER_SECONDS_MAX", 0.5)
    (make_store(tmp_path / "recovery", 2).folder / "part-1.sqlite3").unlink()
    assert doctor(*arguments)[1]["recovery store"].state == ("warning" if arguments else "failed")
    monkeypatch.setenv("BYTEWAX_HOSTFILE_PATH", str(tmp_path / "hosts"))
    assert doctor(*arguments)[1]["recovery store"].state == "warning"


@pytest.mark.parametrize(
    ("arguments", "state", "words"),
    [
        (("-i", "1"), "ok", "process 0 has them, and process 1 needs none"),
        (("-i", "0"), "warning", "`k2 run` creates one there; if process 0 had a store"),
        ((), "warning", "is right for processes 1 and later of a cluster, to which `k2 run` gives such a folder"),
    ],
)
def test_the_number_of_a_process_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], state: str, words: str
) -> None:
    """Only process 0 of a cluster has partitions of the recovery store; a number without addresses is refused."""
    monkeypatch.setenv("K2_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("K2_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr("k2.doctor.broker.ANSWER_SECONDS_MAX", 0.5)
    found = doctor("-r", str(tmp_path), "-a", "127.0.0.1:1;127.0.0.1:2", *arguments)[1]["recovery store"]
    assert (found.state, words in found.text) == (state, True), found.text
    monkeypatch.setenv("BYTEWAX_PROCESS_ID", "2")
    refused = CliRunner().invoke(app, ["doctor", "-a", "127.0.0.1:1;127.0.0.1:2"])
    assert (refused.exit_code, "-i 2, but -a names 2 processes" in refused.stderr) == (2, True)


def test_a_check_that_hangs_does_not_keep_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k2: K2) -> None:
    """The process ends at once, with the exit code of the others."""
    release, codes = threading.Event(), list[int]()

    def hang() -> list[Finding]:
        release.wait()
        return []

    monkeypatch.setattr(
        command, "all_checks", lambda *_: [Check("slow", hang, 0.1), Check("a", lambda: [ok("a", "b")], 5)]
    )
    monkeypatch.setattr(command, "_exit_at_once", codes.append)
    done = k2("doctor")
    release.set()
    assert codes == [0]
    assert done.stdout.splitlines()[-1].split() == ["ok", "a:", "b"]
