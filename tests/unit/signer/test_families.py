"""Exclusion families: a second payment of one request must be impossible on chain (CONTRACT 5)."""

from typing import Any

import pytest

from signer.protocol import Refusal, SignRequest
from tests.support import sign_requests
from tests.support import vault as kits
from tests.support.sign_requests import (
    LANE,
    authorise,
    evm_payload,
    evm_request,
    order_body,
    payment,
    utxo_request,
)
from tests.support.vault import FOREIGN_EVM, VaultKit

SECOND_LANE = "m/44h/60h/0h/0/1"


def test_s07_same_payment_with_other_coins_is_refused_for_ever(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    again = utxo_request(kit, attempt_id="a-2", salts=(2,), fee=2_000)
    assert kit.refused(again) == "already_paid"
    named = utxo_request(kit, attempt_id="a-3", salts=(2,), fee=2_000, replaces="a-1")
    assert kit.refused(named) == "not_exclusive"
    kit.clock.now += 86_400 * 400
    late = utxo_request(kit, attempt_id="a-4", salts=(2,), fee=2_000, replaces="a-1")
    assert kit.refused(late) == "not_exclusive"


def test_s07_replacement_shares_a_coin_with_every_earlier_attempt(kit: VaultKit) -> None:
    """The third attempt shares a coin with the second but not with the first."""
    kit.signed(utxo_request(kit, salts=(1,)))
    kit.signed(utxo_request(kit, attempt_id="a-2", salts=(1, 2), fee=2_000, replaces="a-1"))
    third = utxo_request(kit, attempt_id="a-3", salts=(2, 3), fee=3_000, replaces="a-2")
    assert kit.refused(third) == "not_exclusive"
    kit.signed(utxo_request(kit, attempt_id="a-4", salts=(1, 3), fee=3_000, replaces="a-1"))


def test_s07_replacement_pays_a_higher_fee_than_each_earlier_attempt(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit, fee=3_000))
    same = utxo_request(kit, attempt_id="a-2", salts=(1, 2), fee=3_000, replaces="a-1")
    assert kit.refused(same) == "fee_not_higher"
    over = utxo_request(kit, attempt_id="a-3", fee=100_001, replaces="a-1")
    assert kit.refused(over) == "fee_too_high"
    kit.signed(utxo_request(kit, attempt_id="a-4", fee=3_001, replaces="a-1"))


