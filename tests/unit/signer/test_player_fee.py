"""`fee_mode: player`: the output lies in [amount - max_fee, amount], and stays what it was."""

from typing import Any

import pytest

from signer.protocol import SignRequest
from tests.support.sign_requests import (
    CHANGE,
    FOREIGN_SCRIPT,
    HOT,
    evm_payload,
    evm_request,
    payment,
    previous_tx,
    psbt_of,
    transfer_data,
    utxo_request,
)
from tests.support.vault import FOREIGN_EVM, VaultKit

PLAYER: dict[str, Any] = {"fee_mode": "player", "max_fee": "0.1"}
COIN = 100_000_000


def utxo(kit: VaultKit, output: int, **changes: Any) -> SignRequest:
    """Pays `output` satoshi on an order of 0.5 BTC; the rest is change but the fee."""
    fee, fields = changes.pop("fee", 1_000), changes.pop("order", PLAYER)
    script = kit.script(HOT)
    psbt = psbt_of(
        [previous_tx(script, COIN, 1)],
        [(FOREIGN_SCRIPT, output), (kit.script(CHANGE), COIN - output - fee)],
    )
    return utxo_request(kit, unsigned=psbt.serialize(), payments=(payment(**fields),), **changes)


@pytest.mark.parametrize("output", [40_000_000, 40_000_001, 49_990_000, 50_000_000])
def test_output_within_the_players_maximum_is_signed(kit: VaultKit, output: int) -> None:
    kit.signed(utxo(kit, output))


@pytest.mark.parametrize("output", [39_999_999, 50_000_001, 1])
def test_s01_output_off_the_players_maximum_is_refused(kit: VaultKit, output: int) -> None:
    assert kit.refused(utxo(kit, output)) == "payment_mismatch"


@pytest.mark.parametrize("order", [{}, {"max_fee": "0.1"}])
def test_s01_brand_pays_exactly_the_amount_whatever_max_fee_says(
    kit: VaultKit, order: dict[str, Any]
) -> None:
    assert kit.refused(utxo(kit, 49_999_999, order=order)) == "payment_mismatch"
    kit.signed(utxo(kit, 50_000_000, order=order, attempt_id="a-2"))


@pytest.mark.parametrize(
    "order",
    [
        {"fee_mode": "player"},
        {"fee_mode": "player", "max_fee": 1},
        {"fee_mode": "player", "max_fee": "-0.1"},
        {"fee_mode": "player", "max_fee": "0.000000001"},
        {"fee_mode": "player", "max_fee": "0.5"},
        {"fee_mode": "player", "max_fee": "0.6"},
        {"fee_mode": "both", "max_fee": "0.1"},
    ],
)
def test_s20_fee_fields_off_the_strict_form_are_refused(
    kit: VaultKit, order: dict[str, Any]
) -> None:
    """A maximum that leaves nothing for the player is none."""
    assert kit.refused(utxo(kit, 40_000_000, order=order)) == "bad_order"


def test_s08_replacement_may_not_change_what_the_player_receives(kit: VaultKit) -> None:
    """A bump is the house's cost: within the maximum, but another output than was signed."""
    kit.signed(utxo(kit, 49_000_000))
    lower = utxo(kit, 48_000_000, attempt_id="a-2", replaces="a-1", fee=2_000)
    assert kit.refused(lower) == "already_paid"
    kit.signed(utxo(kit, 49_000_000, attempt_id="a-3", replaces="a-1", fee=2_000))


@pytest.mark.parametrize(
    ("value", "code"), [(4 * 10**17, None), (4 * 10**17 - 1, "payment_mismatch")]
)
def test_s01_native_transfer_keeps_the_players_maximum(
    kit: VaultKit, value: int, code: str | None
) -> None:
    item = payment(asset="eth:ETH", address=FOREIGN_EVM, **PLAYER)
    request = evm_request(payload=evm_payload(value=value), payments=(item,))
    if code is None:
        kit.signed(request)
    else:
        assert kit.refused(request) == code


@pytest.mark.parametrize(
    ("amount", "code"),
    [(400_000, None), (399_999, "payment_mismatch"), (500_001, "payment_mismatch")],
)
def test_s01_token_transfer_keeps_the_players_maximum(
    kit: VaultKit, amount: int, code: str | None
) -> None:
    data = transfer_data(FOREIGN_EVM, amount)
    token = kit.settings.networks["eth"].assets["eth:USDT"].contract
    payload = evm_payload(to=token, value=0, gas=90_000, data=data)
    item = payment(asset="eth:USDT", address=FOREIGN_EVM, **PLAYER)
    request = evm_request(payload=payload, payments=(item,))
    if code is None:
        kit.signed(request)
    else:
        assert kit.refused(request) == code
