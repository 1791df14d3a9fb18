"""Failpoints: places between a poll and a finished epoch at which a test can make the job fail.

In production no action is armed, and a failpoint costs one read of a global variable.
"""

import errno
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Final, Literal, NoReturn, get_args

from k2.model.errors import SettingsError

__all__ = ["JOB_NAMES", "NAMES", "VARIABLE", "Action", "Name", "arm", "armed_by", "failpoint"]

Name = Literal[
    "source.polled",
    "source.snapshot",
    "sequence.snapshot",
    "deduplicate.snapshot",
    "trades.taken",
    "trades.closing",
    "trades.flush",
    "file.create",
    "file.written",
    "checkpoint.written",
    "commit.staged",
    "commit.landed",
    "commit.seen",
    "corrections.pending",
    "corrections.committed",
    "trades.snapshot",
    "events.rolling_back",
    "events.rolled_back",
    "events.taken",
    "events.closing",
    "events.committed",
    "events.snapshot",
    "letters.append",
    "letters.appended",
    "letters.rotate",
    "letters.fsync",
    "letters.fsynced",
    "letters.cut",
    "letters.truncated",
    "objects.write",
    "objects.written",
    "objects.remove",
    "maintenance.staged",
    "maintenance.landed",
    "replay.intended",
    "replay.produced",
    "replay.committed",
    "replay.recorded",
    "fill.publishing",
    "fill.sent",
    "fill.published",
    "fill.answered",
]
"""Names of the failpoints; each occurs once in the code.

`trades.*`, `events.*` and `letters.*` belong to the trades sink, the ledger sink and the dead-letter queue: `taken`
(or `append`) is within an epoch, `closing` is at its end, `snapshot` is after the sink has finished the epoch and
before the recovery store records it. `commit.*` belongs to both tables: `staged` is after the manifests are written,
`landed` is before the response of the catalog is seen. `letters.cut`, `letters.truncated`, `events.rolling_back` and
`events.rolled_back` are in the rollback of dead letters and ledger at a restart. `corrections.*` are between the
commit to `trades` that has corrections as pending and the end of the epoch, before and after they are in their table.
`objects.*` belong to dead letters in an object store. `maintenance.*` are as `commit.*`, in the commits of `k2
maintain`. `replay.*` are the steps of a batch of `k2 dlq replay`: its intent is recorded, its messages are sent, their
transaction is committed, its outcome is recorded. `fill.*` are before, within and after what `k2 backfill` publishes,
and between an answer that is kept and its request.
"""

NAMES: Final[tuple[Name, ...]] = get_args(Name)
JOB_NAMES: Final = tuple(
    name for name in NAMES if not name.startswith(("fill.", "maintenance.", "objects.", "replay."))
)
"""Those that the job passes with dead letters on a local disk."""
VARIABLE: Final = "K2_TEST_FAILPOINT"
"""Environment variable that arms an action when the process passes a failpoint for the n-th time.

The value is `name`, `name:n` or `name:n:kind`. The process kills itself (`SIGKILL`, the default), freezes itself
(`SIGSTOP`) or raises an `OSError`.
"""

Action = Callable[[Name], None]
"""Called with the name of every failpoint that is passed, from any worker thread; may raise or end the process."""


def failpoint(name: Name) -> None:
    """Pass a failpoint: call the armed action, if there is one."""
    if _action is not None:
        _action(name)


def arm(action: Action | None) -> None:
    """Call `action`, if any, at every failpoint that this process passes from now on."""
    global _action  # noqa: PLW0603  a failpoint may cost no more than a check of a global
    _action = action


def armed_by(environment: Mapping[str, str]) -> Action | None:
    """Return the action that `K2_TEST_FAILPOINT` configures; None if it is not set.

    Raises:
        SettingsError: the failpoint, the count or the kind is invalid.
    """
    text = environment.get(VARIABLE)
    if not text:
        return None
    name, _, rest = text.partition(":")
    count, _, kind = rest.partition(":")
    if name not in NAMES:
        raise SettingsError(f"{VARIABLE}={text!r}: unknown failpoint {name!r}; use one of {', '.join(NAMES)}")
    if count and (not count.isdecimal() or int(count) < 1):
        raise SettingsError(f"{VARIABLE}={text!r}: invalid count {count!r}; use a number of at least 1")
    if kind and kind not in _KINDS:
        raise SettingsError(f"{VARIABLE}={text!r}: unknown kind {kind!r}; use one of {', '.join(_KINDS)}")
    return _action_at(name, int(count or 1), _KINDS[kind or "SIGKILL"])


def _action_at(wanted: str, count: int, fail: Callable[[], None]) -> Action:
    lock, remaining = threading.Lock(), count

    def act(name: Name) -> None:
        nonlocal remaining
        if name != wanted:
            return
        with lock:
            remaining -= 1
            is_due = remaining == 0
        if is_due:
            fail()

    return act


def _raise_os_error() -> NoReturn:
    raise OSError(errno.EIO, "injected fault")


_KINDS: Final[Mapping[str, Callable[[], None]]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "OSError": _raise_os_error,
}

_action: Action | None = None
