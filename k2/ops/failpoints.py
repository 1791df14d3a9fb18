"""Points at which a test can make the job fail: a name for each step between a poll and a finished epoch.

Nothing is armed in a real run, and passing a point then costs one look at a global.
"""

import errno
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Final, Literal, NoReturn, get_args

from k2.model.errors import SettingsError

__all__ = ["NAMES", "VARIABLE", "Action", "Name", "arm", "armed_by", "disarm", "failpoint"]

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
    "commit.staged",
    "commit.landed",
    "commit.seen",
    "trades.snapshot",
    "events.withdrawing",
    "events.withdrawn",
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
]
"""Where the job can be made to fail; each stands in the code once.

`trades.*`, `events.*` and `letters.*` are the three sinks: `taken` (or `append`) is within an epoch, `closing` is its
end, `snapshot` is when the sink is done with it but the recovery store does not know. `commit.*` is of either table:
`staged` with the manifests written, `landed` before the catalog's answer is seen. `letters.cut`, `letters.truncated`,
`events.withdrawing` and `events.withdrawn` stand in what a restart does to dead letters and ledger.
"""

NAMES: Final[tuple[Name, ...]] = get_args(Name)
VARIABLE: Final = "K2_TEST_FAILPOINT"
"""`name`, `name:n` or `name:n:kind`: what happens when the process passes that point for the n-th time.

It kills itself (`SIGKILL`, the kind where none is given), freezes itself (`SIGSTOP`), or meets a fault (`OSError`).
"""

Action = Callable[[Name], None]
"""What is done at every point passed; it may raise, or end the process. Called by any worker thread."""


def failpoint(name: Name) -> None:
    """Pass a point: nothing happens unless a test has armed an action."""
    if _action is not None:
        _action(name)


def arm(action: Action) -> None:
    """Call `action` at every point that this process passes from now on."""
    global _action  # noqa: PLW0603  one check of a global is all that a point may cost
    _action = action


def disarm() -> None:
    """Make all points pass again."""
    global _action  # noqa: PLW0603  as above
    _action = None


def armed_by(environment: Mapping[str, str]) -> Action | None:
    """Return the action that `K2_TEST_FAILPOINT` asks for; None where it is not set.

    Raises:
        SettingsError: it names no failpoint, or a passing that can't be.
    """
    text = environment.get(VARIABLE)
    if not text:
        return None
    name, _, rest = text.partition(":")
    passing, _, kind = rest.partition(":")
    if name not in NAMES:
        raise SettingsError(f"{VARIABLE}={text!r}: no failpoint is called {name!r}; known are {', '.join(NAMES)}")
    if passing and (not passing.isdecimal() or int(passing) < 1):
        raise SettingsError(f"{VARIABLE}={text!r}: {passing!r} is no passing; give a number from 1")
    if kind and kind not in _KINDS:
        raise SettingsError(f"{VARIABLE}={text!r}: {kind!r} cannot be made to happen; known are {', '.join(_KINDS)}")
    return _at(name, int(passing or 1), _KINDS[kind or "SIGKILL"])


def _at(wanted: str, passing: int, happen: Callable[[], None]) -> Action:
    lock, left = threading.Lock(), passing

    def act(name: Name) -> None:
        nonlocal left
        if name != wanted:
            return
        with lock:
            left -= 1
            is_now = left == 0
        if is_now:
            happen()

    return act


def _fail() -> NoReturn:
    raise OSError(errno.EIO, "a fault of a test")


_KINDS: Final[Mapping[str, Callable[[], None]]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "OSError": _fail,
}

_action: Action | None = armed_by(os.environ)
