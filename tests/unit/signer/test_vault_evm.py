"""What the vault signs on EVM chains, and everything near it that it must not."""

import pytest
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

from signer.protocol import Payment, Purpose, Refusal
from tests.support.sign_requests import GAS, LANE, evm_payload, evm_request, payment, transfer_data
from tests.support.vault import FOREIGN_EVM, TOKEN, VaultKit

OTHER_EVM = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"


def token_payment(amount: str = "12.5") -> tuple[Payment, ...]:
    """An order for USDT to the foreign address."""
    return (payment(asset="eth:USDT", address=FOREIGN_EVM, amount=amount),)


def token_payload(data: bytes, **changes: object) -> bytes:
    """A call of the listed token."""
    fields: dict[str, object] = {"to": bytes.fromhex(TOKEN[2:]), "value": 0, "gas": 60_000}
    return evm_payload(**{**fields, "data": data, **changes})


def test_signed_native_transfer_recovers_to_the_lane_in_another_library(kit: VaultKit) -> None:
    answer = kit.signed(evm_request())
    assert Account.recover_transaction(answer.raw) == kit.address("eth", LANE)
    fields = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    assert (fields["chainId"], fields["nonce"], fields["value"]) == (31337, 0, 5 * 10**17)
    assert HexBytes(fields["to"]) == HexBytes(FOREIGN_EVM)
    assert answer.txid == "0x" + keccak(answer.raw).hex()


def test_signed_token_transfer_pays_exactly_the_order(kit: VaultKit) -> None:
    data = transfer_data(FOREIGN_EVM, 12_500_000)
    answer = kit.signed(evm_request(payload=token_payload(data), payments=token_payment()))
    fields = TypedTransaction.from_bytes(HexBytes(answer.raw)).as_dict()
    assert HexBytes(fields["to"]) == HexBytes(TOKEN)
    assert HexBytes(fields["data"]) == data


def test_s02_other_destination_amount_or_asset_is_refused(kit: VaultKit) -> None:
    other = evm_payload(to=bytes.fromhex(OTHER_EVM[2:]))
    more = evm_payload(value=5 * 10**17 + 1)
    token = token_payload(transfer_data(FOREIGN_EVM, 5 * 10**17))
    for number, payload in enumerate((other, more, token)):
        request = evm_request(attempt_id=f"e-{number}", payload=payload)
        assert kit.refused(request) == "payment_mismatch"
    wrong_token = token_payload(transfer_data(OTHER_EVM, 12_500_000))
    request = evm_request(attempt_id="e-9", payload=wrong_token, payments=token_payment())
    assert kit.refused(request) == "payment_mismatch"


@pytest.mark.parametrize(
    "payload",
    [
        b"\x19Ethereum Signed Message:\n32" + bytes(32),
        b"\x19\x01" + bytes(64),
        bytes(32),
        b"\x04" + evm_payload()[1:],
        b"\x01" + evm_payload()[1:],
        evm_payload(to=b""),
        evm_payload(to=b"", data=b"\x60\x80", value=0),
        evm_payload(data=b"\x01"),
        evm_payload(access=[[bytes(20), []]]),
        evm_payload(to=bytes(20)),
        evm_payload(value=0),
        evm_payload(to=bytes.fromhex(TOKEN[2:])),
        token_payload(transfer_data(FOREIGN_EVM, 1, selector="095ea7b3")),
        token_payload(transfer_data(FOREIGN_EVM, 1, selector="23b872dd")),
        token_payload(transfer_data(FOREIGN_EVM, 1) + b"\0"),
        token_payload(transfer_data(FOREIGN_EVM, 1), value=1),
        token_payload(transfer_data(FOREIGN_EVM, 0)),
        token_payload(transfer_data(TOKEN, 1)),
        token_payload(transfer_data("0x" + "00" * 20, 1)),
        token_payload(b"\xa9\x05\x9c\xbb" + b"\x01" * 64),
        evm_payload(to=bytes.fromhex(OTHER_EVM[2:]), data=transfer_data(FOREIGN_EVM, 1), value=0),
    ],
)
def test_s10_every_shape_off_the_allow_list_is_refused(kit: VaultKit, payload: bytes) -> None:
    """personal_sign, typed data, raw hash, 7702, 2930, creation, approve, transferFrom, others."""
    assert kit.refused(evm_request(payload=payload)) == "forbidden_shape"


@pytest.mark.parametrize("chain_id", [0, 1, 31338])
def test_s11_other_chain_id_is_refused(kit: VaultKit, chain_id: int) -> None:
    assert kit.refused(evm_request(payload=evm_payload(chain_id=chain_id))) == "wrong_network"


def test_s11_key_of_another_network_is_refused(kit: VaultKit) -> None:
    assert kit.refused(evm_request(input_paths=("m/84h/1h/0h/0/0",))) == "bad_path"


@pytest.mark.parametrize(
    "payload",
    [
        evm_payload()[:-1],
        evm_payload() + b"\0",
        b"\x02\xc0",
        b"\x02",
        evm_payload(nonce=2**63),
        evm_payload(gas=20_999),
        evm_payload(priority=31 * 10**9),
        evm_payload(nonce=b"\0"),
        evm_payload(value=[]),
        evm_payload(to=[]),
        evm_payload(data=[]),
        evm_payload(access=b""),
        evm_payload(value=b"\x01" * 33),
    ],
)
def test_s20_malformed_payload_is_refused(kit: VaultKit, payload: bytes) -> None:
    assert kit.refused(evm_request(payload=payload)) == "undecodable"


