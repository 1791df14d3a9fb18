"""Verification of certificates: signature, chain, and what the table's rows and counts are now."""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.table import Table

from k2.certificates.canonical import document_hash
from k2.certificates.certificate import CertificateError, Document, attested, differing, parse_document
from k2.certificates.condition import Condition, DayFacts, condition
from k2.certificates.folder import CertificateFolder, StoredCertificate, certificate_name, leaves_path
from k2.certificates.merkle import EMPTY_ROOT, MerkleTree
from k2.certificates.signing import has_valid_signature
from k2.model.errors import SettingsError
from k2.ops.settings import Settings
from k2.query.certified_rows import RowDifference, digests, leaves, register_day, roots, row_differences
from k2.query.certify import describe_rows
from k2.query.day_facts import DaySelection, day_facts
from k2.query.engine import Engine
from k2.query.parameters import AsOf
from k2.query.pinned_pool import PinnedPool
from k2.query.pool import EnginePool, Pool, retry_if_files_gone, unlimited
from k2.query.snapshots import NO_SNAPSHOT, snapshot_as_of
from k2.query.tables import existing_table
from k2.storage.table_properties import REMOVED_ROWS

__all__ = ["Verification", "read_certificates", "verify"]


@dataclass(frozen=True, slots=True)
class Verification:
    """The result for one certificate."""

    path: Path
    exchange: str
    symbol: str
    day: date
    condition: str
    holds: bool
    """Whether nothing differs."""
    differences: list[str]
    signed_by: str | None
    """Public key of a valid signature, 64 hexadecimal digits; None if there is none."""


@dataclass(frozen=True)
class _Certificate:
    path: Path
    document: Document
    is_superseded: bool = False
    """Whether it was found in a folder together with a later revision, which is compared with the rows instead."""
    is_misnamed: bool = False
    """Whether it was found in a folder under the name of another day or revision."""

    @property
    def selection(self) -> DaySelection:
        """The exchange, symbol and day that it attests."""
        day = date.fromisoformat(self.document["day"])
        return DaySelection(self.document["exchange"], self.document["symbol"], day)


def read_certificates(paths: Sequence[Path]) -> "list[_Certificate]":
    """Read certificates; a folder stands for all that are in it.

    Raises:
        CertificateError: a file is not a certificate.
        SettingsError: a file cannot be read, or a folder has no certificate.
    """
    found = list[_Certificate]()
    for path in paths:
        if not path.is_dir():
            found.append(_read(path))
            continue
        stored = [*CertificateFolder.in_tree(path)]
        if not stored:
            raise SettingsError(f"{path} has no certificate; name one, or a folder that k2 certify wrote")
        found += _of_folder(stored)
    return found


def _of_folder(stored: "Sequence[StoredCertificate]") -> "Iterator[_Certificate]":
    """Yield the certificates of a folder. What supersedes one is said by the documents: a file can be renamed."""
    read = [(one, _read(one.path)) for one in stored]
    newest: dict[tuple[Path, DaySelection], int] = {}
    for one, certificate in read:
        if one.is_named_as(certificate.document):
            key = one.path.parent, certificate.selection
            newest[key] = max(newest.get(key, 0), one.revision)
    for one, certificate in read:
        is_misnamed = not one.is_named_as(certificate.document)
        is_superseded = not is_misnamed and one.revision < newest[one.path.parent, certificate.selection]
        yield replace(certificate, is_superseded=is_superseded, is_misnamed=is_misnamed)


def _read(path: Path) -> _Certificate:
    try:
        return _Certificate(path, parse_document(path.read_bytes(), str(path)))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}; name a certificate") from None


@retry_if_files_gone
def verify(
    settings: Settings,
    paths: Sequence[Path],
    *,
    public_key: str | None = None,
    as_of: AsOf | None = None,
    without_table: bool = False,
) -> list[Verification]:
    """Compare certificates with their signature, the certificates they name, and the table.

    With `as_of`, only the rows of that time are compared, not the counts. `public_key` is the key that must have
    signed: each certificate, or another of `paths` that names it by its hash. A certificate of a folder that has a
    later revision of the day is not compared with the rows, since that one says how they changed; one that is named
    itself is.

    Raises:
        CertificateError, SettingsError: as `read_certificates`.
        NoTableError: the table `trades` does not exist.
        NoSnapshotError: the table has no snapshot `as_of`.
    """
    certificates = read_certificates(paths)
    of_table: dict[Path, list[str]] = {}
    if not without_table:
        with Pool(unlimited(settings), connections=1) as opened:
            pool = PinnedPool(opened)
            for group in _by_day(one for one in certificates if not one.is_superseded):
                of_table |= _compare_rows(pool, group, as_of)
    folder = CertificateFolder(settings.data_dir / "certificates")
    attested = {hash_of for one in certificates for hash_of in _attested(one.document, public_key)}
    return [_verification(one, folder, public_key, attested, of_table.get(one.path, [])) for one in certificates]