def test_s07_replacement_has_exactly_the_same_payments(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    coin = sign_requests.previous_tx(kit.script(sign_requests.HOT), 100_000_000, 1)
    outputs = [
        (sign_requests.FOREIGN_SCRIPT, 50_000_000),
        (sign_requests.FOREIGN_SCRIPT, 10_000_000),
        (kit.script(sign_requests.CHANGE), 39_990_000),
    ]
    wider = utxo_request(
        kit,
        attempt_id="a-2",
        unsigned=sign_requests.psbt_of([coin], outputs).serialize(),
        payments=(payment(), payment(1, request_id="r-2", amount="0.1")),
        change_paths={2: sign_requests.CHANGE},
        replaces="a-1",
    )
    assert kit.refused(wider) == "already_paid"


def test_s07_changed_order_for_a_paid_request_is_refused(kit: VaultKit) -> None:
    """The same client may sign the request_id again with another amount: it is paid once."""
    kit.signed(utxo_request(kit))
    coin = sign_requests.previous_tx(kit.script(sign_requests.HOT), 100_000_000, 1)
    outputs = [
        (sign_requests.FOREIGN_SCRIPT, 60_000_000),
        (kit.script(sign_requests.CHANGE), 39_990_000),
    ]
    other = utxo_request(
        kit,
        attempt_id="a-2",
        unsigned=sign_requests.psbt_of([coin], outputs).serialize(),
        payments=(payment(amount="0.6"),),
        replaces="a-1",
    )
    assert kit.refused(other) == "already_paid"


def test_s07_memory_survives_a_restart(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    again = kit.reopen()
    assert again.refused(utxo_request(again, attempt_id="a-2", salts=(2,))) == "already_paid"
    again.store.close()


def test_first_of_a_family_names_nothing_to_replace(kit: VaultKit) -> None:
    assert kit.refused(utxo_request(kit, replaces="a-0")) == "already_paid"


def test_one_request_twice_in_a_tx_is_refused(kit: VaultKit) -> None:
    assert kit.refused(utxo_request(kit, payments=(payment(), payment(1)))) == "already_paid"


def second_order(**changes: Any) -> SignRequest:
    """Another ETH order, by default at the same lane and nonce."""
    other = payment(asset="eth:ETH", address=FOREIGN_EVM, request_id="r-2")
    return evm_request(attempt_id="e-2", payments=(other,), **changes)


def test_s08_nonce_of_one_payout_is_never_for_another(kit: VaultKit) -> None:
    kit.signed(evm_request())
    assert kit.refused(second_order(payload=evm_payload(max_fee=40 * 10**9))) == "nonce_used"


def test_s08_other_lane_or_next_nonce_is_free(kit: VaultKit) -> None:
    kit.signed(evm_request())
    kit.signed(second_order(input_paths=(SECOND_LANE,)))
    third = payment(asset="eth:ETH", address=FOREIGN_EVM, request_id="r-3")
    kit.signed(evm_request(attempt_id="e-3", payload=evm_payload(nonce=1), payments=(third,)))


def test_s07_same_payout_at_another_nonce_or_lane_is_refused(kit: VaultKit) -> None:
    kit.signed(evm_request())
    higher = {"max_fee": 40 * 10**9}
    nonce = evm_request(attempt_id="e-2", payload=evm_payload(nonce=1, **higher), replaces="e-1")
    assert kit.refused(nonce) == "not_exclusive"
    lane = evm_request(
        attempt_id="e-3",
        payload=evm_payload(**higher),
        input_paths=(SECOND_LANE,),
        replaces="e-1",
    )
    assert kit.refused(lane) == "not_exclusive"


def test_s07_evm_replacement_at_a_higher_fee_is_signed(kit: VaultKit) -> None:
    kit.signed(evm_request())
    same = evm_request(attempt_id="e-2", replaces="e-1")
    assert kit.refused(same) == "fee_not_higher"
    kit.signed(
        evm_request(
            attempt_id="e-3", payload=evm_payload(max_fee=40 * 10**9, priority=2), replaces="e-1"
        )
    )


def test_s08_stolen_gateway_cannot_reuse_a_lane_path_spelling(kit: VaultKit) -> None:
    """`'` and `h` are the same account."""
    kit.signed(evm_request())
    other = second_order(input_paths=(LANE.replace("h", "'"),))
    assert kit.refused(other) == "nonce_used"


def test_s25_no_first_signature_after_valid_until_but_replacements_go_on(kit: VaultKit) -> None:
    body = order_body(valid_until="2023-11-15T00:00:00Z")  # about two hours after START
    kit.signed(utxo_request(kit, payments=(payment(claim=authorise(body)),)))
    kit.clock.now += 86_400
    late = order_body(request_id="r-2", valid_until="2023-11-15T00:00:00Z")
    coins: dict[str, Any] = {"attempt_id": "a-2", "salts": (2,), "fee": 2_000}
    item = payment(request_id="r-2", claim=authorise(late))
    assert kit.refused(utxo_request(kit, payments=(item,), **coins)) == "expired"
    bump = utxo_request(
        kit,
        attempt_id="a-3",
        fee=2_000,
        payments=(payment(claim=authorise(body)),),
        replaces="a-1",
    )
    kit.signed(bump)


def test_revoked_key_starts_nothing_but_its_family_may_be_replaced(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    kit.statement("revoke", {"keyid": "client-1"}, people=("alice",))
    new = utxo_request(kit, attempt_id="a-2", salts=(2,), payments=(payment(request_id="r-2"),))
    assert kit.refused(new) == "key_not_trusted"
    kit.signed(utxo_request(kit, attempt_id="a-3", fee=2_000, replaces="a-1"))


def test_s16_frozen_key_signs_nothing_also_after_a_restart(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit))
    kit.statement("freeze", {"keyid": "client-1"}, people=("bob",))
    again = kit.reopen()
    bump = utxo_request(again, attempt_id="a-2", fee=2_000, replaces="a-1")
    assert again.refused(bump) == "key_not_trusted"
    again.statement("unfreeze", {"keyid": "client-1"})
    again.signed(utxo_request(again, attempt_id="a-3", fee=2_000, replaces="a-1"))
    again.store.close()


def test_s05_caps_per_tx_hour_and_day_survive_restart_and_clock_change(kit: VaultKit) -> None:
    """Caps of the kit: 5 BTC per tx, 8 per hour, 10 per day."""

    def pay(made: VaultKit, number: int, coins: int) -> SignRequest:
        amount = coins * 100_000_000
        salts = range(number * 10, number * 10 + coins + 1)
        previous = [
            sign_requests.previous_tx(made.script(sign_requests.HOT), 100_000_000, n) for n in salts
        ]
        outputs = [
            (sign_requests.FOREIGN_SCRIPT, amount),
            (made.script(sign_requests.CHANGE), 99_990_000),
        ]
        return utxo_request(
            made,
            attempt_id=f"p-{number}",
            unsigned=sign_requests.psbt_of(previous, outputs).serialize(),
            input_paths=(sign_requests.HOT,) * len(previous),
            payments=(payment(request_id=f"r-{number}", amount=str(coins)),),
        )

    assert kit.refused(pay(kit, 1, 6)) == "cap_exceeded"
    kit.signed(pay(kit, 2, 5))
    assert kit.refused(pay(kit, 3, 4)) == "cap_window"
    kit.signed(pay(kit, 4, 3))
    again = kit.reopen()
    again.clock.now -= 7_200
    assert again.refused(pay(again, 5, 1)) in ("cap_window", "unauthentic")
    again.clock.now += 7_200 + 3_601
    again.signed(pay(again, 6, 2))
    assert again.refused(pay(again, 7, 1)) == "cap_window"
    again.clock.now += 86_401
    again.signed(pay(again, 8, 1))
    again.store.close()


@pytest.mark.parametrize(
    ("day", "code"), [("49999999", "cap_exceeded"), ("50000000", "cap_window")]
)
def test_what_no_waiting_cures_is_told_from_what_it_does(
    kit: VaultKit, day: str, code: str
) -> None:
    """0.5 BTC under a key's cap per day: less than the amount, or taken by one like it."""
    caps = {"btc:BTC": {"tx": "50000000", "day": day}}
    kits.trust_client(kit, "client-2", caps=caps)

    def pay(number: int) -> SignRequest:
        body = order_body(request_id=f"w-{number}")
        item = payment(claim=authorise(body, keyid="client-2"), request_id=f"w-{number}")
        return utxo_request(kit, attempt_id=f"w-{number}", salts=(number,), payments=(item,))

    if code == "cap_window":
        kit.signed(pay(1))
    assert kit.refused(pay(2)) == code


def test_caps_of_the_client_key_hold(kit: VaultKit) -> None:
    caps = {"btc:BTC": {"tx": "40000000", "day": "100000000"}}
    kits.trust_client(kit, "client-2", caps=caps)
    claim = authorise(order_body(), keyid="client-2")
    answer = kit.sign(utxo_request(kit, payments=(payment(claim=claim),)))
    assert answer == Refusal(
        code="cap_exceeded", reason="r-1: over the key's cap per payment"
    )  # payouts looks for the name (P27)
    eth = authorise(order_body(asset="eth:ETH", address=FOREIGN_EVM), keyid="client-2")
    item = payment(claim=eth)
    assert kit.refused(evm_request(payments=(item,))) == "key_not_trusted"


def fees_counted(kit: VaultKit) -> int:
    """What the window of fees on btc has taken, by the signer's own rows."""
    rows = kit.store.rows("SELECT amount FROM spent WHERE scope = 'fee:btc'")
    return sum(int(row[0]) for row in rows)


def window_of_fees(kit: VaultKit, most: int) -> VaultKit:
    """The same signer with this cap of fees per day on btc."""
    kit.store.close()
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8").replace(
        "fee_day_max_minor = 10000000", f"fee_day_max_minor = {most}"
    )
    path.write_text(text, "utf-8")
    return kits.open_kit(kit.folder, kit.clock)


def test_s05_a_replacement_counts_only_what_it_adds_to_the_window_of_fees(kit: VaultKit) -> None:
    """One tx of a family is mined, with at most the highest signed fee: 3,000 of 3,000 here."""
    made = window_of_fees(kit, 3_000)
    made.signed(utxo_request(made, fee=1_000))
    made.signed(utxo_request(made, attempt_id="a-2", fee=2_500, replaces="a-1"))
    again = made.reopen()
    over = utxo_request(again, attempt_id="a-3", fee=3_001, replaces="a-2")
    assert again.refused(over) == "cap_window"
    again.signed(utxo_request(again, attempt_id="a-4", fee=3_000, replaces="a-1"))
    assert fees_counted(again) == 3_000
    other = utxo_request(
        again, attempt_id="b-1", salts=(9,), fee=1, payments=(payment(request_id="r-9"),)
    )
    assert again.refused(other) == "cap_window"
    again.store.close()


def test_s05_a_cheaper_replacement_frees_nothing(kit: VaultKit) -> None:
    """More per gas, less gas: the earlier attempt may be mined, so its whole fee stays counted."""

    def fees() -> list[int]:
        found = kit.store.rows("SELECT amount FROM spent WHERE scope = 'fee:eth' ORDER BY rowid")
        return [int(row[0]) for row in found]

    first = evm_payload(gas=100_000, max_fee=30 * 10**9)
    kit.signed(evm_request(attempt_id="e-1", payload=first))
    less = evm_payload(gas=21_000, max_fee=40 * 10**9)
    kit.signed(evm_request(attempt_id="e-2", payload=less, replaces="e-1"))
    assert fees() == [100_000 * 30 * 10**9, 0]
    more = evm_payload(gas=100_000, max_fee=50 * 10**9)
    kit.signed(evm_request(attempt_id="e-3", payload=more, replaces="e-2"))
    assert sum(fees()) == 100_000 * 50 * 10**9


def test_s05_a_new_family_counts_its_whole_fee(kit: VaultKit) -> None:
    kit.signed(utxo_request(kit, fee=1_000))
    kit.signed(
        utxo_request(
            kit, attempt_id="b-1", salts=(9,), fee=2_000, payments=(payment(request_id="r-9"),)
        )
    )
    assert fees_counted(kit) == 3_000


def test_s05_a_replacement_of_yesterday_counts_its_increase_today(kit: VaultKit) -> None:
    """What was counted stays counted, and is not asked for again when its day is over."""
    made = window_of_fees(kit, 2_000)
    made.signed(utxo_request(made, fee=2_000))
    made.clock.now += 86_400
    made.signed(utxo_request(made, attempt_id="a-2", fee=3_000, replaces="a-1"))
    assert fees_counted(made) == 3_000
    made.store.close()