@pytest.mark.parametrize(
    "changes",
    [
        {"gas": 200_001},
        {"max_fee": 300 * 10**9 + 1},
        {"max_fee": 200 * 10**9, "gas": 150_000},
    ],
)
def test_s04_gas_and_fee_ceilings_hold(kit: VaultKit, changes: dict[str, int]) -> None:
    assert kit.refused(evm_request(payload=evm_payload(**changes))) == "fee_too_high"


def test_withdrawal_leaves_from_a_hot_lane_only(kit: VaultKit) -> None:
    for number, path in enumerate((GAS, "m/44h/60h/1h/0/0")):
        request = evm_request(attempt_id=f"e-{number}", input_paths=(path,))
        assert kit.refused(request) == "bad_path"


def test_account_tx_carries_one_payment(kit: VaultKit) -> None:
    two = (
        payment(asset="eth:ETH", address=FOREIGN_EVM),
        payment(asset="eth:ETH", address=FOREIGN_EVM, request_id="r-2"),
    )
    assert kit.refused(evm_request(payments=two)) == "payment_mismatch"
    assert kit.refused(evm_request(attempt_id="e-2", payments=())) == "bad_request"
    assert kit.refused(evm_request(attempt_id="e-3", input_paths=(LANE, LANE))) == "foreign_input"


def top_up(kit: VaultKit, attempt_id: str, target: str, **changes: object) -> str:
    """Ask for a gas top-up of 0.04 ETH to an own path: `signed`, or the refusal's code."""
    fields = {"to": bytes.fromhex(kit.address("eth", DEPOSIT)[2:]), "value": 4 * 10**16, **changes}
    answer = kit.sign(
        evm_request(
            attempt_id=attempt_id,
            payload=evm_payload(**fields),
            purpose=Purpose.GAS_TOP_UP,
            input_paths=(GAS,),
            payments=(),
            own_path=target,
        )
    )
    return answer.code if isinstance(answer, Refusal) else "signed"


DEPOSIT = "m/44h/60h/2h/0/5"


def test_gas_top_up_pays_a_rederived_own_address_within_its_caps(kit: VaultKit) -> None:
    """Caps of the kit: 0.05 ETH per tx, 0.1 ETH per address and day."""
    assert top_up(kit, "g-0", DEPOSIT, nonce=0) == "signed"
    assert top_up(kit, "g-1", DEPOSIT, nonce=1) == "signed"
    assert top_up(kit, "g-2", DEPOSIT, nonce=2) == "cap_window"
    kit.clock.now += 86_401
    assert top_up(kit, "g-3", DEPOSIT, nonce=2) == "signed"
    assert top_up(kit, "g-4", DEPOSIT, nonce=3, value=5 * 10**16 + 1) == "cap_exceeded"


def test_gas_top_up_to_anything_else_is_refused(kit: VaultKit) -> None:
    foreign = bytes.fromhex(FOREIGN_EVM[2:])
    assert top_up(kit, "g-1", DEPOSIT, to=foreign) == "foreign_output"
    assert top_up(kit, "g-2", "m/44h/60h/2h/0/6") == "foreign_output"
    assert top_up(kit, "g-3", "m/44h/61h/2h/0/5") == "bad_path"
    assert top_up(kit, "g-4", GAS) == "foreign_output"
    token = token_payload(transfer_data(kit.address("eth", DEPOSIT), 1))
    request = evm_request(
        payload=token, purpose=Purpose.GAS_TOP_UP, input_paths=(GAS,), payments=(), own_path=DEPOSIT
    )
    assert kit.refused(request) == "foreign_output"


def test_top_up_with_payments_or_without_a_path_is_refused(kit: VaultKit) -> None:
    with_payment = evm_request(purpose=Purpose.GAS_TOP_UP, own_path=DEPOSIT)
    assert kit.refused(with_payment) == "bad_request"
    without = evm_request(attempt_id="e-2", purpose=Purpose.GAS_TOP_UP, payments=())
    assert kit.refused(without) == "bad_request"


def test_top_up_from_a_deposit_account_is_refused(kit: VaultKit) -> None:
    own = bytes.fromhex(kit.address("eth", DEPOSIT)[2:])
    request = evm_request(
        payload=evm_payload(to=own, value=1),
        purpose=Purpose.GAS_TOP_UP,
        input_paths=("m/44h/60h/3h/0/0",),
        payments=(),
        own_path=DEPOSIT,
    )
    assert kit.refused(request) == "bad_path"


def test_s08_nonce_of_a_top_up_is_only_for_its_replacement(kit: VaultKit) -> None:
    assert top_up(kit, "g-1", DEPOSIT) == "signed"
    assert top_up(kit, "g-2", DEPOSIT, max_fee=40 * 10**9) == "nonce_used"
    request = evm_request(
        attempt_id="g-3",
        payload=evm_payload(
            to=bytes.fromhex(kit.address("eth", DEPOSIT)[2:]), value=4 * 10**16, max_fee=40 * 10**9
        ),
        purpose=Purpose.GAS_TOP_UP,
        input_paths=(GAS,),
        payments=(),
        own_path=DEPOSIT,
        replaces="g-1",
    )
    kit.signed(request)


def test_cpfp_is_not_for_account_networks(kit: VaultKit) -> None:
    assert kit.refused(evm_request(purpose=Purpose.CPFP, payments=())) == "forbidden_shape"
