"""Logins by token: the provider that the Kafka properties name becomes a callback of each client."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from k2.kafka import token_providers
from k2.kafka.client import KafkaClient
from k2.kafka.config import admin_client, consumer_config, producer_config
from k2.kafka.token_providers import MSK_IAM, PROVIDER, SIGNER, MskTokens
from k2.model.errors import K2Error, SettingsError, UnreachableError
from k2.ops.settings import Settings, read_settings

Sign = Callable[[str], tuple[str, int]]
SERVER = "b-1.k2.abc123.c2.kafka.eu-west-1.amazonaws.com:9098"
EXPIRY_MS = 4_000_000_000_000


@pytest.fixture(autouse=True)
def _no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the region of the environment."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Install a signer that signs nothing, and return the regions that it is called with."""
    regions: list[str] = []

    def sign(region: str) -> tuple[str, int]:
        regions.append(region)
        return f"token-{len(regions)}", EXPIRY_MS

    install(monkeypatch, sign)
    return regions


def install(monkeypatch: pytest.MonkeyPatch, sign: Sign) -> None:
    """Put a module in the place of the signer's package."""
    package, module = ModuleType(SIGNER), ModuleType(f"{SIGNER}.MSKAuthTokenProvider")
    package.__spec__ = ModuleSpec(SIGNER, None)
    vars(module)["generate_auth_token"] = sign
    for one in (package, module):
        monkeypatch.setitem(sys.modules, one.__name__, one)


def configured(tmp_path: Path, text: str, servers: str = SERVER) -> Settings:
    """Return settings with these Kafka properties."""
    file = tmp_path / "kafka.properties"
    file.write_text(text, encoding="utf-8")
    return read_settings({"K2_KAFKA_CONFIG": str(file), "K2_BOOTSTRAP_SERVERS": servers})


def test_each_client_gets_the_callback(signed: list[str], tmp_path: Path) -> None:
    """With the protocol and mechanism of MSK, and without the property, which librdkafka does not know."""
    settings = configured(tmp_path, f"{PROVIDER}={MSK_IAM}\n")
    for number, make in enumerate((consumer_config, producer_config), start=1):
        config = make(settings)
        assert (config["security.protocol"], config["sasl.mechanism"]) == ("SASL_SSL", "OAUTHBEARER")
        assert config["oauth_cb"](None) == (f"token-{number}", EXPIRY_MS / 1_000)
        assert PROVIDER not in config
    assert signed == ["eu-west-1"] * 2


def test_what_the_file_sets_is_kept(signed: list[str], tmp_path: Path) -> None:
    """Such as another security protocol behind a proxy."""
    config = consumer_config(configured(tmp_path, f"{PROVIDER}={MSK_IAM}\nsecurity.protocol=SASL_PLAINTEXT\n"))
    assert config["security.protocol"] == "SASL_PLAINTEXT"
    assert len(signed) == 1