def _attested(document: Document, public_key: str | None) -> Iterator[str]:
    """Yield the hashes of the certificates that one names, if it is signed by the key."""
    if document["public_key"] == public_key and document["signature"] is not None and has_valid_signature(document):
        yield from (link["hash"] for link in (document["previous"], document["amends"]) if link is not None)


def _by_day(certificates: Iterable[_Certificate]) -> "Iterator[list[_Certificate]]":
    days: dict[tuple[str, str], list[_Certificate]] = {}
    for one in certificates:
        days.setdefault((one.document["exchange"], one.document["day"]), []).append(one)
    yield from days.values()


def _verification(
    one: _Certificate,
    folder: CertificateFolder,
    public_key: str | None,
    attested: Container[str],
    of_table: Sequence[str],
) -> Verification:
    document = one.document
    is_signed = document["signature"] is not None and has_valid_signature(document)
    key = None if not is_signed and document_hash(document) in attested else public_key
    signature = _signature_faults(document, key, is_signed=is_signed)
    found = [*signature, *_name_faults(one), *_chain_faults(one, folder), *of_table]
    return Verification(
        one.path,
        document["exchange"],
        document["symbol"],
        date.fromisoformat(document["day"]),
        document["condition"],
        not found,
        found,
        document["public_key"] if is_signed else None,
    )


def _signature_faults(document: Document, public_key: str | None, *, is_signed: bool) -> Iterator[str]:
    if not is_signed and (document["signature"] is not None or document["public_key"] is not None):
        yield "signature: the certificate is not what its key signed"
    elif public_key is not None and document["public_key"] is None:
        yield "signature: the certificate is not signed"
    elif public_key is not None and document["public_key"] != public_key:
        yield f"signature: by key {document['public_key']}, not by {public_key}"


def _name_faults(one: _Certificate) -> Iterator[str]:
    if one.is_misnamed:
        day, revision = one.document["day"], one.document["revision"]
        yield f"name: {one.path.name} is the certificate of {day}, revision {revision}; restore the file"


def _chain_faults(one: _Certificate, folder: CertificateFolder) -> Iterator[str]:
    """Yield what is wrong with the certificates that one names: of the day before, and the earlier revision."""
    for name in ("previous", "amends"):
        link = one.document[name]
        if link is None:
            continue
        day = link.get("day", one.document["day"])
        file = certificate_name(day, link["revision"])
        stored = folder.stored(one.document["exchange"], one.document["symbol"])
        places = [one.path.with_name(file), *(found.path for found in stored if found.path.name == file)]
        place = next((place for place in places if place.is_file()), None)
        if place is None:
            yield f"chain: the certificate of {day}, revision {link['revision']}, is not there; restore {file}"
            continue
        try:
            found = document_hash(parse_document(place.read_bytes(), str(place)))
        except CertificateError as error:
            yield f"chain: {error}"
            continue
        except OSError as error:
            yield f"chain: {place} cannot be read: {error.strerror}"
            continue
        if found != link["hash"]:
            yield f"chain: {place} has SHA-256 {found}, not {link['hash']}"


def _compare_rows(pool: EnginePool, group: "Sequence[_Certificate]", as_of: AsOf | None) -> "dict[Path, list[str]]":
    """Return what differs between the table and the certificates of one exchange and day."""
    chosen = group[0].selection
    if len({one.document["symbol"] for one in group}) > 1:
        chosen = DaySelection(chosen.exchange, None, chosen.day)
    table = existing_table(pool.settings, "trades", pool)
    snapshot_id = snapshot_as_of(table, as_of)
    found = {} if as_of is not None else {key[1]: one for key, one in day_facts(pool, chosen, table).items()}
    with pool.engine() as engine:
        trees: Mapping[str, MerkleTree] = {}
        if snapshot_id != NO_SNAPSHOT:
            register_day(engine, table, chosen, snapshot_id)
            trees = roots(engine, chosen)
        engine.clear()
        result = {}
        for one in group:
            symbol = one.document["symbol"]
            facts = None if as_of is not None else found.get(symbol, DayFacts())
            differences = [*_row_faults(engine, table, one, trees.get(symbol), snapshot_id)]
            result[one.path] = [*differences, *(_count_faults(one, facts) if facts else ())]
        return result


