"""Bytes of state in files next to the tables: packed with zstd, and known by their digest."""

import hashlib
from typing import Final

import pyarrow as pa

__all__ = ["digest", "pack", "unpack"]

_SIZE_BYTES: Final = 8


def pack(plain: bytes) -> bytes:
    """Return the size of some bytes, 8 bytes low first, and the bytes compressed with zstd."""
    packed: bytes = pa.compress(plain, codec="zstd", asbytes=True)
    return len(plain).to_bytes(_SIZE_BYTES, "little") + packed


def unpack(data: bytes) -> bytes:
    """Return the bytes that `pack` was given.

    Raises:
        ValueError, OSError, MemoryError, OverflowError: they were not packed like that.
    """
    size = int.from_bytes(data[:_SIZE_BYTES], "little")
    plain: bytes = pa.decompress(data[_SIZE_BYTES:], decompressed_size=size, codec="zstd", asbytes=True)
    return plain


def digest(data: bytes) -> str:
    """Return BLAKE2b of some bytes (RFC 7693), 16 bytes in hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
