"""The Merkle tree against RFC 6962's published vectors and its own definition."""

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securegan.security.provenance.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    proves_consistency,
    proves_inclusion,
    root_of,
)

VECTORS = Path(__file__).parent / "vectors"
# The entries and roots of Certificate Transparency's own tests (merkle_tree_test of its first implementation).
ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes.fromhex(entry)) for entry in ENTRIES]


def cases(name: str) -> list[dict]:
    return json.loads((VECTORS / name).read_text())["tests"]


def plain(text: str | None) -> bytes:
    return b64decode(text or "")


def test_rfc_6962_roots() -> None:
    assert [root_of(LEAVES[:size]).hex() for size in range(9)] == ROOTS
    frontier = Frontier()
    for leaf, root in zip(LEAVES, ROOTS[1:], strict=True):
        frontier.add(leaf)
        assert frontier.root().hex() == root and Frontier(frontier.size, frontier.peaks).root().hex() == root


def test_published_inclusion_vectors() -> None:
    found = cases("merkle_inclusion.json")
    assert len(found) == 98
    for case in found:
        proof = [plain(each) for each in case["proof"] or []]
        leaf, root = plain(case["leafHash"]), plain(case["root"])
        assert proves_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root) != case["wantErr"], case["file"]
        if not case["wantErr"] and case["treeSize"] <= 8:
            assert inclusion_proof(LEAVES[: case["treeSize"]], case["leafIdx"]) == proof, case["file"]


def test_published_consistency_vectors() -> None:
    found = cases("merkle_consistency.json")
    assert len(found) == 98
    for case in found:
        proof = [plain(each) for each in case["proof"] or []]
        roots = plain(case["root1"]), plain(case["root2"])
        assert proves_consistency(case["size1"], case["size2"], proof, *roots) != case["wantErr"], case["file"]
        if not case["wantErr"] and case["size1"] > 0 and case["size2"] <= 8:
            assert consistency_proof(LEAVES[: case["size2"]], case["size1"]) == proof, case["file"]


def tree(leaves: list[bytes]) -> bytes:
    """MTH as RFC 6962 writes it down, section 2.1."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\1" + tree(leaves[:k]) + tree(leaves[k:])).digest()


def test_every_proof_of_every_tree_holds_for_its_place_alone() -> None:
    leaves = [leaf_hash(bytes([number])) for number in range(20)]
    for size in range(1, 21):
        part = leaves[:size]
        root = root_of(part)
        assert root == tree(part)
        for index in range(size):
            proof = inclusion_proof(part, index)
            for other in range(size):
                assert proves_inclusion(leaves[index], other, size, proof, root) == (other == index)
        for first in range(1, size + 1):
            proof = consistency_proof(part, first)
            assert proves_consistency(first, size, proof, root_of(part[:first]), root)
            if 0 < first < size:
                forked = [*part[: first - 1], leaf_hash(b"fork"), *part[first:]]
                assert not proves_consistency(first, size, proof, root_of(forked[:first]), root)
                assert not proves_consistency(first, size, proof, root_of(part[:first]), root_of(forked))
                assert not proves_consistency(first, size, [*proof, root], root_of(part[:first]), root)


def test_peaks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="peaks"):
        Frontier(3, [bytes(32)])
    with pytest.raises(ValueError, match="peaks"):
        Frontier(1, [bytes(31)])


@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.lists(st.binary(max_size=33) | st.binary(min_size=32, max_size=32), max_size=7),
)
def test_fuzz_no_proof_made_up_is_believed(first: int, second: int, proof: list[bytes]) -> None:
    roots = root_of(leaf_hash(bytes([each])) for each in range(first)), leaf_hash(b"another")
    assert not proves_inclusion(leaf_hash(b"x"), first, second, proof, roots[1])
    assert not proves_consistency(first, second, proof, *roots) or (first == 0 < second and not proof)
