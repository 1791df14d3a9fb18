"""The contenders in Java: their versions, and what their configuration leaves on disk."""

import json
import sys
from pathlib import Path

import pytest
from pyiceberg.table import StaticTable

from benchmarks.peers.__main__ import main
from benchmarks.peers.contender import Contender, Task
from benchmarks.peers.contenders import connect, flink
from benchmarks.peers.stored_table import newest_metadata, rows_committed
from tests.maven import version_in


@pytest.mark.parametrize(
    ("pom", "name", "parts"),
    [(flink.POM, flink.NAME, ["flink", "iceberg"]), (connect.POM, connect.NAME, ["connect", "iceberg"])],
)
def test_the_folder_of_jars_is_named_by_what_is_in_it(pom: Path, name: str, parts: list[str]) -> None:
    """A newer version in a pom would else never be downloaded."""
    assert version_in(pom, name) == "-".join(version_in(pom, part) for part in parts)


@pytest.mark.parametrize(
    ("contender", "pom", "parts"),
    [
        (flink.CONTENDER, flink.POM, ["flink"]),
        (connect.CONTENDER, connect.POM, ["connect", "iceberg"]),
    ],
)
def test_titles_have_the_versions_of_the_poms(contender: Contender, pom: Path, parts: list[str]) -> None:
    """So that a table of figures says what was measured."""
    assert all(version_in(pom, part) in contender.title for part in parts)


def test_the_table_that_connect_finds_is_an_iceberg_table(tmp_path: Path) -> None:
    """As Hadoop's catalog has it: a numbered metadata file, and the hint that names it."""
    task = Task("127.0.0.1:1", "trades", 4, tmp_path)
    connect.create_table(task)
    path = newest_metadata(task.warehouse)
    assert path is not None
    assert (path.name, (path.parent / "version-hint.text").read_text(encoding="utf-8")) == ("v1.metadata.json", "1")
    table = StaticTable.from_metadata(str(path))
    assert (table.format_version, str(table.schema().find_type("price"))) == (2, "decimal(38, 18)")
    assert json.loads(path.read_bytes())["properties"]["write.parquet.compression-codec"] == "zstd"
    assert rows_committed(task.warehouse) == 0


def test_a_start_of_all_messages_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing would be left to measure."""
    monkeypatch.setattr(sys, "argv", ["peers", "--messages", "20000", "--start-messages", "20000"])
    with pytest.raises(SystemExit):
        main()
    assert "too few messages: 20000; the start-up is measured on 20000" in capsys.readouterr().err
