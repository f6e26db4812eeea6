"""Between hot and warm: two people sign each move, and warm coins leave by nothing else."""

from dataclasses import replace
from typing import Any

import pytest

from signer.errors import Refused
from signer.paths import Role, parse_path
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
    transfer_data,
    utxo_request,
)
from tests.support.vault import FOREIGN_EVM, TOKEN, VaultKit, open_kit

REBALANCE = "reb_test_1"
WARM = "m/84h/1h/0h/5/0"
WARM_LANE = "m/44h/60h/0h/5/0"
COIN = 100_000_000
DAY = 86_400
CAPS = 'warm_tx_max_minor = "{0}"\nwarm_day_max_minor = "{1}"\n'
UNTIL = "2023-11-20T00:00:00Z"
TO_WARM, TO_HOT = Purpose.HOT_TO_WARM, Purpose.WARM_TO_HOT


@pytest.fixture
def desk(kit: VaultKit) -> VaultKit:
    """0.7 of a coin (70 USDT) at once, 1.1 a day, in each direction."""
    kit.store.close()
    path = kit.folder / "signer.toml"
    text = path.read_text("utf-8")
    for asset, unit in (("BTC", 10**8), ("USDT", 10**8), ("ETH", 10**18)):
        caps = CAPS.format(7 * unit // 10, 11 * unit // 10)
        text = text.replace(f"assets.{asset}]\n", f"assets.{asset}]\n{caps}")
    path.write_text(text, "utf-8")
    return open_kit(kit.folder, kit.clock)


def signed_by(
    desk: VaultKit, *people: str, purpose: Purpose = TO_HOT, **changes: Any
) -> tuple[Authorisation, ...]:
    """Their requests to the API, to move 0.5 BTC; `purpose`: in which direction."""
    target = HOT if purpose is TO_HOT else WARM
    words = {
        "rebalance_id": REBALANCE,
        "direction": purpose.value,
        "network": "btc",
        "asset": "btc:BTC",
        "address": desk.address("btc", target),
        "amount": "0.5",
        "valid_until": UNTIL,
        **changes,
    }
    return tuple(
        approval(
            person,
            words,
            action="approve",
            withdrawal=words["rebalance_id"],
            target="/v1/rebalances/{}/approve",
            created=desk.clock.now,
        )
        for person in people
    )


def move(
    desk: VaultKit,
    *,
    purpose: Purpose = TO_HOT,
    attempt_id: str = "w-1",
    salt: int = 1,
    amount: int = COIN // 2,
    fee: int = 1_000,
    approvals: tuple[Authorisation, ...] | None = None,
    **changes: Any,
) -> SignRequest:
    """0.5 BTC of a coin of 1 BTC to the other wallet, the rest back."""
    is_back = purpose is TO_HOT
    source, target, change = (WARM, HOT, WARM) if is_back else (HOT, WARM, CHANGE)
    coin = previous_tx(desk.script(source), COIN, salt)
    outputs = [(desk.script(target), amount), (desk.script(change), COIN - amount - fee)]
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "purpose": purpose,
        "unsigned": psbt_of([coin], outputs).serialize(),
        "input_paths": (source,),
        "change_paths": {1: change},
        "payments": (),
        "own_path": target,
        "approvals": (
            signed_by(desk, "alice", "bob", purpose=purpose) if approvals is None else approvals
        ),
    }
    return utxo_request(desk, **{**fields, **changes})


def account_move(
    desk: VaultKit, *, purpose: Purpose = TO_HOT, is_token: bool = False, **changes: Any
) -> SignRequest:
    """0.5 ETH, or 50 USDT, of one account to the other."""
    source, target = (WARM_LANE, LANE) if purpose is TO_HOT else (LANE, WARM_LANE)
    to = desk.address("eth", target)
    payload = evm_payload(to=bytes.fromhex(to[2:]))
    asset, amount = "eth:ETH", "0.5"
    if is_token:
        data = transfer_data(to, 50_000_000)
        payload = evm_payload(to=bytes.fromhex(TOKEN[2:]), value=0, data=data, gas=60_000)
        asset, amount = "eth:USDT", "50"
    people = signed_by(
        desk, "alice", "bob", purpose=purpose, network="eth", asset=asset, address=to,
        amount=amount,
    )  # fmt: skip
    fields: dict[str, Any] = {
        "attempt_id": "w-1",
        "purpose": purpose,
        "payload": payload,
        "input_paths": (source,),
        "payments": (),
        "own_path": target,
        "approvals": people,
    }
    return evm_request(**{**fields, **changes})


