"""Certificates of a day: what they say of the rows, and what is found when rows or certificates change."""

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.expressions import EqualTo
from pyiceberg.table import Table

from k2.certificates.canonical import canonical_row
from k2.certificates.certificate import CertificateError, Document, document_text
from k2.certificates.merkle import EMPTY_ROOT, MerkleTree, leaf_hash
from k2.certificates.signing import new_key, private_key, public_key_hex
from k2.iceberg.tables import TableName
from k2.maintenance.compaction import compact
from k2.maintenance.retention import retain
from k2.model.decisions import NO_TOPIC
from k2.model.errors import SettingsError
from k2.model.reasons import Reason
from k2.model.replay import WHOLE, PartitionReplays, ReplayBatch
from k2.ops.settings import Settings
from k2.query.certified_rows import RowDifference
from k2.query.certify import certify, describe_rows
from k2.query.engine import QueryError
from k2.query.market import open_market
from k2.query.verify import Verification, verify
from k2.storage.dead_letters.folders import replay_journal
from tests.model.dead_letters import dead_letter
from tests.query.tables import (
    EPOCH,
    append,
    conflict,
    event,
    made,
    numbered,
    progress,
    session_started,
    set_progress,
    write_letters,
)

DAY = EPOCH.date()
COUNTS = ("dead_letters", "unnamed_dead_letters", "conflicts")
Row = dict[str, Any]


@pytest.fixture
def folder(settings: Settings) -> Path:
    """Return the folder of certificates."""
    return settings.data_dir / "certificates"


@pytest.fixture
def stored(settings: Settings) -> Table:
    """Store a whole day and a half of one symbol, and a day of another with a number missing."""
    rows = [numbered(number, number * 6, trade_id=f"t{number}") for number in range(1, 6)]
    rows += [numbered(1, 1, symbol="ETH/USD", price=Decimal("0.10")), numbered(3, 2, symbol="ETH/USD")]
    append(made(settings, TableName.TRADES), rows)
    append(made(settings, TableName.SEQUENCE_EVENTS), [session_started(1, 6), event("gap_opened", 2, 2, session=1)])
    return made(settings, TableName.TRADES)


def issued(settings: Settings, folder: Path, day: date = DAY, **options: Any) -> dict[str, Document]:
    """Issue the certificates of a day, and return them by symbol."""
    return {one.document["symbol"]: one.document for one in certify(settings, "binance", day, folder=folder, **options)}


def differences(settings: Settings, *paths: Path, **options: Any) -> list[str]:
    """Return what differs of all certificates, without the roots, which are long."""
    found: list[Verification] = verify(settings, paths, **options)
    return [text for one in found for text in one.differences if not text.startswith("root: ")]


def at(offset: int, hours: float, sequence: int, **values: Any) -> Row:
    """Return a row with a number, from the message at an offset."""
    return {**numbered(sequence, hours, **values), "offset": offset}


def change(table: Table, where: Any, rows: Iterable[Row]) -> None:
    """Replace rows in a commit of another program."""
    table.overwrite(pa.Table.from_pylist([*rows], schema=table.scan().to_arrow().schema), overwrite_filter=where)


def test_certificates_say_what_is_stored(settings: Settings, folder: Path, stored: Table) -> None:
    """Condition, counts, first and last numbers, offsets, and a root that plain Python computes from the rows."""
    found = issued(settings, folder)
    whole, gap = found["BTCUSDT"], found["ETH/USD"]
    assert (whole["condition"], gap["condition"], gap["reasons"]) == ("complete", "open", ["1 number is missing"])
    assert [gap[name] for name in ("trades", "stored", "expected", "missing", "accepted")] == [2, 2, 3, 1, 0]
    numbers = {"session": 1, "first_sequence": 1, "last_sequence": 3, "trades": 3}
    assert whole["sessions"] == [{**numbers, "follows_stored": False, "is_followed": True}]
    assert whole["offsets"] == [{"topic": "trades", "partition": 0, "first_offset": 0, "last_offset": 0, "trades": 3}]
    rows = [row for row in stored.scan().to_arrow().to_pylist() if row["symbol"] == "BTCUSDT" and row["sequence"] < 4]
    tree = MerkleTree()
    tree.extend([leaf_hash(canonical_row(row)) for row in sorted(rows, key=lambda row: row["sequence"])])
    assert (whole["root"], whole["public_key"], whole["previous"]) == (tree.root.hex(), None, None)
    snapshot = stored.current_snapshot()
    assert snapshot is not None
    assert whole["snapshot_id"] == snapshot.snapshot_id
    assert (folder / "binance" / "ETH%2FUSD" / "2024-08-09.html").is_file()
    assert not any(one.is_new for one in certify(settings, "binance", DAY, folder=folder))
    assert differences(settings, folder) == []
    with pytest.raises(QueryError, match="nothing is known of kraken on 2024-08-09"):
        certify(settings, "kraken", DAY, folder=folder)


