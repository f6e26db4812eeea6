"""A Safe's refill at the signer: one pinned Safe, one transfer to a hot lane, and no other word."""

import hashlib
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_utils.crypto import keccak

from signer.protocol import Purpose, SignRequest
from tests.support.sign_requests import (
    GAS,
    LANE,
    approval,
    evm_payload,
    evm_request,
    payment,
    transfer_data,
)
from tests.support.vault import BATCH_CONTRACT, FOREIGN_EVM, TOKEN, VaultKit

SAFE = "0x" + "5a" * 20
ZERO = "0x" + "00" * 20
DAY = 86_400
TYPES = [
    "address", "uint256", "bytes", "uint8", "uint256", "uint256", "uint256", "address", "address",
    "bytes",
]  # fmt: skip
SELECTOR = keccak(text=f"execTransaction({','.join(TYPES)})")[:4]
ONE = hashlib.sha512(b"an owner").digest() + b"\x1b"
TWO = ONE + hashlib.sha512(b"another").digest() + b"\x1c"
DEPOSIT = "m/44h/60h/1h/0/0"
LANE_3 = "m/44h/60h/0h/0/3"


@pytest.fixture
def desk(kit: VaultKit) -> VaultKit:
    """The Safe is pinned since a day."""
    kit.statement("pin", {"network": "eth", "address": SAFE})
    kit.clock.now += DAY
    return kit


def exec_data(kit: VaultKit, **changes: object) -> bytes:
    """Calldata that lets the Safe pay 5 wei to hot lane 0; some members changed."""
    values: dict[str, object] = {
        "to": kit.address("eth", LANE), "value": 5, "data": b"", "operation": 0, "safe_tx_gas": 0,
        "base_gas": 0, "gas_price": 0, "gas_token": ZERO, "refund_receiver": ZERO,
        "signatures": TWO,
    }  # fmt: skip
    assert changes.keys() <= values.keys()
    return bytes(SELECTOR + encode(TYPES, list({**values, **changes}.values())))


def token_data(kit: VaultKit, **changes: object) -> bytes:
    """The same with 7 units of the token."""
    inner = transfer_data(kit.address("eth", LANE), 7)
    return exec_data(kit, **{"to": TOKEN, "value": 0, "data": inner, **changes})


def call(data: bytes, *, to: str = SAFE, attempt: str = "s-1", **changes: Any) -> SignRequest:
    """The question of a call."""
    fields = {"to": bytes.fromhex(to[2:]), "value": 0, "gas": 160_000, "data": data}
    tx = {name: changes.pop(name) for name in ("value", "gas", "nonce", "max_fee") & changes.keys()}
    asked: dict[str, Any] = {
        "purpose": Purpose.SAFE_REFILL,
        "input_paths": (LANE,),
        "payments": (),
        "own_path": LANE,
    }
    return evm_request(
        attempt_id=attempt, payload=evm_payload(**{**fields, **tx}), **{**asked, **changes}
    )


def test_a_pinned_safe_pays_coin_and_token_to_a_hot_lane(desk: VaultKit) -> None:
    for nonce, data in enumerate((exec_data(desk), token_data(desk))):
        answer = desk.signed(call(data, attempt=f"s-{nonce}", nonce=nonce))
        assert Account.recover_transaction(answer.raw) == desk.address("eth", LANE)
    other = exec_data(desk, to=desk.address("eth", LANE_3))
    desk.signed(call(other, attempt="s-2", nonce=2, own_path=LANE_3))


def test_a_safe_that_nobody_pinned_for_a_day_is_not_called(kit: VaultKit) -> None:
    assert kit.refused(call(exec_data(kit))) == "not_pinned"
    kit.statement("pin", {"network": "eth", "address": SAFE})
    kit.clock.now += DAY - 1
    assert kit.refused(call(exec_data(kit), attempt="s-2")) == "not_pinned"
    kit.clock.now += 1
    kit.signed(call(exec_data(kit), attempt="s-3"))
    other = "0x" + "5b" * 20
    assert kit.refused(call(exec_data(kit), attempt="s-4", to=other, nonce=1)) == "not_pinned"


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": 1},
        {"safe_tx_gas": 1},
        {"base_gas": 1},
        {"gas_price": 1},
        {"gas_token": TOKEN},
        {"refund_receiver": FOREIGN_EVM},
        {"value": 0},
        {"data": b"\x00"},
        {"to": SAFE},
        {"to": TOKEN},
        {"signatures": b""},
        {"signatures": TWO[:-1]},
        {"signatures": ONE[:-1] + b"\x00"},
        {"signatures": ONE[:-1] + b"\x01"},
        {"signatures": ONE[:-1] + b"\x1f"},
        {"signatures": ONE * 51},
    ],
    ids=str,
)
def test_any_other_word_of_the_call_is_refused(desk: VaultKit, changes: dict[str, Any]) -> None:
    """Delegate calls, refunds, its own settings, signatures that ask contracts."""
    assert desk.refused(call(exec_data(desk, **changes))) == "forbidden_shape"


