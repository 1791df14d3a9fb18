"""Checks of the machine: versions, clock and memory."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NoReturn

import pytest
from packaging.requirements import Requirement

from k2.doctor import machine
from k2.doctor.findings import State


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("pytest>=1", None),
        ("pytest<1", "is not <1"),
        ("no-such-package>=2", "no-such-package is not installed, >=2 is required"),
        ("no-such-package>=2; extra == 'more'", None),
        ("no-such-package>=2; python_version < '3'", None),
        ("pytest<1; extra == 'more'", "is not <1"),
    ],
)
def test_versions_outside_their_range_are_named(requirement: str, problem: str | None) -> None:
    """A package of an extra may be absent, but not too old."""
    found = machine.version_problem(Requirement(requirement))
    assert (found is None) == (problem is None)
    assert problem is None or problem in (found or "")


def test_this_environment_has_the_required_versions() -> None:
    """The tests run with them."""
    for check in (machine.check_python, machine.check_packages):
        (finding,) = check()
        assert finding.state is State.OK, finding.text


def test_another_python_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The range is that of the distribution; from a checkout that is not installed it is unknown."""
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    (finding,) = machine.check_python()
    assert (finding.state, "Python 3.9.1 is not" in finding.text) == (State.FAILED, True)

    def absent(_name: str) -> NoReturn:
        raise PackageNotFoundError

    monkeypatch.setattr(machine, "distribution", absent)
    assert [one.state for check in (machine.check_python, machine.check_packages) for one in check()] == [
        State.UNKNOWN,
        State.UNKNOWN,
    ]


def test_the_clock_is_asked() -> None:
    """Whatever the answer of this machine is, it is one."""
    (finding,) = machine.check_clock()
    assert finding.state in {State.OK, State.WARNING, State.UNKNOWN}


@pytest.mark.parametrize(
    ("available_kb", "limit", "state"),
    [
        (8_000_000, None, State.OK),
        (8_000_000, "max", State.OK),
        (8_000_000, "600000000", State.WARNING),
        (1, None, State.WARNING),
    ],
)
def test_memory_is_that_of_the_machine_and_of_the_container(
    tmp_path: Path, available_kb: int, limit: str | None, state: State
) -> None:
    """The smaller one counts."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: 9 kB\nMemAvailable: {available_kb} kB\n", encoding="ascii")
    if limit is not None:
        group = tmp_path / "sys" / "fs" / "cgroup"
        group.mkdir(parents=True)
        (group / "memory.max").write_text(f"{limit}\n", encoding="ascii")
        (group / "memory.current").write_text("100000000\n", encoding="ascii")
    (finding,) = machine.check_memory(tmp_path)
    assert finding.state is state, finding.text


def test_memory_that_is_not_reported_is_unknown(tmp_path: Path) -> None:
    """As on systems without these files."""
    (finding,) = machine.check_memory(tmp_path)
    assert finding.state is State.UNKNOWN
