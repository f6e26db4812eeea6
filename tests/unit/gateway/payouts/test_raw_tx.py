"""What an unsigned tx spends and keeps, read from its own bytes."""

import pytest
import rlp  # type: ignore[import-untyped]

from gateway.payouts.raw_tx import (
    UnreadableTx,
    account_nonce,
    account_pays,
    authorised_nonces,
    collect_takes,
    utxo_parts,
)
from tests.support.collect_requests import given, payload
from tests.support.sign_requests import (
    FOREIGN_SCRIPT,
    evm_payload,
    previous_tx,
    psbt_of,
    transfer_data,
)
from tests.support.vault import BATCH_CONTRACT, COLLECTOR, FOREIGN_EVM, TOKEN
from watchers.chains.evm.batch_data import pay_data
from watchers.chains.evm.collect import collect_data


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


COLLECT_LEGS = [bytes([number]) * 20 + (number + 1).to_bytes(12, "big") for number in range(3)]


@pytest.mark.parametrize("authorisations", [None, [given(7)]])
def test_a_collect_takes_what_its_legs_say(authorisations: list[list[bytes]] | None) -> None:
    unsigned = payload(COLLECT_LEGS, authorisations, nonce=300)
    takes = collect_takes(unsigned, collector=COLLECTOR)
    assert (takes.token, takes.batch_id) == (TOKEN.lower(), None)
    assert takes.legs == tuple(("0x" + f"{n:02x}" * 20, n + 1) for n in range(3))
    assert account_nonce(unsigned) == 300


def test_the_numbers_at_which_accounts_delegate_are_read_in_order() -> None:
    numbers = (0, 1, 127, 128, 2**40)
    unsigned = payload(COLLECT_LEGS, [given(number) for number in numbers])
    assert authorised_nonces(unsigned) == numbers
    assert authorised_nonces(payload(COLLECT_LEGS)) == ()
    for cut in range(1, len(unsigned), 5):
        with pytest.raises(UnreadableTx):
            authorised_nonces(unsigned[:cut])


def test_another_call_is_no_collect() -> None:
    whole = payload(COLLECT_LEGS)
    data = collect_data(TOKEN, [(KEY, 1)])
    cases = [
        (whole, None),
        (whole, KEY),
        (payload(COLLECT_LEGS, value=1), COLLECTOR),
        (payload([]), COLLECTOR),
        (payload([], data=b""), COLLECTOR),
        (payload([], data=data + bytes(32)), COLLECTOR),
        (payload([], data=data[:4] + b"\x01" + data[5:]), COLLECTOR),
        (b"\x01" + whole[1:], COLLECTOR),
        (whole[:-40], COLLECTOR),
    ]
    for unsigned, collector in cases:
        with pytest.raises(UnreadableTx):
            collect_takes(unsigned, collector=collector)
    assert collect_takes(payload([], data=data), collector=COLLECTOR).legs == ((KEY, 1),)


KEY = FOREIGN_EVM.lower()
CONTRACT = BATCH_CONTRACT.lower()


def called(to: str, value: int, data: bytes = b"") -> bytes:
    return evm_payload(to=bytes.fromhex(to[2:]), value=value, data=data)


@pytest.mark.parametrize("amount", [1, 127, 128, 10**18, 2**200])
def test_account_pays_the_value_or_the_arguments_of_a_transfer(amount: int) -> None:
    coin = account_pays(called(KEY, amount), batch_contract=CONTRACT)
    assert (coin.legs, coin.token, coin.batch_id) == (((KEY, amount),), None, None)
    call = called(TOKEN, 0, transfer_data(FOREIGN_EVM, amount))
    token = account_pays(call, batch_contract=CONTRACT)
    assert (token.legs, token.token, token.batch_id) == (((KEY, amount),), TOKEN.lower(), None)


@pytest.mark.parametrize("token", [None, TOKEN.lower()])
def test_account_pays_each_leg_of_the_pinned_contract(token: str | None) -> None:
    legs = [(KEY, 5), (CONTRACT, 2**96 - 1)]
    data = pay_data(b"\x07" * 32, token, legs)
    found = account_pays(called(CONTRACT, 0, data), batch_contract=CONTRACT)
    assert (found.legs, found.token, found.batch_id) == (tuple(legs), token, b"\x07" * 32)


BATCH = pay_data(b"\x07" * 32, None, [(KEY, 5), (KEY, 6)])


@pytest.mark.parametrize(
    ("to", "value", "data"),
    [
        (TOKEN, 0, BATCH),  # a contract that is not ours
        (CONTRACT, 0, b""),
        (CONTRACT, 1, BATCH),
        (CONTRACT, 0, BATCH[:-32]),
        (CONTRACT, 0, BATCH[:-1]),
        (CONTRACT, 0, BATCH + b"\x00" * 32),
        (CONTRACT, 0, transfer_data(FOREIGN_EVM, 5)),
        (TOKEN, 1, transfer_data(FOREIGN_EVM, 5)),
        (TOKEN, 0, transfer_data(FOREIGN_EVM, 5) + b"\x00" * 32),
    ],
)
def test_account_pays_nothing_by_any_other_call(to: str, value: int, data: bytes) -> None:
    with pytest.raises(UnreadableTx):
        account_pays(called(to, value, data), batch_contract=CONTRACT)


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
            account_pays(payload[:end], batch_contract=None)


@pytest.mark.parametrize(
    "payload", [b"\x02" + rlp.encode([[], b"\x01"]), b"\x02" + rlp.encode([b"\x01"]), b"\x02\x01"]
)
def test_another_list_is_unreadable(payload: bytes) -> None:
    with pytest.raises(UnreadableTx):
        account_nonce(payload)
