"""What every test shares: how much to try, and what happens where an outside part is absent."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import NoReturn

import pytest
import structlog
from hypothesis import settings

ON_CI = os.environ.get("CI") == "true"

settings.register_profile("default", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=300, deadline=None, print_blob=True)
settings.load_profile("ci" if ON_CI else "default")

# A traceback with everybody's locals takes seconds to draw.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# What a shell runs in the background ignores Ctrl-C, and so would every process that tests it.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.brokers", "tests.catalogs.fixtures", "tests.s3"]


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """Return what a test calls where an outside part is absent: `missing("Java and Maven: real Kafka")`.

    On CI the test fails, elsewhere it is skipped, and the summary counts the tests per part.
    """

    def say(part: str) -> NoReturn:
        if ON_CI:
            pytest.fail(f"CI must have {part}", pytrace=False)
        pytest.skip(f"needs {part}")

    return say


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tested and why, a line a reason."""
    reports = terminalreporter.stats.get("skipped", [])
    for reason, count in Counter(_reason(report) for report in reports).items():
        terminalreporter.write_line(f"Not tested here: {count} test{'s' * (count > 1)}, {reason}", yellow=True)


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")
