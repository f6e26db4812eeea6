"""N11: the offline verifier on real main-chain data, and on bytes of the worst intent."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.deposit_proof import (
    BUNDLE_BYTES_MAX,
    FORMAT,
    Check,
    Status,
    is_verified,
    verify,
)
from gateway.cli.deposit_proof_errors import CheckFailed
from gateway.cli.deposit_proof_evm import parse_tx as parse_evm_tx
from gateway.cli.deposit_proof_evm import unrlp
from gateway.cli.deposit_proof_utxo import CHAINS, _address
from gateway.cli.main import main

GENESIS = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"
# Bitcoin's block 0: its header and its only tx, known byte for byte to every node.
GENESIS_HEADER = (
    "01000000" + "00" * 32 + "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a"
    "29ab5f49ffff001d1dac2b7c"
)
GENESIS_TX = (
    "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d"
    "0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66"
    "207365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe55"
    "48271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba"
    "0b8d578a4c702b6bf11d5fac00000000"
)
# Bitcoin's block 170, the first payment: header and txids are public, its txs are not needed here.
BLOCK_170_HEADER = (
    "0100000055bd840a78798ad0da853f68974f3d183e2bd1db6a842c1feecf222a00000000ff104ccb05421ab93e63f8"
    "c3ce5c2c2e9dbb37de2764b3a3175c8166562cac7d51b96a49ffff001d283e9e70"
)
# Ethereum's first tx (block 46,147); it hashes to its own id.
FIRST_ETHEREUM_TX = (
    "f86780862d79883d2000825208945df9b87991262f6ba471f09758cde1c0fc1de734827a69801ca088ff6cf0fefd94"
    "db46111149ae4bfc179e9b94721fffd821d38d16464b3f71d0a045e0aff800961cfce805daef7016b9b675c137a6a4"
    "1a548f7b60a3484c06a33a"
)


def seal(bundle: dict[str, Any]) -> bytes:
    """With a digest that fits."""
    rest = {name: value for name, value in bundle.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    return json.dumps(rest | {"digest": digest}, separators=(",", ":")).encode()


def genesis_bundle(**deposit: Any) -> dict[str, Any]:
    """The coinbase of Bitcoin's first block as a deposit."""
    key = "41" + GENESIS_TX[GENESIS_TX.index("04678afd") :][:130] + "ac"
    claim = {"address": "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "key": key}
    return {
        "format": FORMAT,
        "network": {
            "name": "btc",
            "family": "bitcoin",
            "caip2": f"bip122:{GENESIS[:32]}",
            "genesis_hash": GENESIS,
            "chain_id": None,
        },
        "deposit": {
            "id": "dep_x",
            "txid": "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b",
            "position": "out:0",
            "asset": "btc:BTC",
            "caip19": f"bip122:{GENESIS[:32]}/slip44:0",
            "contract": None,
            "amount": "50",
            "amount_minor": "5000000000",
            "decimals": 8,
            **claim,
            **deposit,
        },
        "block": {"hash": GENESIS, "height": 0},
        "inclusion": {
            "index": 0,
            "raw_tx": GENESIS_TX,
            "branch": [],
            "coinbase": GENESIS_TX,
            "coinbase_branch": [],
            "receipt": None,
            "receipt_branch": None,
        },
        "headers": [GENESIS_HEADER],
        "agreement": None,
        "finality": {
            "rests_on": "depth",
            "confirmations": 1,
            "full_confirmations": 1,
            "finalised_height": None,
            "is_reached": True,
        },
        "claim": claim,
    }


def statuses(checks: list[Check]) -> dict[str, Status]:
    return {item.name: item.status for item in checks}


def test_n11_the_first_block_of_bitcoin_is_proven() -> None:
    """All but the address: its output pays a bare key, whose text that address is not."""
    found = statuses(verify(seal(genesis_bundle())))
    assert {name for name, status in found.items() if status is Status.FAILED} == {"address"}
    assert {name for name, status in found.items() if status is Status.TOLD} == {
        "block",  # before BIP 34 no block holds its height
        "agreement",
    }
    assert found["work"] is found["inclusion"] is found["transfer"] is Status.PROVEN


def test_n11_the_first_header_alone_is_no_proof_for_another_block() -> None:
    bundle = genesis_bundle()
    bundle["headers"] = [BLOCK_170_HEADER]
    found = statuses(verify(seal(bundle)))
    assert found["inclusion"] is found["block"] is Status.FAILED
    assert found["work"] is Status.PROVEN  # it is a real header, of another block


@pytest.mark.parametrize(
    ("genesis", "script", "address"),
    [
        # BIP 173 and BIP 350 test vectors, and the address of block 0's key hash.
        (GENESIS, "0014751e76e8199196d454941c45d1b3a323f1433bd6",
         "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        (GENESIS, "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
         "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0"),
        (GENESIS, "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac",
         "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
        ("00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
         "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
         "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7"),
    ],
)  # fmt: skip
def test_addresses_are_those_of_the_standards(genesis: str, script: str, address: str) -> None:
    assert _address(bytes.fromhex(script), CHAINS[genesis]) == address


def test_the_first_tx_of_ethereum_is_read() -> None:
    tx = parse_evm_tx(bytes.fromhex(FIRST_ETHEREUM_TX))
    assert tx.to.hex() == "5df9b87991262f6ba471f09758cde1c0fc1de734"
    assert (tx.value, tx.chain_id, tx.kind) == (31337, None, 0)


@pytest.mark.parametrize(
    "text",
    ["", "8100", "b80100", "b900", "bf", "c1", "c281", "f800", "f90000", "8080", "c0c0", "ff" * 9],
)
def test_rlp_that_is_not_canonical_is_refused(text: str) -> None:
    """Yellow Paper, appendix B: one form only."""
    with pytest.raises(CheckFailed):
        unrlp(bytes.fromhex(text))


def test_rlp_that_is_nested_without_end_is_refused() -> None:
    data = b""
    for _ in range(100):
        data = (
            bytes([0xC0 + len(data)]) if len(data) < 56 else b"\xf8" + bytes([len(data)])
        ) + data
    with pytest.raises(CheckFailed, match="too deep"):
        unrlp(data)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"NaN",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 100_000,
        b'{"format":1.5}',
        b" " * (BUNDLE_BYTES_MAX + 1),
    ],
    ids=range(11),
)
def test_n11_what_is_no_bundle_fails_at_its_format(content: bytes) -> None:
    [check] = verify(content)
    assert (check.name, check.status) == ("format", Status.FAILED)
    assert not is_verified([check])


