"""A deposit goes back only as two people signed, once, within caps of its own (CONTRACT 8)."""

from dataclasses import replace
from typing import Any

import pytest

from signer.protocol import Authorisation, Purpose, SignRequest
from tests.support.sign_requests import (
    CHANGE,
    FOREIGN_SCRIPT,
    HOT,
    LANE,
    approval,
    evm_payload,
    evm_request,
    payment,
    previous_tx,
    psbt_of,
    utxo_request,
)
from tests.support.vault import FOREIGN_BTC, FOREIGN_EVM, VaultKit, open_kit, staff_key

DEPOSIT = "dep_test_1"
DEPOSIT_PATH = "m/84h/1h/1h/0/7"
EVM_DEPOSIT = "m/44h/60h/1h/0/7"
OTHER = "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"  # a public test address (version byte 111)
CAPS = "refund_tx_max_minor = 60000000\nrefund_day_max_minor = 90000000\n"


@pytest.fixture
def desk(kit: VaultKit) -> VaultKit:
    """A signer that sends back up to 0.6 BTC or ETH at once and 0.9 a day."""
    kit.store.close()
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8")
    text = text.replace("assets.BTC]\n", f"assets.BTC]\n{CAPS}")
    wei = CAPS.replace("60000000", '"600000000000000000"').replace("90000000", f'"{9 * 10**17}"')
    path.write_text(text.replace("assets.ETH]\n", f"assets.ETH]\n{wei}"), "utf-8")
    return open_kit(kit.folder, kit.clock)


def body(action: str = "refund", **changes: Any) -> dict[str, Any]:
    """What people sign to send 0.5 BTC back."""
    fields = {
        "action": action,
        "deposit_id": DEPOSIT,
        "asset": "btc:BTC",
        "address": FOREIGN_BTC,
        "amount": "0.5",
        "valid_until": "2023-11-20T00:00:00Z",
    }
    return {**fields, **changes}


def signed_by(
    *people: str, action: str = "refund", deposit: str = DEPOSIT, **changes: Any
) -> tuple[Authorisation, ...]:
    """Their requests to the API."""
    return tuple(
        approval(
            person,
            body(action, **changes),
            withdrawal=deposit,
            target=f"/v1/deposits/{{}}/{action}",
        )
        for person in people
    )


def refund(
    desk: VaultKit,
    *,
    attempt_id: str = "f-1",
    path: str = HOT,
    salt: int = 1,
    output: int = 49_999_000,
    fee: int = 1_000,
    action: str = "refund",
    **changes: Any,
) -> SignRequest:
    """0.5 BTC less the fee, from a coin of 1 BTC."""
    coin = previous_tx(desk.script(path), 100_000_000, salt)
    outputs = [(FOREIGN_SCRIPT, output), (desk.script(CHANGE), 100_000_000 - output - fee)]
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "purpose": Purpose(action),
        "unsigned": psbt_of([coin], outputs).serialize(),
        "input_paths": (path,),
        "payments": (),
        "approvals": signed_by("alice", "bob", action=action),
    }
    return utxo_request(desk, **{**fields, **changes})


def test_s15_a_refund_by_two_people_is_signed_and_its_fee_is_out_of_the_amount(
    desk: VaultKit,
) -> None:
    made = desk.signed(refund(desk))
    assert desk.signed(refund(desk)) == made


def test_s15_a_recovery_leaves_from_the_deposits_own_path(desk: VaultKit) -> None:
    assert desk.refused(refund(desk, action="recovery")) == "bad_path"
    assert desk.refused(refund(desk, attempt_id="f-2", path=DEPOSIT_PATH)) == "bad_path"
    desk.signed(refund(desk, attempt_id="f-3", action="recovery", path=DEPOSIT_PATH))
    assert desk.refused(refund(desk, attempt_id="f-4", salt=2)) == "already_paid"


@pytest.mark.parametrize(
    "approvals",
    [
        (),
        signed_by("alice"),
        signed_by("alice", "alice"),
        (*signed_by("alice"), *signed_by("bob", amount="0.51")),
        (*signed_by("alice"), *signed_by("bob", valid_until="2023-11-21T00:00:00Z")),
        (*signed_by("alice"), *signed_by("bob", deposit="dep_test_2", deposit_id="dep_test_2")),
        (*signed_by("alice"), *signed_by("bob", action="recovery")),
        (*signed_by("alice", "bob"), *signed_by("bob", amount="0.51")),
        signed_by("alice", "bob", deposit="dep_test_2"),
        signed_by("alice", "bob", deposit_id="wd_test_1"),
        signed_by("alice", "bob", asset="btc:DOGE"),
        signed_by("alice", "bob", asset="eth:ETH"),
        signed_by("alice", "bob", valid_until=None),
        signed_by("alice", "bob", note="x"),
        (*signed_by("alice"), approval("bob", body(), key=staff_key("alice"))),
    ],
)
def test_s15_what_two_people_did_not_sign_alike_is_not_sent_back(
    desk: VaultKit, approvals: tuple[Authorisation, ...]
) -> None:
    assert desk.refused(refund(desk, approvals=approvals)) == "needs_staff"


