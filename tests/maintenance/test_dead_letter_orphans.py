"""Orphans among dead letters in an object store: what no version of the table counts is removed, and nothing else."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from k2.doctor.findings import State
from k2.doctor.folders import check_dead_letters
from k2.iceberg.sink import TradesSink
from k2.iceberg.tables import TableName
from k2.iceberg.trades_writer import TradesWriter
from k2.maintenance.orphans import find_orphans, remove_orphans
from k2.model.errors import SettingsError
from k2.ops.settings import Settings
from k2.query.dead_letters import open_dead_letters
from k2.query.reconcile import reconcile
from k2.storage.catalog import catalog_properties
from k2.storage.dead_letters.folders import dead_letter_folder
from tests.iceberg.running import table_of
from tests.iceberg.trades_table import read_to
from tests.s3 import S3


@pytest.fixture
def settings(on_s3: Settings) -> Settings:
    """Return settings with dead letters in the bucket of the warehouse."""
    bucket = urlsplit(catalog_properties(on_s3)["warehouse"]).netloc
    return on_s3.model_copy(update={"dlq_dir": f"s3://{bucket}/dlq"})


def started(settings: Settings) -> TradesWriter:
    """Start an instance, up to its writer."""
    sink = TradesSink(settings)
    sink.list_parts()
    return sink.build_part("out", "00", None)


def test_orphans_are_what_no_version_counts(settings: Settings) -> None:
    """An epoch that was not committed leaves an object; it is removed, and every counted dead letter stays."""
    for offset in range(3):
        writer = started(settings)
        writer.write_batch([read_to(offset + 1, rejected=[offset])])
        writer.snapshot()
    writer = started(settings)
    writer.write_batch([read_to(4, rejected=[3])])
    writer._dead_letters.sync()
    writer.close()
    assert find_orphans(settings, TableName.TRADES) == []
    found = find_orphans(settings, TableName.TRADES, timedelta(0))
    names = {one.file for one in found}
    assert all(name.startswith(f"{settings.dead_letter_address}/dlq-") for name in names)
    left = {file.name for file in dead_letter_folder(settings).files()}
    assert [*remove_orphans(settings, TableName.TRADES, found)] == found
    assert {file.name for file in dead_letter_folder(settings).files()} == left - {
        name.rpartition("/")[2] for name in names
    }
    assert len(names) == 1
    assert find_orphans(settings, TableName.TRADES, timedelta(0)) == []
    assert sorted(one.offset for one in open_dead_letters(settings, pytest.fail)) == [0, 1, 2]
    assert [(row.dead_letters, row.holds) for row in reconcile(settings)] == [(3, True)]


@pytest.mark.parametrize("below", ["", "/dlq"])
def test_an_address_in_the_folder_of_the_table_is_refused(settings: Settings, below: str) -> None:
    """There, a tool that removes orphan files would remove the dead letters."""
    started(settings).close()
    location = table_of(settings).location()
    within = settings.model_copy(update={"dlq_dir": f"{location}{below}"})
    sink = TradesSink(within)
    with pytest.raises(SettingsError, match=r"^K2_DLQ_DIR='s3://.*' is in the folder of table .*; use an address"):
        sink.check_dead_letter_locks()
    TradesSink(settings.model_copy(update={"dlq_dir": f"{location}-dlq"})).check_dead_letter_locks()


def test_the_doctor_tries_the_address(settings: Settings, s3: S3, tmp_path: Path) -> None:
    """An object is written and removed; a refusal names the address, and nothing is created on this machine."""
    (fine,) = check_dead_letters(settings)
    assert (fine.state, fine.text) == (State.OK, f"{settings.dead_letter_address} can be written")
    assert dead_letter_folder(settings).files() == []
    with s3.refusing():
        (refused,) = check_dead_letters(settings)
    assert refused.state is State.FAILED
    assert refused.text.startswith(f"{settings.dead_letter_address} cannot be written: ")
    assert not (tmp_path / "dlq").exists()