def test_n11_a_name_twice_is_no_bundle() -> None:
    content = seal(genesis_bundle())
    twice = content[:-1] + b',"block":{"hash":"00","height":0}}'
    assert statuses(verify(twice)) == {"format": Status.FAILED}


@given(st.binary(max_size=200))
def test_n11_random_bytes_never_crash_the_verifier(content: bytes) -> None:
    assert not is_verified(verify(content))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
TEXTS = st.text(max_size=40) | st.binary(max_size=60).map(bytes.hex)
PATHS = [
    ("network", "family"), ("network", "genesis_hash"), ("network", "chain_id"),
    ("network", "caip2"), ("deposit", "position"), ("deposit", "key"), ("deposit", "address"),
    ("deposit", "txid"), ("deposit", "amount"), ("deposit", "amount_minor"),
    ("deposit", "decimals"), ("deposit", "caip19"), ("deposit", "contract"),
    ("block", "hash"), ("block", "height"), ("inclusion", "index"), ("inclusion", "raw_tx"),
    ("inclusion", "branch"), ("inclusion", "coinbase"), ("inclusion", "coinbase_branch"),
    ("inclusion", "receipt"), ("inclusion", "receipt_branch"), ("finality", "rests_on"),
    ("finality", "confirmations"), ("finality", "finalised_height"),
]  # fmt: skip


@given(
    st.sampled_from(["bitcoin", "evm"]),
    st.dictionaries(st.sampled_from(PATHS), JSON | TEXTS | st.lists(TEXTS, max_size=3), max_size=4),
    st.none() | st.lists(st.binary(max_size=700).map(bytes.hex), max_size=3),
    st.none() | st.binary(max_size=120).map(bytes.hex),
)
def test_n11_a_hostile_bundle_never_crashes_the_verifier(
    family: str,
    changes: dict[tuple[str, str], Any],
    headers: list[str] | None,
    raw_tx: str | None,
) -> None:
    """Sealed anew, so that every check behind the digest is reached; none of it is verified."""
    bundle = genesis_bundle()
    bundle["network"]["family"] = family
    for (part, name), value in changes.items():
        bundle[part][name] = value
    if headers is not None:
        bundle["headers"] = headers
    if raw_tx is not None:
        bundle["inclusion"]["raw_tx"] = raw_tx
    bundle["claim"] = {name: bundle["deposit"][name] for name in ("address", "key")}
    assert not is_verified(verify(seal(bundle)))


