"""What a trade known by its id alone is told by: a hash under its symbol's key, which is one under the process's."""

import numpy as np

from k2.dedup.trade_id_hash import TradeIdHasher, siphash
from k2.model.symbols import SYMBOLS, as_bytes

KEY = bytes(range(16))
LOW, HIGH = np.frombuffer(KEY, dtype="<u8")


def identity_of(identities: TradeIdHasher, number: int, text: str) -> list[int]:
    """Return the identity of one trade id of a symbol, amid other bytes."""
    columns = np.array([1]), np.array([len(text)], dtype=np.int32), np.array([number], dtype=np.int32)
    found = identities.of(as_bytes(f"?{text}!"), *columns)
    assert (found.dtype, found.shape) == (np.int64, (1, 2))
    words: list[int] = found.view(np.uint64)[0].tolist()
    return words


def by_definition(number: int, text: str) -> list[int]:
    """Work the identity out with the hash alone."""
    exchange, symbol = SYMBOLS.name(number)
    names = np.frombuffer(exchange.encode() + b"\xff" + symbol.encode(), dtype=np.uint8)
    # Compiled, it gives plain integers, and as a key takes words alone.
    own = (np.uint64(word) for word in siphash(LOW, HIGH, names, 0, len(names)))
    return [int(word) for word in siphash(*own, as_bytes(text), 0, len(text))]


def test_an_id_is_hashed_under_its_symbols_key() -> None:
    """Whichever symbol is met first, and those met after others had their keys."""
    identities = TradeIdHasher(KEY)
    first = SYMBOLS.intern("identity", "first")
    last = len(SYMBOLS) - 1
    for number in (0, first, last):
        assert identity_of(identities, number, "id") == by_definition(number, "id")
    fresh = TradeIdHasher(KEY)
    assert identity_of(fresh, last, "other") == by_definition(last, "other")
    new = [SYMBOLS.intern("identity", f"{len(SYMBOLS)} {count}") for count in range(2)]
    for number in (*new, 0, last):
        assert identity_of(identities, number, "") == by_definition(number, "")


def test_no_ids_have_no_identities() -> None:
    """An array of their shape all the same."""
    none = np.empty(0, dtype=np.int32)
    assert TradeIdHasher(KEY).of(as_bytes(""), none.astype(np.int64), none, none).shape == (0, 2)
