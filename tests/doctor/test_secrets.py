"""No finding shows a secret of the Kafka properties, of the catalog or of the settings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.doctor.secrets import hiding, secrets_in, secrets_of
from k2.ops.settings import read_settings


@pytest.mark.parametrize(
    ("properties", "secrets"),
    [
        ({"sasl.password": "a-b"}, {"a-b"}),
        ({"ssl.key.location": "/etc/key.pem", "ssl.key.password": "p"}, {"p"}),
        ({"s3.secret-access-key": "x", "s3.endpoint": "http://s3", "type": "sql"}, {"x"}),
        ({"credential": "client:hush"}, {"client:hush", "hush"}),
        ({"uri": "postgresql://u:p%40ss@db/x"}, {"p%40ss", "p@ss"}),
        ({"uri": "postgresql+psycopg2://u:pq#wsecret1@127.0.0.1:1/db"}, {"pq#wsecret1"}),
        ({"uri": "postgresql://u:a/b?c@h/db?sslmode=require&password=hush"}, {"a/b?c", "hush"}),
        ({"uri": "postgresql://u:a@bc@h/db"}, {"a@bc", "a", "bc"}),
        ({"uri": "postgresql://u:a@b#c/d@h/db"}, {"a", "b#c"}),
        ({"uri": "https://h:8181/a@b"}, set()),
        (
            {"adls.connection-string": "AccountName=n;AccountKey=k==;SharedAccessSignature=sv&sig"},
            {"AccountName=n;AccountKey=k==;SharedAccessSignature=sv&sig", "k==", "sv&sig"},
        ),
        ({"auth": {"type": "basic", "basic": {"username": "u", "password": "deep"}}}, {"deep"}),
        ({"header.Authorization": "Bearer abc"}, {"Bearer abc", "abc"}),
    ],
)
def test_secrets_are_known_by_the_names_of_properties(properties: dict[str, object], secrets: set[str]) -> None:
    """Values of secret properties, nested ones included, and passwords in addresses; locations are no secrets."""
    assert {*secrets_in(properties)} == secrets


@given(st.sets(st.text("abc123.-", min_size=8, max_size=12), max_size=4), st.text("abc123 ", max_size=20))
def test_a_long_secret_is_hidden_wherever_it_is(secrets: set[str], text: str) -> None:
    """Also within a word, and next to others."""
    hide = hiding(frozenset(secrets))
    shown = hide(f"{text}{'x'.join(sorted(secrets))}{text}")
    assert not any(secret in shown for secret in secrets)


def test_all_sources_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka's file, PyIceberg's configuration, the API keys, and the environment of S3 and PostgreSQL."""
    file = tmp_path / "kafka.properties"
    file.write_text("sasl.password=one\n", encoding="utf-8")
    monkeypatch.setenv("PYICEBERG_CATALOG__K2__S3__SECRET_ACCESS_KEY", "two")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "three")
    settings = read_settings({"K2_KAFKA_CONFIG": str(file), "K2_API_KEYS": "four"})
    assert secrets_of(settings) >= {"one", "two", "three", "four"}
    file.unlink()
    assert secrets_of(settings) >= {"two", "three", "four"}