def test_days_are_chained_and_signed(settings: Settings, folder: Path, stored: Table, tmp_path: Path) -> None:
    """A certificate names the hash of the one before it; what was changed, or is not there, is found."""
    new_key(tmp_path / "key")
    new_key(tmp_path / "other")
    key = private_key(tmp_path / "key")
    first = issued(settings, folder, symbol="BTCUSDT", key=key)["BTCUSDT"]
    second = issued(settings, folder, DAY + timedelta(days=1), symbol="BTCUSDT", key=key)["BTCUSDT"]
    assert second["previous"]["day"] == "2024-08-09"
    assert second["sessions"][0]["follows_stored"]
    public = public_key_hex(key)
    assert differences(settings, folder, public_key=public) == []
    assert "not by" in differences(settings, folder, public_key=public_key_hex(private_key(tmp_path / "other")))[0]
    path = folder / "binance" / "BTCUSDT" / "2024-08-09.json"
    path.write_text(document_text({**first, "trades": 4}), encoding="utf-8")
    assert differences(settings, path) == [
        "signature: the certificate is not what its key signed",
        "trades: 4 then, 3 now",
    ]
    (chain,) = differences(settings, path.with_name("2024-08-10.json"), without_table=True)
    assert "2024-08-09.json has SHA-256" in chain
    path.unlink()
    (chain,) = differences(settings, path.with_name("2024-08-10.json"))
    assert "the certificate of 2024-08-09, revision 1, is not there" in chain
    unsigned = issued(settings, tmp_path / "unsigned", symbol="BTCUSDT")["BTCUSDT"]
    assert unsigned["signature"] is None
    assert differences(settings, tmp_path / "unsigned", public_key=public) == [
        "signature: the certificate is not signed"
    ]
    signed = issued(settings, tmp_path / "unsigned", symbol="BTCUSDT", key=key)["BTCUSDT"]
    assert signed["amends"]["revision"] == 1
    assert differences(settings, tmp_path / "unsigned", public_key=public) == []
    earlier = tmp_path / "unsigned" / "binance" / "BTCUSDT" / "2024-08-09.json"
    assert differences(settings, earlier, public_key=public) == ["signature: the certificate is not signed"]


def test_a_certificate_under_another_name_supersedes_none(
    settings: Settings, folder: Path, stored: Table, tmp_path: Path
) -> None:
    """Otherwise the next day's certificate, which is signed and agrees, would hide that the rows of a day changed."""
    new_key(tmp_path / "key")
    key = private_key(tmp_path / "key")
    for day in (DAY, DAY + timedelta(days=1)):
        issued(settings, folder, day, symbol="BTCUSDT", key=key)
    rows = [row for row in stored.scan().to_arrow().to_pylist() if row["symbol"] == "BTCUSDT"]
    tampered = [{**row, "price": Decimal(7)} if row["sequence"] == 2 else row for row in rows]
    change(stored, EqualTo("symbol", "BTCUSDT"), tampered)  # type: ignore[call-arg,arg-type]
    place = folder / "binance" / "BTCUSDT"
    (place / "2024-08-09.2.json").write_bytes((place / "2024-08-10.json").read_bytes())
    # A name that is no day is no certificate's.
    (place / "2024-99-09.json").write_bytes(b"{}")
    assert differences(settings, folder, public_key=public_key_hex(key)) == [
        "rows changed: 2 of session 1",
        "name: 2024-08-09.2.json is the certificate of 2024-08-10, revision 1; restore the file",
    ]
    with pytest.raises(CertificateError, match=r"2024-08-09\.2\.json is the certificate of binance BTCUSDT,"):
        certify(settings, "binance", DAY, folder=folder)


def test_odd_names_have_folders_of_their_own(settings: Settings, folder: Path) -> None:
    """Below that of the exchange; the pages have the names as text."""
    names = ["../../x", "..", ".", "", "a/b", "ü" * 300, "<script>", "a\x00b", "%2E", "%", "1:-", "~"]
    append(made(settings, TableName.TRADES), [numbered(1, 1, symbol=name) for name in names])
    paths = {one.path for one in certify(settings, "binance", DAY, folder=folder)}
    assert len(paths) == len(names)
    assert {path.resolve().parent.parent for path in paths} == {(folder / "binance").resolve()}
    assert not any("<script" in path.with_suffix(".html").read_text(encoding="utf-8") for path in paths)
    assert differences(settings, folder) == []


