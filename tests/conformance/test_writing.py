"""What every chain must do for us: quote fees, build, take signed bytes and answer for them."""

import dataclasses

import pytest
from eth_utils.crypto import keccak

from tests.conformance.conftest import ACCOUNT, UTXO
from tests.conformance.support import (
    account_plan,
    build_payment,
    coin_of,
    fund,
    is_utxo,
    native,
    to_key,
    unit,
)
from tests.support.worlds import Wallet, World
from watchers.chain import Pay, SendOutcome, TxPlace, UtxoPlan

pytestmark = pytest.mark.asyncio


async def test_fee_quote_is_sane(world: World) -> None:
    quote = await world.chain.writer.fee_quote()
    assert len(quote.rates) == 3
    rates = [quote.rates[target] for target in sorted(quote.rates)]
    assert rates == sorted(rates, reverse=True)
    assert quote.floor > 0
    assert min(rates) >= quote.floor
    assert (quote.base_fee == 0) == is_utxo(world)


async def test_same_plan_gives_same_bytes(world: World, wallet: Wallet) -> None:
    source = wallet.address(0)
    block = await fund(world, source, 10 * unit(world))
    payment = native(world, wallet.address(50), unit(world))
    if is_utxo(world):
        coin = coin_of(block, source)
        plan = UtxoPlan(coins=(coin,), payments=(payment,), change=None, change_minor=0)
        first, second = world.chain.writer.build(plan), world.chain.writer.build(plan)
        assert first.fee_minor == 9 * unit(world)
    else:
        account = await account_plan(world, source, payment)
        first, second = world.chain.writer.build(account), world.chain.writer.build(account)
        assert first.fee_minor == account.gas_limit * account.max_fee_per_gas
    assert first == second
    assert first.input_paths == (source.path,)
    assert first.payment_outputs == (0,)


async def test_signed_bytes_are_accepted_mined_and_evident(world: World, wallet: Wallet) -> None:
    """Build, sign, send, send again, mine, send again: one tx, found by its txid each time."""
    chain = world.chain
    target = wallet.address(60)
    unsigned = await build_payment(world, wallet, native(world, target, unit(world)))
    raw = wallet.sign(unsigned)
    assert (await chain.writer.send(raw)).outcome is SendOutcome.ACCEPTED
    assert (await chain.writer.send(raw)).outcome is SendOutcome.ACCEPTED
    [block_hash] = await world.mine()
    block = await chain.reader.block(block_hash)
    [transfer] = to_key(block, target.key)
    assert transfer.amount_minor == unit(world)
    again = await chain.writer.send(raw)
    assert again.outcome in (SendOutcome.ALREADY_MINED, SendOutcome.CONFLICT)
    assert (await chain.reader.tx_status(transfer.txid)).place is TxPlace.MINED
    if is_utxo(world):
        assert len(raw) <= unsigned.size_vb * 2
        assert [spend.txid for spend in block.spends].count(transfer.txid) == 1
        [change] = to_key(block, wallet.address(0, chain=1).key)
        assert change.position == f"out:{next(iter(unsigned.change_outputs))}"
    else:
        [send] = [item for item in block.sends if item.txid == transfer.txid]
        assert (send.sender_key, send.nonce) == (wallet.address(0).key, 0)
        assert send.is_success
        assert 0 < send.fee_minor <= unsigned.fee_minor
        assert send.transfers_out == ((world.native, target.key, unit(world)),)
        assert await chain.reader.account_nonce(send.sender_key) == 1


@pytest.mark.parametrize("world", UTXO, indirect=True)
async def test_d15_three_outputs_to_one_address_are_three_transfers(
    world: World, wallet: Wallet
) -> None:
    """One tx of an account chain pays once; its several logs are D44."""
    source, target = wallet.address(0), wallet.address(61)
    coin = coin_of(await fund(world, source, 10 * unit(world)), source)
    payments = tuple(native(world, target, (n + 1) * unit(world)) for n in range(3))
    change_minor = 4 * unit(world) - 20_000
    plan = UtxoPlan(
        coins=(coin,),
        payments=payments,
        change=wallet.address(0, chain=1),
        change_minor=change_minor,
    )
    unsigned = world.chain.writer.build(plan)
    assert unsigned.payment_outputs == (0, 1, 2)
    result = await world.chain.writer.send(wallet.sign(unsigned))
    assert result.outcome is SendOutcome.ACCEPTED
    [block_hash] = await world.mine()
    found = to_key(await world.chain.reader.block(block_hash), target.key)
    assert [item.amount_minor for item in found] == [n * unit(world) for n in (1, 2, 3)]
    assert [item.position for item in found] == ["out:0", "out:1", "out:2"]


@pytest.mark.parametrize("world", ACCOUNT, indirect=True)
async def test_token_payment_is_evident_from_its_log(world: World, wallet: Wallet) -> None:
    assert world.token is not None
    source, target = wallet.address(0), wallet.address(62)
    await fund(world, source, 100 * unit(world))
    await world.pay([Pay(asset=world.token, address=source.address, amount_minor=1000)])
    await world.mine()
    payment = Pay(asset=world.token, address=target.address, amount_minor=7)
    unsigned = world.chain.writer.build(await account_plan(world, source, payment))
    result = await world.chain.writer.send(wallet.sign(unsigned))
    assert result.outcome is SendOutcome.ACCEPTED
    [block_hash] = await world.mine()
    [send] = (await world.chain.reader.block(block_hash)).sends
    assert send.transfers_out == ((world.token, target.key, 7),)