@pytest.mark.parametrize("purpose", [TO_WARM, TO_HOT])
def test_s15_two_people_move_coins_of_every_kind_and_a_repeated_question_is_answered_alike(
    desk: VaultKit, purpose: Purpose
) -> None:
    made = desk.signed(move(desk, purpose=purpose))
    assert desk.signed(move(desk, purpose=purpose)) == made
    other = {"rebalance_id": "reb_test_2"}
    words = signed_by(
        desk, "alice", "bob", purpose=purpose, network="eth", asset="eth:ETH", amount="0.5",
        address=desk.address("eth", LANE if purpose is TO_HOT else WARM_LANE), **other,
    )  # fmt: skip
    desk.signed(account_move(desk, purpose=purpose, attempt_id="w-2", approvals=words))


@pytest.mark.parametrize("purpose", [TO_WARM, TO_HOT])
def test_s15_tokens_move_too(desk: VaultKit, purpose: Purpose) -> None:
    desk.signed(account_move(desk, purpose=purpose, is_token=True))


@pytest.mark.parametrize("people", [(), ("alice",), ("alice", "alice")])
@pytest.mark.parametrize("purpose", [TO_WARM, TO_HOT])
def test_s15_fewer_than_two_people_move_nothing_however_small(
    desk: VaultKit, purpose: Purpose, people: tuple[str, ...]
) -> None:
    words = signed_by(desk, *people, purpose=purpose, amount="0.00001")
    small = move(desk, purpose=purpose, amount=1_000, approvals=words)
    assert desk.refused(small) == "needs_staff"
    coin = account_move(desk, purpose=purpose, attempt_id="w-2", approvals=words)
    assert desk.refused(coin) == "needs_staff"


@pytest.mark.parametrize(
    "change",
    [
        {"direction": "hot_to_warm"},
        {"direction": "hot_to_cold"},
        {"direction": "cold_to_hot"},
        {"amount": "0.51"},
        {"asset": "ltc:LTC"},
        {"network": "ltc"},
        {"valid_until": "2023-11-21T00:00:00Z"},
        {"rebalance_id": "reb_test_2"},
        {"extra": "1"},
    ],
)
def test_s15_words_of_another_move_are_no_words_for_this_one(
    desk: VaultKit, change: dict[str, Any]
) -> None:
    mixed = (*signed_by(desk, "alice"), *signed_by(desk, "bob", **change))
    assert desk.refused(move(desk, approvals=mixed)) == "needs_staff"
    both = signed_by(desk, "alice", "bob", direction="hot_to_warm")
    assert desk.refused(move(desk, attempt_id="w-2", approvals=both)) == "needs_staff"


def test_s15_what_two_people_signed_is_carried_out_once_for_ever(desk: VaultKit) -> None:
    desk.signed(move(desk))
    assert desk.refused(move(desk, attempt_id="w-2", salt=2)) == "already_paid"
    beside = move(desk, attempt_id="w-3", salt=2, fee=5_000, replaces="w-1")
    assert desk.refused(beside) == "not_exclusive"
    unsaid = move(desk, attempt_id="w-4", fee=5_000, replaces="w-1", approvals=())
    assert desk.refused(unsaid) == "needs_staff"  # each signature takes two
    desk.signed(move(desk, attempt_id="w-5", fee=5_000, replaces="w-1"))


def test_s15_words_past_their_time_are_no_first_signature(desk: VaultKit) -> None:
    desk.clock.now += 7 * DAY
    assert desk.refused(move(desk)) == "expired"


