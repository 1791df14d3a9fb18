"""The retry policies of the job, and retries of an operation after transient faults of services and disks."""

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
import tenacity

from k2.model.errors import CatalogError, UnreachableError, first_line

__all__ = [
    "COMMIT_CONFLICT",
    "CREATION_RACE",
    "ELECTION",
    "FAULT",
    "LOCKED_SECONDS_MAX",
    "MISSING_SECONDS",
    "RESTART",
    "OnRetry",
    "RetryPolicy",
    "missing_file_message",
    "missing_local_file",
    "retried",
    "retry_while_locked",
]

T = TypeVar("T")
OnRetry = Callable[[str], None]
"""Called with the operation's name before each retry, for counting."""


IsTransient = Callable[[BaseException], bool]


@dataclass(frozen=True)
class RetryPolicy:
    """How often an operation is attempted, and how long to wait in between: each wait is twice the one before."""

    attempts_max: int
    wait_seconds_min: float
    wait_seconds_max: float
    is_random: bool = False
    """Whether to wait a random part of that time, so that processes that met once do not meet again and again."""

    def wait_seconds(self, attempt: int) -> float:
        """Return how long to wait after the n-th attempt, counted from 1."""
        # Beyond 64 doublings every policy waits its longest, and a float overflows at 1,024.
        longest = min(self.wait_seconds_max, self.wait_seconds_min * 2.0 ** min(attempt - 1, 64))
        return random.uniform(0, longest) if self.is_random else longest  # noqa: S311  no secret

    def retrying(self, is_transient: IsTransient, **options: Any) -> tenacity.Retrying:
        """Return what calls a function by this policy; the last error propagates. `options` are those of tenacity."""
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            stop=tenacity.stop_after_attempt(self.attempts_max),
            wait=lambda state: self.wait_seconds(state.attempt_number),
            reraise=True,
            **options,
        )


FAULT: Final = RetryPolicy(attempts_max=4, wait_seconds_min=2, wait_seconds_max=30)
"""A service or a disk fails in a way that may pass: three retries, after 2, 4 and 8 seconds."""
COMMIT_CONFLICT: Final = RetryPolicy(attempts_max=100, wait_seconds_min=0.01, wait_seconds_max=1, is_random=True)
"""Another writer has committed to the table first: the commit is rebased; 100 conflicts in a row are a fault."""
ELECTION: Final = RetryPolicy(attempts_max=12, wait_seconds_min=0.1, wait_seconds_max=1)
"""A Kafka partition has no leader yet, or a new one: 12 attempts within 9 seconds; an election takes less."""
CREATION_RACE: Final = RetryPolicy(attempts_max=20, wait_seconds_min=0.05, wait_seconds_max=0.05)
"""Another process creates the same catalog, table or columns at the same time: what it has created is used."""
RESTART: Final = RetryPolicy(attempts_max=30, wait_seconds_min=1, wait_seconds_max=60, is_random=True)
"""The job has ended, and its supervisor starts it again: 30 restarts within `k2 run --restart-window`, by default."""
LOCKED_SECONDS_MAX: Final = 30
retry_while_locked: Final = tenacity.retry(
    retry=tenacity.retry_if_exception_message(match=".*locked"),
    stop=tenacity.stop_after_delay(LOCKED_SECONDS_MAX),
    wait=tenacity.wait_random(0.01, 0.1),
    reraise=True,
)
"""Decorator: another process holds the lock of the local catalog's database; 30 seconds in all, one attempt at least.
An attempt may wait as long by itself, so the number of attempts is no bound."""
_TRANSIENT: Final = (ConnectionError, TimeoutError, OSError)
_MISSING_LOCAL_FILE: Final = re.compile(r"Failed to open local file '(.*?)'")
"""Arrow's message for a local file that it cannot open; group 1 is the file."""
MISSING_SECONDS: Final = 0.1
"""Time before a missing local file is looked up once more: expiry may have removed it next to this reader."""

_log = structlog.get_logger()


def retried(
    operation: str,
    call: Callable[[], T],
    *,
    also: tuple[type[BaseException], ...] = (),
    on_retry: OnRetry | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return the result of `call`; retry it by the policy `FAULT` if it raises a transient fault.

    Transient are `ConnectionError`, `TimeoutError`, `OSError` and the types in `also`, in which a client wraps them.
    Any other exception propagates unchanged, without a retry. A local file of a table that is missing is looked up only
    once more, and at once.

    Raises:
        CatalogError: a local file of a table is missing.
        UnreachableError: the last attempt failed too; the fault is its cause.
    """

    def report(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.upcoming_sleep
        _log.warning(
            "retry", operation=operation, attempt=state.attempt_number, wait_seconds=wait, error=first_line(error)
        )
        if on_retry is not None:
            on_retry(operation)

    transient: tuple[type[BaseException], ...] = (*_TRANSIENT, *also)
    attempts = FAULT.retrying(lambda error: isinstance(error, transient), before_sleep=report, sleep=sleep)
    try:
        return attempts(lambda: _look_twice(operation, call, sleep))
    except UnreachableError:
        raise
    except transient as error:
        raise UnreachableError(
            f"{operation} failed {FAULT.attempts_max} times, the last with: {first_line(error)}"
        ) from error


def _look_twice(operation: str, call: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Call again at once if a local file of a table is missing; raise a permanent error if it still is."""
    for is_last in (False, True):
        try:
            return call()
        except FileNotFoundError as error:
            file = missing_local_file(error)
            if file is None:
                raise
            if is_last:
                raise CatalogError(f"{operation} failed: {missing_file_message(file)}") from error
            sleep(MISSING_SECONDS)
    raise AssertionError("the second look returns or raises")


def missing_local_file(error: BaseException) -> str | None:
    """Return the local file that Arrow did not find; None for any other error, such as of a missing object on S3."""
    found = _MISSING_LOCAL_FILE.search(str(error))
    return found[1] if found else None


def missing_file_message(file: str) -> str:
    """Return what is wrong if a local file of a table is missing, and what to do."""
    return f"{file} is missing; restore it from a backup of the warehouse, or put the warehouse back where it was"
