"""Coins of ours that no block showed us: searched in the node's own set, told, looked for again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.clock import SystemClock
from gateway.sandbox.nodes import Bitcoind, Litecoind
from tests.conformance.conftest import chain_of
from tests.integration.watchers.conftest import UtxoBench
from tests.integration.watchers.test_reconcile_cycle import Cycle
from tests.integration.watchers.test_rescans import HALF, missed, work_off
from tests.integration.watchers.test_rescans_real_nodes import begin_again
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.sim_unspent import SimUnspent
from tests.support.watching import Watch, watched
from tests.support.worlds import UtxoNodeWorld
from watchers import rescans
from watchers.breaks import BreakKind
from watchers.chain import Pay
from watchers.coin_search import ACTOR, KNOWN_SECONDS, KNOWN_TRIES, CoinSearchLoop
from watchers.reconciliations import RunState
from watchers.registry import build_unspent
from watchers.rescans import RescanState
from watchers.unspent import UnspentReader, UnspentSet

pytestmark = pytest.mark.postgres

DAY = 86_400
NODES = {"btc": ("bitcoind", Bitcoind), "ltc": ("litecoind", Litecoind)}


def search(watch: Watch, reader: UnspentReader, *, keys: int = 1_000) -> CoinSearchLoop:
    return CoinSearchLoop(
        reader=reader,
        network=watch.network,
        database=watch.as_watcher,
        clock=watch.clock,
        keys_per_scan=keys,
    )


async def round_of(loop: CoinSearchLoop) -> int:
    """Every page that is due; how many there were."""
    pages = 0
    while await loop.look():
        pages += 1
    return pages


async def kept(watch: Watch) -> list[tuple[str, int]]:
    """(txid, height) of what was found and is kept."""
    async with watch.as_owner.unit_of_work() as uow:
        result = await uow.execute("SELECT txid, height FROM chain.missed_coins ORDER BY height")
        return [(row.txid, row.height) for row in result]


async def asked_for(watch: Watch) -> list[tuple[int, int, str]]:
    """Rescans that the search asked for: their range and state."""
    async with watch.as_api.unit_of_work() as uow:
        found = await rescans.find(uow, network=watch.network.name)
    return sorted(
        (row.from_height, row.to_height, row.state.value) for row in found if row.asked_by == ACTOR
    )


async def test_l12_a_missed_coin_is_a_break_until_its_block_was_looked_at_again(
    utxo: UtxoBench,
) -> None:
    await missed(utxo, blocks=130)
    watch, cycle = utxo.watch, Cycle(watch=utxo.watch)
    loop = search(watch, SimUnspent(utxo.sim))
    assert (await cycle.run()).state is RunState.CLEAN  # books and known coins agree

    assert await round_of(loop) == 1

    assert await watch.deposits() == []  # a finding credits nothing
    [(txid, height)] = await kept(watch)
    assert (height, await asked_for(watch)) == (6, [(6, 6, "running")])
    utxo.sim.mine()
    await watch.follow()
    run = await cycle.run()
    [finding] = run.breaks
    assert (finding.kind, finding.subject, finding.difference_minor) == (
        BreakKind.UNINGESTED_DEPOSIT, "custody:btc/hot:btc:BTC", HALF,
    )  # fmt: skip
    [place] = finding.details["places"]
    assert (place["txid"], place["height"], place["is_looked_at_again"]) == (txid, 6, True)
    assert place["coin"].startswith(f"{txid}:")
    assert (place["address"], place["amount_minor"]) == (
        (await watch.address("anna")).address, str(HALF),
    )  # fmt: skip
    assert "reconciliation.break" in {kind.replace("_", ".", 1) for kind in await cycle.alarms()}

    done = await work_off(watch)
    assert (done.state, done.found) == (RescanState.DONE, 1)
    deposit = await watch.deposit()
    assert (deposit.state, deposit.amount_minor) == ("final", HALF)
    utxo.sim.mine()
    await watch.follow()
    assert (await cycle.run()).state is RunState.CLEAN
    assert await cycle.breaks() == []
    await watch.audit()


async def test_every_address_is_looked_for_once_a_day_in_bounded_pages(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    watch, node = utxo.watch, SimUnspent(utxo.sim)
    for player in ("anna", "bert", "cleo"):
        await watch.address(player)
    utxo.sim.mine()
    await watch.follow()
    loop = search(watch, node, keys=4)
    pages = await round_of(loop)
    assert pages == len(node.asked) > 1
    assert max(len(keys) for keys in node.asked) == 4
    looked = [key for keys in node.asked for key in keys]
    async with watch.as_owner.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT key FROM chain.addresses WHERE role <> 'deposit' OR issued_at IS NOT NULL"
        )
        assert sorted(looked) == sorted(result.scalars())  # each once, no unissued one
    assert not await loop.look()
    clock.advance(DAY)
    assert await round_of(search(watch, node, keys=4)) == pages


async def test_two_searches_and_a_repeated_round_find_the_same_once(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    await missed(utxo, blocks=20)
    watch, node = utxo.watch, SimUnspent(utxo.sim)
    await round_of(search(watch, node))
    clock.advance(DAY)
    await round_of(search(watch, node))
    assert len(await kept(watch)) == 1
    assert await asked_for(watch) == [(6, 6, "running")]


async def test_an_answer_of_a_block_that_is_not_ours_says_nothing(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    class Elsewhere(SimUnspent):
        async def unspent(self, keys: object) -> UnspentSet:
            clock.advance(KNOWN_SECONDS * KNOWN_TRIES)
            return UnspentSet(height=9, block_hash="ab" * 32, coins=())

    class Patient(ManualClock):
        async def sleep(self, delay_seconds: float) -> None:
            self.advance(delay_seconds)

    await missed(utxo, blocks=20)
    watch = utxo.watch
    watch.clock = Patient()
    astray = search(watch, Elsewhere(utxo.sim))
    assert await astray.look()
    assert await kept(watch) == []
    assert await round_of(search(watch, SimUnspent(utxo.sim))) == 1  # the same page, asked again
    assert len(await kept(watch)) == 1


async def test_what_left_the_chain_before_it_was_looked_for_is_no_finding_any_more(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    await missed(utxo, blocks=4)
    watch, node = utxo.watch, SimUnspent(utxo.sim)
    await round_of(search(watch, node))
    [(txid, _)] = await kept(watch)
    utxo.sim.rewind(4)
    utxo.sim.conflict(txid)
    utxo.sim.mine(6)
    await watch.follow()
    clock.advance(DAY)
    await round_of(search(watch, node))
    assert await kept(watch) == []


@pytest.fixture(params=NODES)
async def fresh(
    request: pytest.FixtureRequest,
    node_programs: dict[str, Path],
    tmp_path: Path,
    test_database: TestDatabase,
    clock: ManualClock,
    ids: SequentialIds,
) -> AsyncIterator[tuple[UtxoNodeWorld, Watch, str]]:
    """A node of its own, in whose set nothing of other tests is, and a watcher at its tip."""
    network = str(request.param)
    program, kind = NODES[network]
    async with kind(node_programs[program], tmp_path) as node:
        await node.mine(101)
        chain = chain_of(network, node.url)
        world = UtxoNodeWorld(node, chain, native=f"{network}:{network.upper()}", can_replace=False)
        try:
            async with watched(chain, test_database, clock, ids) as watch:
                yield world, watch, node.url
        finally:
            await chain.close()


@pytest.mark.node
async def test_l12_a_real_node_shows_what_a_late_watcher_missed(
    fresh: tuple[UtxoNodeWorld, Watch, str],
) -> None:
    world, watch, url = fresh
    anna = await watch.address("anna")
    [txid] = await world.pay([Pay(asset=world.native, address=anna.address, amount_minor=HALF)])
    await world.mine(40)
    await begin_again(watch)
    reader = build_unspent(watch.network.spec, [url], clock=SystemClock(), calls_per_second=1_000)
    assert reader is not None
    cycle = Cycle(watch=watch)
    try:
        assert await round_of(search(watch, reader)) == 1
        [(found, height)] = await kept(watch)
        assert (found, await watch.deposits()) == (txid, [])
        [finding] = (await cycle.run()).breaks
        assert (finding.kind, finding.difference_minor) == (BreakKind.UNINGESTED_DEPOSIT, HALF)
        assert await asked_for(watch) == [(height, height, "running")]

        assert (await work_off(watch)).found == 1
        deposit = await watch.deposit()
        assert (deposit.txid, deposit.state) == (txid, "final")
        await world.mine(1)
        await watch.follow()
        assert (await cycle.run()).state is RunState.CLEAN
        await watch.audit()
    finally:
        await reader.close()
