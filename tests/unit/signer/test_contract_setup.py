"""The batch contract is deployed, funded and withdrawn from by two people, and only so (S10, S15).

Refusals stand beside each way that is allowed: other code, other owner, other words, one person.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from signer.protocol import Authorisation, Purpose, SignRequest
from tests.support import evm
from tests.support.sign_requests import LANE, approval, evm_payload, evm_request, transfer_data
from tests.support.vault import BATCH_CONTRACT, FOREIGN_EVM, TOKEN, VaultKit

SECOND_LANE = "m/44h/60h/0h/0/1"
ROUTE = "/v1/contract_setups"
NATIVE = "0x" + "00" * 20
DEPLOY: Mapping[str, str] = {"action": "deploy", "network": "eth", "reference": "first"}
FUND: Mapping[str, str] = {
    "action": "fund",
    "network": "eth",
    "reference": "first",
    "asset": "eth:USDT",
    "amount": "250.5",
}
FUND_COIN = {**FUND, "asset": "eth:ETH", "amount": "2"}
WITHDRAW = {**FUND, "action": "withdraw"}
CONTRACT = bytes.fromhex(BATCH_CONTRACT[2:])


def signed_by(person: str, body: Mapping[str, Any], **changes: Any) -> Authorisation:
    """What the staff command of a person sends."""
    return approval(person, body, target=ROUTE, **changes)


def both(body: Mapping[str, Any]) -> tuple[Authorisation, ...]:
    return tuple(signed_by(name, body) for name in ("alice", "bob"))


def creation(owner: str, *, code: bytes | None = None) -> bytes:
    """The creation code with its argument, as a public library encodes it."""
    built = bytes.fromhex(evm.load_build("BatchPayer").bytecode.removeprefix("0x"))
    return (code or built) + bytes(encode(["address"], [owner]))


def withdraw_data(token: str = TOKEN, amount: int = 250_500_000) -> bytes:
    selector = keccak(text="withdraw(address,uint256)")[:4]
    return selector + bytes(encode(["address", "uint256"], [token, amount]))


def setup(body: Mapping[str, Any], *, attempt_id: str = "c-1", **changes: Any) -> SignRequest:
    """A question about a set-up that both signed; `tx` are fields of its payload."""
    fields = {"to": CONTRACT, "value": 0, "gas": 120_000, "data": b"", **changes.pop("tx", {})}
    return evm_request(
        attempt_id=attempt_id,
        purpose=Purpose.CONTRACT_SETUP,
        payload=evm_payload(**fields),
        **{"payments": (), "approvals": both(body), **changes},
    )


def deploy(kit: VaultKit, **changes: Any) -> SignRequest:
    data = creation(kit.address("eth", LANE))
    tx = {"to": b"", "gas": 900_000, "max_fee": 10**10, "data": data, **changes.pop("tx", {})}
    return setup(DEPLOY, **{"tx": tx, **changes})


def fund(**changes: Any) -> SignRequest:
    tx = {"to": bytes.fromhex(TOKEN[2:]), "data": transfer_data(BATCH_CONTRACT, 250_500_000)}
    return setup(FUND, **{"tx": {**tx, **changes.pop("tx", {})}, **changes})


def test_s15_two_people_deploy_the_pinned_contract_for_its_owner(kit: VaultKit) -> None:
    """A public library reads the tx: a creation by hot lane 0, which owns what it creates."""
    answer = kit.signed(deploy(kit))

    tx = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    owner = kit.address("eth", LANE)
    assert Account.recover_transaction(HexBytes(answer.raw)) == owner
    assert (bytes(tx["to"]), tx["value"]) == (b"", 0)
    assert bytes(tx["data"]) == creation(owner)


def test_s15_two_people_fund_the_contract_with_a_token_and_with_the_coin(kit: VaultKit) -> None:
    kit.signed(fund())
    coin = setup(
        {**FUND_COIN, "reference": "second"},
        attempt_id="c-2",
        tx={"value": 2 * 10**18, "nonce": 1},
    )
    answer = kit.signed(coin)

    tx = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    assert (bytes(tx["to"]), tx["value"]) == (CONTRACT, 2 * 10**18)


@pytest.mark.parametrize(
    ("body", "token", "amount"),
    [
        (WITHDRAW, TOKEN, 250_500_000),
        ({**WITHDRAW, "asset": "eth:ETH", "amount": "2"}, NATIVE, 2 * 10**18),
    ],
)
def test_s15_two_people_take_value_back_out_of_the_contract(
    kit: VaultKit, body: Mapping[str, str], token: str, amount: int
) -> None:
    kit.signed(setup(body, tx={"data": withdraw_data(token, amount)}))


def test_s15_one_person_twice_and_nobody_are_not_two(kit: VaultKit) -> None:
    alone = (signed_by("alice", FUND), signed_by("alice", FUND, idempotency_key="alice-2"))
    assert kit.refused(fund(approvals=())) == "needs_staff"
    assert kit.refused(fund(attempt_id="c-2", approvals=alone[:1])) == "needs_staff"
    assert kit.refused(fund(attempt_id="c-3", approvals=alone)) == "needs_staff"
    kit.signed(fund(attempt_id="c-4"))


@pytest.mark.parametrize(
    "change",
    [
        {"action": "withdraw"},
        {"network": "btc"},
        {"asset": "eth:ETH"},
        {"amount": "250.6"},
        {"amount": "250.5000001"},
        {"reference": ""},
        {"reference": "a b"},
        {"more": "x"},
        {"amount": 250},
    ],
)
def test_s15_two_people_who_signed_something_else_are_not_asked_about_this(
    kit: VaultKit, change: dict[str, Any]
) -> None:
    assert kit.refused(fund(approvals=both({**FUND, **change}))) == "needs_staff"


def test_s15_two_people_who_signed_different_words_did_not_agree(kit: VaultKit) -> None:
    other = signed_by("bob", {**FUND, "reference": "another"})
    asked = fund(approvals=(signed_by("alice", FUND), other))
    assert kit.refused(asked) == "needs_staff"


def test_s15_signatures_of_another_route_do_not_count(kit: VaultKit) -> None:
    claims = tuple(approval(name, FUND, action="approve") for name in ("alice", "bob"))
    assert kit.refused(fund(approvals=claims)) == "needs_staff"


@pytest.mark.parametrize("break_it", ["code", "owner", "value", "trailing"])
def test_s10_no_other_contract_is_created(kit: VaultKit, break_it: str) -> None:
    owner = kit.address("eth", LANE)
    built = creation(owner)[:-32]
    other = {
        "code": {"data": creation(owner, code=built[:-1] + bytes([built[-1] ^ 1]))},
        "owner": {"data": creation(FOREIGN_EVM)},
        "value": {"value": 1},
        "trailing": {"data": creation(owner) + bytes(32)},
    }[break_it]
    assert kit.refused(deploy(kit, tx=other)) == "forbidden_shape"


@pytest.mark.parametrize(
    "tx",
    [
        {"value": 0},
        {"value": 1, "data": withdraw_data()},
        {"data": withdraw_data()[:-1]},
        {"data": withdraw_data(amount=0)},
        {"data": withdraw_data(token=FOREIGN_EVM)},
        {"data": keccak(text="owner()")[:4]},
        {"to": bytes.fromhex(FOREIGN_EVM[2:]), "value": 1},
        {"to": bytes.fromhex(TOKEN[2:]), "data": transfer_data(FOREIGN_EVM, 250_500_000)},
        {"to": bytes.fromhex(TOKEN[2:]), "data": transfer_data(BATCH_CONTRACT, 0)},
        {
            "to": bytes.fromhex(TOKEN[2:]),
            "data": transfer_data(BATCH_CONTRACT, 250_500_000, "095ea7b3"),
        },
    ],
)
def test_s10_no_other_call_is_a_set_up(kit: VaultKit, tx: dict[str, Any]) -> None:
    assert kit.refused(setup(WITHDRAW, tx=tx)) == "forbidden_shape"


def test_s10_a_withdrawal_never_creates_or_calls_the_contract(kit: VaultKit) -> None:
    """The shapes of a set-up are allowed for nothing else, whoever signed."""
    plain = evm_payload(to=b"", data=creation(kit.address("eth", LANE)), gas=900_000)
    taken = evm_payload(to=CONTRACT, value=0, data=withdraw_data(), gas=120_000)
    for number, payload in enumerate((plain, taken)):
        asked = evm_request(attempt_id=f"e-{number}", payload=payload, approvals=both(WITHDRAW))
        assert kit.refused(asked) == "forbidden_shape"


def test_s15_only_the_owner_lane_sets_up(kit: VaultKit) -> None:
    assert kit.refused(fund(input_paths=(SECOND_LANE,))) == "bad_path"


def test_s07_a_reference_is_signed_for_once_and_goes_on_only_by_replacement(
    kit: VaultKit,
) -> None:
    kit.signed(fund())
    again = fund(attempt_id="c-2", tx={"nonce": 1})
    assert kit.refused(again) == "already_paid"
    bumped = fund(attempt_id="c-3", replaces="c-1", tx={"max_fee": 40 * 10**9})
    kit.signed(bumped)


def test_s08_a_nonce_of_a_payout_is_not_taken_by_a_set_up(kit: VaultKit) -> None:
    kit.signed(evm_request())
    assert kit.refused(fund(tx={"max_fee": 60 * 10**9})) == "nonce_used"


def test_s09_a_deployment_may_use_more_gas_than_a_payment_and_no_more_than_that(
    kit: VaultKit,
) -> None:
    assert kit.refused(deploy(kit, tx={"gas": 1_500_001})) == "fee_too_high"
    assert kit.refused(fund(attempt_id="c-2", tx={"gas": 200_001})) == "fee_too_high"
