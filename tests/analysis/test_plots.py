"""Plots: what is drawn equals the rows, any name and amount is legible, and the look is the same everywhere."""

import io
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import QuadMesh
from matplotlib.dates import num2date
from matplotlib.patches import Rectangle
from PIL import Image

import k2
from k2.analysis.extras import MissingExtraError
from k2.analysis.plots.completeness import LEVELS, NONE, NOT_NUMBERED, NOTHING, draw_completeness, level_of
from k2.analysis.plots.picture import Picture, short_name
from k2.analysis.plotter import CANDLES_MAX
from k2.iceberg.tables import TableName
from k2.ops.settings import Settings
from k2.query.completeness import Hour
from k2.query.engine import QueryError
from tests.query.tables import EPOCH, append, event, made, numbered, session_started, trade

BTC = {"exchange": "binance", "symbol": "BTCUSDT"}
HOSTILE = "$\\frac{日本}$\x07"


def png(picture: Picture) -> bytes:
    """Return the picture as a PNG."""
    stream = io.BytesIO()
    picture.write(stream, "png")
    return stream.getvalue()


def texts(picture: Picture) -> str:
    """Return all texts of a picture, a line each."""
    picture.draw_without_rendering()
    return "\n".join(text.get_text() for text in picture.findobj(mpl.text.Text))  # type: ignore[attr-defined]


@pytest.fixture
def odd(tmp_path: Path) -> Settings:
    """Return the settings of tables with one trade and one gap, of a symbol whose name is a formula."""
    settings = Settings(data_dir=tmp_path)
    names: dict[str, Any] = {"exchange": "x$", "symbol": HOSTILE}
    append(made(settings, TableName.TRADES), [trade(1, **names, price=Decimal("0.00001234"))])
    append(made(settings, TableName.SEQUENCE_EVENTS), [event("gap_opened", 1, 3, **names)])
    return settings


@pytest.mark.parametrize("name", ["candles", "completeness", "gaps", "latency"])
def test_one_row_of_an_odd_name(odd: Settings, name: str) -> None:
    """Every plot draws a single row, shows any name literally, and writes the same bytes again."""
    with k2.open(data_dir=odd.data_dir) as market:
        draw = getattr(market.plot, name)
        picture, again = draw(), draw()
    written = png(picture)
    if name != "gaps":  # its end is now
        assert written == again._repr_png_()
    assert picture.note is None
    assert "time (UTC)" in texts(picture)
    with Image.open(io.BytesIO(written)) as image:
        assert image.size[0] == 1584
        assert image.convert("RGB").getpixel((image.size[0] - 1, 0)) == (255, 255, 255)
    stream = io.BytesIO()
    picture.write(stream, "svg")
    assert b"<svg" in stream.getvalue()


@pytest.mark.parametrize("name", ["candles", "completeness", "gaps", "latency"])
def test_nothing_to_draw(tmp_path: Path, name: str) -> None:
    """The picture says so."""
    settings = Settings(data_dir=tmp_path)
    for table in (TableName.TRADES, TableName.SEQUENCE_EVENTS):
        made(settings, table)
    with k2.open(data_dir=tmp_path) as market:
        picture = getattr(market.plot, name)(symbol="BTCUSDT")
    assert picture.note in texts(picture)
    assert png(picture).startswith(b"\x89PNG")


def test_candles_are_the_bars(market: k2.MarketData) -> None:
    """Each body spans open and close at its time; the volume below is the bar's; rising bodies are hollow."""
    bars = market.ohlcv(**BTC, interval="30s").to_pylist()
    picture = market.plot.candles(**BTC, interval="30s")
    prices, volumes = (axes.findobj(Rectangle)[: len(bars)] for axes in picture.panels)
    for bar, body, volume in zip(bars, prices, volumes, strict=True):
        assert isinstance(body, Rectangle)
        assert isinstance(volume, Rectangle)
        low, high = sorted(map(float, (bar["open"], bar["close"])))
        assert (body.get_y(), body.get_y() + body.get_height()) == pytest.approx((low, high))
        middle = num2date(body.get_x() + body.get_width() / 2)  # type: ignore[no-untyped-call]
        assert abs(middle - bar["start"] - timedelta(seconds=15)) < timedelta(milliseconds=1)
        assert volume.get_height() == pytest.approx(float(bar["volume"]))
        assert (body.get_facecolor()[:3] == (1, 1, 1)) == (bar["close"] >= bar["open"])
    assert f"{len(bars)} candles, 9,757 trades" in texts(picture)


