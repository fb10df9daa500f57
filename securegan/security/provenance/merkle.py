"""RFC 6962's Merkle tree over SHA-256: roots, inclusion and consistency proofs (section 2.1; checks as in RFC 9162)."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

HASH = 32  # bytes
EMPTY_ROOT = hashlib.sha256().digest()


def leaf_hash(data: bytes) -> bytes:
    """Of an entry; nodes begin with another byte, so that none passes for an entry."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Of two subtrees."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass
class Frontier:
    """What of a tree is needed to add to it: the roots of its perfect subtrees, the largest first.

    ``path``: the hashes that lead from the last leaf to the last peak.
    """

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)
    path: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.size.bit_count() != len(self.peaks) or any(len(peak) != HASH for peak in self.peaks):
            raise ValueError(f"{len(self.peaks)} peaks are not those of {self.size} leaves")

    def add(self, leaf: bytes) -> None:
        """Add a leaf's hash: log n hashes at most, two on average."""
        carried, self.path = self.size, []
        while carried & 1:
            self.path.append(self.peaks.pop())
            leaf = node_hash(self.path[-1], leaf)
            carried >>= 1
        self.peaks.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return EMPTY_ROOT
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = node_hash(peak, found)
        return found

    def ends_in(self, leaf: bytes) -> bool:
        """Whether that is the last leaf's hash."""
        if len(self.path) != (self.size & -self.size).bit_length() - 1:  # the height of the last peak
            return False
        for each in self.path:
            leaf = node_hash(each, leaf)
        return leaf == self.peaks[-1]


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """PATH(index, leaves): the hashes that lead from a leaf to the root, the leaf's sibling first (2.1.1)."""
    proof = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append(root_of(leaves[middle:high]))
            high = middle
        else:
            proof.append(root_of(leaves[low:middle]))
            low = middle
    return proof[::-1]


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """PROOF(first, leaves): that the tree of the first ``first`` leaves is the beginning of this one (2.1.2)."""
    proof = []
    low, high, whole = 0, len(leaves), True
    while 0 < first - low < high - low:
        middle = low + _split(high - low)
        if first <= middle:
            proof.append(root_of(leaves[middle:high]))
            high = middle
        else:
            proof.append(root_of(leaves[low:middle]))
            low, whole = middle, False
    if not whole:
        proof.append(root_of(leaves[low:high]))
    return proof[::-1]


def proves_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether ``proof`` shows the leaf hash at ``index`` of the tree of ``size`` leaves with that root."""
    if not 0 <= index < size or any(len(each) != HASH for each in (leaf, *proof)):
        return False
    place, last, found = index, size - 1, leaf
    for each in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            found = node_hash(each, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, each)
        place, last = place >> 1, last >> 1
    return last == 0 and found == root


def proves_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> bool:
    """Whether ``proof`` shows that the ``second`` leaves begin with the ``first``, which are one at least."""
    if not 0 < first <= second or any(len(each) != HASH for each in proof):
        return False
    if first == second:
        return not proof and first_root == second_root
    path = list(proof) if first & (first - 1) else [first_root, *proof]
    if not path:
        return False
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for each in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node_hash(each, old), node_hash(each, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, each)
        place, last = place >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


def _split(size: int) -> int:
    """The largest power of two below ``size``, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1
