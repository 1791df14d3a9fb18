"""Renderer of trades as canonical `k2` messages, with a variant per exchange.

Together the exchanges use every variant that the format allows: no id, a text id, numbers instead of decimal strings,
RFC 3339 times, reception times, no sequence number.
"""

from collections.abc import Iterable
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from demo.market import EXCHANGES, Listing, Traded

__all__ = ["Renderer", "uuid_columns"]

_SIDES: Final = np.array([b"null", b'"buy"', b'"sell"'], dtype=object)
_HEAD: Final = '{"exchange":"EXCHANGE","symbol":"SYMBOL",'
_VALUES: Final = '"price":"%d.PRICE","quantity":"%d.QUANTITY","side":%b,'
_NUMBERS: Final = '"price":%d.PRICE,"quantity":%d.QUANTITY,"side":%b,'
_TEMPLATES: Final = {
    "binance": '"sequence":%d,' + _VALUES + '"timestamp":%d}',
    "coinbase": '"trade_id":"%d","sequence":%d,' + _VALUES + '"timestamp":"%b.%06dZ"}',
    "kraken": '"sequence":%d,' + _NUMBERS + '"timestamp":%d,"received":%d}',
    "okx": '"trade_id":"SYMBOL-%d","sequence":%d,' + _VALUES + '"timestamp":%d,"received":%d}',
    "bybit": '"trade_id":"%08x-%04x-%04x-%04x-%012x",' + _VALUES + '"timestamp":%d}',
}


class Renderer:
    """Renders trades as messages, in about 1.5 us each."""

    def __init__(self, listings: list[Listing]) -> None:
        self._templates = [_template(listing) for listing in listings]
        self._exchanges = np.array([EXCHANGES.index(listing.exchange) for listing in listings])
        self._price_units = np.array([10**listing.price_scale for listing in listings], dtype=np.int64)
        self._quantity_units = np.array([10**listing.quantity_scale for listing in listings], dtype=np.int64)

    def messages(self, traded: Traded) -> list[bytes]:
        """Return the message of each trade, in order."""
        out = np.empty(len(traded), dtype=object)
        exchanges = self._exchanges[traded.symbols]
        for exchange_idx, exchange in enumerate(EXCHANGES):
            rows = np.flatnonzero(exchanges == exchange_idx)
            if len(rows):
                columns = self._columns(exchange, traded, rows)
                templates = [self._templates[symbol] for symbol in traded.symbols[rows].tolist()]
                rendered = (
                    template % row for template, row in zip(templates, zip(*columns, strict=False), strict=False)
                )
                out[rows] = np.fromiter(rendered, dtype=object, count=len(rows))
        messages: list[bytes] = out.tolist()
        return messages

    def _columns(self, exchange: str, traded: Traded, rows: NDArray[np.int64]) -> list[Iterable[object]]:
        symbols = traded.symbols[rows]
        values: list[Iterable[object]] = [
            *_divmod(traded.ticks[rows], self._price_units[symbols]),
            *_divmod(traded.lots[rows], self._quantity_units[symbols]),
            _SIDES[traded.sides[rows]].tolist(),
        ]
        sequences = traded.sequences[rows].tolist()
        times: list[Iterable[object]] = [traded.timestamps[rows].tolist()]
        if exchange in ("kraken", "okx"):
            times.append(traded.received[rows].tolist())
        if exchange == "bybit":
            return [*uuid_columns(traded, rows), *values, *times]
        if exchange == "coinbase":
            return [sequences, sequences, *values, *_rfc3339(traded.timestamps[rows])]
        return [*repeat(sequences, 2 if exchange == "okx" else 1), *values, *times]


def _template(listing: Listing) -> bytes:
    text = _HEAD + _TEMPLATES[listing.exchange]
    text = text.replace("PRICE", f"%0{listing.price_scale}d").replace("QUANTITY", f"%0{listing.quantity_scale}d")
    return text.replace("EXCHANGE", listing.exchange).replace("SYMBOL", listing.symbol).encode()


def _divmod(amounts: NDArray[np.int64], units: NDArray[np.int64]) -> list[Iterable[object]]:
    whole, fraction = np.divmod(amounts, units)
    return [whole.tolist(), fraction.tolist()]


def _rfc3339(timestamps: NDArray[np.int64]) -> list[Iterable[object]]:
    seconds, micros = np.divmod(timestamps, 1_000_000)
    texts = np.datetime_as_string(seconds.astype("datetime64[s]")).astype("S19")
    return [texts.tolist(), micros.tolist()]


def uuid_columns(traded: Traded, rows: NDArray[np.int64]) -> list[Iterable[object]]:
    """Return the five parts of the UUID-like id of each row, for `%08x-%04x-%04x-%04x-%012x`."""
    high, low = traded.id_high[rows], traded.id_low[rows]
    mask = np.uint64(0xFFFF)
    return [
        (high >> np.uint64(32)).tolist(),
        ((high >> np.uint64(16)) & mask).tolist(),
        (high & mask).tolist(),
        (low >> np.uint64(48)).tolist(),
        (low & np.uint64(0xFFFF_FFFF_FFFF)).tolist(),
    ]