def test_an_interval_is_chosen(market: k2.MarketData) -> None:
    """By default there are at most 150 candles; the title names the interval."""
    picture = market.plot.candles(**BTC)
    assert picture.title == "binance BTCUSDT, 5s candles"
    assert market.ohlcv(**BTC, interval="5s").to_arrow().num_rows <= 150


def test_the_requested_time_is_shown(market: k2.MarketData) -> None:
    """The axis has the start and end that were given, even where no trade is."""
    picture = market.plot.candles(**BTC, start="2024-08-08", end="2024-08-10", interval="1m")
    shown = [num2date(edge).isoformat() for edge in picture.panels[0].get_xlim()]  # type: ignore[no-untyped-call]
    assert shown == ["2024-08-08T00:00:00+00:00", "2024-08-10T00:00:00+00:00"]


def test_candles_of_several_symbols_are_refused(market: k2.MarketData) -> None:
    """The error names some of them."""
    with pytest.raises(QueryError, match=r"there are 25 \(binance BTCUSDT, .*, \.\.\.\); choose"):
        market.plot.candles()


def test_too_many_candles_are_refused(tmp_path: Path) -> None:
    """A picture of a thousand candles is drawn, of more it is refused."""
    settings = Settings(data_dir=tmp_path)
    table = made(settings, TableName.TRADES)
    append(table, [trade(second) for second in range(CANDLES_MAX)])
    with k2.open(data_dir=tmp_path) as market:
        assert market.plot.candles(interval="1s").note is None
        append(table, [trade(CANDLES_MAX)])
        with pytest.raises(QueryError, match="interval 1s gives more than 1,000 candles"):
            market.plot.candles(interval="1s")


@pytest.fixture
def gappy(tmp_path: Path) -> Settings:
    """Return the settings of tables with 60 symbols: number N lacks N numbers, and symbol 7 is in doubt."""
    settings = Settings(data_dir=tmp_path)
    rows, events = [], [session_started(session, 1, symbol="S07") for session in (1, 2)]
    for number in range(60):
        symbol = f"S{number:02}"
        rows += [numbered(1, 1, symbol=symbol), numbered(number + 2, 9, symbol=symbol)]
        events += [event("gap_opened", 2, number + 1, symbol=symbol, session=1)] if number else []
    append(made(settings, TableName.TRADES), rows)
    append(made(settings, TableName.SEQUENCE_EVENTS), events)
    return settings


def test_the_worst_symbols_are_shown(gappy: Settings) -> None:
    """Of many symbols those with the most missing numbers, the worst first; the picture says how many there are."""
    with k2.open(data_dir=gappy.data_dir) as market:
        for draw in (market.plot.completeness, market.plot.gaps):
            shown = texts(draw())
            assert "with the most missing numbers" in shown
            assert ("binance S59" in shown, "binance S03" in shown) == (True, False)
            few = draw(worst=2)
            labels = [label.get_text() for label in few.panels[0].get_yticklabels()]
            assert labels == ["binance S59", "binance S58"]
        assert "numbering in doubt" in texts(market.plot.completeness(symbol="S07"))


def test_completeness_has_the_levels_of_the_hours(gappy: Settings) -> None:
    """Each cell has the colour of its stored share, white where nothing is expected."""
    with k2.open(data_dir=gappy.data_dir) as market:
        hours = market.completeness(by="hour", symbol="S59").to_pylist()
        picture = market.plot.completeness(symbol="S59")
    (mesh,) = picture.panels[0].findobj(QuadMesh)
    assert isinstance(mesh, QuadMesh)
    levels = [*LEVELS, NONE, NOTHING]
    found = [levels[int(index)] for index in np.ravel(np.asarray(mesh.get_array()))]
    assert found == [level_of(hour["expected"], hour["stored"]) for hour in hours]


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_only_a_complete_cell_looks_complete(stored: int, missing: int) -> None:
    """However small the missing share is, and however large the numbers are; without any number, none is complete."""
    level = level_of(stored + missing, stored)
    assert (level is LEVELS[0]) == (stored > 0 and not missing)
    assert (level is NONE) == (missing > 0 and not stored)
    assert level_of(0, 0, 1) is NOT_NUMBERED