@pytest.mark.parametrize(
    "changes",
    [
        {"output": 50_000_001},
        {"output": 49_998_999},
        {"approvals": signed_by("alice", "bob", address=OTHER)},
        {"approvals": signed_by("alice", "bob", amount="0.4")},
        {"approvals": signed_by("alice", "bob", amount="0.0")},
        {"change_paths": {}},
        {"change_paths": {0: CHANGE, 1: CHANGE}},
    ],
)
def test_s02_another_output_than_people_signed_is_refused(
    desk: VaultKit, changes: dict[str, Any]
) -> None:
    assert desk.refused(refund(desk, **changes)) == "payment_mismatch"


def test_s03_change_of_a_refund_is_rederived(desk: VaultKit) -> None:
    assert desk.refused(refund(desk, change_paths={1: HOT})) == "foreign_output"
    more = refund(desk, attempt_id="f-2", change_paths={1: CHANGE, 9: CHANGE})
    assert desk.refused(more) == "foreign_output"


def test_s07_a_deposit_is_sent_back_once_for_ever_and_may_be_bumped(desk: VaultKit) -> None:
    desk.signed(refund(desk))
    assert desk.refused(refund(desk, attempt_id="f-2", salt=2)) == "already_paid"
    other = refund(desk, attempt_id="f-3", output=49_998_500, fee=2_000, replaces="f-1")
    assert desk.refused(other) == "already_paid"
    again = desk.reopen()
    beside = refund(again, attempt_id="f-4", salt=2, fee=2_000, replaces="f-1")
    assert again.refused(beside) == "not_exclusive"
    again.clock.now += 6 * 86_400  # past valid_until: a begun family goes on
    again.signed(refund(again, attempt_id="f-5", fee=2_000, replaces="f-1"))
    again.store.close()


def test_s25_no_first_refund_after_valid_until(desk: VaultKit) -> None:
    approvals = signed_by("alice", "bob", valid_until="2023-11-14T22:13:20Z")  # now
    assert desk.refused(refund(desk, approvals=approvals)) == "expired"


def test_s05_refunds_have_caps_of_their_own(desk: VaultKit) -> None:
    def of(number: int, amount: str, output: int) -> SignRequest:
        deposit = f"dep_{number}"
        approvals = signed_by("alice", "bob", deposit=deposit, deposit_id=deposit, amount=amount)
        return refund(
            desk, attempt_id=f"f-{number}", salt=number, output=output, approvals=approvals
        )

    assert desk.refused(of(1, "0.60000001", 60_000_000)) == "cap_exceeded"
    desk.signed(of(2, "0.6", 60_000_000))
    assert desk.refused(of(3, "0.30000001", 30_000_000)) == "cap_window"
    desk.signed(of(4, "0.3", 30_000_000))
    desk.signed(utxo_request(desk, salts=(50,)))  # the orders of clients have theirs


def test_s05_without_a_cap_nothing_is_sent_back(kit: VaultKit) -> None:
    assert kit.refused(refund(kit)) == "cap_exceeded"


def test_a_refund_names_no_payments_and_no_own_path(desk: VaultKit) -> None:
    assert desk.refused(refund(desk, payments=(payment(),))) == "bad_request"
    assert desk.refused(refund(desk, attempt_id="f-2", own_path=HOT)) == "bad_request"
    assert desk.refused(refund(desk, attempt_id="f-3", replaces="f-9")) == "already_paid"


def test_s15_a_coin_of_an_account_is_sent_back_by_one_transfer(desk: VaultKit) -> None:
    ether = {"asset": "eth:ETH", "address": FOREIGN_EVM}
    fee = 21_000 * 30 * 10**9

    def of(attempt_id: str, value: int, **changes: Any) -> SignRequest:
        request = evm_request(attempt_id=attempt_id, payload=evm_payload(value=value))
        fields: dict[str, Any] = {
            "purpose": Purpose.REFUND,
            "payments": (),
            "approvals": signed_by("alice", "bob", **ether),
        }
        return replace(request, **{**fields, **changes})

    assert desk.refused(of("e-1", 5 * 10**17 + 1)) == "payment_mismatch"
    assert desk.refused(of("e-2", 5 * 10**17 - fee - 1)) == "payment_mismatch"
    assert desk.refused(of("e-3", 5 * 10**17, change_paths={0: LANE})) == "payment_mismatch"
    assert desk.refused(of("e-4", 5 * 10**17, input_paths=(EVM_DEPOSIT,))) == "bad_path"
    desk.signed(of("e-5", 5 * 10**17 - fee))
    recovery = {
        "purpose": Purpose.RECOVERY,
        "input_paths": (EVM_DEPOSIT,),
        "approvals": signed_by(
            "alice", "bob", action="recovery", deposit="dep_2", deposit_id="dep_2", **ether
        ),
    }
    assert desk.refused(of("e-6", 5 * 10**17, **recovery)) == "cap_window"
    desk.clock.now += 86_401
    desk.signed(of("e-7", 5 * 10**17, **recovery))
