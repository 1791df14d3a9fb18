"""Findings of the checks, and the checks themselves: run side by side, each with a time limit."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from k2.model.errors import K2Error, SettingsError, UnreachableError, first_line

__all__ = ["Check", "Finding", "NotCheckedError", "Shared", "State", "failed", "ok", "run_checks", "unknown", "warning"]

T = TypeVar("T")
FAILED_CODE: Final = 1


class State(StrEnum):
    """State of what was checked."""

    OK = "ok"
    WARNING = "warning"
    """The job runs, but something should be changed."""
    FAILED = "failed"
    """The job does not start, stops, or loses messages."""
    UNKNOWN = "unknown"
    """It could not be checked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: str
    """What was checked, such as `broker` or `topic trades`."""
    state: State
    text: str
    """One sentence; unless the state is ok, it has the fix."""


def ok(check: str, text: str) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding(check, State.OK, text)


def warning(check: str, text: str) -> Finding:
    """Return a finding that something should be changed."""
    return Finding(check, State.WARNING, text)


def failed(check: str, text: str) -> Finding:
    """Return a finding that the job cannot work with."""
    return Finding(check, State.FAILED, text)


def unknown(check: str, text: str) -> Finding:
    """Return a finding that something could not be checked."""
    return Finding(check, State.UNKNOWN, text)


class NotCheckedError(Exception):
    """A check needs what another one did not find."""


class Shared(Generic[T]):
    """A value that one check finds, and others wait for."""

    def __init__(self, what: str) -> None:
        """Prepare to share `what`, as it is called in the findings of those that need it."""
        self._what = what
        self._future: Future[T] = Future()

    def set(self, value: T) -> None:
        """Share the value."""
        self._future.set_result(value)

    def withhold(self) -> None:
        """Say that there will be no value; nothing happens if there is one."""
        if not self._future.done():
            self._future.cancel()

    def get(self) -> T:
        """Wait for the value.

        Raises:
            NotCheckedError: there is none.
        """
        try:
            return self._future.result()
        except BaseException as error:
            raise NotCheckedError(f"not checked, because {self._what} is not known") from error


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    find: Callable[[], Iterable[Finding]]
    seconds_max: float
    shares: Shared[Any] | None = None
    """What it finds for others."""
    has_exit_code: bool = False
    """Whether an error of it has the exit code of the job, 2 or 3; one that is overdue then has 3."""


@dataclass
class _Running:
    check: Check
    findings: list[Finding] = field(default_factory=list)
    exit_code: int = 0
    thread: threading.Thread | None = None

    def run(self) -> None:
        try:
            for finding in self.check.find():
                self.findings.append(finding)
        except K2Error as error:
            self.findings.append(failed(self.check.name, str(error)))
            if self.check.has_exit_code:
                self.exit_code = error.exit_code
        except NotCheckedError as error:
            self.findings.append(unknown(self.check.name, str(error)))
        except Exception as error:  # noqa: BLE001  clients raise what they like, and the other checks go on
            text = f"the check ended with {type(error).__name__}: {first_line(error)}; fix that, or report it as a bug"
            self.findings.append(unknown(self.check.name, text))
        finally:
            if self.check.shares is not None:
                self.check.shares.withhold()

    def overdue(self) -> None:
        """Report that the check takes too long; its thread goes on, and is not waited for."""
        text = f"no answer within {self.check.seconds_max:.0f} s; check what it depends on, and try again"
        is_service = self.check.has_exit_code
        self.findings = [*self.findings, (failed if is_service else unknown)(self.check.name, text)]
        self.exit_code = UnreachableError.exit_code if is_service else 0
        if self.check.shares is not None:
            self.check.shares.withhold()


def run_checks(checks: Sequence[Check], report: Callable[[Finding], None]) -> tuple[int, bool]:
    """Run checks side by side and report their findings in the order of the checks, as soon as they are known.

    A check that takes longer than its limit is given up. An error of one is its finding, whatever the error.

    Returns:
        The exit code (2 if a setting is invalid, else 3 if a service does not answer, else 1 if a check failed), and
        whether all checks ended.
    """
    begun = time.monotonic()
    running = [_Running(check) for check in checks]
    for one in running:
        one.thread = threading.Thread(target=one.run, name=f"check {one.check.name}", daemon=True)
        one.thread.start()
    codes, is_ended = {0}, True
    for one in running:
        assert one.thread is not None
        one.thread.join(max(0.0, begun + one.check.seconds_max - time.monotonic()))
        if one.thread.is_alive():
            one.overdue()
            is_ended = False
        for finding in one.findings:
            report(finding)
        codes |= {one.exit_code, *_codes(one.findings)}
    order = (SettingsError.exit_code, UnreachableError.exit_code, FAILED_CODE, 0)
    return next(code for code in order if code in codes), is_ended


def _codes(findings: Iterable[Finding]) -> Iterator[int]:
    return (FAILED_CODE for finding in findings if finding.state is State.FAILED)
