"""What a deposit address may sign: coin and tokens to a hot lane, and nothing else (S22)."""

from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from signer.protocol import Purpose, Refusal, SignRequest
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

DEPOSIT = "m/44h/60h/2h/0/5"
LANE_3 = "m/44h/60h/0h/0/3"


def key_of(kit: VaultKit, path: str) -> bytes:
    """The 20 bytes of an own account."""
    return bytes.fromhex(kit.address("eth", path)[2:])


def native(kit: VaultKit, to: str = LANE, **changes: Any) -> bytes:
    """0.5 ETH to a hot lane."""
    return evm_payload(**{"to": key_of(kit, to), **changes})


def token(kit: VaultKit, to: str = LANE, **changes: Any) -> bytes:
    """12.5 USDT to a hot lane."""
    data = transfer_data(kit.address("eth", to), 12_500_000)
    fields = {"to": bytes.fromhex(TOKEN[2:]), "value": 0, "gas": 60_000, "data": data}
    return evm_payload(**{**fields, **changes})


def sweep(payload: bytes, attempt_id: str = "s-1", **changes: Any) -> SignRequest:
    """The question of a sweep."""
    fields: dict[str, Any] = {
        "purpose": Purpose.SWEEP,
        "input_paths": (DEPOSIT,),
        "payments": (),
        "own_path": LANE,
    }
    return evm_request(attempt_id=attempt_id, payload=payload, **{**fields, **changes})


def test_s22_a_deposit_address_gives_coin_and_token_to_a_hot_lane(kit: VaultKit) -> None:
    for nonce, payload in enumerate((native(kit), token(kit, nonce=1))):
        answer = kit.signed(sweep(payload, f"s-{nonce}"))
        assert Account.recover_transaction(answer.raw) == kit.address("eth", DEPOSIT)
        fields = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
        assert fields["nonce"] == nonce
    other = kit.signed(sweep(native(kit, LANE_3, nonce=2), "s-2", own_path=LANE_3))
    fields = TypedTransaction.from_bytes(HexBytes(other.raw)).as_dict()
    assert HexBytes(fields["to"]) == HexBytes(kit.address("eth", LANE_3))


@pytest.mark.parametrize("path", [GAS, "m/44h/60h/1h/0/0", DEPOSIT, "m/44h/60h/0h/0/64"])
def test_s22_no_sweep_to_an_own_account_that_is_no_hot_lane(kit: VaultKit, path: str) -> None:
    """Other deposit addresses, gas accounts, itself, and lanes that nobody watches."""
    assert kit.refused(sweep(native(kit, path), own_path=path)) == "bad_path"


def test_s22_no_sweep_to_anybody_else(kit: VaultKit) -> None:
    """The path is only a claim: what the bytes pay is what counts."""
    foreign = bytes.fromhex(FOREIGN_EVM[2:])
    cases = [
        native(kit, to=LANE_3),
        evm_payload(to=foreign),
        token(kit, data=transfer_data(FOREIGN_EVM, 1)),
        token(kit, data=transfer_data(kit.address("eth", LANE_3), 1)),
    ]
    for number, payload in enumerate(cases):
        assert kit.refused(sweep(payload, f"s-{number}")) == "foreign_output"


def test_s22_no_other_call_from_a_deposit_address(kit: VaultKit) -> None:
    cases = [
        token(kit, data=transfer_data(kit.address("eth", LANE), 1, "095ea7b3")),  # approve
        token(kit, data=transfer_data(kit.address("eth", LANE), 1, "39509351")),
        token(kit, to=LANE, value=1),
        evm_payload(to=bytes.fromhex(BATCH_CONTRACT[2:]), value=0, data=bytes(4)),
        native(kit, data=b"\x01"),
        native(kit, value=0),
        b"\x04" + native(kit)[1:],
        evm_payload(to=b""),
    ]
    for number, payload in enumerate(cases):
        assert kit.refused(sweep(payload, f"s-{number}")) == "forbidden_shape"


@pytest.mark.parametrize("path", [LANE, GAS, LANE_3])
def test_s22_a_hot_or_gas_key_sweeps_nothing(kit: VaultKit, path: str) -> None:
    payload = native(kit, LANE_3 if path == LANE else LANE)
    target = LANE_3 if path == LANE else LANE
    assert kit.refused(sweep(payload, input_paths=(path,), own_path=target)) == "bad_path"


