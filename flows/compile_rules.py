"""`k2 compile`: compile all rules before the first start."""

import sys
from types import TracebackType
from typing import Any, Final, Self

from numba.core import config, event

from flows.rehearsal import rehearse
from k2.model.compiled import RULES, cache_folder
from k2.model.errors import SettingsError
from k2.ops.logs import set_up_logs

__all__ = ["compile_rules"]

SECONDS: Final = 40
"""What it takes on a core that nothing else uses."""
_COMPILE: Final = "numba:compile"


def compile_rules() -> None:
    """Compile the rules of the job, so that its first start takes no longer than any other.

    The result is kept next to the package, or in the user's cache folder if that one cannot be written. Nothing is
    compiled twice. Without this command, the first start compiles what it needs.
    """
    if config.DISABLE_JIT:
        raise SettingsError("NUMBA_DISABLE_JIT is set, so no rule is compiled; unset it")
    if cache_folder() is None:
        raise SettingsError("no folder for compiled rules can be written; name one by NUMBA_CACHE_DIR")
    set_up_logs("error")
    with _Progress():
        rehearse()


class _Progress(event.Listener):  # type: ignore[misc]
    """Says on stderr how many rules are compiled: in one line of a terminal, elsewhere at the begin and at the end."""

    def __init__(self) -> None:
        self._rules: set[Any] = set()
        self._is_begun = False

    def __enter__(self) -> Self:
        event.register(_COMPILE, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        event.unregister(_COMPILE, self)
        if sys.stderr.isatty() and self._is_begun:
            sys.stderr.write("\n")
        count = len(self._rules)
        if error is None:
            sys.stderr.write(f"Compiled {count} rules; {len(RULES) - count} were compiled before.\n")

    def on_start(self, event: Any) -> None:
        """Print the line when the first compilation begins."""
        if not self._is_begun and event.data["dispatcher"] in RULES:
            self._is_begun = True
            self._print()

    def on_end(self, event: Any) -> None:
        """Count a rule, once; the functions of numba that it uses do not count."""
        if event.data["dispatcher"] in RULES:
            self._rules.add(event.data["dispatcher"])
            if sys.stderr.isatty():
                self._print()

    def _print(self) -> None:
        line = f"Compiling the rules (once, about {SECONDS} seconds) ..."
        sys.stderr.write(f"\r{line} {len(self._rules)} of {len(RULES)}" if sys.stderr.isatty() else f"{line}\n")
        sys.stderr.flush()
