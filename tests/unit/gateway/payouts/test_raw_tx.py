"""What an unsigned tx spends and keeps, read from its own bytes."""

import pytest
import rlp  # type: ignore[import-untyped]

from gateway.payouts.raw_tx import UnreadableTx, account_amount, account_nonce, utxo_parts
from tests.support.sign_requests import (
    FOREIGN_SCRIPT,
    evm_payload,
    previous_tx,
    psbt_of,
    transfer_data,
)
from tests.support.vault import FOREIGN_EVM


def test_utxo_parts_are_those_of_the_library_that_made_the_psbt() -> None:
    coins = [previous_tx(FOREIGN_SCRIPT, 1_000, salt) for salt in range(3)]
    psbt = psbt_of(coins, [(FOREIGN_SCRIPT, 700), (FOREIGN_SCRIPT + b"\x00" * 300, 2**40)])
    parts = utxo_parts(psbt.serialize())
    assert [(item.txid, item.vout) for item in parts.inputs] == [
        (bytes(coin.txid()).hex(), 1) for coin in coins
    ]
    assert parts.amounts == (700, 2**40)


@pytest.mark.parametrize("nonce", [0, 1, 127, 128, 255, 256, 2**40])
@pytest.mark.parametrize("chain_id", [1, 31337])
def test_account_nonce_is_read_at_every_width(nonce: int, chain_id: int) -> None:
    assert account_nonce(evm_payload(nonce=nonce, chain_id=chain_id)) == nonce


@pytest.mark.parametrize("amount", [1, 127, 128, 10**18, 2**200])
def test_account_amount_is_the_value_or_the_calls_last_argument(amount: int) -> None:
    assert account_amount(evm_payload(value=amount)) == amount
    data = transfer_data(FOREIGN_EVM, amount)
    assert account_amount(evm_payload(value=0, data=data)) == amount


def test_every_cut_is_unreadable_and_never_another_answer() -> None:
    coin = previous_tx(FOREIGN_SCRIPT, 1_000)
    whole = psbt_of([coin], [(FOREIGN_SCRIPT, 700)]).serialize()
    size = 5 + 3 + whole[7]  # magic, key, length, the unsigned tx
    for end in range(size):
        with pytest.raises(UnreadableTx):
            utxo_parts(whole[:end])
    payload = evm_payload()
    for end in range(len(payload)):
        with pytest.raises(UnreadableTx):
            account_nonce(payload[:end])
        with pytest.raises(UnreadableTx):
            account_amount(payload[:end])


@pytest.mark.parametrize(
    "payload", [b"\x02" + rlp.encode([[], b"\x01"]), b"\x02" + rlp.encode([b"\x01"]), b"\x02\x01"]
)
def test_another_list_is_unreadable(payload: bytes) -> None:
    with pytest.raises(UnreadableTx):
        account_nonce(payload)