@pytest.mark.parametrize("purpose", [Purpose.WITHDRAWAL, Purpose.REISSUE])
def test_s22_no_order_of_a_client_is_paid_by_a_deposit_address(
    kit: VaultKit, purpose: Purpose
) -> None:
    order = (payment(asset="eth:ETH", address=FOREIGN_EVM),)
    request = evm_request(purpose=purpose, input_paths=(DEPOSIT,), payments=order)
    assert kit.refused(request) == "bad_path"


def test_s22_no_other_purpose_moves_what_a_deposit_address_has(kit: VaultKit) -> None:
    """Whatever a request calls itself, without people a deposit key signs a sweep or nothing."""
    answers: dict[str, str] = {}
    for purpose in Purpose:
        if purpose in (Purpose.SWEEP, Purpose.WITHDRAWAL, Purpose.REISSUE):
            continue
        for own_path in (None, LANE, GAS):
            for payload in (evm_payload(), native(kit), native(kit, GAS), token(kit)):
                attempt = f"{purpose}-{own_path}-{hash(payload)}"
                answer = kit.sign(sweep(payload, attempt, purpose=purpose, own_path=own_path))
                assert isinstance(answer, Refusal), (purpose, own_path)
                answers[answer.code] = purpose.value
    assert "rate_limited" not in answers


def test_a_sweep_names_its_lane_and_nothing_else(kit: VaultKit) -> None:
    assert kit.refused(sweep(native(kit), "s-1", own_path=None)) == "bad_request"
    assert kit.refused(sweep(native(kit), "s-2", change_paths={0: LANE})) == "bad_request"
    paid = (payment(asset="eth:ETH", address=FOREIGN_EVM),)
    assert kit.refused(sweep(native(kit), "s-3", payments=paid)) == "bad_request"
    signed = (approval("alice", {"action": "sweep"}, action="approve"),)
    assert kit.refused(sweep(native(kit), "s-4", approvals=signed)) == "bad_request"


def test_s08_the_number_of_a_sweep_is_only_for_its_replacement(kit: VaultKit) -> None:
    """The fee of a coin comes out of the coin, so a replacement moves another amount."""
    kit.signed(sweep(native(kit), "s-1"))
    dearer = native(kit, max_fee=40 * 10**9, value=4 * 10**17)
    assert kit.refused(sweep(dearer, "s-2")) == "nonce_used"
    assert kit.refused(sweep(native(kit, value=4 * 10**17), "s-3", replaces="s-1")) == (
        "fee_not_higher"
    )
    assert kit.refused(sweep(token(kit, max_fee=40 * 10**9), "s-4", replaces="s-1")) == (
        "already_paid"
    )
    other = native(kit, LANE_3, max_fee=40 * 10**9)
    assert kit.refused(sweep(other, "s-5", own_path=LANE_3, replaces="s-1")) == "already_paid"
    assert kit.refused(sweep(native(kit, nonce=7), "s-6", replaces="s-1")) == "already_paid"
    kit.signed(sweep(dearer, "s-7", replaces="s-1"))


def test_fees_of_sweeps_and_top_ups_have_a_counter_of_their_own(kit: VaultKit) -> None:
    """They starve no payout, and no payout starves them: 2 ETH a day each in the kit."""
    most: dict[str, Any] = {"gas": 200_000, "max_fee": 10**11, "priority": 1}  # 0.02 ETH
    for nonce in range(99):
        kit.signed(sweep(native(kit, nonce=nonce, **most), f"s-{nonce}"))
    top_up = evm_request(
        attempt_id="g-1",
        payload=evm_payload(to=key_of(kit, DEPOSIT), value=1, **most),
        purpose=Purpose.GAS_TOP_UP,
        input_paths=(GAS,),
        payments=(),
        own_path=DEPOSIT,
    )
    kit.signed(top_up)
    assert kit.refused(sweep(native(kit, nonce=99, **most), "s-99")) == "cap_window"
    kit.signed(evm_request(attempt_id="e-1", payload=evm_payload(**most)))
    kit.clock.now += 86_401
    kit.signed(sweep(native(kit, nonce=99, **most), "s-100"))
