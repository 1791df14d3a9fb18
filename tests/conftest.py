"""What all tests share: how many examples to try, and what happens if an external part is missing."""

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
settings.register_profile("ci", max_examples=100, deadline=None, print_blob=True)
settings.load_profile("ci" if ON_CI else "default")

# A traceback with the locals of each frame takes seconds to render.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# A shell's background jobs ignore Ctrl-C, and so would every process that tests it.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = (
    "tests/catalogs",
    "tests/cli/test_entry.py",
    "tests/cli/test_produce.py",
    "tests/cli/test_recovery.py",
    "tests/cli/test_recovery_repair.py",
    "tests/cli/test_serve.py",
    "tests/demo/test_demo.py",
    "tests/flows",
    "tests/http/test_load.py",
    "tests/http/test_openapi.py",
    "tests/http/test_page.py",
    "tests/http/test_page_doubts.py",
    "tests/http/test_page_feeds.py",
    "tests/http/test_page_not_numbered.py",
    "tests/http/test_page_reports.py",
    "tests/http/test_page_status.py",
    "tests/iceberg/test_catalog_errors.py",
    "tests/iceberg/test_catalogs.py",
    "tests/iceberg/test_many_commits.py",
    "tests/iceberg/test_many_days.py",
    "tests/query/test_concurrent_commits.py",
    "tests/query/test_s3.py",
    "tests/restore",
    "tests/simulation/test_simulation.py",
    "tests/simulation/test_cases.py",
    "tests/simulation/test_proof.py",
    "tests/storage/recovery",
    "tests/test_brokers.py",
    "tests/test_make.py",
    "tests/test_trial_changes.py",
)
"""What `make test` leaves to `make test-all`: processes, browsers, servers and the torture."""

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of the slow files, so that `-m "not slow"` leaves them out."""
    slow = tuple(config.rootpath / path for path in SLOW)
    for item in items:
        if any(item.path.is_relative_to(path) for path in slow):
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was not tested and why, one line for each reason."""
    reports = terminalreporter.stats.get("skipped", [])
    for reason, count in Counter(_reason(report) for report in reports).items():
        terminalreporter.write_line(f"Not tested here: {count} test{'s' * (count > 1)}, {reason}", yellow=True)


def _reason(report: pytest.TestReport) -> str:
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a gzip frame by its argument: its bytes have the time, and all worker processes must name a test alike."""
    return argname if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None
