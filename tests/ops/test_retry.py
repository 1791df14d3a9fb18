"""Transient faults are retried, others are not, and the waits follow the documented rule."""

from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from k2.model.errors import CatalogError, SettingsError, UnreachableError
from k2.ops.retry import LOCKED_SECONDS_MAX, MISSING_SECONDS, retried, retry_while_locked


class Part:
    """An external part that fails a number of times."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.error = error
        self.failures = failures
        self.waits: list[float] = []
        self.retries: list[str] = []

    def call(self) -> str:
        """Return once the failures are used up."""
        if self.failures:
            self.failures -= 1
            raise self.error
        return "answer"

    def retried(self) -> str:
        """Call it as the job does, without the waits."""
        return retried("asking", self.call, also=(LookupError,), on_retry=self.retries.append, sleep=self.waits.append)


@pytest.mark.parametrize("error", [ConnectionError(), TimeoutError(), OSError(), LookupError()], ids=repr)
def test_three_faults_are_retried(error: Exception) -> None:
    """The fourth try's result is returned; the waits are 2, 4 and 8 seconds, and each retry is logged."""
    part = Part(error, 3)
    assert part.retried() == "answer"
    assert (part.waits, part.retries) == ([2, 4, 8], ["asking"] * 3)


def test_the_fourth_fault_is_raised() -> None:
    """The error is a named one and has the fault as its cause."""
    part = Part(OSError("refused"), 4)
    with pytest.raises(UnreachableError, match="asking failed 4 times, the last with: refused") as caught:
        part.retried()
    assert caught.value.__cause__ is part.error


def _missing(folder: Path) -> FileNotFoundError:
    """Return Arrow's error for a local file that does not exist."""
    with pytest.raises(FileNotFoundError) as caught:
        LocalFileSystem().open_input_file(str(folder / "absent.json"))
    return caught.value


@pytest.mark.parametrize("failures", [1, 2])
def test_a_missing_file_is_looked_up_once_more(tmp_path: Path, failures: int) -> None:
    """Expiry may have removed it next to a reader; if it is missing again, it is named without further waits."""
    part = Part(_missing(tmp_path), failures)
    if failures == 1:
        assert part.retried() == "answer"
    else:
        with pytest.raises(CatalogError, match=rf"^asking failed: {tmp_path / 'absent.json'} is missing; restore it"):
            part.retried()
    assert (part.waits, part.retries) == ([MISSING_SECONDS], [])


def test_a_named_error_is_not_wrapped() -> None:
    """A broker or catalog error that an inner call has named is not named twice."""
    part = Part(UnreachableError("catalog 'k2' cannot be reached"), 4)
    with pytest.raises(UnreachableError, match=r"^catalog 'k2' cannot be reached$"):
        part.retried()


@pytest.mark.parametrize("error", [ValueError("v"), TypeError("t"), SettingsError("s"), RuntimeError("r")], ids=repr)
def test_a_permanent_fault_is_raised_at_once(error: Exception) -> None:
    """The job does not wait for a fault that waiting cannot fix."""
    part = Part(error, 1)
    with pytest.raises(type(error)):
        part.retried()
    assert part.waits == []


@pytest.mark.parametrize(("seconds", "calls"), [(1, 30), (LOCKED_SECONDS_MAX, 1)])
def test_a_locked_database_is_waited_for_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch, seconds: int, calls: int
) -> None:
    """The bound is the time since the first attempt, however long the attempts wait by themselves."""
    asked, clock = 0, 0.0
    monkeypatch.setattr("tenacity.time.monotonic", lambda: clock)

    def prepare() -> None:
        nonlocal asked, clock
        asked, clock = asked + 1, clock + seconds
        raise OSError("database is locked")

    locked = retry_while_locked(prepare)
    locked.retry.sleep = lambda _: None  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="locked"):
        locked()
    assert asked == calls