def test_a_late_fill_amends_the_day(settings: Settings, folder: Path, stored: Table) -> None:
    """The new revision has both roots and the numbers that came; the old one stays, and differs from the rows."""
    old = issued(settings, folder)["ETH/USD"]
    append(stored, [numbered(2, 1.5, symbol="ETH/USD")])
    amended = issued(settings, folder)["ETH/USD"]
    assert [amended[name] for name in ("condition", "condition_of_rows", "revision")] == ["amended", "complete", 2]
    assert amended["amends"]["root"] == old["root"] != amended["root"]
    assert {"missing: 1 then, 0 now", "rows added: 2 of session 1"} <= {*amended["amends"]["changes"]}
    path = folder / "binance" / "ETH%2FUSD" / "2024-08-09.json"
    assert "rows added: 2 of session 1" in differences(settings, path)
    assert differences(settings, path, as_of=old["snapshot_id"]) == []
    assert differences(settings, path, as_of=EPOCH) == ["rows: the table had none at that time"]
    assert differences(settings, folder) == []
    assert not any(one.is_new for one in certify(settings, "binance", DAY, folder=folder))


def test_another_table_with_the_same_rows_has_certificates_of_its_own(
    settings: Settings, folder: Path, stored: Table
) -> None:
    """One of another namespace would not verify, so it is not kept as if it said the same."""
    issued(settings, folder)
    other = settings.model_copy(update={"namespace": "other"})
    rows = stored.scan().to_arrow().to_pylist()
    append(made(other, TableName.TRADES), rows)
    append(
        made(other, TableName.SEQUENCE_EVENTS), made(settings, TableName.SEQUENCE_EVENTS).scan().to_arrow().to_pylist()
    )
    found = issued(other, folder)["BTCUSDT"]
    assert [found[name] for name in ("revision", "condition")] == [2, "complete"]
    assert [text.partition(":")[0] for text in found["amends"]["changes"]] == ["table"]
    assert differences(other, folder) == []
    with open_market(other) as market:
        assert {
            row["certified_condition"] for row in market.sql_table("FROM quality WHERE day = '2024-08-09'").to_pylist()
        } == {"complete", "open"}
    with open_market(settings) as market:
        assert {row["certified_condition"] for row in market.sql_table("FROM quality").to_pylist()} == {None}


def test_a_day_whose_rows_are_gone_is_amended(settings: Settings, folder: Path, stored: Table) -> None:
    """The symbol is known by its certificate; the new one has the root without rows, and agrees."""
    issued(settings, folder)
    stored.delete(EqualTo("symbol", "ETH/USD"))  # type: ignore[call-arg,arg-type]
    found = issued(settings, folder)
    assert found["BTCUSDT"]["revision"] == 1
    gone = found["ETH/USD"]
    assert [gone[name] for name in ("condition", "revision", "trades", "root")] == ["amended", 2, 0, EMPTY_ROOT.hex()]
    assert "rows removed: 1, 3 of session 1" in gone["amends"]["changes"]
    assert differences(settings, folder) == []
    assert not any(one.is_new for one in certify(settings, "binance", DAY, "ETH/USD", folder=folder))


def test_changed_rows_are_named(settings: Settings, folder: Path, stored: Table) -> None:
    """By the snapshot of the certificate while it exists, also if another program rewrote a data file."""
    issued(settings, folder)
    rows = [row for row in stored.scan().to_arrow().to_pylist() if row["symbol"] == "BTCUSDT"]
    tampered = [{**row, "price": Decimal(7)} if row["sequence"] == 2 else row for row in rows if row["sequence"] != 3]
    change(stored, EqualTo("symbol", "BTCUSDT"), tampered)  # type: ignore[call-arg,arg-type]
    found = differences(settings, folder / "binance" / "BTCUSDT" / "2024-08-09.json")
    assert found[:2] == ["rows removed: 3 of session 1", "rows changed: 2 of session 1"]
    assert differences(settings, folder / "binance" / "ETH%2FUSD" / "2024-08-09.json") == []


