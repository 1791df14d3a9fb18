"""What a supervised job and its supervisor know of each other: the restarts so far, what to restart, and why it ended.

The supervisor passes a pipe to the job, and names it in an environment variable. Exit codes alone would not do: a
fenced instance has the code of errors that a restart may mend.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from k2.model.errors import K2Error

__all__ = ["Ending", "Report", "Supervision", "find_supervision", "parse_report", "report_command", "report_ending"]

VARIABLE: Final = "_K2_SUPERVISOR"
"""Environment variable of the job, without the prefix of the settings, which are checked for unknown names."""
ERROR_CHARACTERS_MAX: Final = 500
"""An ending is smaller than the buffer of the pipe, so that writing it never waits for the supervisor."""


class Ending(NamedTuple):
    """Why a job ended, in its own words."""

    error: str
    """One sentence."""
    is_final: bool
    """Whether another start would not help."""


class Report(NamedTuple):
    """What a job has reported during its life."""

    command: tuple[str, ...] | None = None
    """What `k2 run` became after its checks; None if it did not get there, or if it was started as that."""
    ending: Ending | None = None
    """The first that was reported: errors in several threads follow one another. None after a crash."""


class Supervision(NamedTuple):
    """The supervisor of this process, as the process sees it."""

    pid: int
    report_fd: int
    """Descriptor of the pipe that takes the reports."""
    restarts: int
    """How often the supervisor has started the job again."""

    @property
    def environment(self) -> dict[str, str]:
        """The variable from which the job reads this."""
        return {VARIABLE: f"{self.pid} {self.report_fd} {self.restarts}"}


def find_supervision(environment: Mapping[str, str] | None = None) -> Supervision | None:
    """Return the supervisor of this process; None if its parent is none.

    A variable that was inherited from further above is ignored: its descriptor may be another file here.
    """
    words = (os.environ if environment is None else environment).get(VARIABLE, "").split()
    if len(words) != len(Supervision._fields) or not all(word.isdecimal() for word in words):
        return None
    found = Supervision(*map(int, words))
    return found if found.pid == os.getppid() else None


def report_command(command: Sequence[str]) -> None:
    """Report to the supervisor, if there is one, the command that this process becomes: what it is to start again."""
    _report({"command": list(command)})


def report_ending(error: K2Error) -> None:
    """Report to the supervisor, if there is one, why this process ends."""
    _report({"error": str(error)[:ERROR_CHARACTERS_MAX], "is_final": error.is_final})


def _report(report: Mapping[str, object]) -> None:
    supervision = find_supervision()
    if supervision is not None:
        with suppress(OSError):
            os.write(supervision.report_fd, json.dumps(report).encode() + b"\n")


def parse_report(reported: bytes) -> Report:
    """Return what was reported; any other line is ignored, such as one that the end of the process has cut."""
    parsed = [_parse_line(line) for line in reported.split(b"\n")[:-1]]
    command = next((one for one in parsed if one is not None and not isinstance(one, Ending)), None)
    return Report(command, next((one for one in parsed if isinstance(one, Ending)), None))


def _parse_line(line: bytes) -> tuple[str, ...] | Ending | None:
    """Return the command or the ending on a line; None if it is neither."""
    try:
        found = json.loads(line)
    # Brackets without end are a RecursionError.
    except (ValueError, RecursionError):
        return None
    match found:
        case {"command": [str(), *_] as words, **rest} if not rest and all(isinstance(word, str) for word in words):
            return tuple(words)
        case {"error": str(error), "is_final": bool(is_final), **rest} if not rest:
            return Ending(error, is_final)
    return None
