"""What each lane and the batch contract hold, by the blocks' evidence, on anvil."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from config.assets import load_assets
from config.chains import load_chains
from config.settings import AssetSettings, NetworkSettings, Settings
from gateway.sandbox.nodes import Anvil
from tests.support import batch, evm
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.watching import Watch, watching
from tests.support.worlds import Wallet
from watchers import account_balances, addresses, batch_contract, reconcile_chain, searches
from watchers.account_balances import Place
from watchers.chain import Chain
from watchers.registry import build_chain

pytestmark = [pytest.mark.postgres, pytest.mark.node]

ETHER = 10**18
ONE = 10**6


def _chain(node: Anvil, assets: dict[str, AssetSettings], contract: str | None = None) -> Chain:
    settings = Settings(
        networks={"eth": NetworkSettings(chain="dev", batch_contract=contract)}, assets=assets
    )
    chains = load_chains(settings)
    listed = load_assets(settings, chains).values()
    return build_chain(chains["eth"], [node.url], listed, timeout_seconds=10.0)


@asynccontextmanager
async def _house(
    node: Anvil, database: TestDatabase, clock: ManualClock, ids: SequentialIds, *, owner: str = ""
) -> AsyncIterator[tuple[Watch, str, str]]:
    """A watcher, our contract (of lane 0, or of `owner`) and a token."""
    plain = _chain(node, {})
    lane = Wallet.of(plain).address(0)
    await plain.close()
    payer = await batch.deploy_for(node, owner or lane.address)
    token = await evm.deploy(node, "UsdtLike")
    await evm.mint(node, token, (await node.accounts())[0], 1_000 * ONE)
    assets = {"eth:USDT": AssetSettings(contract=token)}
    chain = _chain(node, assets, payer)
    try:
        async with watching(
            chain,
            database,
            clock=clock,
            ids=ids,
            assets=assets,
            batch_contract=payer,
            absence_blocks=20,
        ) as watch:
            watch.start_height = await node.height()
            watch.follower = watch.new_follower("lanes")
            await watch.follow()
            await node.mine(3)
            yield watch, payer.lower(), token
    finally:
        await node.rpc("anvil_dropAllTransactions")
        await chain.close()


async def _register(watch: Watch) -> bool:
    return await batch_contract.register(
        watch.as_watcher, watch.chain, watch.network, clock=watch.clock
    )


async def _held(watch: Watch) -> dict[Place, int]:
    async with watch.as_payouts.unit_of_work() as uow:
        held = await account_balances.held(uow, network="eth")
    return {place: amount for place, amount in held.items() if amount}


async def _lane(watch: Watch, lane: int) -> str:
    async with watch.as_payouts.unit_of_work() as uow:
        row = await addresses.own_address(uow, network="eth", role="hot", lane=lane)
    return row.key


async def test_w6_what_reaches_a_lane_or_the_contract_is_its_own(
    anvil: Anvil, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    """Coin and tokens to two lanes and the contract; a reorg takes them back, a block gives them
    again, and a second look at it gives nothing twice."""
    async with _house(anvil, test_database, clock, ids) as (watch, payer, token):
        assert await _register(watch)
        lane = await _lane(watch, 1)
        await anvil.send(lane, 2 * ETHER)
        await anvil.send(payer, 3 * ETHER)
        await evm.transfer(anvil, token, payer, 7 * ONE)
        await anvil.mine()
        await watch.follow()
        expected = {
            (lane, "eth:ETH"): 2 * ETHER,
            (payer, "eth:ETH"): 3 * ETHER,
            (payer, "eth:USDT"): 7 * ONE,
        }
        assert await _held(watch) == expected

        await anvil.reorg(1)
        await watch.follow()
        assert await _held(watch) == {}


async def test_the_contract_counts_only_with_our_owner(
    anvil: Anvil, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    async with _house(anvil, test_database, clock, ids, owner="0x" + "99" * 20) as (
        watch,
        _,
        _token,
    ):
        assert not await _register(watch)
        async with watch.as_payouts.unit_of_work() as uow:
            assert await addresses.batch_contract(uow, network="eth") is None


async def test_the_contract_counts_once_its_block_is_final(
    anvil: Anvil, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    async with _house(anvil, test_database, clock, ids) as (watch, payer, _):
        assert await _register(watch)
        assert await _register(watch)
        async with watch.as_payouts.unit_of_work() as uow:
            found = await addresses.batch_contract(uow, network="eth")
            lane = await addresses.own_address(uow, network="eth", role="hot", lane=0)
        assert found is not None
        assert (found.key, found.scheme) == (payer, "contract")
        assert lane.scheme == "eoa"


async def test_w6_a_drift_is_found_and_corrected_and_books_nothing_by_itself(
    anvil: Anvil, test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> None:
    """Coin that no evidence shows (a state override stands for an untraced call)."""
    async with _house(anvil, test_database, clock, ids) as (watch, _, _token):
        assert await _register(watch)
        lane = await _lane(watch, 2)
        await anvil.set_balance(lane, 5 * ETHER)
        await anvil.mine()
        await watch.follow()
        assert await _held(watch) == {}

        held = await reconcile_chain.holdings_at(watch.as_watcher, watch.chain, watch.network)
        await searches.book(watch.as_watcher, watch.network, held, at=clock.now())

        assert [drift.place for drift in held.drifts] == [(lane, "eth:ETH")]
        assert await _held(watch) == {(lane, "eth:ETH"): 5 * ETHER}
        again = await reconcile_chain.holdings_at(watch.as_watcher, watch.chain, watch.network)
        assert again.drifts == ()
