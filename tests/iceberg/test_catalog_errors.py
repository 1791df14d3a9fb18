"""Commits to real catalogs whose responses are lost, late or wrong: each is applied once, or not at all."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat
from typing import Final

import pytest

from k2.iceberg import commit
from k2.model.errors import SettingsError, UnreachableError
from k2.ops.retry import COMMIT_CONFLICT, FAULT
from tests.catalogs.fixtures import SERVED, CatalogNamespace
from tests.catalogs.http_proxy import HttpProxy
from tests.catalogs.proxy import Answer, Fault, Proxy
from tests.iceberg.running import Running, assert_in_once, table_of

ANSWERS: Final[dict[str, tuple[Answer, ...]]] = {
    "postgresql": ("reset", "silence"),
    "rest": (409, 500, 502, 503, 504, "reset", "silence"),
}
NOT_LANDED: Final = [(kind, answer) for kind in SERVED for answer in ANSWERS[kind]]
LANDED: Final = [*NOT_LANDED, ("rest", "half")]
ON_SERVERS: Final = pytest.mark.parametrize("namespace", SERVED, indirect=True)


@pytest.fixture
def proxy(namespace: CatalogNamespace) -> Proxy:
    """Return the proxy in front of the catalog."""
    assert namespace.proxy is not None
    return namespace.proxy


@pytest.fixture
def writer(namespace: CatalogNamespace) -> Running:
    """Return an opened writer."""
    return Running(namespace.settings)


def _lost(answer: Answer) -> Fault:
    return Fault(lands=False, answer=answer)


def _applied(answer: Answer) -> Fault:
    return Fault(lands=True, answer=answer)


@pytest.mark.parametrize(("namespace", "answer"), LANDED, indirect=["namespace"])
def test_an_applied_commit_is_not_repeated(
    namespace: CatalogNamespace, proxy: Proxy, writer: Running, answer: Answer
) -> None:
    """Whatever happens to the response, a commit that was applied is found, and all files it names are kept."""
    proxy.plan([_applied(answer)])
    writer.land(0, 4)
    writer.land(4, 8)
    assert_in_once(namespace.settings, 8, commits=2)
    assert (proxy.commits, proxy.given_up) == (2, answer == "silence")
    assert not writer.retries


@pytest.mark.parametrize(("namespace", "answer"), LANDED, indirect=["namespace"])
def test_a_commit_applied_on_the_last_try_is_found(
    namespace: CatalogNamespace, proxy: Proxy, writer: Running, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last retry is applied but answered as badly as those before: its rows are stored, once."""
    monkeypatch.setattr(commit, "COMMIT_CONFLICT", replace(COMMIT_CONFLICT, attempts_max=FAULT.attempts_max))
    proxy.plan([_lost(409 if answer == 409 else "reset")] * (FAULT.attempts_max - 1) + [_applied(answer)])
    writer.land(0, 4)
    writer.land(4, 8)
    assert_in_once(namespace.settings, 8, commits=2)
    assert (proxy.commits, proxy.given_up) == (FAULT.attempts_max + 1, answer == "silence")


@ON_SERVERS
def test_a_commit_applied_late_is_stored_once(namespace: CatalogNamespace, proxy: Proxy, writer: Running) -> None:
    """It is applied after the job has stopped waiting for it, whether the job looks before or after that."""
    proxy.plan([_applied("late")])
    writer.land(0, 4)
    writer.land(4, 8)
    assert_in_once(namespace.settings, 8, commits=2)
    assert proxy.given_up == 1


@pytest.mark.parametrize(("namespace", "answer"), NOT_LANDED, indirect=["namespace"])
def test_a_commit_that_was_not_applied_is_retried(
    namespace: CatalogNamespace, proxy: Proxy, writer: Running, answer: Answer
) -> None:
    """A fault before the catalog did anything costs a wait, and no row."""
    proxy.plan([_lost(answer)])
    writer.land(0, 4)
    assert_in_once(namespace.settings, 4, commits=1)
    assert (proxy.commits, proxy.given_up) == (2, answer == "silence")
    assert writer.retries == ([] if answer == 409 else [2])


@pytest.mark.parametrize(
    ("namespace", "answer"), [("postgresql", "reset"), ("rest", "reset"), ("rest", 503)], indirect=["namespace"]
)
def test_a_catalog_that_stays_absent_stores_nothing(
    namespace: CatalogNamespace, proxy: Proxy, writer: Running, answer: Answer
) -> None:
    """After three retries the error is named and nothing is stored; the next start stores it, once."""
    proxy.plan(repeat(_lost(answer)))
    with pytest.raises(UnreachableError, match=r"committing to table .*trades failed 4 times"):
        writer.land(0, 4)
    assert (proxy.commits, writer.retries) == (FAULT.attempts_max, [2, 4, 8])
    assert table_of(namespace.settings).snapshots() == []
    _start_again(namespace, proxy)


@pytest.mark.parametrize("namespace", ["rest"], indirect=True)
def test_expired_credentials_are_named(namespace: CatalogNamespace, proxy: Proxy, writer: Running) -> None:
    """An expired token ends the job with an error that says so, without a retry."""
    assert isinstance(proxy, HttpProxy)
    writer.land(0, 4)
    proxy.token = "another"  # noqa: S105  no secret
    with pytest.raises(SettingsError, match=r"^catalog 'k2' refuses the credentials: .*token is not good"):
        writer.land(4, 8)
    assert writer.retries == []
    proxy.token = None
    assert_in_once(namespace.settings, 4, commits=1)


@ON_SERVERS
def test_a_catalog_restart_is_survived(namespace: CatalogNamespace, proxy: Proxy, writer: Running) -> None:
    """Its connections break between two commits, and it answers again on the third try."""
    writer.land(0, 4)
    proxy.is_away = True

    def come_back() -> None:
        proxy.is_away = len(writer.waits) < 2

    writer.on_wait = come_back
    writer.land(4, 8)
    assert_in_once(namespace.settings, 8, commits=2)
    assert writer.retries == [2, 4]


@ON_SERVERS
def test_a_commit_in_doubt_at_the_end_is_found_by_the_next_start(
    namespace: CatalogNamespace, proxy: Proxy, writer: Running
) -> None:
    """It was applied, and the catalog was absent before the lookup: the job ends, and the next one doubles nothing."""
    proxy.plan(_and_then_away(proxy))
    with pytest.raises(UnreachableError):
        writer.land(0, 4)
    proxy.is_away = False
    _start_again(namespace, proxy)


def _and_then_away(proxy: Proxy) -> Iterable[Fault]:
    proxy.is_away = True
    yield _applied("reset")


def _start_again(namespace: CatalogNamespace, proxy: Proxy) -> None:
    """Remove all faults, and let a new start read everything again."""
    proxy.plan([])
    again = Running(namespace.settings)
    again.land(0, 4)
    again.land(0, 8)
    assert_in_once(namespace.settings, 8, commits=2)
