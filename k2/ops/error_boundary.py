"""Error boundary between K2 and Bytewax: log an error as one sentence, and exit with its exit code."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Final, NoReturn, ParamSpec, TypeVar

import structlog

from k2.model.errors import K2Error, PeerLostError, UnreachableError
from k2.ops.signals import is_job, report_and_exit
from k2.ops.supervision import report_ending

__all__ = ["exit_with_error", "find_k2_error", "reports_errors"]

P = ParamSpec("P")
T = TypeVar("T")

_LOG = structlog.get_logger()

_PEER_LOST: Final = re.compile(r"^(Send|Recv) thread panic")
"""A panic of Bytewax when the connection to another process of the cluster is lost."""
_SQLITE: Final = re.compile(r'SqliteFailure\(.*?, Some\("(.*?)"\)\)')
"""A panic of Bytewax when it cannot write the recovery store; group 1 is the reason."""


def find_k2_error(raised: BaseException) -> K2Error | None:
    """Return the `K2Error` behind an exception that left Bytewax, which may have wrapped it; None if there is none.

    Panics of Bytewax that have a known cause become a `K2Error` too.
    """
    cause: BaseException | None = raised
    while cause is not None and not isinstance(cause, K2Error):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return cause
    if found := _SQLITE.search(str(raised)):
        return UnreachableError(f"the recovery store cannot be written: {found[1]}; fix that, and start again")
    if _PEER_LOST.match(str(raised)):
        return PeerLostError(
            "another process of the cluster has ended, or its host does not answer, so this one ends too; start all of "
            "them again"
        )
    return None


def exit_with_error(error: K2Error) -> NoReturn:
    """Log an error as one sentence and exit the process with its exit code; a supervisor gets to know why."""
    report_ending(error)
    report_and_exit(error.exit_code, lambda: _log_error(error))


def reports_errors(call: Callable[P, T]) -> Callable[P, T]:
    """Decorate a method that Bytewax calls: log its exceptions, and exit the job's process on a `K2Error`.

    Otherwise exceptions are lost: Bytewax panics without the reason if a snapshot raises, or if any call raises in a
    process that has peers.
    """

    @wraps(call)
    def reporting(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except StopIteration:
            raise
        except K2Error as error:
            if is_job():
                exit_with_error(error)
            _log_error(error)
            raise
        except Exception:
            _LOG.exception("failed", call=call.__qualname__)
            raise

    return reporting


def _log_error(error: K2Error) -> None:
    _LOG.error("ended", error=str(error), kind=type(error).__name__)
