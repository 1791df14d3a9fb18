"""The trade-id hash: under a key of the symbol, which derives from the process's key."""

import numpy as np

from k2.dedup.trade_id_hash import TradeIdHasher, siphash
from k2.model.symbols import Symbols, as_bytes

KEY = bytes(range(16))
LOW, HIGH = np.frombuffer(KEY, dtype="<u8")


def hash_of(identities: TradeIdHasher, number: int, text: str) -> list[int]:
    """Return the hash of one trade id of a symbol, surrounded by other bytes."""
    columns = np.array([1]), np.array([len(text)], dtype=np.int32), np.array([number], dtype=np.int32)
    found = identities.of(as_bytes(f"?{text}!"), *columns)
    assert (found.dtype, found.shape) == (np.int64, (1, 2))
    words: list[int] = found.view(np.uint64)[0].tolist()
    return words


def by_definition(symbols: Symbols, number: int, text: str) -> list[int]:
    """Compute the trade-id hash from the plain hash alone."""
    exchange, symbol = symbols.name(number)
    names = np.frombuffer(exchange.encode() + b"\xff" + symbol.encode(), dtype=np.uint8)
    # Compiled, it returns plain integers, and takes only words as a key.
    own = (np.uint64(word) for word in siphash(LOW, HIGH, names, 0, len(names)))
    return [int(word) for word in siphash(*own, as_bytes(text), 0, len(text))]


def test_an_id_is_hashed_under_its_symbols_key() -> None:
    """Whichever symbol is met first, and also when later symbols get their keys."""
    symbols = Symbols()
    numbers = [symbols.intern("exchange", name) for name in ("zero", "first", "last")]
    last = numbers[-1]
    identities = TradeIdHasher(symbols, KEY)
    for number in numbers:
        assert hash_of(identities, number, "id") == by_definition(symbols, number, "id")
    fresh = TradeIdHasher(symbols, KEY)
    assert hash_of(fresh, last, "other") == by_definition(symbols, last, "other")
    new = [symbols.intern("exchange", f"new {count}") for count in range(2)]
    for number in (*new, 0, last):
        assert hash_of(identities, number, "") == by_definition(symbols, number, "")


def test_no_ids_have_no_hashes() -> None:
    """The result is an empty array of the usual shape."""
    none = np.empty(0, dtype=np.int32)
    assert TradeIdHasher(Symbols(), KEY).of(as_bytes(""), none.astype(np.int64), none, none).shape == (0, 2)
