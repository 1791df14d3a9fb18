"""Merkle tree hash of RFC 6962 over the hashes of rows, in memory that grows with the logarithm of their number."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

__all__ = ["EMPTY_ROOT", "LEAF_PREFIX", "NODE_PREFIX", "MerkleTree", "leaf_hash"]

LEAF_PREFIX: Final = b"\x00"
NODE_PREFIX: Final = b"\x01"
EMPTY_ROOT: Final = sha256().digest()
"""Root of a tree without leaves."""
_BLOCK_LEVEL: Final = 10
_BLOCK: Final = 1 << _BLOCK_LEVEL
"""Leaves that are hashed level by level; a perfect subtree of them is one node."""


def leaf_hash(row: bytes) -> bytes:
    """Return the hash of a leaf, 32 bytes.

    >>> leaf_hash(b"").hex()
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d'
    """
    return sha256(LEAF_PREFIX + row).digest()


class MerkleTree:
    """A tree to which leaves are appended; `root` may be read at any time."""

    def __init__(self) -> None:
        """Begin with an empty tree."""
        self.leaves = 0
        """Number of leaves."""
        self._open: list[bytes] = []
        """Leaves that are in no node yet: fewer than a block."""
        self._nodes: list[tuple[int, bytes]] = []
        """Perfect subtrees from left to right, each with its level; the levels descend."""

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Append leaves, each the 32 bytes of `leaf_hash`."""
        self.leaves += len(leaves)
        self._open += leaves
        whole = len(self._open) // _BLOCK * _BLOCK
        for first in range(0, whole, _BLOCK):
            self._add_node(_BLOCK_LEVEL, _fold(self._open[first : first + _BLOCK]))
        del self._open[:whole]

    @property
    def root(self) -> bytes:
        """Return the root of the leaves so far, 32 bytes."""
        rest = [_fold(self._open)] if self._open else []
        parts = [*(node for _, node in self._nodes), *rest]
        if not parts:
            return EMPTY_ROOT
        found = parts.pop()
        while parts:
            found = _node(parts.pop(), found)
        return found

    def _add_node(self, level: int, node: bytes) -> None:
        while self._nodes and self._nodes[-1][0] == level:
            node, level = _node(self._nodes.pop()[1], node), level + 1
        self._nodes.append((level, node))


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(NODE_PREFIX + left + right).digest()


def _fold(hashes: Sequence[bytes]) -> bytes:
    """Return the root over at least one hash: neighbours are joined, and one that is left over goes up unchanged."""
    while len(hashes) > 1:
        joined = [
            sha256(NODE_PREFIX + left + right).digest() for left, right in zip(hashes[::2], hashes[1::2], strict=False)
        ]
        hashes = [*joined, hashes[-1]] if len(hashes) % 2 else joined
    return hashes[0]
