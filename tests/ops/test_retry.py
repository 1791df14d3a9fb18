"""Transient faults are ridden out, others are not, and the wait is as the law says."""

import pytest

from k2.model.errors import SettingsError, UnreachableError
from k2.ops.retry import retried


class Part:
    """An outside part that fails a number of times."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.error = error
        self.failures = failures
        self.waits: list[float] = []
        self.retries: list[str] = []

    def call(self) -> str:
        """Answer once the failures are used up."""
        if self.failures:
            self.failures -= 1
            raise self.error
        return "answer"

    def retried(self) -> str:
        """Call it as the job does, without the waiting."""
        return retried("asking", self.call, also=(LookupError,), on_retry=self.retries.append, sleep=self.waits.append)


@pytest.mark.parametrize("error", [ConnectionError(), TimeoutError(), OSError(), LookupError()], ids=repr)
def test_three_faults_are_ridden_out(error: Exception) -> None:
    """The fourth try's answer is given; waits are 2, 4 and 8 seconds; each retry is told."""
    part = Part(error, 3)
    assert part.retried() == "answer"
    assert (part.waits, part.retries) == ([2, 4, 8], ["asking"] * 3)


def test_the_fourth_fault_ends_it() -> None:
    """The error is named and has the fault as its cause."""
    part = Part(OSError("refused"), 4)
    with pytest.raises(UnreachableError, match="asking failed 4 times, the last with: refused") as caught:
        part.retried()
    assert caught.value.__cause__ is part.error


def test_an_error_that_is_named_already_stays_itself() -> None:
    """A broker or catalog that an inner part has named is not named twice."""
    part = Part(UnreachableError("catalog 'k2' cannot be reached"), 4)
    with pytest.raises(UnreachableError, match=r"^catalog 'k2' cannot be reached$"):
        part.retried()


@pytest.mark.parametrize("error", [ValueError("v"), TypeError("t"), SettingsError("s"), RuntimeError("r")], ids=repr)
def test_what_is_not_transient_leaves_at_once(error: Exception) -> None:
    """Nothing is waited for that waiting cannot mend."""
    part = Part(error, 1)
    with pytest.raises(type(error)):
        part.retried()
    assert part.waits == []