def test_long_times_have_wider_columns() -> None:
    """Of more than 240 hours several make a column, and one with a missing number is not complete."""
    hours = [
        Hour("x", "BTC", EPOCH + timedelta(hours=hour), 10**6, 10**6 - (hour == 500), int(hour == 500), 0)
        for hour in range(1_000)
    ]
    picture = draw_completeness("", hours, [("x", "BTC")], set())
    assert picture.title == "Completeness by 5 hours"
    (mesh,) = picture.panels[0].findobj(QuadMesh)
    assert isinstance(mesh, QuadMesh)
    cells = np.ravel(np.asarray(mesh.get_array()))
    assert [*np.flatnonzero(cells)] == [100]
    assert len(cells) == 200


def test_gaps_are_bars_of_their_time(tmp_path: Path) -> None:
    """A filled gap ends when it was filled, an open one at the end; the numbers are counted at the right."""
    settings = Settings(data_dir=tmp_path)
    later = [EPOCH + timedelta(hours=hours) for hours in (1, 2, 4)]
    made(settings, TableName.TRADES)
    append(
        made(settings, TableName.SEQUENCE_EVENTS),
        [
            event("gap_opened", 10, 19, detected_at=EPOCH),
            event("gap_filled", 10, 19, detected_at=later[0]),
            event("gap_opened", 30, 34, detected_at=later[1]),
        ],
    )
    with k2.open(data_dir=tmp_path) as market:
        picture = market.plot.gaps(as_of=later[2])
    bars = [path.get_extents() for bars in picture.panels[0].collections for path in bars.get_paths()]
    assert [(_time(bar.x0), _time(bar.x1)) for bar in bars] == [(later[1], later[2]), (EPOCH, later[0])]
    assert "5 missing, 10 filled" in texts(picture)


def _time(day: float) -> datetime:
    time: datetime = num2date(day)  # type: ignore[no-untyped-call]
    return (time + timedelta(milliseconds=500)).replace(microsecond=0)


def test_latency_has_a_line_for_each_exchange_and_clock(tmp_path: Path) -> None:
    """At most eight exchanges; a clock that no trade has gets no panel; a line is broken where nothing was traded."""
    settings = Settings(data_dir=tmp_path)
    rows = [
        trade(n, f"x{exchange}", timestamp=time, kafka_timestamp=time + timedelta(milliseconds=10 * (exchange + 1)))
        for exchange in range(10)
        for n, time in enumerate([EPOCH, EPOCH + timedelta(hours=9)] * (10 - exchange))
    ]
    append(made(settings, TableName.TRADES), rows)
    with k2.open(data_dir=tmp_path) as market:
        picture = market.plot.latency(interval="1h")
    (axes,) = picture.panels
    assert axes.get_ylabel() == "to Kafka (ms)"
    assert len(axes.lines) == 16
    first = np.asarray(axes.lines[0].get_ydata(), float)
    assert np.array_equal(first, [10, np.nan, 10], equal_nan=True)
    assert "the 8 of 10 exchanges with the most trades: 104 trades" in texts(picture)


def test_the_users_style_is_not_used(odd: Settings) -> None:
    """In a dark notebook a picture is the same, and the notebook's style is left as it is."""
    draw: Callable[[], Picture]
    with k2.open(data_dir=odd.data_dir) as market:
        draw = market.plot.completeness
        light = png(draw())
        with mpl.style.context("dark_background"):  # type: ignore[attr-defined]
            assert png(draw()) == light
            assert mpl.rcParams["figure.facecolor"] == "black"


def test_a_long_name_keeps_begin_and_end() -> None:
    """Contracts often differ only in their end."""
    name = short_name("deribit", "BTC-PERPETUAL-SPREAD-CONTRACT-28MAR25-C")
    assert len(name) == 32
    assert name.startswith("deribit BTC-")
    assert name.endswith("28MAR25-C")


def test_a_missing_matplotlib_names_the_extra(market: k2.MarketData, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence."""
    monkeypatch.setattr("k2.analysis.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"plot\.gaps\(\) needs matplotlib.*'k2-trades\[plot\]'"):
        market.plot.gaps()


def test_an_unknown_span_is_refused(market: k2.MarketData) -> None:
    """The error names those that exist."""
    with pytest.raises(QueryError, match="by: 'week' is neither day nor hour"):
        market.plot.completeness(by="week")  # type: ignore[arg-type]
