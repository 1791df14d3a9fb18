"""`k2 plot`: files, formats, sentences and exit codes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from tests.query.tables import append, made, trade

K2 = Callable[..., Result]
PLOTS = ["candles", "completeness", "gaps", "latency"]


@pytest.fixture
def stored(settings: Settings) -> Settings:
    """Store a few trades of one symbol, and an empty ledger."""
    append(made(settings, TableName.TRADES), [trade(offset) for offset in range(5)])
    made(settings, TableName.SEQUENCE_EVENTS)
    return settings


@pytest.mark.parametrize("plot", PLOTS)
def test_a_file_is_written(stored: Settings, k2: K2, tmp_path: Path, plot: str) -> None:
    """Nothing but JSON on stdout, and a picture in the format of the name."""
    path = tmp_path / "picture.svg"
    done = k2("plot", plot, "--output", str(path), "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["output"], found["empty"]) == (str(path), plot == "gaps")
    assert path.read_bytes().startswith(b"<?xml")


def test_a_png(stored: Settings, k2: K2, tmp_path: Path) -> None:
    """The suffix is case-insensitive, and the file is named on stderr."""
    path = tmp_path / "picture.PNG"
    done = k2("plot", "candles", "--output", str(path), "--interval", "1s")
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"binance BTCUSDT, 1s candles in {path}" in done.stderr
    assert path.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw(stored: Settings, k2: K2, tmp_path: Path) -> None:
    """As with an empty table: one sentence says why, the exit code is 0, and the file does not keep older content."""
    path = tmp_path / "picture.png"
    path.write_text("of yesterday")
    done = k2("plot", "candles", "--symbol", "btcusdt", "--output", str(path))
    assert done.exit_code == 0
    assert "no trade of 'btcusdt' was ever stored; did you mean BTCUSDT?" in done.stderr
    assert path.read_bytes().startswith(b"\x89PNG")
    done = k2("plot", "latency", "--start", "2030-01-01", "--output", str(path))
    assert (done.exit_code, "no trade is in this selection" in done.stderr) == (0, True)


@pytest.mark.parametrize("name", ["picture", "picture.pdf", "picture.parquet"])
def test_another_format_is_refused(stored: Settings, k2: K2, tmp_path: Path, name: str) -> None:
    """Before anything is queried."""
    done = k2("plot", "gaps", "--output", str(tmp_path / name))
    assert done.exit_code == 2
    assert "its name must end with .png or .svg" in done.stderr
    assert not (tmp_path / name).exists()


def test_errors_leave_the_file(stored: Settings, k2: K2, tmp_path: Path) -> None:
    """An invalid option or a folder that does not exist is one sentence."""
    path = tmp_path / "picture.png"
    path.write_text("of yesterday")
    append(made(stored, TableName.TRADES), [trade(1, symbol="ETHUSDT")])
    done = k2("plot", "candles", "--output", str(path))
    assert (done.exit_code, "choose exchange and symbol" in done.stderr) == (2, True)
    done = k2("plot", "candles", "--symbol", "ETHUSDT", "--interval", "1x", "--output", str(path))
    assert (done.exit_code, done.stderr.startswith("k2: interval: ")) == (2, True)
    assert path.read_text() == "of yesterday"
    done = k2("plot", "gaps", "--output", str(tmp_path / "none" / "picture.png"))
    assert (done.exit_code, "No such file or directory" in done.stderr) == (2, True)


def test_no_table(settings: Settings, k2: K2, tmp_path: Path) -> None:
    """A table that was never created is named, with exit code 2."""
    done = k2("plot", "candles", "--output", str(tmp_path / "picture.png"))
    assert done.exit_code == 2
    assert "there is no catalog in it" in done.stderr
