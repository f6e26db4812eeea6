"""D13: roots of the Merkle Patricia trie, and proofs that an independent walk accepts."""

import pytest
import rlp  # type: ignore[import-untyped]
from eth_hash.auto import keccak
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.deposit_proof_evm import BadTrie, value_at
from watchers.chains.evm import trie

# ethereum/tests, TrieTests/trieanyorder.json
VECTORS: dict[str, tuple[dict[bytes, bytes], str]] = {
    "singleItem": (
        {b"A": b"a" * 50},
        "d23786fb4a010da3ce639d66d5e904a11dbc02746d1ce25029e53290cabf28ab",
    ),
    "dogs": (
        {b"doe": b"reindeer", b"dog": b"puppy", b"dogglesworth": b"cat"},
        "8aad789dff2f538bca5d8ea56e8abe10f4c7ba3a5dea95fea4cd6e7c3a1168d3",
    ),
    "puppy": (
        {b"do": b"verb", b"horse": b"stallion", b"doge": b"coin", b"dog": b"puppy"},
        "5991bb8c6514148a29db676a14ac506cd2cd5775ace63c30a4fe457715e9ac84",
    ),
    "foo": (
        {b"foo": b"bar", b"food": b"bass"},
        "17beaa1648bafa633cda809c90c04af50fc8aed3cb40d16efbddee6fdf63c4c3",
    ),
    "smallValues": (
        {b"be": b"e", b"dog": b"puppy", b"bed": b"d"},
        "3f67c7a47520f79faa29255d2d3c084a7a6df0453116ed7232ff10277a8be68b",
    ),
    "testy": (
        {b"test": b"test", b"te": b"testy"},
        "8452568af70d8d140f58d941338542f645fcca50094b20f3c3d8c3df49337928",
    ),
    "hex": (
        {bytes.fromhex("0045"): bytes.fromhex("0123456789"),
         bytes.fromhex("4500"): bytes.fromhex("9876543210")},
        "285505fcabe84badc8aa310e2aae17eddc7d120aabec8a476902c8184b3a3503",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_roots_are_those_of_the_ethereum_tests(name: str) -> None:
    items, root = VECTORS[name]
    assert trie.Trie(items).root.hex() == root


def test_the_empty_trie_has_the_known_root() -> None:
    root = "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    assert trie.ordered([]).root.hex() == root
    assert trie.Trie({b"a": b""}).root.hex() == root


@pytest.mark.parametrize("name", VECTORS)
def test_every_key_of_the_vectors_is_proven(name: str) -> None:
    items, _ = VECTORS[name]
    built = trie.Trie(items)
    for key, value in items.items():
        assert value_at(built.root, key, built.prove(key)) == value
    with pytest.raises(KeyError):
        built.prove(b"absent")


def test_an_index_is_its_rlp() -> None:
    for index in (0, 1, 127, 128, 255, 256, 70_000):
        assert trie.index_key(index) == rlp.encode(index)


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=300), st.data())
def test_every_index_is_proven_and_no_altered_node_is(
    values: list[bytes], drawn: st.DataObject
) -> None:
    built = trie.ordered(values)
    index = drawn.draw(st.integers(0, len(values) - 1))
    key, nodes = trie.index_key(index), built.prove(trie.index_key(index))
    assert keccak(nodes[0]) == built.root
    assert value_at(built.root, key, nodes) == values[index]
    at = drawn.draw(st.integers(0, len(nodes) - 1))
    byte = drawn.draw(st.integers(0, len(nodes[at]) - 1))
    broken = bytearray(nodes[at])
    broken[byte] ^= drawn.draw(st.integers(1, 255))
    with pytest.raises(BadTrie):
        value_at(built.root, key, (*nodes[:at], bytes(broken), *nodes[at + 1 :]))
    with pytest.raises(BadTrie):
        value_at(built.root, trie.index_key(len(values)), nodes)
    with pytest.raises(BadTrie):
        value_at(built.root, key, (*nodes, b"\x80"))