@pytest.mark.parametrize("world", ACCOUNT, indirect=True)
async def test_token_payment_without_balance_is_mined_without_success(
    world: World, wallet: Wallet
) -> None:
    """D34: a reverted `transfer` moves nothing, whatever its calldata says."""
    assert world.token is not None
    source, target = wallet.address(0), wallet.address(63)
    await fund(world, source, 100 * unit(world))
    payment = Pay(asset=world.token, address=target.address, amount_minor=7)
    unsigned = world.chain.writer.build(await account_plan(world, source, payment))
    await world.chain.writer.send(wallet.sign(unsigned))
    [block_hash] = await world.mine()
    block = await world.chain.reader.block(block_hash)
    [send] = block.sends
    assert not send.is_success
    assert send.transfers_out == ()
    assert send.fee_minor > 0
    assert to_key(block, target.key) == []
    assert (await world.chain.reader.tx_status(send.txid)).is_success is False


async def test_p05_a_rival_of_our_tx_is_never_called_accepted(world: World, wallet: Wallet) -> None:
    """The same coin or nonce at the same fee: refused while ours waits, and once it is mined."""
    chain = world.chain
    source = wallet.address(0)
    block = await fund(world, source, 100 * unit(world))
    ours = native(world, wallet.address(70), unit(world))
    rival = native(world, wallet.address(71), unit(world))
    if is_utxo(world):
        coin = coin_of(block, source)
        change = wallet.address(0, chain=1)
        plan = UtxoPlan(
            coins=(coin,), payments=(ours,), change=change, change_minor=99 * unit(world) - 20_000
        )
        other = dataclasses.replace(plan, payments=(rival,))
        first, second = chain.writer.build(plan), chain.writer.build(other)
    else:
        account = await account_plan(world, source, ours)
        first = chain.writer.build(account)
        second = chain.writer.build(dataclasses.replace(account, payment=rival))
    refused = (SendOutcome.CONFLICT, SendOutcome.FEE_TOO_LOW)
    assert (await chain.writer.send(wallet.sign(first))).outcome is SendOutcome.ACCEPTED
    assert (await chain.writer.send(wallet.sign(second))).outcome in refused
    if is_utxo(world):
        spender = await chain.reader.spender(coin.outpoint)
        assert spender is not None
        assert (await chain.reader.tx_status(spender)).place is TxPlace.MEMPOOL
    await world.mine()
    assert (await chain.writer.send(wallet.sign(second))).outcome is SendOutcome.CONFLICT


async def test_p05_spent_outputs_of_our_mined_tx_are_a_conflict_to_resolve(
    world: World, wallet: Wallet
) -> None:
    """-25 once all outputs are spent: the txid is still found, so nobody pays again."""
    chain = world.chain
    unsigned = await build_payment(world, wallet, native(world, wallet.address(1), unit(world)))
    raw = wallet.sign(unsigned)
    await chain.writer.send(raw)
    [block_hash] = await world.mine()
    block = await chain.reader.block(block_hash)
    [transfer] = to_key(block, wallet.address(1).key)
    if is_utxo(world):
        change, paid = wallet.address(0, chain=1), wallet.address(1)
        coins = (coin_of(block, change), coin_of(block, paid))
        total = sum(coin.amount_minor for coin in coins)
        back = native(world, wallet.address(2), total - 20_000)
        plan = UtxoPlan(coins=coins, payments=(back,), change=None, change_minor=0)
        spend = wallet.sign(chain.writer.build(plan))
        assert (await chain.writer.send(spend)).outcome is SendOutcome.ACCEPTED
        await world.mine()
    assert (await chain.writer.send(raw)).outcome is SendOutcome.CONFLICT
    assert (await chain.reader.tx_status(transfer.txid)).place is TxPlace.MINED


async def test_bytes_that_are_no_tx_are_invalid(world: World) -> None:
    result = await world.chain.writer.send(b"\x02\x00\x01")
    assert result.outcome is SendOutcome.INVALID


@pytest.mark.parametrize("world", ACCOUNT, indirect=True)
async def test_many_txs_are_sent_and_found_together(world: World, wallet: Wallet) -> None:
    """Two numbers of an account, and a rival of the first that pays too little to replace it."""
    chain, source = world.chain, wallet.address(0)
    await fund(world, source, 10 * unit(world))
    plan = await account_plan(world, source, native(world, wallet.address(63), unit(world)))
    second = dataclasses.replace(plan, nonce=plan.nonce + 1)
    rival = dataclasses.replace(plan, payment=native(world, wallet.address(64), unit(world)))
    raws = [wallet.sign(chain.writer.build(item)) for item in (plan, second, rival)]
    results = await chain.writer.send_many(raws)
    assert [result.outcome for result in results] == [
        SendOutcome.ACCEPTED,
        SendOutcome.ACCEPTED,
        SendOutcome.FEE_TOO_LOW,
    ]
    txids = ["0x" + keccak(raw).hex() for raw in raws]
    places = [status.place for status in await chain.reader.tx_statuses(txids)]
    assert places == [TxPlace.MEMPOOL, TxPlace.MEMPOOL, TxPlace.UNKNOWN]
    [block_hash] = await world.mine()
    found = await chain.reader.tx_statuses(txids)
    assert [status.place for status in found] == [TxPlace.MINED, TxPlace.MINED, TxPlace.UNKNOWN]
    assert [status.block and status.block.hash for status in found[:2]] == [block_hash] * 2
    assert [status.is_success for status in found[:2]] == [True, True]
    assert found == [await chain.reader.tx_status(txid) for txid in txids]
