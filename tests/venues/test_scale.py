"""`scale`: prices and quantities in units of a power of ten, exact in both decoders."""

import json
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.model.decimals import PRECISION, SCALE, parse_decimal
from k2.model.errors import SettingsError
from k2.venues import VENUES
from k2.venues.table import VenueTable
from k2.venues.table_decoder import venue_of
from k2.venues.table_files import read_table
from tests.venues.messages import batch_of, value_of
from tests.venues.test_table_kernel import agree, decode, left_of

PHEMEX = {
    "name": "scaled",
    "source": "made up",
    "exchange": "scaled",
    "numbering": "none",
    "symbol": {"path": "symbol"},
    "price": {"path": "priceEp", "scale": -4},
    "quantity": {"path": "sizeEq", "scale": -8},
    "time": {"path": "ts", "unit": "ns"},
    "messages": [{}],
}


def message(price: Any, quantity: Any) -> bytes:
    """Return a trade of the table above."""
    return json.dumps({"symbol": "BTC", "priceEp": price, "sizeEq": quantity, "ts": 1_723_161_255_342_000_000}).encode()


@pytest.fixture(autouse=True)
def _venue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VENUES, "scaled", venue_of(msgspec.convert(PHEMEX, VenueTable)))


def test_a_scaled_number_is_multiplied_exactly() -> None:
    """The compiled decoder reads whole numbers, fractions and exponents, as numbers and as text."""
    values = [message(618_376_300, "2000000"), message("1.5", 1), message(25, "1e3"), message(10**18 - 1, 10**18 - 1)]
    columns = decode(batch_of(values, "scaled")).trades.columns
    assert [value_of(price) for price in columns.prices] == [
        61_837_630_000 * 10**12,
        15 * 10**13,
        25 * 10**14,
        (10**18 - 1) * 10**14,
    ]
    assert [value_of(one) for one in columns.quantities] == [
        2 * 10**16,
        10**10,
        10**13,
        (10**18 - 1) * 10**10,
    ]
    assert left_of("scaled", values) == []


NUMBERS = st.from_regex(r"\A-?[0-9]{1,20}(\.[0-9]{1,8})?([eE][+-]?[0-9]{1,3})?\Z") | st.sampled_from(["-", "1e", "."])


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_both_decoders_agree_on_scaled_numbers(pairs: list[tuple[str, str]]) -> None:
    """Also where a number does not fit, or is not one."""
    assert agree(batch_of([message(*pair) for pair in pairs], "scaled"))


@given(st.decimals(-(10**15), 10**15, places=6), st.integers(-18, 18))
def test_a_scaled_decimal_is_that_of_the_standard_library(number: Decimal, power: int) -> None:
    """Or is rejected: it is never rounded."""
    with localcontext(prec=100):
        exact = number.scaleb(power)
        if exact == round(exact, SCALE) and abs(exact) < Decimal(10) ** (PRECISION - SCALE):
            assert Decimal(parse_decimal(format(number, "f"), power)).scaleb(-SCALE) == exact
            return
    with pytest.raises(ValueError, match="does not fit"):
        parse_decimal(format(number, "f"), power)


def test_a_number_that_does_not_fit_names_its_scale() -> None:
    """The error has the number as it is in the message."""
    with pytest.raises(ValueError, match=r"does not fit decimal\(38, 18\): '1e-16' times 1e-4"):
        parse_decimal("1e-16", -4)


def test_a_scale_out_of_range_is_refused(tmp_path: Path) -> None:
    """In one sentence with file, line and key."""
    table = tmp_path / "scaled.toml"
    table.write_text(
        'name = "x"\nsource = "x"\nexchange = "x"\nnumbering = "none"\nsymbol = { path = "s" }\n'
        'price = { path = "p", scale = -19 }\nquantity = { path = "q" }\ntime = { path = "t", unit = "ms" }\n'
        "[[messages]]\n"
    )
    with pytest.raises(SettingsError, match=r"scaled.toml line 6: price.scale: expected int >= -18"):
        read_table(table, lambda _: None)
