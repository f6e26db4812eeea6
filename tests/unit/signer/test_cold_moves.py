"""Hot to cold: only to an address that two people pinned a day ago, within own caps (S06)."""

import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from signer.errors import ConfigurationError, Refused
from signer.protocol import Authorisation, Purpose, SignRequest
from signer.settings import load_settings
from tests.support.sign_requests import (
    CHANGE,
    FOREIGN_SCRIPT,
    HOT,
    LANE,
    approval,
    evm_payload,
    evm_request,
    previous_tx,
    psbt_of,
    transfer_data,
    utxo_request,
)
from tests.support.vault import FOREIGN_BTC, FOREIGN_EVM, TOKEN, VaultKit, open_kit

REBALANCE = "reb_test_1"
DEPOSIT_PATH = "m/84h/1h/1h/0/7"
COIN = 100_000_000
DAY = 86_400
CAPS = "cold_tx_max_minor = 70000000\ncold_day_max_minor = 110000000\n"
DUAL = "cold_dual_limit_minor = 50000000\n"
UNTIL = "2023-11-20T00:00:00Z"


def with_caps(kit: VaultKit, caps: str = CAPS + DUAL) -> VaultKit:
    """The same signer with caps of moves to cold, in BTC, ETH and USDT alike."""
    kit.store.close()
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8")
    for asset in ("BTC", "USDT"):
        text = text.replace(f"assets.{asset}]\n", f"assets.{asset}]\n{caps}")
    wei = "\n".join(
        f'{line.partition(" = ")[0]} = "{line.partition(" = ")[2]}0000000000"'
        for line in caps.splitlines()
    )
    path.write_text(text.replace("assets.ETH]\n", f"assets.ETH]\n{wei}\n"), "utf-8")
    return open_kit(kit.folder, kit.clock)


@pytest.fixture
def desk(kit: VaultKit) -> VaultKit:
    """The test addresses are pinned since a day; 0.7 at once, 1.1 a day, above 0.5 two people."""
    made = with_caps(kit)
    for network, address in (("btc", FOREIGN_BTC), ("eth", FOREIGN_EVM)):
        made.statement("pin", {"network": network, "address": address})
    made.clock.now += DAY
    return made


def body(**changes: Any) -> dict[str, Any]:
    """What people sign to move 0.6 BTC to cold."""
    return {
        "rebalance_id": REBALANCE,
        "direction": "hot_to_cold",
        "network": "btc",
        "asset": "btc:BTC",
        "address": FOREIGN_BTC,
        "amount": "0.6",
        "valid_until": UNTIL,
        **changes,
    }


def signed_by(desk: VaultKit, *people: str, path: str = "", **changes: Any) -> Any:
    """Their requests to the API."""
    words = body(**changes)
    return tuple(
        approval(
            person,
            words,
            action="approve",
            withdrawal=path or words["rebalance_id"],
            target="/v1/rebalances/{}/approve",
            created=desk.clock.now,
        )
        for person in people
    )


def move(
    desk: VaultKit,
    *,
    attempt_id: str = "c-1",
    salt: int = 1,
    amount: int = 50_000_000,
    fee: int = 1_000,
    path: str = HOT,
    script: bytes = FOREIGN_SCRIPT,
    approvals: tuple[Authorisation, ...] = (),
    **changes: Any,
) -> SignRequest:
    """0.5 BTC of a hot coin of 1 BTC to the cold address, the rest to change."""
    coin = previous_tx(desk.script(path), COIN, salt)
    outputs = [(script, amount), (desk.script(CHANGE), COIN - amount - fee)]
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "purpose": Purpose.HOT_TO_COLD,
        "unsigned": psbt_of([coin], outputs).serialize(),
        "input_paths": (path,),
        "payments": (),
        "approvals": approvals,
    }
    return utxo_request(desk, **{**fields, **changes})


def coin_move(*, nonce: int = 0, wei: int = 5 * 10**17, **changes: Any) -> SignRequest:
    """0.5 ETH of hot lane 0 to the cold account."""
    fields: dict[str, Any] = {
        "attempt_id": "c-1",
        "purpose": Purpose.HOT_TO_COLD,
        "payload": evm_payload(nonce=nonce, value=wei),
        "payments": (),
    }
    return evm_request(**{**fields, **changes})


