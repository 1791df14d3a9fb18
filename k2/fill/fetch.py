"""Send the requests of a plan, politely, and keep their answers."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
import structlog
import tenacity

from k2.fill.answers import KeptAnswers
from k2.fill.archives import CHECKSUM_SUFFIX, Archive, ArchiveError, Names, has_sum, read_answer
from k2.fill.forms import named_form
from k2.fill.plan import PAGES_MAX, Plan, Request
from k2.fill.ranges import Range, without
from k2.fill.selection import numbers_of
from k2.model.errors import SettingsError, UnreachableError
from k2.model.origin import archive_origin, rest_origin
from k2.ops.retry import RetryPolicy
from k2.ops.settings import Settings
from k2.ops.version import installed_version

__all__ = ["FetchError", "Fetched", "Fetcher"]

ANSWER_SECONDS_MAX: Final = 30.0
RETRY_AFTER_SECONDS_MAX: Final = 600.0
SHOWN_BYTES_MAX: Final = 200
AGAIN: Final = RetryPolicy(attempts_max=6, wait_seconds_min=1, wait_seconds_max=60)
"""A venue does not answer, or is overloaded: five retries, after 1 to 16 seconds, or when the venue says."""
_BUSY: Final = (418, 429)
_LOG = structlog.get_logger()


class FetchError(UnreachableError):
    """A venue does not give an answer."""


class _BusyError(Exception):
    """The venue asks to come again; `wait_seconds` is None if it does not say when."""

    def __init__(self, what: str, wait_seconds: float | None = None) -> None:
        super().__init__(what)
        self.wait_seconds = wait_seconds


class Fetched(NamedTuple):
    """An answer, and the origin of its trades; or why there is none."""

    request: Request
    archive: Archive | None
    origin: str
    problem: str = ""


class Fetcher:
    """Sends requests with a pause between those to one host, and again after 418, 429, 5xx and broken connections.

    A pause that the venue names (`Retry-After`) is kept. An answer is kept in `K2_DATA_DIR/fetched`, and its request is
    not sent again, unless a later answer would have more. `base_url` replaces scheme and host of all addresses.
    """

    def __init__(
        self,
        settings: Settings,
        base_url: str | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if base_url is not None and urlsplit(base_url).scheme not in {"http", "https"}:
            raise SettingsError(f"--base-url {base_url!r} is no address; use http:// or https:// and a host")
        self._base_url = base_url
        self._kept = KeptAnswers(settings)
        self._sleep = sleep
        self._clock = clock
        self._due: dict[str, float] = {}

    def fetch(self, plan: Plan) -> Iterator[Fetched]:
        """Yield the answer to each request of a plan, page by page; one that fails does not stop the others."""
        for request in plan.requests:
            try:
                yield from self._pages(request)
            except (FetchError, ArchiveError) as error:
                yield Fetched(request, None, "", str(error))

    def _pages(self, request: Request) -> Iterator[Fetched]:
        left: Sequence[Range] = request.covers
        for page in range(PAGES_MAX):
            url = self._address(request)
            data, is_kept = self._answer(url, request)
            name = request.address.rpartition("/")[2]
            archive = read_answer(name, data, named_form(request.form), Names(request.exchange, request.symbol))
            origin = (archive_origin if request.kind == "archive" else rest_origin)(archive.sha256, url)
            if not page and not archive.trades.num_rows:
                raise FetchError(f"{url}: the answer has no trades: {_beginning(data)!r}; fetch it again later")
            if request.is_final and not is_kept and archive.trades.num_rows:
                # Only what was read: venues also answer with an error, or a page for people, and a status of 200.
                self._kept.keep(url, data)
            yield Fetched(request, archive, origin)
            found = numbers_of(archive.trades)
            left = without(left, found)
            following = _next_page(request, data)
            if following is None or not left or not found or following.parameters == request.parameters:
                return
            # Pages that follow one another in time are past the gap; a venue may not have all of it.
            if following.next is not None and following.next.answer and min(found)[0] > request.covers[-1].last:
                return
            request = following

    def _address(self, request: Request) -> str:
        if self._base_url is None:
            return request.url
        parts = urlsplit(request.url)
        return self._base_url.rstrip("/") + parts._replace(scheme="", netloc="").geturl()

    def _answer(self, url: str, request: Request) -> tuple[bytes, bool]:
        """Return the answer to a request, and whether it was kept."""
        kept = self._kept.find(url) if request.is_final else None
        if kept is not None:
            return kept, True
        data = self._download(url, request)
        if request.has_checksum:
            self._check(url, request, data)
        return data, False

    def _check(self, url: str, request: Request, data: bytes) -> None:
        if not has_sum(data, self._download(url + CHECKSUM_SUFFIX, request)):
            raise FetchError(f"{url} differs from its checksum; fetch it again later")

    def _download(self, url: str, request: Request) -> bytes:
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_BusyError),
            stop=tenacity.stop_after_attempt(AGAIN.attempts_max),
            wait=_wait_seconds,
            sleep=self._sleep,
            before_sleep=lambda state: _log_retry(url, state),
            reraise=True,
        )
        try:
            return attempts(self._send, url, 60 / request.requests_per_minute)
        except _BusyError as error:
            raise FetchError(f"{url}: {error}; run the command again later, and it goes on from here") from None

    def _send(self, url: str, interval_seconds: float) -> bytes:
        host = urlsplit(url).netloc
        now = self._clock()
        due = self._due.get(host, now)
        if due > now:
            self._sleep(due - now)
        self._due[host] = max(due, now) + interval_seconds
        wanted = urllib.request.Request(url, headers={"User-Agent": _user_agent(), "Accept": "*/*"})  # noqa: S310  http
        try:
            with urllib.request.urlopen(wanted, timeout=ANSWER_SECONDS_MAX) as answer:  # noqa: S310  as above
                data: bytes = answer.read()
                return data
        except urllib.error.HTTPError as error:
            with error:
                refusal = _refusal(url, error)
            raise refusal from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            raise _BusyError(f"no whole answer: {reason}") from None


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    if error.code not in _BUSY and error.code < 500:
        shown = _beginning(error.read(SHOWN_BYTES_MAX))
        return FetchError(f"{url}: status {error.code} {shown!r}; the venue does not have it, or needs another request")
    after = _retry_after(error.headers.get("Retry-After"))
    if after is not None and after > RETRY_AFTER_SECONDS_MAX:
        return FetchError(f"{url}: status {error.code}, the venue asks to wait {after:.0f} s; run it again after that")
    return _BusyError(f"status {error.code}", after)


def _beginning(data: bytes) -> str:
    return " ".join(data[:SHOWN_BYTES_MAX].decode(errors="replace").split())


def _retry_after(text: str | None) -> float | None:
    """Return the seconds that a header names, as a number or a time."""
    if not text:
        return None
    try:
        return (
            float(text)
            if text.strip().isdecimal()
            else (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        )
    except (ValueError, TypeError):
        return None


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    named = error.wait_seconds if isinstance(error, _BusyError) else None
    return AGAIN.wait_seconds(state.attempt_number) if named is None else max(0.0, named)


def _log_retry(url: str, state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _LOG.warning("request_retried", url=url, attempt=state.attempt_number, error=str(error), wait=state.upcoming_sleep)


def _next_page(request: Request, data: bytes) -> Request | None:
    if request.next is None:
        return None
    name = request.next.parameter
    if request.next.answer is None:
        value = str(int(request.parameters[name]) + 1)
    else:
        found: Any = msgspec.json.decode(data)
        for key in request.next.answer.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found is None:
            return None
        value = str(found)
    return msgspec.structs.replace(request, parameters={**request.parameters, name: value})


def _user_agent() -> str:
    found = installed_version()
    return "k2-trades" if found is None else f"k2-trades/{found}"