@given(st.data())
def test_n11_one_altered_byte_always_fails(drawn: st.DataObject) -> None:
    """The file as the API answers it: no spaces, so that each byte is content."""
    content = bytearray(seal(genesis_bundle()))
    before = statuses(verify(bytes(content)))
    at = drawn.draw(st.integers(0, len(content) - 1))
    content[at] ^= drawn.draw(st.integers(1, 255))
    after = statuses(verify(bytes(content)))
    assert {"format", "digest"} & {n for n, s in after.items() if s is Status.FAILED}
    assert before["format"] is before["digest"] is Status.PROVEN


def test_the_command_says_which_check_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "proof.json"
    file.write_bytes(seal(genesis_bundle(amount="51")))
    assert main(["deposits", "verify", str(file)]) == 1
    shown = capsys.readouterr().out
    assert "NOT verified: address, amount" in shown
    assert main(["deposits", "verify", str(file), "--json"]) == 1
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["verified"] is False
    assert {"name": "amount", "status": "failed"}.items() <= next(
        item for item in verdict["checks"] if item["name"] == "amount"
    ).items()


def test_a_file_that_is_not_there_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deposits", "verify", str(tmp_path / "none.json")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def evm_verdict(**deposit: Any) -> dict[str, Status]:
    """Of a coin's transfer on Ethereum; nothing but asset and amount is looked at."""
    bundle = genesis_bundle()
    bundle["network"] |= {"family": "evm", "caip2": "eip155:1", "genesis_hash": None, "chain_id": 1}
    coin = {"caip19": "eip155:1/slip44:60", "position": "value", "decimals": 18}
    bundle["deposit"] |= coin | {"amount": "0.000000000001", "amount_minor": "1000000"} | deposit
    chain_id = deposit.get("caip19", "eip155:1/").partition("/")[0].removeprefix("eip155:")
    bundle["network"] |= {"caip2": f"eip155:{chain_id}", "chain_id": int(chain_id)}
    return statuses(verify(seal(bundle)))


TOKEN = "0x" + "11" * 20


@pytest.mark.parametrize(
    ("deposit", "asset", "amount"),
    [
        ({}, Status.PROVEN, Status.PROVEN),
        ({"decimals": 0, "amount": "1000000"}, Status.PROVEN, Status.FAILED),
        ({"decimals": None, "amount": "1000000"}, Status.PROVEN, Status.PROVEN),
        ({"caip19": "eip155:1/slip44:0"}, Status.FAILED, Status.PROVEN),
        ({"caip19": "eip155:31337/slip44:1"}, Status.FAILED, Status.PROVEN),
        ({"caip19": "eip155:5/slip44:60"}, Status.TOLD, Status.TOLD),
        (
            {"caip19": f"eip155:1/erc20:{TOKEN}", "contract": TOKEN, "position": "log:0",
             "decimals": 6, "amount": "1"},
            Status.PROVEN,
            Status.TOLD,
        ),
        (
            {"caip19": "eip155:1/slip44:0", "contract": TOKEN, "position": "log:0"},
            Status.FAILED,
            Status.TOLD,
        ),
    ],
)  # fmt: skip
def test_n11_no_more_is_proven_of_coin_and_decimals_than_the_program_knows(
    deposit: dict[str, Any], asset: Status, amount: Status
) -> None:
    """No hash covers a coin type or decimals: a list here does, else it is the operator's word."""
    found = evm_verdict(**deposit)
    assert (found["asset"], found["amount"]) == (asset, amount)


@pytest.mark.parametrize("decimals", [None, 0, 18])
def test_n11_a_coin_with_other_decimals_than_eight_is_refused(decimals: int | None) -> None:
    minor = "5000000000"
    shown = "0.000000005" if decimals == 18 else minor
    found = statuses(verify(seal(genesis_bundle(decimals=decimals, amount=shown))))
    assert found["amount"] is found["network"] is Status.FAILED
