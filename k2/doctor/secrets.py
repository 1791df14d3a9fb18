"""Secrets of the configuration, which no finding may show."""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from k2.kafka.config import read_kafka_config
from k2.kafka.schema_registry import read_registry_config
from k2.model.errors import SettingsError
from k2.ops.settings import Settings
from k2.storage.catalog import catalog_configuration
from k2.storage.catalog_errors import sql_url

__all__ = ["hiding", "secrets_in", "secrets_of"]

LONG_MIN: Final = 8
"""A secret of this number of characters or more is hidden also within a word."""
_SECRET_NAME: Final = re.compile(
    r"secret|password|passphrase|token|credential|authorization|jaas|oauthbearer\.config|key|pem|signature"
    r"|connection-string|user\.info",
    re.IGNORECASE,
)
_NOT_SECRET: Final = re.compile(r"location$|endpoint|url$|uri$|server|type$|enabled$", re.IGNORECASE)
_ENVIRONMENT: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "PGPASSWORD")


def secrets_of(settings: Settings) -> frozenset[str]:
    """Return the secrets of the settings, the Kafka properties, the catalog's properties and the environment."""
    found = {key.get_secret_value() for key in settings.api_keys}
    found |= {os.environ[name] for name in _ENVIRONMENT if os.environ.get(name)}
    with suppress(SettingsError):
        found |= {*secrets_in(read_kafka_config(settings))}
    with suppress(SettingsError):
        addresses = dict(enumerate((settings.schema_registry_url or "").split(",")))
        found |= {*secrets_in({**read_registry_config(settings), **{f"url {n}": one for n, one in addresses.items()}})}
    with suppress(SettingsError):
        found |= {*secrets_in(catalog_configuration(settings) or {})}
    return frozenset(found)


def secrets_in(properties: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the values of properties that are secret by their names, and the passwords in addresses."""
    for name, value in properties.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from secrets_in(value, f"{path}.")
            continue
        text = str(value)
        if _SECRET_NAME.search(path) and not _NOT_SECRET.search(path) and text:
            yield text
            # A credential of OAuth2 is `client:secret`, an authorization `Bearer token`.
            yield from re.split(r"[:\s]+", text)[1:]
        if path.lower().endswith("connection-string"):
            yield from secrets_in({key: part for key, _, part in (one.partition("=") for one in text.split(";"))})
        yield from _passwords(text)


def _passwords(address: str) -> Iterator[str]:
    """Yield the password in an address, as written and unquoted, and the secrets among its parameters."""
    with suppress(ValueError):
        password = urlsplit(address).password
        yield from {password, unquote(password)} if password else ()
    url = sql_url(address)
    if url is None:
        return
    # The rest of a password with `@` that is not quoted: SQLAlchemy takes it for the host, or a part of it.
    rest = url.host if "@" in (url.database or "") else (url.host or "").rpartition("@")[0]
    yield from {one for one in (url.password, rest) if one}
    yield from secrets_in(url.query)


def hiding(secrets: frozenset[str]) -> Callable[[str], str]:
    """Return a function that replaces the secrets in a text by `…`.

    >>> hiding(frozenset({"hunter2", "k2"}))("user k2, password 'hunter2', k2x")
    "user …, password '…', k2x"
    """
    # The longest first, so that none is left in part.
    patterns = [
        re.escape(one) if len(one) >= LONG_MIN else rf"(?<!\w){re.escape(one)}(?!\w)"
        for one in sorted(secrets - {""}, key=len, reverse=True)
    ]
    pattern = re.compile("|".join(patterns)) if patterns else None
    return lambda text: text if pattern is None else pattern.sub("…", text)
