"""How long missing trades of a venue can be had: the section `[fill]` of its table."""

from pathlib import Path

import pytest

from k2.model.errors import SettingsError
from k2.venues import VENUES
from k2.venues.table_files import read_table
from k2.venues.table_fill import Fill
from tests.venues.test_tables import TABLE


def test_how_long_trades_can_be_had_decodes_nothing(tmp_path: Path) -> None:
    """So it is in no digest, wherever it is in the file; a start compares digests."""
    file = tmp_path / "bourse.toml"
    skip = '\n[[skip]]\nreason = "error"\ntexts = ["x"]\n'
    for more in ("", skip):
        file.write_text(TABLE + more, encoding="utf-8")
        without = read_table(file, VENUES.tables.get)
        file.write_text(f"{TABLE}\n[fill]\n# Stated.\ndays = 7\ntrades = 100\n{more}", encoding="utf-8")
        found = read_table(file, VENUES.tables.get)
        assert (without.table.fill, found.table.fill) == (None, Fill(days=7, trades=100))
        assert found.digest == without.digest
        file.write_text(f"{TABLE}\n[filled]\n{more}", encoding="utf-8")
        with pytest.raises(SettingsError, match="filled: unknown key"):
            read_table(file, VENUES.tables.get)


def test_built_in_tables_inherit_it() -> None:
    """A table that extends another has its section, or another one, which may be empty."""
    fills = {name: table.fill for name in VENUES.tables if (table := VENUES.table_of(name)) is not None}
    assert fills["okx"] == fills["okx-trades-all"] == fills["binance-futures"] == Fill(days=90)
    assert (fills["binance-futures-aggtrade"], fills["kucoin"]) == (Fill(days=365), Fill(trades=100))
    assert (fills["htx"], fills["htx-linear"], fills["binance-spot"]) == (Fill(trades=2000), Fill(), None)
