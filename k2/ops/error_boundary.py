"""How an error ends the job: said in one sentence, whatever Bytewax makes of it."""

import re
from collections.abc import Callable
from functools import wraps
from typing import Final, NoReturn, ParamSpec, TypeVar

import structlog

from k2.model.errors import K2Error, PeerLostError, UnreachableError
from k2.ops.signals import exit_saying, is_job

__all__ = ["end", "error_in", "reports_errors"]

P = ParamSpec("P")
T = TypeVar("T")

_LOG = structlog.get_logger()

_PEER_GONE: Final = re.compile(r"^(Send|Recv) thread panic")
_SQLITE: Final = re.compile(r'SqliteFailure\(.*?, Some\("(.*?)"\)\)')
"""How Bytewax's panics name what befell the network between processes, and the recovery store."""


def error_in(raised: BaseException) -> K2Error | None:
    """Return the error of ours that came out of Bytewax, wrapped or as a panic; None where it is something else."""
    cause: BaseException | None = raised
    while cause is not None and not isinstance(cause, K2Error):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        return cause
    if found := _SQLITE.search(str(raised)):
        return UnreachableError(f"the recovery store cannot be written: {found[1]}; mend that, and start again")
    if _PEER_GONE.match(str(raised)):
        return PeerLostError("another process of the cluster has ended, so this one ends too; start all of them again")
    return None


def end(error: K2Error) -> NoReturn:
    """End the process by an error of ours: one sentence, and its exit code."""
    exit_saying(error.exit_code, lambda: _say(error))


def reports_errors(call: Callable[P, T]) -> Callable[P, T]:
    """Say what a call of ours raises before Bytewax has it, and end the job where it is an error of ours.

    Bytewax makes a panic without a word of what leaves a snapshot, or any call in a process that has peers.
    """

    @wraps(call)
    def telling(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except StopIteration:
            raise
        except K2Error as error:
            if is_job():
                end(error)
            _say(error)
            raise
        except Exception:
            _LOG.exception("failed", call=call.__qualname__)
            raise

    return telling


def _say(error: K2Error) -> None:
    _LOG.error("ended", error=str(error), kind=type(error).__name__)
