"""Keyed 128-bit hash that identifies trades without a sequence number by exchange, symbol and id.

SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, https://github.com/veorq/SipHash). Without the key nobody
can craft colliding ids. The key is that of the table, so that hashes can be stored. The probability that any two of 100
million ids collide by chance is 10^-23.
"""

import hashlib
import threading
import uuid
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from k2.model.compiled import compiled
from k2.model.symbols import Symbols

__all__ = ["KEY_BYTES", "TradeIdHasher", "siphash", "table_key"]

KEY_BYTES: Final = 16

_U8: Final = np.uint64(8)
_WORD_BITS: Final = np.uint64(64)
_U13, _U16, _U17, _U21, _U32 = (np.uint64(bits) for bits in (13, 16, 17, 21, 32))
# Not literals, each of which is a type of its own: what takes them would be compiled for each.
_WORD_BYTES: Final[Any] = np.int64(8)
_ROUNDS: Final[Any] = np.int64(2)
_LAST_ROUNDS: Final[Any] = np.int64(4)


def table_key(table_id: uuid.UUID) -> bytes:
    """Return the key of a table's hashes.

    It is derived from the table's UUID, which is random, and unknown to those who send trades.
    """
    return hashlib.blake2b(table_id.bytes, digest_size=KEY_BYTES, person=b"k2 trade ids").digest()


@compiled
def _rotated(word: np.uint64, bits: np.uint64) -> np.uint64:
    return (word << bits) | (word >> (_WORD_BITS - bits))


@compiled
def _rounds(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64, count: int
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    for _ in range(count):
        v0 += v1
        v1 = _rotated(v1, _U13) ^ v0
        v0 = _rotated(v0, _U32)
        v2 += v3
        v3 = _rotated(v3, _U16) ^ v2
        v0 += v3
        v3 = _rotated(v3, _U21) ^ v0
        v2 += v1
        v1 = _rotated(v1, _U17) ^ v2
        v2 = _rotated(v2, _U32)
    return v0, v1, v2, v3


@compiled
def _word(text: NDArray[np.uint8], start: int, size: int) -> np.uint64:
    """Return up to eight bytes as a little-endian word."""
    word = np.uint64(0)
    for idx in range(size):
        word |= np.uint64(text[start + idx]) << (_U8 * np.uint64(idx))
    return word


@compiled
def siphash(
    key_low: np.uint64, key_high: np.uint64, text: NDArray[np.uint8], start: int, size: int
) -> tuple[np.uint64, np.uint64]:
    """Return the SipHash-2-4-128 of `size` bytes of uint8[bytes] `text` from `start` on, low word first."""
    v0 = key_low ^ np.uint64(0x736F6D6570736575)
    v1 = key_high ^ np.uint64(0x646F72616E646F6D) ^ np.uint64(0xEE)
    v2 = key_low ^ np.uint64(0x6C7967656E657261)
    v3 = key_high ^ np.uint64(0x7465646279746573)
    whole = size - size % 8
    for idx in range(start, start + whole, 8):
        word = _word(text, idx, _WORD_BYTES)
        v0, v1, v2, v3 = _rounds(v0, v1, v2, v3 ^ word, _ROUNDS)
        v0 ^= word
    word = _word(text, start + whole, size - whole) | (np.uint64(size & 0xFF) << np.uint64(56))
    v0, v1, v2, v3 = _rounds(v0, v1, v2, v3 ^ word, _ROUNDS)
    v0, v1, v2, v3 = _rounds(v0 ^ word, v1, v2 ^ np.uint64(0xEE), v3, _LAST_ROUNDS)
    low = v0 ^ v1 ^ v2 ^ v3
    v0, v1, v2, v3 = _rounds(v0, v1 ^ np.uint64(0xDD), v2, v3, _LAST_ROUNDS)
    return low, v0 ^ v1 ^ v2 ^ v3


@compiled
def _hash_rows(
    text: NDArray[np.uint8],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int32],
    symbols: NDArray[np.int32],
    keys: NDArray[np.uint64],
    out: NDArray[np.uint64],
) -> None:
    """Hash the id of each of n rows with the key of its symbol.

    `keys` is uint64[symbols, 2], `out` uint64[n, 2].
    """
    for row in range(len(starts)):
        key_low, key_high = keys[symbols[row], 0], keys[symbols[row], 1]
        size: Any = np.int64(sizes[row])
        out[row, 0], out[row, 1] = siphash(key_low, key_high, text, starts[row], size)


class TradeIdHasher:
    """Trade-id hashes under one key, for the symbol ids of one registry; thread-safe.

    Each symbol has its own key, the hash of its exchange and name. The same id of two symbols therefore has two hashes.
    """

    def __init__(self, symbols: Symbols, key: bytes) -> None:
        self.symbols: Final = symbols
        self.key_check: Final = hashlib.blake2b(b"", key=key, digest_size=8).hexdigest()
        """Identifies the key, and does not reveal it."""
        self._lock = threading.Lock()
        self._key = np.frombuffer(key, dtype="<u8").astype(np.uint64)
        self._symbol_keys = np.zeros((0, 2), dtype=np.uint64)

    def of(
        self,
        text: NDArray[np.uint8],
        starts: NDArray[np.int64],
        sizes: NDArray[np.int32],
        symbols: NDArray[np.int32],
    ) -> NDArray[np.int64]:
        """Return int64[n, 2]: the trade-id hashes of n ids, low word first.

        Args:
            text: uint8[bytes], buffer that contains the ids.
            starts: int64[n], into `text`.
            sizes: int32[n], bytes.
            symbols: int32[n], symbol ids of the registry.
        """
        hashes = np.empty((len(starts), 2), dtype=np.uint64)
        _hash_rows(text, starts, sizes, symbols, self._keys_up_to(int(symbols.max(initial=-1))), hashes)
        return hashes.view(np.int64)

    def _keys_up_to(self, symbol_id: int) -> NDArray[np.uint64]:
        keys = self._symbol_keys
        if symbol_id < len(keys):
            return keys
        with self._lock:
            known = self._symbol_keys
            new = [self._symbol_key(symbol_id) for symbol_id in range(len(known), len(self.symbols))]
            self._symbol_keys = np.concatenate([known, np.array(new, dtype=np.uint64).reshape(-1, 2)])
            return self._symbol_keys

    def _symbol_key(self, symbol_id: int) -> tuple[np.uint64, np.uint64]:
        # 0xFF never occurs in UTF-8, so these bytes are unique to the pair of names.
        names = b"\xff".join(name.encode() for name in self.symbols.name(symbol_id))
        return siphash(self._key[0], self._key[1], np.frombuffer(bytearray(names), dtype=np.uint8), 0, len(names))
