"""The batch contract's `pay`: every leg is an order, or nothing is signed (S02, S03, S07, S10)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from signer.errors import ConfigurationError
from signer.protocol import Payment, Purpose, SignRequest
from signer.settings import BATCH_CODE_HASH, load_settings
from tests.support.batch import code_hash
from tests.support.sign_requests import GAS, LANE, evm_payload, evm_request, payment
from tests.support.vault import BATCH_CONTRACT, FOREIGN_EVM, SIGNER_TOML, TOKEN, VaultKit
from watchers.chains.evm import batch_data as builder

OTHER_EVM = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
NATIVE = "0x" + "00" * 20
TYPES = ["bytes32", "address", "bytes32[]"]
SELECTOR = keccak(text="pay(bytes32,address,bytes32[])")[:4]
ETHER = 10**18
Legs = Sequence[tuple[str, int]]

LEGS: Legs = ((FOREIGN_EVM, 5 * 10**17), (OTHER_EVM, 25 * 10**16))


def pay_data(legs: Legs = LEGS, *, token: str = NATIVE, batch_id: int = 7) -> bytes:
    """Calldata as a public library encodes it."""
    words = [bytes.fromhex(to[2:]) + amount.to_bytes(12, "big") for to, amount in legs]
    return SELECTOR + bytes(encode(TYPES, [batch_id.to_bytes(32, "big"), token, words]))


def payload(data: bytes | None = None, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "to": bytes.fromhex(BATCH_CONTRACT[2:]),
        "value": 0,
        "gas": 300_000,
        "data": pay_data() if data is None else data,
    }
    return evm_payload(**{**fields, **changes})


def orders() -> tuple[Payment, ...]:
    """What two clients signed: the legs above."""
    return (
        payment(0, asset="eth:ETH", address=FOREIGN_EVM, request_id="r-1"),
        payment(1, asset="eth:ETH", address=OTHER_EVM, amount="0.25", request_id="r-2"),
    )


def request(data: bytes | None = None, *, attempt_id: str = "b-1", **changes: Any) -> SignRequest:
    fields: dict[str, Any] = {"payload": payload(data), "payments": orders()}
    return evm_request(attempt_id=attempt_id, **{**fields, **changes})


def test_a_batch_of_orders_is_signed_and_read_by_other_libraries(kit: VaultKit) -> None:
    answer = kit.signed(request())
    assert Account.recover_transaction(answer.raw) == kit.address("eth", LANE)
    fields = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    assert HexBytes(fields["to"]) == HexBytes(BATCH_CONTRACT)
    assert fields["value"] == 0
    batch_id, token, words = decode(TYPES, bytes(fields["data"])[4:])
    assert (batch_id, token) == ((7).to_bytes(32, "big"), NATIVE)
    assert [("0x" + word[:20].hex(), int.from_bytes(word[20:], "big")) for word in words] == [
        (to.lower(), amount) for to, amount in LEGS
    ]


def test_a_batch_of_a_token_is_signed(kit: VaultKit) -> None:
    data = pay_data(((FOREIGN_EVM, 12_500_000), (OTHER_EVM, 1_000_000)), token=TOKEN)
    paid = (
        payment(0, asset="eth:USDT", address=FOREIGN_EVM, amount="12.5", request_id="r-1"),
        payment(1, asset="eth:USDT", address=OTHER_EVM, amount="1", request_id="r-2"),
    )
    kit.signed(request(data, payments=paid))


def test_the_builder_and_the_signer_read_the_same_bytes(kit: VaultKit) -> None:
    legs = [(to.lower(), amount) for to, amount in LEGS]
    data = builder.pay_data((7).to_bytes(32, "big"), None, legs)
    assert data == pay_data()
    kit.signed(request(data))


@pytest.mark.parametrize(
    "legs",
    [
        ((FOREIGN_EVM, 5 * 10**17), (FOREIGN_EVM, 25 * 10**16)),
        ((FOREIGN_EVM, 5 * 10**17), (OTHER_EVM, 25 * 10**16 + 1)),
        ((FOREIGN_EVM, 5 * 10**17), (OTHER_EVM, 25 * 10**16 - 1)),
        ((OTHER_EVM, 25 * 10**16), (FOREIGN_EVM, 5 * 10**17)),
        (*LEGS, (OTHER_EVM, 1)),
        (*LEGS, *LEGS),
    ],
    ids=["receiver", "more", "less", "swapped", "one more", "twice"],
)
def test_s02_s03_a_leg_that_no_client_signed_is_refused(kit: VaultKit, legs: Legs) -> None:
    assert kit.refused(request(pay_data(legs))) == "payment_mismatch"


def test_s02_another_asset_than_ordered_is_refused(kit: VaultKit) -> None:
    assert kit.refused(request(pay_data(token=TOKEN))) == "payment_mismatch"


def test_s03_two_payments_at_one_leg_are_refused(kit: VaultKit) -> None:
    paid = (orders()[0], payment(0, asset="eth:ETH", address=FOREIGN_EVM, request_id="r-9"))
    assert kit.refused(request(payments=paid)) == "payment_mismatch"


def test_s03_one_request_twice_is_refused(kit: VaultKit) -> None:
    data = pay_data(((FOREIGN_EVM, 5 * 10**17), (FOREIGN_EVM, 5 * 10**17)))
    paid = tuple(payment(i, asset="eth:ETH", address=FOREIGN_EVM) for i in (0, 1))
    assert kit.refused(request(data, payments=paid)) == "already_paid"


DATA = pay_data()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        DATA[:4],
        DATA[:-1],
        DATA + bytes(32),
        DATA[:-32],
        SELECTOR + DATA[4:68] + (128).to_bytes(32, "big") + DATA[100:],
        SELECTOR + DATA[4:36] + b"\x01" + DATA[37:],
        keccak(text="withdraw(address,uint256)")[:4] + bytes(64),
        keccak(text="owner()")[:4],
        pay_data(token=OTHER_EVM),
        pay_data(()),
        pay_data([LEGS[0]] * 101),
        pay_data((LEGS[0], (OTHER_EVM, 0))),
        pay_data((LEGS[0], (NATIVE, 1))),
        pay_data((LEGS[0], (TOKEN, 1))),
        pay_data((LEGS[0], (BATCH_CONTRACT, 1))),
    ],
    ids=[
        "funding", "selector", "cut", "behind", "short", "offset", "dirty token", "withdraw",
        "owner", "unlisted", "none", "many", "nothing", "nowhere", "token", "itself",
    ],
)  # fmt: skip
def test_s10_any_other_call_of_the_contract_is_refused(kit: VaultKit, data: bytes) -> None:
    assert kit.refused(request(data)) == "forbidden_shape"


def test_s10_a_batch_never_carries_value(kit: VaultKit) -> None:
    assert (
        kit.refused(evm_request(payload=payload(value=1), payments=orders())) == "forbidden_shape"
    )


def test_s10_another_contract_is_refused(kit: VaultKit) -> None:
    other = payload(to=bytes.fromhex(OTHER_EVM[2:]))
    assert kit.refused(evm_request(payload=other, payments=orders())) == "forbidden_shape"


@pytest.mark.parametrize("path", ["m/44h/60h/0h/0/1", GAS, "m/44h/60h/1h/0/0"])
def test_only_the_owner_lane_sends_a_batch(kit: VaultKit, path: str) -> None:
    assert kit.refused(request(input_paths=(path,))) == "bad_path"


def test_a_batch_is_no_gas_top_up(kit: VaultKit) -> None:
    changes: dict[str, Any] = {"purpose": Purpose.GAS_TOP_UP, "payments": (), "own_path": GAS}
    assert kit.refused(request(**changes)) == "foreign_output"


@pytest.mark.parametrize(("gas", "code"), [(600_000, None), (600_001, "fee_too_high")])
def test_the_gas_ceiling_is_per_payment(kit: VaultKit, gas: int, code: str | None) -> None:
    """200,000 for each, and as much for what a batch has in common."""
    asked = evm_request(payload=payload(gas=gas), payments=orders())
    if code is None:
        kit.signed(asked)
    else:
        assert kit.refused(asked) == code


def test_s07_a_replacement_has_the_same_legs_nonce_and_batch_id(kit: VaultKit) -> None:
    kit.signed(request())
    dearer = {"max_fee": 40 * 10**9, "priority": 2 * 10**9}

    def again(attempt_id: str, data: bytes, **changes: Any) -> SignRequest:
        return evm_request(
            attempt_id=attempt_id,
            payload=payload(data, **dearer, **changes),
            payments=orders(),
            replaces="b-1",
        )

    assert kit.refused(again("b-2", pay_data(batch_id=8))) == "already_paid"
    assert kit.refused(again("b-3", pay_data(), nonce=1)) == "not_exclusive"
    kit.signed(again("b-4", pay_data()))


def test_s07_a_member_of_a_batch_is_never_paid_alone(kit: VaultKit) -> None:
    kit.signed(request())
    alone = evm_request(attempt_id="b-9", payload=evm_payload(nonce=1), payments=(orders()[0],))
    assert kit.refused(alone) == "already_paid"


def test_s04_the_caps_count_the_whole_batch(kit: VaultKit) -> None:
    """5 ETH per tx: two orders of 3 are too much together."""
    legs = ((FOREIGN_EVM, 3 * ETHER), (OTHER_EVM, 3 * ETHER))
    paid = (
        payment(0, asset="eth:ETH", address=FOREIGN_EVM, amount="3", request_id="r-1"),
        payment(1, asset="eth:ETH", address=OTHER_EVM, amount="3", request_id="r-2"),
    )
    assert kit.refused(request(pay_data(legs), payments=paid)) == "cap_exceeded"


def test_the_pinned_code_is_the_committed_build() -> None:
    assert code_hash() == BATCH_CODE_HASH


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (BATCH_CODE_HASH, "0x" + "00" * 32, "code_hash"),
        (BATCH_CONTRACT, "0x12", "address"),
        (f'code_hash = "{BATCH_CODE_HASH}"', "", "code_hash"),
    ],
)
def test_another_code_or_address_stops_the_start(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "signer.toml").write_text(SIGNER_TOML.replace(old, new), "utf-8")
    with pytest.raises(ConfigurationError, match=message):
        load_settings(tmp_path, own_uid=0)


def test_without_a_pinned_contract_no_batch_is_signed(kit: VaultKit) -> None:
    plain = SIGNER_TOML.replace(f'address = "{BATCH_CONTRACT}"', f'address = "{OTHER_EVM}"')
    (kit.folder / "signer.toml").write_text(plain, "utf-8")
    again = kit.reopen()
    assert again.refused(request()) == "forbidden_shape"
    again.store.close()
