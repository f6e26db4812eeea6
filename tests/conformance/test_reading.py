"""What every chain must say truly: headers, blocks, mempool, status, reorgs, holdings."""

import pytest

from tests.conformance.conftest import ACCOUNT, REAL_BACKENDS, SIM_BACKENDS
from tests.conformance.support import coin_of, fund, is_utxo, native, to_key, unit
from tests.support.worlds import Wallet, World
from watchers.chain import Outpoint, Pay, TxPlace
from watchers.errors import NodeUnavailable, TipMoved, UnsupportedOperation
from watchers.registry import FACTORIES

pytestmark = pytest.mark.asyncio


async def test_every_chain_is_covered() -> None:
    """Registry minus tested must be empty, on a real program and on a simulated one."""
    families = {family.value for family in FACTORIES}
    assert families - set(REAL_BACKENDS.values()) == set()
    assert families - set(SIM_BACKENDS.values()) == set()


async def test_identity_of_the_right_node_is_accepted(world: World) -> None:
    await world.chain.reader.check_identity()


async def test_headers_agree_by_height_and_by_hash(world: World) -> None:
    await world.mine(3)
    reader = world.chain.reader
    tip = await reader.tip()
    assert await reader.ref_at(tip.height) == tip
    assert await reader.ref_of(tip.hash) == tip
    parent = await reader.ref_of(tip.parent_hash)
    assert parent is not None
    assert parent.height == tip.height - 1
    assert await reader.ref_at(tip.height + 1) is None


async def test_unknown_hash_has_no_header_and_no_block(world: World) -> None:
    """N11: a block that the node cannot give is never an empty one."""
    reader = world.chain.reader
    unknown = (await reader.tip()).hash[:-4] + "dead"
    assert await reader.ref_of(unknown) is None
    with pytest.raises(NodeUnavailable):
        await reader.block(unknown)


async def test_genesis_has_a_header(world: World) -> None:
    genesis = await world.chain.reader.ref_at(0)
    assert genesis is not None
    assert genesis.height == 0


async def test_block_holds_exactly_what_was_paid(world: World, wallet: Wallet) -> None:
    target = wallet.address(7)
    block = await fund(world, target, unit(world))
    [transfer] = to_key(block, target.key)
    assert transfer.asset == world.native
    assert transfer.amount_minor == unit(world)
    assert not transfer.is_coinbase
    assert transfer.txid in block.txids
    assert len(set(block.txids)) == len(block.txids)


async def test_d16_three_receivers_are_three_transfers(world: World, wallet: Wallet) -> None:
    targets = [wallet.address(index) for index in range(3)]
    txids = await world.pay(
        [native(world, target, (n + 1) * unit(world)) for n, target in enumerate(targets)]
    )
    [block_hash] = await world.mine()
    block = await world.chain.reader.block(block_hash)
    found = [to_key(block, target.key) for target in targets]
    assert [[item.amount_minor for item in items] for items in found] == [
        [unit(world)],
        [2 * unit(world)],
        [3 * unit(world)],
    ]
    assert {items[0].txid for items in found} == set(txids)
    assert len({(items[0].txid, items[0].position) for items in found}) == 3


@pytest.mark.parametrize("world", ACCOUNT, indirect=True)
async def test_token_transfer_is_its_own_asset(world: World, wallet: Wallet) -> None:
    assert world.token is not None
    target = wallet.address(3)
    [txid] = await world.pay([Pay(asset=world.token, address=target.address, amount_minor=5)])
    [block_hash] = await world.mine()
    [transfer] = to_key(await world.chain.reader.block(block_hash), target.key)
    assert (transfer.txid, transfer.asset, transfer.amount_minor) == (txid, world.token, 5)
    assert transfer.position == "log:0"


async def test_mempool_reports_a_tx_once_until_it_leaves(world: World, wallet: Wallet) -> None:
    reader = world.chain.reader
    target = wallet.address(1)
    [txid] = await world.pay([native(world, target, unit(world))])
    first = {tx.txid: tx for tx in await reader.mempool()}
    assert [item.amount_minor for item in first[txid].transfers if item.to_key == target.key] == [
        unit(world)
    ]
    assert txid not in {tx.txid for tx in await reader.mempool()}
    await world.mine()
    assert txid not in {tx.txid for tx in await reader.mempool()}
    await world.lose(1)
    assert txid in {tx.txid for tx in await reader.mempool()}


