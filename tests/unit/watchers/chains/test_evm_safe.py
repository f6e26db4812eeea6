"""A Safe as the evm family reads it: what owners sign, who signed, what a call of it moved."""

import hashlib
import json
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_utils.crypto import keccak

from tests.support import evm as evm_calls
from tests.support.safes import EXECUTE, NOBODY, OWNERS
from watchers.batches import BatchEvidence, BatchLeg
from watchers.chain import Pay
from watchers.chains.errors import BadPlan
from watchers.chains.evm import safe
from watchers.chains.evm.decode import TokenMove
from watchers.chains.evm.params import EvmParams
from watchers.errors import NodeUnavailable
from watchers.safes import SafePlan

SAFE = "0x" + "5a" * 20
HOT = "0x" + "a0" * 20
TOKEN = "0x" + "70" * 20
PARAMS = EvmParams(
    network="eth",
    chain_id=31_337,
    native_asset="eth:ETH",
    tokens={TOKEN: "eth:USDT"},
    coin_type=60,
    xpub_versions=frozenset(),
    has_finalized_tag=True,
    safe=SAFE,
)
SUCCESS = {"address": SAFE, "topics": [safe.SUCCESS_TOPIC, "0x" + "11" * 32], "data": "0x"}
FAILURE_TOPIC = "0x" + keccak(text="ExecutionFailure(bytes32,uint256)").hex()


def typed(asset: str, amount: int, *, nonce: int = 7) -> bytes:
    """What the owners sign."""
    pay = Pay(asset=asset, address=HOT, amount_minor=amount)
    plan = SafePlan(safe_key=SAFE, nonce=nonce, payment=pay)
    return safe.typed_data(plan, to_key=HOT, params=PARAMS)


def call(*, value: int = 0, data: bytes = b"", to: str = HOT, operation: int = 0) -> dict[str, Any]:
    """A tx that calls the Safe."""
    words = (to, value, data, operation, 0, 0, 0, NOBODY, NOBODY, b"\x01" * 65)
    return {"to": SAFE, "input": evm_calls.call_data(EXECUTE, *words)}


def token_call(amount: int) -> bytes:
    """The inner call of a token."""
    return bytes.fromhex(evm_calls.call_data("transfer(address,uint256)", HOT, amount)[2:])


def move(amount: int, *, to: str = HOT, asset: str = "eth:USDT") -> TokenMove:
    """A token's log out of the Safe."""
    return TokenMove(
        ordinal=0, asset=asset, is_listed=True, from_key=SAFE, to_key=to, amount_minor=amount
    )


@pytest.mark.parametrize(("asset", "amount"), [("eth:ETH", 10**18), ("eth:USDT", 2**90)])
def test_another_library_hashes_and_signs_the_same(asset: str, amount: int) -> None:
    text = typed(asset, amount)
    message = encode_typed_data(full_message=json.loads(text))
    assert safe.digest(text) == bytes(_hash_eip191_message(message))
    signature = bytes(OWNERS[1].sign_message(message).signature)
    keys = [owner.address.lower() for owner in OWNERS]
    [found] = safe.read_signature(text, signature, owners=keys)
    assert "0x" + found.public_key.hex() == keys[1]
    zero_based = signature[:-1] + bytes([signature[-1] - 27])  # as some devices write it
    assert safe.read_signature(text, zero_based, owners=keys) == (found,)


def test_typed_data_has_no_refund_and_is_a_call() -> None:
    message = json.loads(typed("eth:USDT", 5))["message"]
    assert [message[name] for name in ("operation", "safeTxGas", "baseGas", "gasPrice")] == [
        0, "0", "0", "0",
    ]  # fmt: skip
    assert (message["gasToken"], message["refundReceiver"], message["value"]) == (
        NOBODY, NOBODY, "0",
    )  # fmt: skip
    assert (message["to"].lower(), message["data"]) == (TOKEN, "0x" + token_call(5).hex())


@pytest.mark.parametrize(("asset", "amount"), [("eth:ETH", 0), ("eth:ETH", 2**256), ("eth:DAI", 1)])
def test_what_a_transaction_cannot_hold_is_no_plan(asset: str, amount: int) -> None:
    with pytest.raises(BadPlan):
        typed(asset, amount)


def test_signatures_go_to_the_safe_in_the_order_of_owners_and_no_more_than_it_takes() -> None:
    text, keys = typed("eth:ETH", 5), [owner.address.lower() for owner in OWNERS]
    every = [
        item
        for owner in reversed(OWNERS)
        for item in safe.read_signature(
            text,
            bytes(owner.sign_typed_data(full_message=json.loads(text)).signature),
            owners=keys,
        )
    ]
    first = safe.progress(every[:1], owners=keys, threshold=2)
    assert (first.raw, first.needed, first.signed_by) == (None, 2, (keys[2],))
    assert first.waits_for == (keys[0], keys[1])
    whole = safe.progress(every, owners=keys, threshold=2)
    assert whole.raw == every[2].signature + every[1].signature
    left = safe.progress(every, owners=keys[2:], threshold=2)  # two are owners no more
    assert (left.raw, left.signed_by) == (None, (keys[2],))


def leg(asset: str, amount: int, *, is_paid: bool) -> BatchLeg:
    """One payment to hot."""
    return BatchLeg(index=0, asset=asset, to_key=HOT, amount_minor=amount, is_paid=is_paid)


def test_coin_moved_where_the_safe_says_so() -> None:
    found = safe.evidence(call(value=5), [SUCCESS], [], params=PARAMS)
    assert found == BatchEvidence(
        payer_key=SAFE,
        legs=(leg("eth:ETH", 5, is_paid=True),),
        moved=(("eth:ETH", HOT, 5),),
    )