@pytest.mark.parametrize("target", [CHANGE, "m/84h/1h/1h/0/7", WARM, "m/84h/1h/0h/0/64"])
def test_s06_warm_coins_go_to_the_hot_wallet_and_nowhere_else(desk: VaultKit, target: str) -> None:
    coin = previous_tx(desk.script(WARM), COIN, 1)
    outputs = [(desk.script(target), COIN // 2), (desk.script(WARM), COIN // 2 - 1_000)]
    words = signed_by(desk, "alice", "bob", address=desk.address("btc", target))
    astray: dict[str, Any] = {"unsigned": psbt_of([coin], outputs).serialize(), "approvals": words}
    assert desk.refused(move(desk, own_path=target, **astray)) == "bad_path"
    assert desk.refused(move(desk, attempt_id="w-2", **astray)) == "foreign_output"


def test_s06_an_address_of_somebody_is_paid_by_no_such_move(desk: VaultKit) -> None:
    coin = previous_tx(desk.script(WARM), COIN, 1)
    outputs = [(FOREIGN_SCRIPT, COIN // 2), (desk.script(WARM), COIN // 2 - 1_000)]
    foreign = psbt_of([coin], outputs).serialize()
    assert desk.refused(move(desk, unsigned=foreign)) == "foreign_output"
    both = psbt_of([coin], [*outputs[:1], (desk.script(HOT), COIN // 2 - 1_000)]).serialize()
    told = move(desk, attempt_id="w-2", unsigned=both, change_paths={})
    assert desk.refused(told) == "forbidden_shape"
    payload = evm_payload(to=bytes.fromhex(FOREIGN_EVM[2:]))
    astray = account_move(desk, attempt_id="w-4", payload=payload)
    assert desk.refused(astray) == "foreign_output"
    assert desk.refused(move(desk, attempt_id="w-3", own_path=None)) == "bad_request"


def test_s06_change_stays_in_its_wallet_and_wallets_are_not_mixed(desk: VaultKit) -> None:
    coins = [previous_tx(desk.script(path), COIN, salt) for salt, path in enumerate((WARM, HOT))]
    outputs = [(desk.script(HOT), COIN // 2), (desk.script(CHANGE), COIN // 2 - 1_000)]
    away = psbt_of(coins[:1], outputs).serialize()
    assert desk.refused(move(desk, unsigned=away, change_paths={1: CHANGE})) == "foreign_output"
    outputs = [(desk.script(HOT), COIN // 2), (desk.script(WARM), 3 * COIN // 2 - 1_000)]
    mixed = psbt_of(coins, outputs).serialize()
    for purpose, paths in ((TO_HOT, (WARM, HOT)), (TO_WARM, (WARM, HOT))):
        odd = move(
            desk,
            purpose=purpose,
            attempt_id=f"m-{purpose.value}",
            unsigned=mixed,
            input_paths=paths,
            change_paths={1: WARM},
        )
        assert desk.refused(odd) == "bad_path"
    lane = account_move(desk, attempt_id="w-2", input_paths=("m/44h/60h/0h/1/0",))
    assert desk.refused(lane) == "bad_path"


@pytest.mark.parametrize(
    "purpose", [item for item in Purpose if item not in (TO_WARM, TO_HOT)], ids=str
)
def test_s22_no_other_purpose_spends_what_the_warm_wallet_holds(
    desk: VaultKit, purpose: Purpose
) -> None:
    """Not even with the words of two people."""
    coin = replace(move(desk), purpose=purpose, own_path=None)
    payments = (payment(),) if purpose in (Purpose.WITHDRAWAL, Purpose.REISSUE) else ()
    assert desk.refused(replace(coin, payments=payments)) in ("bad_path", "forbidden_shape")
    account = replace(account_move(desk, attempt_id="w-2"), purpose=purpose, own_path=None)
    assert desk.refused(account) in ("bad_path", "forbidden_shape")


def test_s05_moves_have_caps_of_their_own_by_direction_and_none_without_them(
    kit: VaultKit, desk: VaultKit
) -> None:
    over = signed_by(desk, "alice", "bob", amount="0.71")
    big = move(desk, amount=71_000_000, approvals=over)
    assert desk.refused(big) == "cap_exceeded"
    for number in (1, 2, 3):
        words = signed_by(desk, "alice", "bob", rebalance_id=f"reb_test_{number}")
        asked = move(desk, attempt_id=f"c-{number}", salt=number, approvals=words)
        if number < 3:
            desk.signed(asked)
        else:
            assert desk.refused(asked) == "cap_window"
    desk.signed(move(desk, purpose=TO_WARM, attempt_id="c-4", salt=4, approvals=signed_by(
        desk, "alice", "bob", purpose=TO_WARM, rebalance_id="reb_test_4"
    )))  # fmt: skip


def test_s05_without_caps_nothing_moves(kit: VaultKit) -> None:
    assert kit.refused(move(kit)) == "cap_exceeded"
    assert kit.refused(move(kit, purpose=TO_WARM, attempt_id="w-2")) == "cap_exceeded"


def test_s16_a_halted_signer_moves_nothing(desk: VaultKit) -> None:
    desk.statement("halt", {}, people=("alice",))
    assert desk.refused(move(desk)) == "halted"


def test_the_warm_branch_is_the_operators(kit: VaultKit) -> None:
    network = kit.settings.networks["btc"]
    assert parse_path(WARM, network).role is Role.WARM
    assert parse_path(WARM_LANE, kit.settings.networks["eth"]).role is Role.WARM
    for other in ("m/84h/1h/1h/5/0", "m/84h/1h/0h/2/0", "m/84h/1h/0h/4/0", "m/84h/1h/0h/6/0"):
        with pytest.raises(Refused):
            parse_path(other, network)
