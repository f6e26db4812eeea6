"""Deposits before any block: replaced, with all that descends from them, and dropped."""

import pytest

from tests.integration.watchers.conftest import AccountBench, UtxoBench
from tests.support.simchain import SimUtxoReader, utxo_chain
from watchers.chain import BlockRef, Outpoint
from watchers.errors import NodeUnavailable
from watchers.follower import BLOCKS_PER_ROUND

pytestmark = pytest.mark.postgres

HALF = 50_000_000
DROPPED_BLOCKS = 144  # config/chains.toml, CONTRACT 4


class Silent(SimUtxoReader):
    """A node that does not answer."""

    async def tip(self) -> BlockRef:
        raise NodeUnavailable("no answer")


async def states(utxo: UtxoBench) -> dict[int, str]:
    """State by amount."""
    return {row.amount_minor: row.state.value for row in await utxo.watch.deposits()}


async def test_d11_a_replacement_that_pays_less_replaces_the_first_and_is_a_deposit_itself(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    first = utxo.sim.pay([(anna.address, 2 * HALF)])
    await utxo.watch.follow()
    second = utxo.sim.replace(first, [(anna.address, HALF)])
    await utxo.watch.follow()
    assert await states(utxo) == {HALF: "detected", 2 * HALF: "replaced"}
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        rivals = await uow.execute(
            "SELECT conflict_txid FROM chain.deposits WHERE txid = :txid", {"txid": first}
        )
        assert rivals.scalar_one() == second
    assert await utxo.watch.books() == {}
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await states(utxo) == {HALF: "final", 2 * HALF: "replaced"}
    await utxo.watch.audit()


async def test_d12_a_fee_bump_is_credited_once(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    first = utxo.sim.pay([(anna.address, HALF)])
    await utxo.watch.follow()
    utxo.sim.replace(first, [(anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert sorted(row.state.value for row in await utxo.watch.deposits()) == ["final", "replaced"]
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    await utxo.watch.audit()


async def test_d13_everything_that_descends_from_a_replaced_tx_is_replaced(
    utxo: UtxoBench,
) -> None:
    """The parent pays nobody of ours and was seen a look before; the grandchild pays bert."""
    anna = await utxo.watch.address("anna")
    bert = await utxo.watch.address("bert")
    parent = utxo.sim.pay([])
    await utxo.watch.follow()
    child = utxo.sim.spend(Outpoint(txid=parent, vout=0), [(anna.address, HALF)])
    utxo.sim.spend(Outpoint(txid=child, vout=1), [(bert.address, HALF + 1)])
    await utxo.watch.follow()
    assert await states(utxo) == {HALF: "detected", HALF + 1: "detected"}
    utxo.sim.conflict(parent)
    await utxo.watch.follow()
    assert await states(utxo) == {HALF: "replaced", HALF + 1: "replaced"}
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()


async def test_d13_a_parent_that_is_mined_replaces_nothing(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    parent = utxo.sim.pay([])
    utxo.sim.spend(Outpoint(txid=parent, vout=0), [(anna.address, HALF)])
    await utxo.watch.follow()
    utxo.sim.mine_exactly([parent])
    await utxo.watch.follow()
    assert await states(utxo) == {HALF: "detected"}
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await states(utxo) == {HALF: "final"}


async def test_d14_a_tx_confirmed_under_another_txid_is_credited_once(utxo: UtxoBench) -> None:
    """Seen as X, mined as Y with the same inputs, never seen in a mempool."""
    anna = await utxo.watch.address("anna")
    seen = utxo.sim.pay([(anna.address, HALF)])
    await utxo.watch.follow()
    mined = utxo.sim.replace(seen, [(anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    found = {row.txid: row.state.value for row in await utxo.watch.deposits()}
    assert found == {seen: "replaced", mined: "final"}
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    await utxo.watch.audit()


async def test_d03_a_reorg_onto_a_conflicting_spend_replaces_and_credits_nothing(
    utxo: UtxoBench,
) -> None:
    """2 coins need 2 confirmations, so it was only `pending`; one event tells of the end."""
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, 4 * HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    assert await states(utxo) == {4 * HALF: "pending"}
    utxo.sim.rewind(1)
    utxo.sim.conflict(txid)
    utxo.sim.mine(8)
    await utxo.watch.follow()
    assert await states(utxo) == {4 * HALF: "replaced"}
    assert await utxo.watch.books() == {}
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        told = await uow.execute(
            "SELECT type FROM ledger.events WHERE object_kind = 'deposit' ORDER BY position"
        )
        assert told.scalars().all() == ["deposit.pending", "deposit.orphaned", "deposit.replaced"]
    await utxo.watch.audit()


async def test_a_replaced_deposit_that_is_mined_after_all_is_credited(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    first = utxo.sim.pay([(anna.address, HALF)])
    raw = utxo.sim.pool[first]
    await utxo.watch.follow()
    second = utxo.sim.conflict(first)
    await utxo.watch.follow()
    assert await states(utxo) == {HALF: "replaced"}
    utxo.sim.drop(second)
    utxo.sim.pool[first] = raw
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await states(utxo) == {HALF: "final"}
    assert (await utxo.watch.states((await utxo.watch.deposit()).id)) == [
        "detected",
        "replaced",
        "pending",
        "provisional",
        "final",
    ]
    await utxo.watch.audit()


async def test_d51_another_tx_at_the_same_nonce_replaces(account: AccountBench) -> None:
    """A speed-up seen in the mempool, a cancellation seen in a block only."""
    anna = await account.watch.address("anna")
    first = account.sim.pay("eth:ETH", anna.address, 5 * 10**17)
    await account.watch.follow()
    assert (await account.watch.deposit()).state == "detected"
    account.sim.conflict(first)
    account.sim.mine(1)
    await account.watch.follow()
    assert (await account.watch.deposit()).state == "replaced"
    assert await account.watch.books() == {}


async def mine(utxo: UtxoBench, blocks: int) -> None:
    """Empty blocks, followed to the tip."""
    for _ in range(blocks):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()


async def test_what_nobody_has_for_t_blocks_is_dropped(utxo: UtxoBench) -> None:
    """It counts from the first look that finds it gone; coming back starts it anew."""
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, HALF)])
    await mine(utxo, 10)
    raw = utxo.sim.pool[txid]
    utxo.sim.drop(txid)
    await mine(utxo, 10)  # found gone here
    await mine(utxo, DROPPED_BLOCKS - 10)
    assert await states(utxo) == {HALF: "detected"}
    utxo.sim.pool[txid] = raw
    await mine(utxo, 7)
    utxo.sim.drop(txid)
    await mine(utxo, 7)
    await mine(utxo, DROPPED_BLOCKS - 1)
    assert await states(utxo) == {HALF: "detected"}
    await mine(utxo, 1)
    assert await states(utxo) == {HALF: "dropped"}
    utxo.sim.pool[txid] = raw
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await states(utxo) == {HALF: "final"}
    await utxo.watch.audit()


async def test_absence_does_not_count_while_the_network_is_degraded(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, HALF)])
    await mine(utxo, 7)
    utxo.sim.drop(txid)
    await mine(utxo, 7)  # found gone here
    silent = utxo_chain(utxo.sim, reader=Silent(utxo.sim))
    follower = utxo.watch.new_follower("first", chain=silent)
    with pytest.raises(NodeUnavailable):
        await follower.follow(await utxo.watch.position(follower))
    assert DROPPED_BLOCKS < 2 * BLOCKS_PER_ROUND
    await mine(utxo, DROPPED_BLOCKS + 20)
    assert await states(utxo) == {HALF: "detected"}
    await mine(utxo, DROPPED_BLOCKS - 1)
    assert await states(utxo) == {HALF: "detected"}
    await mine(utxo, 1)
    assert await states(utxo) == {HALF: "dropped"}


async def test_d29_a_flood_of_the_mempool_holds_up_no_block(utxo: UtxoBench) -> None:
    """6,000 unconfirmed txs are worked off over looks; a block in between is credited first."""
    anna = await utxo.watch.address("anna")
    await utxo.watch.follow()
    utxo.sim.flood(6_000)
    txid = utxo.sim.pay([(anna.address, HALF)])
    position = await utxo.watch.position()
    assert await utxo.watch.follower.observe_mempool(position) == 0
    assert await states(utxo) == {}
    raw = utxo.sim.pool[txid]
    utxo.sim.pool = {txid: raw}
    utxo.sim.mine_exactly([txid])
    assert await utxo.watch.follower.follow(await utxo.watch.position())
    assert await states(utxo) == {HALF: "provisional"}
    for _ in range(3):
        await utxo.watch.follow()
    assert utxo.watch.follower._mempool.waiting == 0
