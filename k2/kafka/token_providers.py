"""Tokens for SASL OAUTHBEARER that librdkafka does not fetch itself, of the provider that the Kafka properties name.

librdkafka itself has OIDC (`sasl.oauthbearer.method=oidc`), which needs nothing here.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import structlog

from k2.model.errors import SettingsError, UnreachableError

__all__ = ["MSK_IAM", "PROVIDER", "MskTokens", "with_token_provider"]

PROVIDER: Final = "sasl.oauthbearer.provider"
"""Property that this job adds to those of librdkafka."""
MSK_IAM: Final = "aws-msk-iam"
REUSE_SECONDS_MIN: Final = 60.0
"""A token that expires sooner is signed again."""
SIGNER: Final = "aws_msk_iam_sasl_signer"
_REGION: Final = re.compile(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com")
_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
_NO_ANSWER: Final = frozenset(
    {
        "botocore.exceptions.ConnectionError",
        "botocore.exceptions.HTTPClientError",
        "botocore.exceptions.MetadataRetrievalError",
    }
)
"""Errors of the signer's library that are no OSError; by name, because the library is in an extra."""
_UNREADABLE: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors of a local file with credentials: another attempt does not help."""

_LOG: Final = structlog.get_logger()

Sign = Callable[[str], tuple[str, int]]
"""Signs a token for a region, and returns it with its expiry in milliseconds since the epoch."""


def with_token_provider(properties: Mapping[str, str]) -> dict[str, Any]:
    """Return the properties of a client with the callback of the provider that they name, if they name one.

    The callback makes librdkafka's Python client call Python from a thread of its own.

    Raises:
        SettingsError: the provider is unknown or not installed, or it has no region or no credentials.
        UnreachableError: what hands out the credentials does not answer.
    """
    rest = {name: value for name, value in properties.items() if name != PROVIDER}
    provider = properties.get(PROVIDER)
    if provider is None:
        return rest
    if provider != MSK_IAM:
        raise SettingsError(
            f"K2_KAFKA_CONFIG: unknown {PROVIDER}={provider}; use {MSK_IAM}, or librdkafka's sasl.oauthbearer.method"
        )
    if find_spec(SIGNER) is None:
        raise SettingsError(
            f"K2_KAFKA_CONFIG: {PROVIDER}={MSK_IAM} needs the extra 'msk'; run `pip install 'k2-trades[msk]'`"
        )
    sign: Sign = import_module(f"{SIGNER}.MSKAuthTokenProvider").generate_auth_token
    tokens = MskTokens(sign, _region(rest.get("bootstrap.servers", "")))
    tokens.check()
    return {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", **rest, "oauth_cb": tokens}


def _region(servers: str) -> str:
    """Return the region of the environment, or of the brokers' names."""
    found = next((os.environ[name] for name in _VARIABLES if os.environ.get(name)), None)
    if found is None and (match := _REGION.search(servers)):
        found = match[1]
    if found is None:
        raise SettingsError(f"K2_KAFKA_CONFIG: {PROVIDER}={MSK_IAM}: the region is not known; set {_VARIABLES[0]}")
    return found


class MskTokens:
    """Tokens of AWS IAM for Amazon MSK; a callback of librdkafka's Python client, thread-safe."""

    def __init__(self, sign: Sign, region: str, clock: Callable[[], float] = time.time) -> None:
        self._sign, self._region, self._clock = sign, region, clock
        self._lock = threading.Lock()
        self._token, self._expires_at = "", 0.0

    def check(self) -> None:
        """Sign a first token, so that an error is reported where the client is made.

        Raises:
            SettingsError: there are no credentials, or they do not permit it.
            UnreachableError: what hands them out, such as the metadata service of the machine, does not answer.
        """
        try:
            self(None)
        except Exception as error:
            # The signer looks for a key in credentials that it has not found.
            is_nothing_found = isinstance(error, AttributeError)
            text = "no credentials were found" if is_nothing_found else " ".join(str(error).split()) or repr(error)
            if any(map(_is_unanswered, _chain(error))):
                raise UnreachableError(
                    f"K2_KAFKA_CONFIG: {PROVIDER}={MSK_IAM}: no token can be signed: {text}; check the network to the "
                    "service that hands out the AWS credentials, and start again"
                ) from error
            raise SettingsError(
                f"K2_KAFKA_CONFIG: {PROVIDER}={MSK_IAM}: no token can be signed: {text}; set AWS credentials"
            ) from error

    def __call__(self, _config: str | None) -> tuple[str, float]:
        """Return a token and when it expires, in seconds since the epoch; an error is logged, and asked again later."""
        with self._lock:
            if self._expires_at - self._clock() < REUSE_SECONDS_MIN:
                try:
                    self._token, milliseconds = self._sign(self._region)
                except Exception as error:
                    _LOG.warning(
                        "token_not_signed", error=str(error), effect="connections end when their token expires"
                    )
                    raise
                self._expires_at = milliseconds / 1_000
            return self._token, self._expires_at


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes: the signer's library hides a timeout behind an error of its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_unanswered(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return not isinstance(error, _UNREADABLE)
    return any(f"{kind.__module__}.{kind.__name__}" in _NO_ANSWER for kind in type(error).__mro__)
