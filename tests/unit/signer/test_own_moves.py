"""Merges and splits of own coins: nobody authorises one, so all that may leave is a bounded fee."""

from dataclasses import replace
from typing import Any

import pytest

from signer.protocol import Purpose, SignRequest
from tests.support.sign_requests import (
    CHANGE,
    FOREIGN_SCRIPT,
    HOT,
    approval,
    approve_body,
    evm_request,
    payment,
    previous_tx,
    psbt_of,
    utxo_request,
)
from tests.support.vault import VaultKit

COIN = 100_000_000
SECOND_CHANGE = "m/84h/1h/0h/1/1"


def merge(kit: VaultKit, *, coins: int = 3, fee: int = 1_000, **changes: Any) -> SignRequest:
    """Some coins of the hot address into one change output."""
    spent = [previous_tx(kit.script(HOT), COIN, salt) for salt in range(10, 10 + coins)]
    made: dict[str, Any] = {
        "attempt_id": "m-1",
        "purpose": Purpose.CONSOLIDATE,
        "unsigned": psbt_of(spent, [(kit.script(CHANGE), coins * COIN - fee)]).serialize(),
        "input_paths": (HOT,) * coins,
        "change_paths": {0: CHANGE},
        "payments": (),
    }
    return utxo_request(kit, **(made | changes))


def split(kit: VaultKit, *, parts: int = 2, fee: int = 1_000, **changes: Any) -> SignRequest:
    """One coin of the hot address into some change outputs."""
    coin = previous_tx(kit.script(HOT), COIN, 20)
    each = (COIN - fee) // parts
    outputs = [(kit.script(CHANGE), each)] * (parts - 1)
    outputs.append((kit.script(SECOND_CHANGE), COIN - fee - each * (parts - 1)))
    made: dict[str, Any] = {
        "attempt_id": "f-1",
        "purpose": Purpose.FAN_OUT,
        "unsigned": psbt_of([coin], outputs).serialize(),
        "input_paths": (HOT,),
        "change_paths": {n: CHANGE for n in range(parts - 1)} | {parts - 1: SECOND_CHANGE},
        "payments": (),
    }
    return utxo_request(kit, **(made | changes))


def test_f3_own_coins_are_merged_and_split_by_nobody_elses_word(kit: VaultKit) -> None:
    kit.signed(merge(kit))
    kit.signed(split(kit, parts=100))


@pytest.mark.parametrize("build", [merge, split])
def test_s02_an_output_to_anybody_else_is_refused(build: Any, kit: VaultKit) -> None:
    coins = [previous_tx(kit.script(HOT), COIN, salt) for salt in range(10, 13)]
    spent = coins if build is merge else coins[:1]
    kept = [] if build is merge else [(kit.script(CHANGE), 1_000_000)]
    rest = len(spent) * COIN - 1_000 - sum(amount for _, amount in kept)
    stolen = psbt_of(spent, [*kept, (FOREIGN_SCRIPT, rest)]).serialize()
    assert kit.refused(build(kit, unsigned=stolen)) == "foreign_output"
    told = build(kit, attempt_id="x-2", unsigned=stolen, change_paths={0: CHANGE} if kept else {})
    assert kit.refused(told) == "foreign_output"


@pytest.mark.parametrize("path", [HOT, "m/84h/1h/1h/0/0"])
def test_only_own_change_is_an_output(path: str, kit: VaultKit) -> None:
    """A deposit address has a player, and the hot one is for what comes from outside."""
    coins = [previous_tx(kit.script(HOT), COIN, salt) for salt in range(10, 13)]
    psbt = psbt_of(coins, [(kit.script(path), 3 * COIN - 1_000)])
    other = merge(kit, unsigned=psbt.serialize(), change_paths={0: path})
    assert kit.refused(other) == "foreign_output"


def test_a_merge_has_several_coins_and_one_output(kit: VaultKit) -> None:
    assert kit.refused(merge(kit, coins=1)) == "forbidden_shape"
    assert kit.refused(split(kit, purpose=Purpose.CONSOLIDATE)) == "forbidden_shape"


def test_a_split_has_one_coin_and_a_bounded_number_of_outputs(kit: VaultKit) -> None:
    assert kit.refused(merge(kit, purpose=Purpose.FAN_OUT)) == "forbidden_shape"
    assert kit.refused(merge(kit, attempt_id="m-2", coins=1, purpose=Purpose.FAN_OUT)) == (
        "forbidden_shape"
    )
    assert kit.refused(split(kit, parts=101)) == "forbidden_shape"


def test_s07_a_coin_of_a_signed_payout_is_never_moved(kit: VaultKit) -> None:
    """That would abort the payout, which takes two people (CONTRACT 8)."""
    kit.signed(utxo_request(kit, salts=(10,)))
    assert kit.refused(merge(kit)) == "not_exclusive"


def test_s07_a_coin_of_a_signed_move_is_never_moved_again(kit: VaultKit) -> None:
    kit.signed(merge(kit))
    assert kit.refused(merge(kit, attempt_id="m-2", fee=5_000)) == "not_exclusive"
    again = merge(kit, attempt_id="m-3", fee=5_000, replaces="m-1")
    assert kit.refused(again) == "bad_request"


def test_a_move_names_nothing_but_its_coins_and_its_change(kit: VaultKit) -> None:
    assert kit.refused(merge(kit, payments=(payment(),))) == "bad_request"
    assert kit.refused(merge(kit, attempt_id="m-2", own_path=CHANGE)) == "bad_request"
    people = (approval("alice", approve_body()),)
    assert kit.refused(merge(kit, attempt_id="m-3", approvals=people)) == "bad_request"


def test_s04_moves_have_a_fee_counter_of_their_own_beside_the_networks(kit: VaultKit) -> None:
    """A stolen gateway burns a tenth of a day's fees by moving coins about, and no more."""
    day = kit.settings.networks["btc"].fee_day_max_minor // 10
    most = kit.settings.networks["btc"].fee_max_minor
    count, salt = 0, 100
    while day - count * most >= most:
        spent = [previous_tx(kit.script(HOT), COIN, salt + n) for n in range(10)]
        salt += 10
        psbt = psbt_of(spent, [(kit.script(CHANGE), 10 * COIN - most)])
        kit.signed(merge(kit, attempt_id=f"b-{count}", coins=10, unsigned=psbt.serialize()))
        count += 1
    assert kit.refused(merge(kit, attempt_id="over", coins=10, fee=most)) == "cap_window"
    kit.signed(utxo_request(kit))  # payouts have the rest of the day
    kit.clock.now += 86_401
    kit.signed(merge(kit, attempt_id="next-day"))


def test_s04_a_fee_over_the_ceiling_is_refused(kit: VaultKit) -> None:
    over = kit.settings.networks["btc"].fee_max_minor + 1
    assert kit.refused(merge(kit, coins=20, fee=over)) == "fee_too_high"


@pytest.mark.parametrize("purpose", [Purpose.CONSOLIDATE, Purpose.FAN_OUT])
def test_account_networks_move_no_coins(purpose: Purpose, kit: VaultKit) -> None:
    assert kit.refused(replace(evm_request(), purpose=purpose, payments=())) == "forbidden_shape"