@pytest.mark.parametrize("selector", ["095ea7b3", "23b872dd", "a9059cbc"])
def test_no_other_call_of_a_token(desk: VaultKit, selector: str) -> None:
    inner = transfer_data(desk.address("eth", LANE), 7, selector)
    assert desk.refused(call(token_data(desk, data=inner))) == "forbidden_shape"


def test_a_token_call_with_coin_of_nothing_or_of_a_strange_token_is_refused(
    desk: VaultKit,
) -> None:
    nothing = transfer_data(desk.address("eth", LANE), 0)
    strange: tuple[dict[str, object], ...] = ({"value": 1}, {"data": nothing}, {"to": FOREIGN_EVM})
    for number, changes in enumerate(strange):
        data = token_data(desk, **changes)
        assert desk.refused(call(data, attempt=f"s-{number}")) == "forbidden_shape"


def test_a_call_that_is_not_laid_out_canonically_is_refused(desk: VaultKit) -> None:
    good = exec_data(desk)
    dirty = bytearray(good)
    dirty[4] = 1  # above the 20 bytes of the receiver
    longer, moved = good + bytes(32), bytearray(good)
    moved[4 + 10 * 32 - 1] = 0  # where the signatures begin
    padded = bytearray(token_data(desk))
    padded[4 + 11 * 32 + 68] = 1  # behind the inner call, up to the whole word
    selector = b"\x00" + good[1:]
    for number, data in enumerate((dirty, longer, moved, padded, selector, good[:-32], good[:100])):
        asked = call(bytes(data), attempt=f"s-{number}")
        assert desk.refused(asked) == "forbidden_shape"


def test_coin_given_to_the_safe_beside_the_call_is_refused(desk: VaultKit) -> None:
    assert desk.refused(call(exec_data(desk), value=1)) == "forbidden_shape"


@pytest.mark.parametrize("target", [GAS, DEPOSIT, "m/44h/60h/0h/0/64"])
def test_it_fills_no_own_account_that_is_no_hot_lane(desk: VaultKit, target: str) -> None:
    data = exec_data(desk, to=desk.address("eth", target))
    assert desk.refused(call(data, own_path=target)) == "bad_path"


def test_it_pays_exactly_the_lane_that_is_named(desk: VaultKit) -> None:
    for number, to in enumerate((FOREIGN_EVM, desk.address("eth", LANE_3), BATCH_CONTRACT)):
        data = exec_data(desk, to=to)
        assert desk.refused(call(data, attempt=f"s-{number}")) == "foreign_output"


def test_it_is_called_by_a_hot_lane_alone(desk: VaultKit) -> None:
    for number, sender in enumerate((GAS, DEPOSIT)):
        asked = call(exec_data(desk), attempt=f"s-{number}", input_paths=(sender,))
        assert desk.refused(asked) == "bad_path"


def test_it_names_the_hot_lane_and_nothing_else(desk: VaultKit) -> None:
    claim = approval("alice", {"action": "approve"})
    strange: tuple[dict[str, Any], ...] = (
        {"own_path": None},
        {"change_paths": {0: LANE}},
        {"approvals": (claim,)},
        {"payments": (payment(asset="eth:ETH", address=FOREIGN_EVM),)},
    )
    for number, changes in enumerate(strange):
        asked = call(exec_data(desk), attempt=f"s-{number}", **changes)
        assert desk.refused(asked) == "bad_request"


def test_no_other_purpose_may_call_a_safe(desk: VaultKit) -> None:
    for number, purpose in enumerate((Purpose.HOT_TO_COLD, Purpose.SWEEP, Purpose.GAS_TOP_UP)):
        asked = call(exec_data(desk), attempt=f"s-{number}", purpose=purpose)
        assert desk.refused(asked) == "forbidden_shape"


def test_gas_is_capped_by_what_a_transfer_and_its_signatures_need(desk: VaultKit) -> None:
    most = 200_000 + 70_000 + 2 * 10_000
    asked = call(exec_data(desk), attempt="s-1", gas=most + 1, max_fee=10**9)
    assert desk.refused(asked) == "fee_too_high"
    desk.signed(call(exec_data(desk), attempt="s-2", gas=most, max_fee=10**9))


def test_a_number_carries_one_refill(desk: VaultKit) -> None:
    """At its number only the same refill goes on, dearer."""
    desk.signed(call(exec_data(desk), attempt="s-1"))
    assert desk.refused(call(token_data(desk), attempt="s-2")) == "nonce_used"
    more = call(exec_data(desk), attempt="s-3", max_fee=60 * 10**9, replaces="s-1")
    desk.signed(more)
    other = call(exec_data(desk, value=6), attempt="s-4", max_fee=90 * 10**9, replaces="s-1")
    assert desk.refused(other) == "already_paid"