def token_move(*, amount: int = 50_000_000, **changes: Any) -> SignRequest:
    """50 USDT of hot lane 0 to the cold account."""
    payload = evm_payload(
        to=bytes.fromhex(TOKEN[2:]), value=0, data=transfer_data(FOREIGN_EVM, amount), gas=60_000
    )
    return coin_move(**{"payload": payload, **changes})


def test_s06_a_pinned_address_gets_coins_the_coin_of_accounts_and_tokens(desk: VaultKit) -> None:
    made = desk.signed(move(desk))
    assert desk.signed(move(desk)) == made
    desk.signed(coin_move(attempt_id="c-2"))
    desk.signed(
        token_move(
            attempt_id="c-3",
            payload=evm_payload(
                nonce=1,
                to=bytes.fromhex(TOKEN[2:]),
                value=0,
                data=transfer_data(FOREIGN_EVM, 50_000_000),
                gas=60_000,
            ),
        )
    )


def test_s06_an_address_that_nobody_pinned_is_refused(kit: VaultKit) -> None:
    desk = with_caps(kit)
    assert desk.refused(move(desk)) == "not_pinned"
    assert desk.refused(coin_move(attempt_id="c-2")) == "not_pinned"
    assert desk.refused(token_move(attempt_id="c-3")) == "not_pinned"


def test_s06_a_pin_counts_a_day_later_and_not_a_second_before(kit: VaultKit) -> None:
    desk = with_caps(kit)
    desk.statement("pin", {"network": "btc", "address": FOREIGN_BTC})
    assert desk.refused(move(desk)) == "not_pinned"
    desk.clock.now += DAY - 1
    assert desk.refused(move(desk, attempt_id="c-2")) == "not_pinned"
    desk.clock.now += 1
    desk.signed(move(desk, attempt_id="c-3"))


def test_s06_two_people_pin_and_one_takes_it_back(kit: VaultKit) -> None:
    desk = with_caps(kit)
    pin = {"network": "btc", "address": FOREIGN_BTC}
    for people in ((), ("alice",)):
        with pytest.raises(Refused, match="takes 2 people"):
            desk.statement("pin", pin, people=people)
    with pytest.raises(Refused, match="nothing to unpin"):
        desk.statement("unpin", pin)
    desk.statement("pin", pin)
    desk.clock.now += DAY
    desk.signed(move(desk))
    desk.statement("unpin", pin, people=("alice",))
    assert desk.refused(move(desk, attempt_id="c-2", salt=2, amount=1_000_000)) == "not_pinned"


def test_s06_a_pin_is_not_made_older_and_one_made_again_waits_again(desk: VaultKit) -> None:
    pin = {"network": "btc", "address": FOREIGN_BTC}
    with pytest.raises(Refused, match="nothing to pin"):
        desk.statement("pin", {**pin, "address": FOREIGN_BTC.upper()})  # another spelling
    desk.statement("unpin", pin)
    desk.clock.now += 1
    desk.statement("pin", pin)
    assert desk.refused(move(desk)) == "not_pinned"


def test_s06_a_pin_is_of_one_network_and_survives_a_restart(desk: VaultKit) -> None:
    again = desk.reopen()
    again.signed(move(again))
    ltc = move(again, attempt_id="c-2", network="ltc", salt=2)
    assert again.refused(ltc) == "not_pinned"


def test_s06_a_store_of_the_version_before_has_no_pins_and_learns_them(kit: VaultKit) -> None:
    first = kit.signed(utxo_request(kit, salts=(9,)))
    kit.store.close()
    with sqlite3.connect(kit.settings.store) as connection:
        connection.executescript("DROP TABLE cold_pins; UPDATE meta SET version = 5;")
    connection.close()
    again = with_caps(open_kit(kit.folder, kit.clock))
    assert again.signed(utxo_request(again, salts=(9,))) == first
    assert again.refused(move(again)) == "not_pinned"
    again.statement("pin", {"network": "btc", "address": FOREIGN_BTC})
    again.clock.now += DAY
    again.signed(move(again, attempt_id="c-2"))


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "btc"},
        {"network": "btc", "address": FOREIGN_BTC, "at": 1},
        {"network": "btc", "address": 7},
        {"network": "none", "address": FOREIGN_BTC},
        {"network": "eth", "address": FOREIGN_BTC},
        {"network": "btc", "address": FOREIGN_BTC[:-1] + "q"},
    ],
)
def test_s06_a_pin_of_nothing_that_the_network_has_is_refused(
    kit: VaultKit, fields: dict[str, object]
) -> None:
    with pytest.raises(Refused):
        kit.statement("pin", fields)