async def test_status_follows_a_tx_through_mempool_block_and_reorg(
    world: World, wallet: Wallet
) -> None:
    reader = world.chain.reader
    [txid] = await world.pay([native(world, wallet.address(2), unit(world))])
    assert (await reader.tx_status(txid)).place is TxPlace.MEMPOOL
    [block_hash] = await world.mine()
    mined = await reader.tx_status(txid)
    assert mined.place is TxPlace.MINED
    assert mined.block is not None
    assert mined.block.hash == block_hash
    assert mined.is_success is True
    await world.lose(1)
    assert (await reader.tx_status(txid)).place is TxPlace.MEMPOOL
    unknown = txid[:-4] + "dead"
    assert (await reader.tx_status(unknown)).place is TxPlace.UNKNOWN


async def test_d02_reorg_is_seen_by_hash_and_walked_by_parent(world: World, wallet: Wallet) -> None:
    """A lost block stays readable by hash or is unknown; it never turns into another one."""
    reader = world.chain.reader
    await world.mine(2)
    fork = await reader.tip()
    target = wallet.address(4)
    [txid] = await world.pay([native(world, target, unit(world))])
    lost_hash, *_ = await world.mine(2)
    lost = await reader.ref_of(lost_hash)
    await world.lose(2)

    at_height = await reader.ref_at(fork.height + 1)
    assert at_height is not None
    assert at_height.hash != lost_hash
    assert await reader.ref_of(lost_hash) in (lost, None)
    step = await reader.tip()
    while step.height > fork.height:
        parent = await reader.ref_of(step.parent_hash)
        assert parent is not None
        step = parent
    assert step == fork

    [again] = await world.mine()
    [transfer] = to_key(await reader.block(again), target.key)
    assert transfer.txid == txid


async def test_finality_is_never_above_the_tip(world: World) -> None:
    await world.mine(4)
    height = await world.chain.reader.finalised_height()
    if is_utxo(world):
        assert height is None
    else:
        assert height is not None
        assert 0 < height < (await world.chain.reader.tip()).height


async def test_what_is_held_at_a_block_is_read_at_its_hash(world: World, wallet: Wallet) -> None:
    reader = world.chain.reader
    target = wallet.address(5)
    block = await fund(world, target, unit(world))
    before = block.ref.hash
    if is_utxo(world):
        outpoint = coin_of(block, target).outpoint
        absent = Outpoint(txid=outpoint.txid, vout=99)
        assert await reader.open_coins([outpoint, absent], block_hash=before) == {
            outpoint: unit(world)
        }
        await world.mine()
        with pytest.raises(TipMoved):
            await reader.open_coins([outpoint], block_hash=before)
        return
    await fund(world, target, unit(world))
    stranger = wallet.address(999).key
    held = await reader.holdings([target.key, stranger], world.native, block_hash=before)
    assert held == {target.key: unit(world), stranger: 0}
    tip = (await reader.tip()).hash
    held = await reader.holdings([target.key], world.native, block_hash=tip)
    assert held == {target.key: 2 * unit(world)}
    assert world.token is not None
    assert await reader.holdings([target.key], world.token, block_hash=tip) == {target.key: 0}


async def test_a_family_refuses_what_it_does_not_have(world: World) -> None:
    reader = world.chain.reader
    tip = (await reader.tip()).hash
    if is_utxo(world):
        with pytest.raises(UnsupportedOperation):
            await reader.holdings([], world.native, block_hash=tip)
        with pytest.raises(UnsupportedOperation):
            await reader.account_nonce("")
        with pytest.raises(UnsupportedOperation):
            world.chain.writer.gas_limit(world.native)
    else:
        with pytest.raises(UnsupportedOperation):
            await reader.open_coins([], block_hash=tip)
        with pytest.raises(UnsupportedOperation):
            world.chain.writer.estimate_size_vb(inputs=1, outputs=[])
