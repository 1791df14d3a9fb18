"""Certificates of a day's trades: issued symbol by symbol over one snapshot of the table, and kept in a folder."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq
from pyiceberg.table import Table

from k2.certificates.canonical import document_hash
from k2.certificates.certificate import FORMAT, Document, attested, differing, time_text
from k2.certificates.condition import Condition, DayFacts, condition, reasons
from k2.certificates.folder import CertificateFolder, StoredCertificate, leaves_path
from k2.certificates.merkle import EMPTY_ROOT, MerkleTree
from k2.certificates.page import page
from k2.certificates.signing import public_key_hex, signed
from k2.model.wording import format_count
from k2.ops.settings import Settings
from k2.ops.version import installed_version
from k2.query.certified_rows import RowDifference, leaves, register_day, roots, row_differences
from k2.query.day_facts import DaySelection, day_facts
from k2.query.engine import Engine, QueryError
from k2.query.pinned_pool import PinnedPool
from k2.query.pool import Pool, retry_if_files_gone, unlimited
from k2.query.tables import existing_table
from k2.storage.table_properties import REMOVED_ROWS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["IssuedCertificate", "certify", "describe_rows"]

RANGES_NAMED_MAX: Final = 20
"""Ranges of numbers that a change names."""


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate that was issued, or the existing one that still says the same."""

    path: Path
    document: Document
    is_new: bool


@dataclass(frozen=True)
class _Issue:
    """What the certificates of one call have in common."""

    table: Table
    selection: DaySelection
    folder: CertificateFolder
    key: "Ed25519PrivateKey | None"
    now: datetime

    @property
    def is_over(self) -> bool:
        return self.selection.end is not None and self.selection.end <= self.now


@retry_if_files_gone
def certify(
    settings: Settings,
    exchange: str,
    day: date,
    symbol: str | None = None,
    *,
    folder: Path,
    key: "Ed25519PrivateKey | None" = None,
    with_leaves: bool = False,
) -> list[IssuedCertificate]:
    """Issue a certificate of each symbol of an exchange's day (UTC, by venue time), and return them by symbol.

    All are of one snapshot. A certificate that exists and says the same is kept, so a repetition writes nothing; one
    that says something else stays, and a new revision says what changed.

    Raises:
        NoTableError: the table `trades` does not exist.
        QueryError: nothing is known of the day, or its rows were removed.
        SettingsError: the folder cannot be written.
    """
    selection = DaySelection(exchange, symbol, day)
    with Pool(unlimited(settings), connections=1) as opened:
        pool = PinnedPool(opened)
        table = existing_table(settings, "trades", pool)
        _check_not_removed(table, day)
        stored = CertificateFolder(folder)
        facts = {name: one for (_, name, _), one in day_facts(pool, selection, table).items()}
        facts |= _facts_of_no_rows(stored, selection, facts)
        if not facts:
            raise QueryError(
                f"nothing is known of {exchange}{'' if symbol is None else f' {symbol}'} on {day}; "
                "k2 completeness lists symbols and days"
            )
        with pool.engine() as engine:
            register_day(engine, table, selection)
            trees = roots(engine, selection)
        issue = _Issue(table, selection, stored, key, datetime.now(UTC))
        with pool.engine() as engine:
            issued = [*_issue_all(issue, engine, facts, trees)]
        if with_leaves:
            with pool.engine() as engine:
                register_day(engine, table, selection)
                _write_leaves(engine, selection, {one.document["symbol"]: one.path for one in issued})
        return issued


def _facts_of_no_rows(
    folder: CertificateFolder, selection: DaySelection, known: Collection[str]
) -> dict[str, DayFacts]:
    """Return the facts of symbols that have a certificate of the day, and of which nothing is stored any more."""
    exchange, day, symbol = selection.exchange or "", selection.day or date.min, selection.symbol
    if symbol is None:
        return {one.read()["symbol"]: DayFacts() for one in folder.others_of_day(exchange, day, known)}
    is_certified = any(one.day == day for one in folder.stored(exchange, symbol))
    return {symbol: DayFacts()} if is_certified and symbol not in known else {}


def _check_not_removed(table: Table, day: date) -> None:
    """Refuse a day whose rows were removed, which would look as if there had been none."""
    before = REMOVED_ROWS.read(table.metadata.properties).before
    if before is not None and day < before:
        raise QueryError(f"the rows of {day} were removed by k2 maintain retain; certify days from {before} on")


def _issue_all(
    issue: _Issue, engine: Engine, facts: Mapping[str, DayFacts], trees: Mapping[str, MerkleTree]
) -> Iterator[IssuedCertificate]:
    exchange, day = issue.selection.exchange or "", issue.selection.day or date.min
    for symbol, one in facts.items():
        stored = issue.folder.stored(exchange, symbol)
        same_day = [found for found in stored if found.day == day]
        earlier = [found for found in stored if found.day < day]
        tree = trees.get(symbol)
        root = (tree.root if tree else EMPTY_ROOT).hex()
        statement = _statement(issue, symbol, one, root, earlier[-1] if earlier else None)
        if not same_day:
            yield _written(issue, {**statement, "revision": 1, "amends": None})
            continue
        last = same_day[-1].read()
        changes = [*differing(last, statement), *_changed_table(last, statement)]
        if last["root"] == root and not changes and _is_signed_alike(last, issue.key):
            yield IssuedCertificate(same_day[-1].path, last, is_new=False)
        else:
            yield _written(issue, _revised(issue, engine, statement, last, changes))