@pytest.mark.parametrize(
    "logs",
    [
        [],
        [{**SUCCESS, "topics": [FAILURE_TOPIC]}],
        [{**SUCCESS, "address": HOT}],
        [{**SUCCESS, "removed": True}],
        [{**SUCCESS, "topics": []}],
        [SUCCESS, SUCCESS],
    ],
)
def test_coin_did_not_move_where_it_does_not(logs: list[dict[str, Any]]) -> None:
    found = safe.evidence(call(value=5), logs, [], params=PARAMS)
    assert found == BatchEvidence(
        payer_key=SAFE, legs=(leg("eth:ETH", 5, is_paid=False),), moved=()
    )


def test_a_token_moved_where_its_own_log_shows_exactly_that() -> None:
    tx, moved = call(to=TOKEN, data=token_call(9)), ("eth:USDT", HOT, 9)
    whole = safe.evidence(tx, [SUCCESS], [move(9)], params=PARAMS)
    assert whole == BatchEvidence(
        payer_key=SAFE, legs=(leg("eth:USDT", 9, is_paid=True),), moved=(moved,)
    )
    for moves in ([], [move(8)], [move(9, to=TOKEN)]):  # keeps a fee, or lies (P29)
        found = safe.evidence(tx, [SUCCESS], moves, params=PARAMS)
        assert found is not None
        assert [item.is_paid for item in found.legs] == [False]
        assert found.moved == tuple((item.asset, item.to_key, item.amount_minor) for item in moves)


def test_what_its_owners_do_otherwise_is_told_as_far_as_it_shows() -> None:
    delegate = call(value=5, operation=1)
    assert safe.evidence(delegate, [SUCCESS], [], params=PARAMS) is None
    shown = safe.evidence(delegate, [SUCCESS], [move(3)], params=PARAMS)
    assert shown == BatchEvidence(payer_key=SAFE, legs=(), moved=(("eth:USDT", HOT, 3),))
    by_module = {"to": HOT, "input": "0x1234"}
    assert safe.evidence(by_module, [], [move(3)], params=PARAMS) == shown
    both = safe.evidence(call(value=5, data=b"\x12"), [SUCCESS], [], params=PARAMS)
    assert both == BatchEvidence(payer_key=SAFE, legs=(), moved=(("eth:ETH", HOT, 5),))


def test_coin_that_a_log_of_its_token_face_shows_counts_once() -> None:
    """D61: the native coin has an ERC-20 face on some chains."""
    found = safe.evidence(call(value=5), [SUCCESS], [move(5, asset="eth:ETH")], params=PARAMS)
    assert found is not None
    assert found.moved == (("eth:ETH", HOT, 5),)


@pytest.mark.parametrize("text", ["0x", "0x6a761202", "0x6a761202" + "ff" * 320, "0x00"])
def test_calldata_that_is_none_of_it_shows_nothing(text: str) -> None:
    assert safe.evidence({"to": SAFE, "input": text}, [SUCCESS], [], params=PARAMS) is None


def views(**changes: object) -> list[object]:
    """A Safe's answers, some changed."""
    domain = ["bytes32", "uint256", "address"]
    kind = keccak(text="EIP712Domain(uint256 chainId,address verifyingContract)")
    found: dict[str, object] = {
        "version": "0x" + encode(["string"], ["1.4.1"]).hex(),
        "owners": "0x" + encode(["address[]"], [[owner.address for owner in OWNERS]]).hex(),
        "threshold": "0x" + encode(["uint256"], [2]).hex(),
        "nonce": "0x" + encode(["uint256"], [7]).hex(),
        "domain": "0x" + keccak(encode(domain, [kind, 31_337, SAFE])).hex(),
    }
    assert changes.keys() <= found.keys()
    return list({**found, **changes}.values())


def test_a_safe_is_read_with_its_owners_threshold_and_number() -> None:
    found = safe.state_of(views(), safe=SAFE, params=PARAMS)
    assert found is not None
    assert (found.threshold, found.nonce, found.version) == (2, 7, "1.4.1")
    assert found.owners == tuple(owner.address.lower() for owner in OWNERS)
    assert found.signers == found.owners
    layer2 = views(version="0x" + encode(["string"], ["1.4.1+L2"]).hex())
    assert safe.state_of(layer2, safe=SAFE, params=PARAMS) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "0x" + encode(["string"], ["1.1.1"]).hex()},  # its domain has no chain id
        {"version": "0x" + encode(["string"], ["2.0.0"]).hex()},
        {"version": None},
        {"owners": "0x"},
        {"owners": "0x" + encode(["address[]"], [[OWNERS[0].address] * 2]).hex()},
        {"owners": "0x" + encode(["address[]"], [[]]).hex()},
        {"threshold": "0x" + encode(["uint256"], [0]).hex()},
        {"threshold": "0x" + encode(["uint256"], [4]).hex()},
        {"domain": "0x" + "11" * 32},
    ],
)
def test_what_is_no_safe_of_known_rules_is_none(changes: dict[str, object]) -> None:
    assert safe.state_of(views(**changes), safe=SAFE, params=PARAMS) is None


@pytest.mark.parametrize("answer", [7, "11", "0xzz"])
def test_nonsense_of_a_node_is_no_answer(answer: object) -> None:
    with pytest.raises(NodeUnavailable):
        safe.state_of(views(nonce=answer), safe=SAFE, params=PARAMS)


def test_another_safe_than_the_configured_one_shows_nothing() -> None:
    stranger = Account.from_key(hashlib.sha256(b"public stranger").digest()).address
    tx = {**call(value=5), "to": stranger}
    log = {**SUCCESS, "address": stranger}
    assert safe.evidence(tx, [log], [], params=PARAMS) is None
