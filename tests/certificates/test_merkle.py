"""Merkle trees: the root of RFC 6962, however the leaves come."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from k2.certificates.merkle import EMPTY_ROOT, MerkleTree, leaf_hash


def tree_hash(leaves: list[bytes]) -> bytes:
    """Return MTH of RFC 6962, section 2.1, as it is written there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY_ROOT
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + tree_hash(leaves[:split]) + tree_hash(leaves[split:])).digest()


@given(st.integers(0, 40) | st.sampled_from([1023, 1024, 1025, 2048, 3000]), st.integers(1, 1500))
def test_the_root_is_that_of_rfc_6962(count: int, step: int) -> None:
    """Of any number of leaves, appended in parts of any size."""
    leaves = [leaf_hash(b"%d" % number) for number in range(count)]
    tree = MerkleTree()
    for first in range(0, count, step):
        tree.extend(leaves[first : first + step])
    assert (tree.leaves, tree.root) == (count, tree_hash(leaves))


def test_published_roots() -> None:
    """The first test vectors of Certificate Transparency: the empty tree, and one of an empty leaf."""
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    tree = MerkleTree()
    tree.extend([leaf_hash(b"")])
    assert tree.root.hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