def test_s06_another_output_than_change_beside_the_pinned_one_is_refused(desk: VaultKit) -> None:
    coin = previous_tx(desk.script(HOT), COIN, 1)
    two = psbt_of([coin], [(FOREIGN_SCRIPT, COIN // 2), (FOREIGN_SCRIPT, COIN // 2 - 1_000)])
    assert desk.refused(move(desk, unsigned=two.serialize(), change_paths={})) == "forbidden_shape"
    told = move(desk, attempt_id="c-2", unsigned=two.serialize())
    assert desk.refused(told) == "foreign_output"
    deposit = desk.script(DEPOSIT_PATH)
    astray = psbt_of([coin], [(FOREIGN_SCRIPT, COIN // 2), (deposit, COIN // 2 - 1_000)])
    for path in (CHANGE, DEPOSIT_PATH):
        odd = move(
            desk, attempt_id=f"c-3{path[-3]}", unsigned=astray.serialize(), change_paths={1: path}
        )
        assert desk.refused(odd) == "foreign_output"


def test_s06_only_hot_lanes_and_coins_move_to_cold(desk: VaultKit) -> None:
    desk.signed(move(desk, path=DEPOSIT_PATH))  # of UTXO networks they are hot coins
    gas = coin_move(attempt_id="c-2", input_paths=("m/44h/60h/0h/1/0",))
    assert desk.refused(gas) == "bad_path"
    player = coin_move(attempt_id="c-3", input_paths=("m/44h/60h/1h/0/0",))
    assert desk.refused(player) == "bad_path"
    path = move(desk, attempt_id="c-4", salt=2, own_path=HOT)
    assert desk.refused(path) == "bad_request"


def test_s05_moves_to_cold_have_caps_of_their_own(desk: VaultKit) -> None:
    two = signed_by(desk, "alice", "bob", amount="0.71")
    over = move(desk, amount=71_000_000, approvals=two)
    assert desk.refused(over) == "cap_exceeded"
    desk.signed(move(desk, attempt_id="c-2"))
    desk.signed(move(desk, attempt_id="c-3", salt=2))
    assert desk.refused(move(desk, attempt_id="c-4", salt=3)) == "cap_window"
    desk.signed(utxo_request(desk, salts=(4,)))  # payouts have theirs
    desk.clock.now += DAY
    desk.signed(move(desk, attempt_id="c-5", salt=3))


def test_s05_without_caps_nothing_moves(kit: VaultKit) -> None:
    kit.statement("pin", {"network": "btc", "address": FOREIGN_BTC})
    kit.clock.now += DAY
    assert kit.refused(move(kit)) == "cap_exceeded"


def test_s15_above_the_limit_two_people_sign_the_move(desk: VaultKit) -> None:
    big: dict[str, Any] = {"amount": 60_000_000}
    assert desk.refused(move(desk, **big)) == "needs_staff"
    one = signed_by(desk, "alice")
    assert desk.refused(move(desk, attempt_id="c-2", approvals=one, **big)) == "needs_staff"
    twice = signed_by(desk, "alice", "alice")
    assert desk.refused(move(desk, attempt_id="c-3", approvals=twice, **big)) == "needs_staff"
    desk.signed(move(desk, attempt_id="c-4", approvals=signed_by(desk, "alice", "bob"), **big))


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "0.61"},
        {"address": "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"},
        {"asset": "ltc:LTC"},
        {"network": "ltc"},
        {"direction": "cold_to_hot"},
        {"valid_until": "2023-11-21T00:00:00Z"},
        {"rebalance_id": "reb_test_2"},
        {"extra": "1"},
        {"path": "reb_test_9"},
    ],
)
def test_s15_two_people_who_signed_different_words_did_not_agree(
    desk: VaultKit, change: dict[str, Any]
) -> None:
    mixed = (*signed_by(desk, "alice"), *signed_by(desk, "bob", **change))
    assert desk.refused(move(desk, amount=60_000_000, approvals=mixed)) == "needs_staff"


def test_s15_what_two_people_signed_is_carried_out_once_for_ever(desk: VaultKit) -> None:
    two = signed_by(desk, "alice", "bob")
    big: dict[str, Any] = {"amount": 60_000_000, "approvals": two}
    desk.signed(move(desk, **big))
    assert desk.refused(move(desk, attempt_id="c-2", salt=2, **big)) == "already_paid"
    beside = move(desk, attempt_id="c-3", salt=2, fee=5_000, replaces="c-1", **big)
    assert desk.refused(beside) == "not_exclusive"
    desk.signed(move(desk, attempt_id="c-4", fee=5_000, replaces="c-1", **big))
    desk.clock.now += 2 * DAY
    again = desk.reopen()
    fresh: dict[str, Any] = {"amount": 60_000_000, "approvals": signed_by(again, "alice", "bob")}
    assert again.refused(move(again, attempt_id="c-5", salt=2, **fresh)) == "already_paid"


def test_s15_words_past_their_time_are_no_first_signature(desk: VaultKit) -> None:
    desk.clock.now += 7 * DAY
    two = signed_by(desk, "alice", "bob")
    late = move(desk, amount=60_000_000, approvals=two)
    assert desk.refused(late) == "expired"


def test_s15_words_for_one_move_are_not_used_for_another_however_small(desk: VaultKit) -> None:
    two = signed_by(desk, "alice", "bob")
    assert desk.refused(move(desk, approvals=two)) == "needs_staff"


def test_s07_a_coin_of_a_signed_payout_never_moves_to_cold(desk: VaultKit) -> None:
    """That would abort the payout, which takes two people (CONTRACT 8)."""
    desk.signed(utxo_request(desk, salts=(1,)))
    assert desk.refused(move(desk, fee=9_000)) == "not_exclusive"
    told = move(desk, attempt_id="c-2", fee=9_000, replaces="a-1")
    assert desk.refused(told) == "already_paid"


def test_s07_a_replacement_moves_the_same_and_pays_more(desk: VaultKit) -> None:
    desk.signed(move(desk))
    cheap = move(desk, attempt_id="c-2", replaces="c-1")
    assert desk.refused(cheap) == "fee_not_higher"
    other = move(desk, attempt_id="c-3", amount=50_000_001, fee=5_000, replaces="c-1")
    assert desk.refused(other) == "already_paid"
    desk.signed(move(desk, attempt_id="c-4", fee=5_000, replaces="c-1"))
    unnamed = move(desk, attempt_id="c-5", fee=9_000)
    assert desk.refused(unnamed) == "not_exclusive"


def test_s08_a_nonce_of_a_payout_is_not_taken_and_a_stuck_move_is_replaced(desk: VaultKit) -> None:
    desk.signed(evm_request())
    assert desk.refused(coin_move(attempt_id="c-2")) == "nonce_used"
    desk.signed(coin_move(attempt_id="c-3", nonce=1))
    dearer = evm_payload(nonce=1, max_fee=60 * 10**9, priority=2 * 10**9)
    desk.signed(coin_move(attempt_id="c-4", payload=dearer, replaces="c-3"))
    assert desk.refused(coin_move(attempt_id="c-5", nonce=1)) == "nonce_used"
    assert desk.refused(coin_move(attempt_id="c-6", input_paths=(LANE,), nonce=0)) == "nonce_used"


def test_s10_no_other_call_moves_to_cold(desk: VaultKit) -> None:
    approve = evm_payload(
        to=bytes.fromhex(TOKEN[2:]),
        value=0,
        data=transfer_data(FOREIGN_EVM, 1, "095ea7b3"),
        gas=60_000,
    )
    assert desk.refused(coin_move(payload=approve)) == "forbidden_shape"
    nothing = replace(coin_move(attempt_id="c-2"), unsigned=evm_payload(value=0))
    assert desk.refused(nothing) == "forbidden_shape"


def test_s16_a_halted_signer_moves_nothing_to_cold(desk: VaultKit) -> None:
    desk.statement("halt", {}, people=("alice",))
    assert desk.refused(move(desk)) == "halted"


def test_a_shorter_wait_for_pins_is_for_test_networks_only(kit: VaultKit) -> None:
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8").replace("[signer]\n", "[signer]\npin_seconds = 0\n")
    path.write_text(text, "utf-8")
    assert load_settings(kit.folder, own_uid=0).pin_seconds == 0
    live = text.replace("test = true", "test = false").replace(
        "[networks.ltc]", "[networks.ltc]\n#"
    )
    live = live.replace('#\nfamily = "bitcoin"', 'family = "bitcoin"')
    path.write_text(live, "utf-8")
    with pytest.raises(ConfigurationError, match="pin_seconds"):
        load_settings(kit.folder, own_uid=0)