@pytest.mark.parametrize(
    ("servers", "variables", "region"),
    [
        (SERVER, {}, "eu-west-1"),
        ("boot-x.c1.kafka-serverless.us-east-2.amazonaws.com:9098", {}, "us-east-2"),
        (SERVER, {"AWS_DEFAULT_REGION": "us-west-1"}, "us-west-1"),
        ("proxy:1", {"AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "us-west-1"}, "us-west-2"),
    ],
)
def test_the_region_is_found(
    signed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    servers: str,
    variables: dict[str, str],
    region: str,
) -> None:
    """In the environment, else in the broker's name."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    consumer_config(configured(tmp_path, f"{PROVIDER}={MSK_IAM}\n", servers))
    assert signed == [region]


def test_librdkafka_calls_it_and_the_job_reads_without_the_c_interface(signed: list[str], tmp_path: Path) -> None:
    """The clients are made with a token, which is signed once for each."""
    settings = configured(tmp_path, f"{PROVIDER}={MSK_IAM}\n", "127.0.0.1:1")
    with pytest.raises(SettingsError, match="the region is not known; set AWS_REGION"):
        admin_client(settings)
    settings = configured(tmp_path, f"{PROVIDER}={MSK_IAM}\nlog_level=0\n", f"127.0.0.1:1,{SERVER}")
    client = KafkaClient(settings)
    assert client._library is None
    assert signed == ["eu-west-1"]


def test_a_provider_that_is_not_installed_or_unknown_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is named."""
    monkeypatch.setattr(token_providers, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"needs the extra 'msk'; run `pip install 'k2-trades\[msk\]'`"):
        consumer_config(configured(tmp_path, f"{PROVIDER}={MSK_IAM}\n"))
    with pytest.raises(SettingsError, match=f"unknown {PROVIDER}=other; use {MSK_IAM}"):
        consumer_config(configured(tmp_path, f"{PROVIDER}=other\n"))


def test_an_error_of_the_signer_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the client is made, as without credentials."""

    def refuse(_region: str) -> tuple[str, int]:
        raise ValueError("AWS credentials\nnot found")

    install(monkeypatch, refuse)
    with pytest.raises(SettingsError, match="no token can be signed: AWS credentials not found; set AWS credentials"):
        consumer_config(configured(tmp_path, f"{PROVIDER}={MSK_IAM}\n"))


class MetadataRetrievalError(Exception):
    """As that of the signer's library, which is no OSError."""

    __module__ = "botocore.exceptions"


class CredentialRetrievalError(Exception):
    """As that of the signer's library for any fault of a provider of credentials."""

    __module__ = "botocore.exceptions"


@pytest.mark.parametrize(
    ("cause", "error", "kind"),
    [
        (None, TimeoutError("timed out"), UnreachableError),
        (None, ConnectionResetError("reset"), UnreachableError),
        (None, MetadataRetrievalError("timed out"), UnreachableError),
        (MetadataRetrievalError("timed out"), CredentialRetrievalError("no role"), UnreachableError),
        (None, CredentialRetrievalError("access denied"), SettingsError),
        (None, FileNotFoundError("no token file"), SettingsError),
        (None, AttributeError("'NoneType' object has no attribute 'access_key'"), SettingsError),
    ],
)
def test_only_credentials_that_are_missing_or_refused_are_a_setting(
    cause: Exception | None, error: Exception, kind: type[K2Error], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that does not answer at a start may answer at the next one, so a supervisor makes one."""

    def fail(_region: str) -> tuple[str, int]:
        raise error from cause

    install(monkeypatch, fail)
    text = "no credentials were found" if isinstance(error, AttributeError) else str(error)
    for make in (consumer_config, admin_client):
        with pytest.raises(kind, match=f"no token can be signed: {text}; ") as caught:
            make(configured(tmp_path, f"{PROVIDER}={MSK_IAM}\n"))
        assert caught.value.is_final == (kind is SettingsError)


def test_a_token_is_signed_again_before_it_expires() -> None:
    """A minute before; until then the same one serves."""
    now, signed = [1_000.0], list[str]()

    def sign(region: str) -> tuple[str, int]:
        signed.append(region)
        return str(len(signed)), int((now[0] + 900) * 1_000)

    tokens = MskTokens(sign, "r", lambda: now[0])
    assert tokens(None) == ("1", 1_900.0)
    now[0] += 839
    assert tokens(None) == ("1", 1_900.0)
    now[0] += 2
    assert tokens(None) == ("2", 2_741.0)


def test_oidc_of_librdkafka_needs_no_callback(tmp_path: Path) -> None:
    """Its properties are passed on, and a client can be made from them."""
    settings = configured(
        tmp_path,
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.method=oidc\n"
        "sasl.oauthbearer.client.id=a\nsasl.oauthbearer.client.secret=b\nlog_level=0\n"
        "sasl.oauthbearer.token.endpoint.url=http://127.0.0.1:1/token\n",
        "127.0.0.1:1",
    )
    assert "oauth_cb" not in consumer_config(settings)
    admin_client(settings)