@pytest.mark.slow
def test_rows_that_were_changed_in_a_file_are_named_by_their_leaves(
    settings: Settings, folder: Path, stored: Table
) -> None:
    """Without a new snapshot the leaf hashes say which; without them it is said that they are needed."""
    issued(settings, folder, with_leaves=True)
    for task in stored.scan(row_filter=EqualTo("exchange", "binance")).plan_files():  # type: ignore[call-arg,arg-type]
        path = task.file.file_path.removeprefix("file://")
        rows = pq.read_table(path, partitioning=None)
        changed = [
            {**row, "quantity": Decimal("2.000000000000000001")} if row["sequence"] == 2 else row
            for row in rows.to_pylist()
        ]
        pq.write_table(pa.Table.from_pylist(changed, schema=rows.schema), path)
    certificate = folder / "binance" / "BTCUSDT" / "2024-08-09.json"
    found = differences(settings, certificate)
    assert "so a data file or the root was changed" in found[0]
    assert found[1:] == ["rows changed: 2 of session 1"]
    certificate.with_suffix(".leaves.parquet").unlink()
    assert "use k2 certify --with-leaves" in differences(settings, certificate)[1]


def test_dead_letters_put_days_in_doubt(settings: Settings, folder: Path) -> None:
    """Of the symbol in their key, or of all symbols of their partition; a conflict of its own; not once replayed.

    They belong to the days of the rows around them, or to that of their Kafka time if no row is near.
    """
    rows = [at(10, 2, 1), at(20, 3, 1, symbol="ETH/USD"), at(30, 26, 2)]
    append(made(settings, TableName.TRADES), rows)
    set_progress(made(settings, TableName.TRADES), progress(offset=100_000))
    options: Row = {"reason": Reason.MALFORMED, "kafka_timestamp": EPOCH + timedelta(days=9)}
    letters = [dead_letter(11, key="binance|BTCUSDT", **options), dead_letter(12, key="x", **options)]
    letters += [dead_letter(21, key=None, **options), dead_letter(90_000, **{**options, "kafka_timestamp": EPOCH})]
    write_letters(settings, [*letters, conflict(53, EPOCH, symbol="ETH/USD")])
    days = [issued(settings, folder, DAY + timedelta(days=number)) for number in (0, 1)]
    counts = [{name: [one[count] for count in COUNTS] for name, one in found.items()} for found in days]
    assert counts == [{"BTCUSDT": [1, 3, 0], "ETH/USD": [0, 3, 1]}, {"BTCUSDT": [0, 1, 0]}]
    assert {one["condition"] for found in days for one in found.values()} == {"degraded"}
    journal = replay_journal(settings)
    # The copy of a stored trade leaves no row, and a message that is not read yet settles nothing.
    copies = PartitionReplays("trades", 0, 99_000, [(11, 0, WHOLE), (90_000, 0, WHOLE)], [99_999, 100_000])
    journal.settle(ReplayBatch(1, journal.new_batch(EPOCH), "id", EPOCH, [copies]))
    left = {name: [one[count] for count in COUNTS] for name, one in issued(settings, folder).items()}
    assert left == {"BTCUSDT": [0, 3, 0], "ETH/USD": [0, 3, 1]}
    places = (12, 21, 53, 90_000)
    replays = [at(99_000 + place, 72, 3 + place, origin=f"replay trades:0:{place}") for place in places]
    append(made(settings, TableName.TRADES), replays)
    assert {one["condition"] for one in issued(settings, folder).values()} == {"complete"}


def test_a_dead_letter_counts_alike_for_one_symbol_and_for_all(settings: Settings, folder: Path) -> None:
    """For the symbol in its key, which need not be selected, and need not have trades of that day."""
    append(made(settings, TableName.TRADES), [at(10, 2, 1), at(20, 3, 1, symbol="ETH/USD"), at(30, 26, 2)])
    set_progress(made(settings, TableName.TRADES), progress(offset=100))
    write_letters(settings, [dead_letter(21, key="binance|ETH/USD", reason=Reason.MALFORMED, kafka_timestamp=EPOCH)])
    alone = issued(settings, folder, symbol="BTCUSDT")["BTCUSDT"]
    later = issued(settings, folder, DAY + timedelta(days=1))["BTCUSDT"]
    assert [one["condition"] for one in (alone, later)] == ["complete", "complete"]
    found = issued(settings, folder)
    assert (found["BTCUSDT"]["revision"], found["ETH/USD"]["dead_letters"]) == (1, 1)


@pytest.mark.slow
def test_a_compaction_changes_nothing(settings: Settings, folder: Path, stored: Table) -> None:
    """Rows in other files have the same root."""
    issued(settings, folder)
    append(stored, [numbered(6, 36)])
    assert [*compact(settings, TableName.TRADES)]
    assert differences(settings, folder) == []