def _changed_table(last: Document, statement: Mapping[str, Any]) -> Iterator[str]:
    """Yield that the earlier certificate is of another table, as of another namespace: it would not verify."""
    if last["table"] != statement["table"]:
        yield f"table: {last['table']} then, {statement['table']} now"


def _is_signed_alike(last: Document, key: "Ed25519PrivateKey | None") -> bool:
    return key is None or last["public_key"] == public_key_hex(key)


def _statement(
    issue: _Issue, symbol: str, facts: DayFacts, root: str, before: StoredCertificate | None
) -> dict[str, Any]:
    found = condition(facts, is_over=issue.is_over)
    snapshot = issue.table.current_snapshot()
    return {
        "format": FORMAT,
        "exchange": issue.selection.exchange,
        "symbol": symbol,
        "day": str(issue.selection.day),
        "condition": found.value,
        "condition_of_rows": found.value,
        "reasons": reasons(facts, is_over=issue.is_over),
        "root": root,
        **attested(facts),
        "table": str(issue.table.metadata.table_uuid),
        "snapshot_id": None if snapshot is None else snapshot.snapshot_id,
        "certified_at": time_text(issue.now),
        "version": installed_version() or "of a checkout",
        "previous": None if before is None else _named(before),
    }


def _named(before: StoredCertificate) -> dict[str, Any]:
    return {"day": str(before.day), "revision": before.revision, "hash": document_hash(before.read())}


def _revised(
    issue: _Issue, engine: Engine, statement: Mapping[str, Any], last: Document, changes: Sequence[str]
) -> dict[str, Any]:
    """Return the statement as the next revision of an earlier certificate."""
    is_amended = last["root"] != statement["root"]
    if is_amended:
        changes = [*changes, *_changed_rows(issue, engine, last)]
    names = ("revision", "root", "condition", "snapshot_id", "certified_at")
    amends = {**{name: last[name] for name in names}, "hash": document_hash(last), "changes": [*changes]}
    stays_amended = is_amended or last["condition"] == Condition.AMENDED
    return {
        **statement,
        "condition": Condition.AMENDED.value if stays_amended else statement["condition"],
        "revision": last["revision"] + 1,
        "amends": amends,
    }


def _changed_rows(issue: _Issue, engine: Engine, last: Document) -> list[str]:
    """Return which rows differ from those at the earlier certificate's snapshot, if the table still has it."""
    if issue.table.metadata.snapshot_by_id(last["snapshot_id"]) is None:
        return [f"snapshot {last['snapshot_id']} has expired, so the changed numbers are not known"]
    selection = DaySelection(last["exchange"], last["symbol"], issue.selection.day)
    register_day(engine, issue.table, selection)
    register_day(engine, issue.table, selection, last["snapshot_id"], "trades_then")
    found = row_differences(engine, selection)
    engine.clear()
    return describe_rows(found) or ["the rows at its snapshot are not those that it attests"]


def describe_rows(found: Iterable[RowDifference]) -> list[str]:
    """Return the added, removed and changed rows in words, with ranges of their numbers."""
    ends = {True: set[tuple[Any, ...]](), False: set[tuple[Any, ...]]()}
    for one in found:
        number = one.sequence if one.sequence is not None else one.trade_id
        ends[one.is_added].add((one.session or 0, number))
    changed = ends[True] & ends[False]
    kinds = {"added": ends[True] - changed, "removed": ends[False] - changed, "changed": changed}
    return [f"rows {kind}: {_ranges(numbers)}" for kind, numbers in kinds.items() if numbers]


def _ranges(numbers: Iterable[tuple[int, Any]]) -> str:
    """Return numbers of sessions as ranges: `5-7 and 9 of session 1`."""
    texts: list[str] = []
    by_session = groupby(sorted(numbers, key=lambda one: (one[0], str(type(one[1])), one[1])), key=lambda one: one[0])
    for session, found in by_session:
        values = [value for _, value in found]
        ordered = sorted(value for value in values if isinstance(value, int))
        runs = groupby(enumerate(ordered), key=lambda one: one[1] - one[0])
        ranges = [[value for _, value in run] for _, run in runs]
        texts += [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in ranges]
        texts += [f"id {value}" for value in values if not isinstance(value, int)]
        texts[-1] += f" of session {session}" if session else ""
    more = len(texts) - RANGES_NAMED_MAX
    return ", ".join(texts[:RANGES_NAMED_MAX]) + (f" and {format_count(more, 'more range')}" if more > 0 else "")


def _written(issue: _Issue, statement: Mapping[str, Any]) -> IssuedCertificate:
    document = signed(statement, issue.key)
    return IssuedCertificate(issue.folder.write(document, page(document)), document, is_new=True)


def _write_leaves(engine: Engine, selection: DaySelection, paths: Mapping[str, Path]) -> None:
    """Write the leaf hashes of each symbol next to its certificate, in the order of the tree."""
    for symbol, found in groupby(leaves(engine, selection), key=lambda one: one[0]):
        batches = (batch.select(["session", "sequence", "leaf"]) for _, batch in found)
        first = next(batches)
        with pq.ParquetWriter(leaves_path(paths[symbol]), first.schema, compression="zstd") as writer:
            for batch in chain([first], batches):
                writer.write_batch(batch)
