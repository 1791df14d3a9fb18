"""Checks run side by side: one that hangs, or fails in any way, does not keep the others from being reported."""

import threading
import time
from collections.abc import Iterator

import pytest

from k2.doctor.findings import Check, Finding, NotCheckedError, Shared, State, failed, ok, run_checks, unknown, warning
from k2.model.errors import K2Error, SettingsError, TableError, UnreachableError


def raising(error: Exception) -> Iterator[Finding]:
    """Report one finding, and raise."""
    yield ok("first", "good")
    raise error


def run(*checks: Check) -> tuple[list[Finding], int, bool]:
    """Return what is reported, the exit code, and whether all checks ended."""
    found: list[Finding] = []
    code, is_ended = run_checks(checks, found.append)
    return found, code, is_ended


def test_a_check_that_hangs_is_given_up() -> None:
    """The others are reported in their order, and what it has found before as well."""
    release = threading.Event()

    def hang() -> Iterator[Finding]:
        yield ok("slow", "so far")
        release.wait()

    begun = time.monotonic()
    found, code, is_ended = run(
        Check("a", lambda: [ok("a", "")], 5), Check("slow", hang, 0.2), Check("b", lambda: [warning("b", "")], 5)
    )
    release.set()
    assert time.monotonic() - begun < 4
    assert [(one.check, one.state) for one in found] == [
        ("a", State.OK),
        ("slow", State.OK),
        ("slow", State.UNKNOWN),
        ("b", State.WARNING),
    ]
    assert (code, is_ended) == (0, False)
    assert "no answer within" in found[2].text


def test_a_service_that_hangs_is_unreachable() -> None:
    """The exit code is 3, and what depends on it is said not to be checked, without waiting any longer."""
    release, shared = threading.Event(), Shared[int]("the number")

    def hang() -> Iterator[Finding]:
        release.wait()
        return iter(())

    found, code, _ = run(
        Check("service", hang, 0.2, shared, has_exit_code=True),
        Check("dependent", lambda: [ok("dependent", str(shared.get()))], 30),
    )
    release.set()
    assert [(one.check, one.state) for one in found] == [("service", State.FAILED), ("dependent", State.UNKNOWN)]
    assert (code, found[1].text) == (3, "not checked, because the number is not known")


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([TableError("t")], 1),
        ([TableError("t"), UnreachableError("u")], 3),
        ([UnreachableError("u"), SettingsError("s")], 2),
    ],
)
def test_the_exit_code_is_that_of_the_worst(errors: list[K2Error], code: int) -> None:
    """A wrong setting before a service that does not answer before a check that failed; each is one finding."""
    found, got, _ = run(*[Check("c", lambda error=error: raising(error), 5, has_exit_code=True) for error in errors])
    assert got == code
    assert [one.text for one in found if one.state is State.FAILED] == [str(error) for error in errors]


def test_errors_of_other_checks_are_failures() -> None:
    """Only settings, broker and catalog have exit codes of their own."""
    assert run(Check("c", lambda: raising(UnreachableError("u")), 5))[1] == 1


def test_an_unexpected_error_is_a_finding() -> None:
    """It names the error, and the checks go on; what was found before it is reported."""
    found, code, _ = run(
        Check("c", lambda: raising(ZeroDivisionError("x")), 5), Check("d", lambda: [failed("d", "")], 5)
    )
    assert [one.state for one in found] == [State.OK, State.UNKNOWN, State.FAILED]
    assert "ZeroDivisionError: x" in found[1].text
    assert code == 1


def test_a_shared_value_reaches_those_that_wait() -> None:
    """Withholding it afterwards changes nothing."""
    shared = Shared[int]("the number")

    def find() -> Iterator[Finding]:
        shared.set(7)
        yield ok("a", "")

    dependent = Check("b", lambda: [unknown("b", str(shared.get()))], 5)
    found, _, _ = run(dependent, Check("a", find, 5, shared))
    assert found[0].text == "7"
    other = Shared[int]("it")
    other.withhold()
    with pytest.raises(NotCheckedError, match="it is not known"):
        other.get()
