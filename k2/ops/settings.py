"""Settings, read once from the environment; the README documents each."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from k2.model.canary import CanarySymbol
from k2.model.errors import SettingsError
from k2.model.feeds import FeedTopic
from k2.model.key_groups import GROUPS
from k2.model.partition_starts import EARLIEST, checked_start
from k2.model.wording import closest
from k2.venues import VENUES
from k2.venues.time_ahead import TIME_AHEAD_SECONDS_MAX

__all__ = ["Settings", "TopicVenue", "checked_topic", "read_settings"]

PREFIX: Final = "K2_"
TEST_PREFIX: Final = "K2_TEST_"
_TOPIC_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NAMESPACE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_FEED_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SERVER: Final = re.compile(
    r"((plaintext|ssl|sasl_plaintext|sasl_ssl)://)?(\[[0-9a-f:.%]+\]|[^\s:/\[\]]+)(:(?P<port>\d{1,5}))?", re.IGNORECASE
)
_WEB_ADDRESS: Final = re.compile(r"https?://[^\s/]+(/\S*)?", re.IGNORECASE)
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_OBJECT_STORES: Final = ("abfs", "abfss", "gcs", "gs", "oss", "s3", "s3a", "s3n", "wasb", "wasbs")
"""Schemes of the object stores that PyIceberg opens."""
_MEMORY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", re.IGNORECASE)


class TopicVenue(NamedTuple):
    """A topic to read, and the venue whose messages it carries."""

    topic: str
    venue: str


def _topics(text: object) -> object:
    if not isinstance(text, str):
        return text
    topics = [_topic(part.strip()) for part in text.split(",") if part.strip()]
    if not topics:
        raise ValueError("names no topic; use TOPIC or TOPIC=VENUE, separated by commas")
    names = [topic.topic for topic in topics]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"names topic {repeated[0]!r} twice")
    return tuple(topics)


def checked_topic(name: str) -> str:
    """Return a topic name unchanged if Kafka allows it.

    Raises:
        ValueError: Kafka does not allow it.
    """
    if not _TOPIC_NAME.fullmatch(name) or name in {".", ".."}:
        raise ValueError(f"invalid topic name {name!r}: use at most 249 letters, digits, '.', '_' and '-'")
    return name


def _topic(part: str) -> TopicVenue:
    topic, equals, venue = (piece.strip() for piece in part.partition("="))
    checked_topic(topic)
    if equals and not venue:
        raise ValueError(f"no venue after {part.strip()!r}: name one, or leave out '=' for venue 'k2'")
    if (venue or "k2") not in VENUES:
        raise ValueError(VENUES.unknown_message(venue))
    return TopicVenue(topic, venue or "k2")


def _feeds(text: object) -> object:
    if not isinstance(text, str):
        return text
    feeds = [_feed(part.strip()) for part in text.split(",") if part.strip()]
    if not feeds:
        raise ValueError("names no feed; use TOPIC=FEED, separated by commas, or unset the variable")
    return tuple(feeds)


def _feed(part: str) -> FeedTopic:
    topic, _, feed = (piece.strip() for piece in part.partition("="))
    checked_topic(topic)
    if not _FEED_NAME.fullmatch(feed):
        raise ValueError(f"invalid feed {part!r}: use TOPIC=FEED, a name of at most 64 letters, digits, '.', '_', '-'")
    return FeedTopic(topic, feed, 0)


def _servers(text: str) -> str:
    for server in text.split(","):
        match = _SERVER.fullmatch(server.strip())
        if match is None or int(match["port"] or 1) not in range(1, 65_536):
            raise ValueError(f"invalid broker {server.strip()!r}: use host or host:port, separated by commas")
    return text


def _web_addresses(text: str) -> str:
    if not all(_WEB_ADDRESS.fullmatch(address.strip()) for address in text.split(",")):
        raise ValueError(
            "not the address of a schema registry; use http:// or https:// and its host, several by commas"
        )
    return text


def _namespace(text: str) -> str:
    if not _NAMESPACE_NAME.fullmatch(text):
        raise ValueError(f"invalid namespace {text!r}: use letters, digits, '_' and '-', with '.' between levels")
    return text


def _dead_letters(value: object) -> object:
    """Return a folder as a path, and an address in an object store as text without a slash at its end."""
    if not isinstance(value, str):
        return value
    match = _ADDRESS.fullmatch(value)
    scheme = _SCHEME.match(value)
    if match is None and scheme is not None and scheme[1] in _OBJECT_STORES:
        # It would be a folder named `s3:` on a disk, which the machine may lose.
        raise ValueError(f"an address has '://' after its scheme; use {scheme[1]}://bucket/prefix")
    if match is None or match[1] == "file":
        return Path(match[2] if match else value)
    if match[1] not in _OBJECT_STORES:
        raise ValueError(
            f"no object store has the scheme {match[1]!r}: use a folder, or an address such as s3://bucket/prefix "
            f"({', '.join(_OBJECT_STORES)})"
        )
    if not match[2].partition("/")[0]:
        raise ValueError("names no bucket: use an address such as s3://bucket/prefix")
    return value.rstrip("/")


def _memory(text: str) -> str:
    if not _MEMORY.fullmatch(text):
        raise ValueError(f"invalid amount of memory {text!r}: use a number and a unit, such as 4GB or 512MiB")
    return text


def _keys(text: object) -> object:
    if not isinstance(text, str):
        return text
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if not keys:
        # A set variable means that keys are wanted: a secret that was not filled in must not disable them.
        raise ValueError("contains no key; set a key, or unset the variable to serve without keys")
    return keys


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()


Text = Annotated[str, AfterValidator(_not_blank)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """Settings of the job and of the `k2` commands; frozen."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: Annotated[Text, AfterValidator(_servers)] = "127.0.0.1:9092"
    topics: Annotated[tuple[TopicVenue, ...], NoDecode, BeforeValidator(_topics)] = (TopicVenue("trades", "k2"),)
    feeds: Annotated[tuple[FeedTopic, ...], NoDecode, BeforeValidator(_feeds)] = ()
    venues: str | None = None
    start: Annotated[str, AfterValidator(checked_start)] = EARLIEST
    kafka_config: Path | None = None
    schema_registry_url: Annotated[str, AfterValidator(_web_addresses)] | None = None
    schema_registry_config: Path | None = None
    catalog: Text = "k2"
    namespace: Annotated[str, AfterValidator(_namespace)] = "market_data"
    data_dir: Path = Path("data")
    writers: Annotated[int, Field(ge=1, le=GROUPS)] = 1
    dlq_dir: Annotated[Path | str | None, BeforeValidator(_dead_letters)] = None
    """Text if it is an address in an object store."""
    dlq_file_bytes_max: Count = 104_857_600
    dlq_ratio_max: Annotated[float, Field(ge=0, le=1)] = 0.5
    dlq_ratio_messages_min: Count = 10_000
    dedup_window_seconds: Count = 86_400
    time_ahead_seconds_max: Count = TIME_AHEAD_SECONDS_MAX
    gap_large_min: Annotated[int, Field(ge=2)] = 11
    run_to_end: bool = False
    canary_topic: Text | None = None
    canary_exchange: Annotated[Text, Field(max_length=64)] = "k2-canary"
    canary_symbol: Annotated[Text, Field(max_length=255)] | None = None
    canary_interval_seconds: Annotated[float, Field(gt=0, le=3_600)] = 60
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 9464
    metrics_host: Text = "127.0.0.1"
    stall_seconds_max: Count = 60
    query_timeout_seconds: Annotated[float, Field(gt=0, le=1_000_000)] = 60
    query_memory_limit: Annotated[str, AfterValidator(_memory)] = "4GB"
    query_connections: Count = 5
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_keys)] = ()
    api_body_bytes_max: Count = 10_485_760

    @field_validator("feeds")
    @classmethod
    def _are_of_venues(cls, feeds: tuple[FeedTopic, ...], info: ValidationInfo) -> tuple[FeedTopic, ...]:
        """Return the feeds, each with the number of feeds of its venue."""
        venues = dict(info.data.get("topics", ()))
        found = list[tuple[str, str]]()
        for one in feeds:
            if one.topic not in venues:
                raise ValueError(f"topic {one.topic!r} is not read; add it to K2_TOPICS, or leave out its feed")
            if one.topic in {other.topic for other in feeds[: len(found)]}:
                raise ValueError(f"names topic {one.topic!r} twice; a topic is one feed")
            venue = venues[one.topic]
            if not VENUES[venue].is_contiguous:
                raise ValueError(
                    f"the numbers of venue {venue!r} do not show what a feed lost: {one.topic!r}; leave out its feed"
                )
            if (venue, one.feed) in found:
                raise ValueError(f"names feed {one.feed!r} of venue {venue!r} twice; give each topic a name of its own")
            found.append((venue, one.feed))
        of_venue = [venue for venue, _ in found]
        for one, venue in zip(feeds, of_venue, strict=True):
            if of_venue.count(venue) == 1:
                raise ValueError(f"topic {one.topic!r} is the only feed of venue {venue!r}; name another, or none")
        return tuple(one._replace(peers=of_venue.count(venue)) for one, venue in zip(feeds, of_venue, strict=True))

    @field_validator("canary_topic")
    @classmethod
    def _is_read_as_k2(cls, topic: str | None, info: ValidationInfo) -> str | None:
        if topic is not None and dict(info.data.get("topics", ())).get(topic) != "k2":
            raise ValueError("is not a topic of venue k2 in K2_TOPICS; add it there, or name one of that venue")
        return topic

    @field_validator("canary_exchange")
    @classmethod
    def _is_no_market(cls, exchange: str) -> str:
        if "canary" not in exchange:
            raise ValueError(
                "does not contain 'canary'; every hundredth number of this exchange may be missing without a word, so "
                "name none that trades"
            )
        return exchange

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use the values that `read_settings` passes, and no other source."""
        return (init_settings,)

    @property
    def query_memory_limit_bytes(self) -> int:
        """`query_memory_limit` in bytes: a kB is 1,000 bytes, a KiB 1,024."""
        match = _MEMORY.fullmatch(self.query_memory_limit)
        assert match is not None, "validated when it was read"
        number, unit, binary = match.groups()
        return int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit.upper()) + 1))

    @property
    def canary_name(self) -> CanarySymbol:
        """Exchange and symbol of the canary; by default each namespace has a symbol of its own."""
        return CanarySymbol(self.canary_exchange, self.canary_symbol or self.namespace)

    @property
    def dead_letter_folder(self) -> Path:
        """Folder of the dead-letter files on this machine: `K2_DLQ_DIR`, by default `dlq` in the data folder."""
        assert not isinstance(self.dlq_dir, str), "the dead letters are in an object store"
        return self.dlq_dir if self.dlq_dir is not None else self.data_dir / "dlq"

    @property
    def dead_letter_address(self) -> str | None:
        """Address of the dead letters in an object store; None if they are in a folder on this machine."""
        return self.dlq_dir if isinstance(self.dlq_dir, str) else None


def read_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings from the environment, and the user's venues; `overrides` take precedence.

    Raises:
        SettingsError: a variable is unknown, or its value or an override is invalid; the message names it. Or a table
            of `K2_VENUES` is.
    """
    environment = os.environ if environment is None else environment
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(environment):
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name not in known:
            raise SettingsError(f"{name} is not a setting of this job{_suggestion(name, known)}")
    values = {
        name: environment[PREFIX + name.upper()]
        for name in Settings.model_fields
        if environment.get(PREFIX + name.upper())
    }
    # Before the topics, which may name a venue of these tables.
    VENUES.use_tables({**values, **overrides}.get("venues") or "")
    try:
        return Settings(**{**values, **overrides})
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        reason = first["msg"].removeprefix("Value error, ")
        name = field if field in overrides else PREFIX + field.upper()
        raise SettingsError(f"{name}={_masked(field, first['input'])}: {reason}") from None


def _masked(field: str, value: object) -> str:
    return "..." if field in {"api_keys", "schema_registry_url"} else repr(value)


def _suggestion(name: str, known: set[str]) -> str:
    close = closest(name, known)
    return f"; did you mean {close}?" if close else "; unset it, or see the README for the settings"
