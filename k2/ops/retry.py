"""Retries after transient faults of services and disks: three, with exponential backoff, then `UnreachableError`."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
import tenacity

from k2.model.errors import UnreachableError

__all__ = ["RETRIES_MAX", "OnRetry", "retried"]

T = TypeVar("T")
OnRetry = Callable[[str], None]
"""Called with the operation's name before each retry, for counting."""

RETRIES_MAX: Final = 3
WAIT_SECONDS_MIN: Final = 2
WAIT_SECONDS_MAX: Final = 30
_TRANSIENT: Final = (ConnectionError, TimeoutError, OSError)

_log = structlog.get_logger()


def retried(
    operation: str,
    call: Callable[[], T],
    *,
    also: tuple[type[BaseException], ...] = (),
    on_retry: OnRetry | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Return the result of `call`; retry it after 2, 4 and 8 seconds if it raises a transient fault.

    Transient are `ConnectionError`, `TimeoutError`, `OSError` and the types in `also`, in which a client wraps them.
    Any other exception propagates unchanged, without a retry.

    Raises:
        UnreachableError: the last attempt failed too; the fault is its cause.
    """

    def report(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.upcoming_sleep
        _log.warning(
            "retry", operation=operation, attempt=state.attempt_number, wait_seconds=wait, error=_first_line(error)
        )
        if on_retry is not None:
            on_retry(operation)

    transient: tuple[type[BaseException], ...] = (*_TRANSIENT, *also)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(transient),
        stop=tenacity.stop_after_attempt(1 + RETRIES_MAX),
        wait=tenacity.wait_exponential(multiplier=WAIT_SECONDS_MIN, max=WAIT_SECONDS_MAX),
        before_sleep=report,
        sleep=sleep,
        reraise=True,
    )
    try:
        return retrying(call)
    except UnreachableError:
        raise
    except transient as error:
        raise UnreachableError(
            f"{operation} failed {1 + RETRIES_MAX} times, the last with: {_first_line(error)}"
        ) from error


def _first_line(error: BaseException | None) -> str:
    """Return the first line of a fault's text; SQLAlchemy appends lines that refer to its documentation."""
    return str(error).partition("\n")[0]