@pytest.mark.slow
def test_accepted_numbers_leave_a_day_accepted(settings: Settings, folder: Path, stored: Table) -> None:
    """A new revision says so; its rows are the same, so it is not amended."""
    issued(settings, folder)
    accepted = {"symbol": "ETH/USD", "session": 1, "topic": NO_TOPIC, "reason": "never given", "decided_by": "ops"}
    opened = event("gap_opened", 2, 2, symbol="ETH/USD", session=1)
    append(made(settings, TableName.SEQUENCE_EVENTS), [opened, event("gap_accepted", 2, 2, **accepted)])
    found = issued(settings, folder)["ETH/USD"]
    assert [found[name] for name in ("condition", "missing", "accepted", "revision")] == ["accepted", 0, 1, 2]
    assert differences(settings, folder) == []


@pytest.mark.slow
def test_other_doubts(settings: Settings, folder: Path, stored: Table) -> None:
    """Losses of connections, and sessions of a day; a row that is not of the day does not matter."""
    lost = {"symbol": "c1", "session": 1, "topic": "trades", "timestamp": EPOCH + timedelta(hours=3)}
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("connection_gap", 5, 7, **lost)])
    append(stored, [numbered(1, 30, session=2)])
    first, second = (issued(settings, folder, day)["BTCUSDT"] for day in (DAY, DAY + timedelta(days=1)))
    assert (first["condition"], first["reasons"]) == ("degraded", ["3 messages lost between venue and Kafka"])
    assert (second["condition"], second["reasons"]) == ("degraded", ["2 sessions on one day"])


@pytest.mark.slow
def test_removed_days_are_not_certified_again(settings: Settings, folder: Path, stored: Table) -> None:
    """Their certificates stay; k2 verify says why the rows are gone."""
    issued(settings, folder)
    append(stored, [numbered(6, 40, kafka_timestamp=EPOCH + timedelta(days=9))])
    retain(settings, 1, today=DAY + timedelta(days=2))
    with pytest.raises(QueryError, match="the rows of 2024-08-09 were removed by k2 maintain retain"):
        certify(settings, "binance", DAY, folder=folder)
    assert "rows: k2 maintain retain removed the days before 2024-08-10" in differences(settings, folder)


def test_rows_that_differ_are_described() -> None:
    """As ranges of numbers by session, ids where there is no number; a row of both kinds was changed."""
    numbers: list[tuple[int | None, int | None, bool]] = [
        *((1, number, True) for number in (5, 6, 7, 9)),
        (1, 3, True),
        (1, 3, False),
        (2, 1, False),
        (None, None, False),
    ]
    found = [RowDifference("S", session, number, "id7", is_added) for session, number, is_added in numbers]
    assert describe_rows(found) == [
        "rows added: 5-7, 9 of session 1",
        "rows removed: id id7, 1 of session 2",
        "rows changed: 3 of session 1",
    ]


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"root": "", "format": 9}', b'{"root": "", "format": 1}'])
def test_other_files_are_no_certificates(settings: Settings, tmp_path: Path, text: bytes) -> None:
    """One sentence names the file."""
    path = tmp_path / "x.json"
    path.write_bytes(text)
    with pytest.raises(CertificateError, match=r"x\.json"):
        verify(settings, [path])
    with pytest.raises(SettingsError, match="has no certificate"):
        verify(settings, [tmp_path / "none" if (tmp_path / "none").mkdir() is None else path])


@pytest.mark.slow
def test_the_view_joins_conditions_to_trades(settings: Settings, folder: Path, stored: Table) -> None:
    """By the rule of certificates, with the roots of certified days; not as of an earlier time."""
    first = issued(settings, folder)["ETH/USD"]["root"]
    append(stored, [numbered(2, 1.5, symbol="ETH/USD")])
    second = issued(settings, folder)["ETH/USD"]["root"]
    with open_market(settings) as market:
        rows = market.sql_table(
            "SELECT symbol, day, condition, certified_condition, root, amended_root, trades FROM quality ORDER BY ALL"
        ).to_pylist()
        joined = market.sql_table(
            "SELECT count(*) AS trades FROM trades t JOIN quality q "
            'ON t.symbol = q.symbol AND t."timestamp"::DATE = q.day'
        ).to_pylist()
        with pytest.raises(QueryError, match="as of now only"):
            market.sql_table("FROM quality", as_of=EPOCH)
    assert [(row["symbol"], row["day"].day, row["condition"], row["trades"]) for row in rows] == [
        ("BTCUSDT", 9, "complete", 3),
        ("BTCUSDT", 10, "complete", 2),
        ("ETH/USD", 9, "complete", 3),
    ]
    assert [row["certified_condition"] for row in rows] == ["complete", None, "amended"]
    assert (rows[2]["root"], rows[2]["amended_root"], rows[1]["root"]) == (second, first, None)
    assert joined == [{"trades": 8}]
