"""How transient faults of outside parts are ridden out: three more tries, 2 to 30 seconds apart, then a named error."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import structlog
import tenacity

from k2.model.errors import UnreachableError

__all__ = ["RETRIES", "OnRetry", "retried"]

T = TypeVar("T")
OnRetry = Callable[[str], None]
"""Told the operation's name before each retry, for counting."""

RETRIES: Final = 3
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
    """Return what `call` gives; a transient fault is tried again after 2, 4 and 8 seconds.

    Transient are `ConnectionError`, `TimeoutError`, `OSError` and the types in `also`, which a client
    wraps them in. Anything else leaves at once, as it is.

    Raises:
        UnreachableError: the fault was still there at the last try; the fault itself is its cause.
    """

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.upcoming_sleep
        _log.warning("retry", operation=operation, attempt=state.attempt_number, wait_seconds=wait, error=_words(error))
        if on_retry is not None:
            on_retry(operation)

    transient: tuple[type[BaseException], ...] = (*_TRANSIENT, *also)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(transient),
        stop=tenacity.stop_after_attempt(1 + RETRIES),
        wait=tenacity.wait_exponential(multiplier=WAIT_SECONDS_MIN, max=WAIT_SECONDS_MAX),
        before_sleep=tell,
        sleep=sleep,
        reraise=True,
    )
    try:
        return retrying(call)
    except UnreachableError:
        raise
    except transient as error:
        raise UnreachableError(f"{operation} failed {1 + RETRIES} times, the last with: {_words(error)}") from error


def _words(error: BaseException | None) -> str:
    """Return a fault in one line: SQLAlchemy adds others, of where to read on."""
    return str(error).partition("\n")[0]
