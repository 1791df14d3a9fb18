"""Canonical bytes of a row and of a document: what is hashed and signed (docs/certificates.md defines both)."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

__all__ = ["FIELDS", "canonical_row", "canonical_text", "document_hash"]

FIELDS: Final = (
    "exchange",
    "symbol",
    "session",
    "sequence",
    "trade_id",
    "price",
    "quantity",
    "side",
    "timestamp",
    "first_sequence",
)
"""Columns of `trades` that a certificate attests, in the order of their bytes and of the rows."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NULL: Final = b"-"


def canonical_row(row: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a row of `trades`; columns other than `FIELDS` are not read.

    >>> row = {"exchange": "kraken", "symbol": "BTC/USD", "session": 1, "sequence": 7, "trade_id": None, "side": "buy"}
    >>> row |= {"price": Decimal("61837.630"), "quantity": Decimal("10"), "timestamp": datetime(2024, 8, 9, tzinfo=UTC)}
    >>> canonical_row(row)
    b'6:kraken,7:BTC/USD,1,7,-,61837.63,10,3:buy,1723161600000000,-'
    """
    values = {name: row.get(name) for name in FIELDS}
    if values["first_sequence"] == values["sequence"]:
        values["first_sequence"] = None
    return b",".join(map(_field, values.values()))


def _field(value: str | Decimal | datetime | int | None) -> bytes:
    match value:
        case None:
            return _NULL
        case str():
            text = value.encode()
            return b"%d:%s" % (len(text), text)
        case Decimal():
            digits = format(value, "f")
            return (digits.rstrip("0").rstrip(".") if "." in digits else digits).encode()
        case datetime():
            return b"%d" % ((value - _EPOCH) // _MICROSECOND)
        case _:
            return b"%d" % value


def canonical_text(document: Mapping[str, Any]) -> bytes:
    """Return a document of texts, integers, booleans, lists and objects as JSON, the same bytes for equal documents.

    >>> canonical_text({"day": "2024-08-09", "amends": None})
    b'{"amends":null,"day":"2024-08-09"}'
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def document_hash(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a certificate's canonical bytes without its signature, as 64 hexadecimal digits."""
    return sha256(canonical_text({name: value for name, value in document.items() if name != "signature"})).hexdigest()
