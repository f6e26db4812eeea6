"""N04, N06, D13: headers, work and branches, on real blocks of the main chains.

Block 100,000 of Bitcoin and the genesis blocks of Bitcoin and Litecoin: their hashes are known to
everyone, so that a wrong byte here could not go unseen.
"""

from typing import Any

import pytest

from tests.unit.watchers.chains.support import bitcoin_network
from watchers.chains.bitcoin import proof, rawtx
from watchers.chains.bitcoin.params import PowAlgorithm
from watchers.errors import NodeLied, NodeUnavailable

BLOCK_100000 = {
    "hash": "000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506",
    "version": 1,
    "previousblockhash": "000000000002d01c1fccc21636b607dfd930d31d01c3a62104612a1719011250",
    "merkleroot": "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766",
    "time": 1293623863,
    "bits": "1b04864c",
    "nonce": 274148111,
}
TXIDS_100000 = [
    "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
    "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
    "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
    "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
]
BITCOIN_GENESIS = {
    "hash": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    "version": 1,
    "merkleroot": "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
    "time": 1231006505,
    "bits": "1d00ffff",
    "nonce": 2083236893,
}
LITECOIN_GENESIS = {
    "hash": "12a765e31ffd4059bada1e25190f6e98c99d9714d334efa41a195a7e7e04bfe2",
    "version": 1,
    "merkleroot": "97ddfbbae6be97fd6cdf3e7ca13232a3afff2353e29badfab7f73011edd4ced9",
    "time": 1317972665,
    "bits": "1e0ffff0",
    "nonce": 2084524493,
}
BTC, LTC = bitcoin_network("btc", "main"), bitcoin_network("ltc", "main")


def _check(raw: dict[str, Any], params: Any = BTC) -> None:
    proof.check_header(proof.header_bytes(raw), block_hash=raw["hash"], params=params)


@pytest.mark.parametrize(
    ("raw", "params"),
    [(BLOCK_100000, BTC), (BITCOIN_GENESIS, BTC), (LITECOIN_GENESIS, LTC)],
    ids=["btc 100000", "btc genesis", "ltc genesis"],
)
def test_d13_headers_of_the_main_chains_hold(raw: dict[str, Any], params: Any) -> None:
    _check(raw, params)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"previousblockhash": "00" * 32},
        {"merkleroot": TXIDS_100000[0]},
        {"time": 1293623864},
        {"bits": "1b04864d"},
        {"nonce": 274148112},
    ],
    ids=lambda change: next(iter(change)),
)
def test_n04_a_header_with_another_field_is_a_lie(change: dict[str, Any]) -> None:
    with pytest.raises(NodeLied, match="another block"):
        _check(BLOCK_100000 | change)


@pytest.mark.parametrize(
    "change",
    [
        {"version": "1"},
        {"version": 1 << 31},
        {"bits": "1B04864C"},
        {"bits": None},
        {"time": -1},
        {"nonce": 1 << 32},
        {"merkleroot": "00"},
        {"previousblockhash": None},
    ],
    ids=str,
)
def test_n11_a_header_that_is_not_understood_is_no_header(change: dict[str, Any]) -> None:
    with pytest.raises(NodeUnavailable):
        _check(BLOCK_100000 | change)


def test_n05_work_of_another_algorithm_is_a_lie() -> None:
    """A Litecoin header has no SHA-256d work, and a header of Bitcoin no scrypt work."""
    with pytest.raises(NodeLied, match="target is not legal"):
        _check(LITECOIN_GENESIS, BTC)
    with pytest.raises(NodeLied, match="work does not meet"):
        _check(BLOCK_100000, LTC)


def _mined(bits: int) -> dict[str, Any]:
    """A header without work under this target, with the hash that it really has."""
    raw = BLOCK_100000 | {"bits": f"{bits:08x}"}
    header = proof.header_bytes(raw)
    return raw | {"hash": rawtx.double_sha256(header)[::-1].hex()}


def test_n05_a_fabricated_block_lacks_its_work() -> None:
    with pytest.raises(NodeLied, match="work does not meet"):
        _check(_mined(0x1B04864C) | {"nonce": 1} | _mined_hash({"nonce": 1}))


def _mined_hash(change: dict[str, Any]) -> dict[str, Any]:
    header = proof.header_bytes(BLOCK_100000 | change)
    return {"hash": rawtx.double_sha256(header)[::-1].hex()}


@pytest.mark.parametrize("bits", [0x1D010000, 0x207FFFFF, 0x1B84864C, 0x00000000, 0x23000100])
def test_n05_a_target_that_the_chain_forbids_is_a_lie(bits: int) -> None:
    """Above the limit, of regtest, negative, zero, above 2^256."""
    with pytest.raises(NodeLied, match="target is not legal"):
        _check(_mined(bits))


@pytest.mark.parametrize(
    ("bits", "target"),
    [
        (0x1D00FFFF, 0xFFFF << 208),
        (0x01003456, None),
        (0x01123456, 0x12),
        (0x02008000, 0x80),
        (0x05009234, 0x92340000),
        (0x04923456, None),
        (0xFF123456, None),
    ],
)
def test_compact_targets_are_those_of_core(bits: int, target: int | None) -> None:
    """Values of Bitcoin Core, src/test/arith_uint256_tests.cpp, `bignum_SetCompact`."""
    assert proof.target_of(bits) == target


def test_scrypt_of_the_genesis_header_is_low() -> None:
    header = proof.header_bytes(LITECOIN_GENESIS)
    work = int.from_bytes(proof.work_hash(header, PowAlgorithm.SCRYPT), "little")
    assert work >> 236 == 0  # bits 1e0ffff0 leave 20 leading zero bits


def test_branches_of_a_real_block_lead_to_its_root() -> None:
    levels = rawtx.merkle_levels(TXIDS_100000)
    assert levels[-1][0][::-1].hex() == BLOCK_100000["merkleroot"]
    for index, txid in enumerate(TXIDS_100000):
        node = bytes.fromhex(txid)[::-1]
        for depth, sibling in enumerate(rawtx.merkle_branch(levels, index)):
            pair = sibling + node if index >> depth & 1 else node + sibling
            node = rawtx.double_sha256(pair)
        assert node == levels[-1][0]


def test_evidence_proves_its_txs_and_no_others() -> None:
    evidence = proof.evidence_of(b"", {txid: b"" for txid in TXIDS_100000})
    found = evidence.prove(TXIDS_100000[2])
    assert found is not None
    assert (found.index, len(found.branch), len(found.companion_branch)) == (2, 2, 2)
    assert evidence.prove("00" * 32) is None