def _row_faults(
    engine: Engine, table: Table, one: _Certificate, tree: MerkleTree | None, snapshot_id: int | None
) -> Iterator[str]:
    document = one.document
    if str(table.metadata.table_uuid) != document["table"]:
        yield f"table: the certificate is of table {document['table']}, not of {table.metadata.table_uuid}"
    root = (tree.root if tree else EMPTY_ROOT).hex()
    if root == document["root"]:
        return
    yield f"root: {document['root']} in the certificate, {root} of the rows"
    if snapshot_id == NO_SNAPSHOT:
        yield "rows: the table had none at that time"
        return
    before = REMOVED_ROWS.read(table.metadata.properties).before
    if before is not None and document["day"] < str(before):
        yield f"rows: k2 maintain retain removed the days before {before}"
        return
    yield from _changed_rows(engine, table, one, snapshot_id)


def _changed_rows(engine: Engine, table: Table, one: _Certificate, snapshot_id: int | None) -> Iterator[str]:
    """Yield which rows differ: by the certificate's snapshot if its rows still agree, otherwise by leaf hashes."""
    selection, then = one.selection, one.document["snapshot_id"]
    if then is not None and table.metadata.snapshot_by_id(then) is not None:
        register_day(engine, table, selection, then)
        tree = roots(engine, selection).get(one.document["symbol"])
        engine.clear()
        if (tree.root if tree else EMPTY_ROOT).hex() == one.document["root"]:
            register_day(engine, table, selection, snapshot_id)
            register_day(engine, table, selection, then, "trades_then")
            yield from describe_rows(row_differences(engine, selection))
            engine.clear()
            return
        yield f"rows: those at the certificate's snapshot {then} differ too, so a data file or the root was changed"
    else:
        yield f"rows: the certificate's snapshot {then} has expired"
    register_day(engine, table, selection, snapshot_id)
    yield from _changed_leaves(engine, one)
    engine.clear()


def _changed_leaves(engine: Engine, one: _Certificate) -> Iterator[str]:
    path = leaves_path(one.path)
    if not path.is_file():
        yield "rows: which differ is not known without leaf hashes; use k2 certify --with-leaves"
        return
    kept = pq.read_table(path)
    tree = MerkleTree()
    tree.extend(digests(kept["leaf"]))
    if tree.root.hex() != one.document["root"]:
        yield f"rows: {path} has the leaf hashes of another root"
        return
    batches = [batch for _, batch in leaves(engine, one.selection)]
    now = pa.Table.from_batches(batches, batches[0].schema) if batches else kept.slice(0, 0)
    yield from describe_rows(_leaf_differences(kept, now, one.document["symbol"]))


def _leaf_differences(kept: pa.Table, now: pa.Table, symbol: str) -> Iterator[RowDifference]:
    counts = [Counter(_leaf_rows(table)) for table in (kept, now)]
    for is_added, found in ((False, counts[0] - counts[1]), (True, counts[1] - counts[0])):
        for session, sequence, leaf in found.elements():
            yield RowDifference(symbol, session, sequence, leaf.hex() if sequence is None else None, is_added)


def _leaf_rows(table: pa.Table) -> Iterator[tuple[int | None, int | None, bytes]]:
    yield from zip(*(table[name].to_pylist() for name in ("session", "sequence", "leaf")), strict=True)


def _count_faults(one: _Certificate, facts: DayFacts) -> Iterator[str]:
    document, selection = one.document, one.selection
    yield from differing(document, attested(facts))
    is_over = selection.end is not None and selection.end <= datetime.now(UTC)
    found = condition(facts, is_over=is_over)
    if found != document["condition_of_rows"]:
        yield f"condition: {document['condition_of_rows']} then, {found} now"
    if document["condition"] not in {document["condition_of_rows"], *_AMENDED[document["amends"] is not None]}:
        yield f"condition: {document['condition']}, but its rows are {document['condition_of_rows']}"


_AMENDED: Final[Mapping[bool, frozenset[str]]] = {True: frozenset({Condition.AMENDED}), False: frozenset()}
