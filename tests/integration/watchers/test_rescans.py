"""Blocks looked at again: what is missing is found once, what is recorded stays as it is."""

from typing import Any

import pytest

from config.database import Uow
from tests.integration.watchers.conftest import AccountBench, UtxoBench
from tests.integration.watchers.test_switch_reorg import is_stopped, open_alarms, stop
from tests.support.clock import ManualClock
from tests.support.simchain import SimUtxoReader, utxo_chain
from tests.support.watching import Watch
from watchers import inflows, rescans
from watchers.addresses import AddressRole
from watchers.chain import Block
from watchers.errors import LeaseLost, NodeUnavailable, ReorgTooDeep
from watchers.follower import Crash, Follower
from watchers.rescans import RescanRow, RescanState
from watchers.switches import Action

pytestmark = pytest.mark.postgres

HALF = 50_000_000
TABLES = ("deposits", "inflows", "coins", "outgoing", "evidence", "deposit_inputs", "nonces")


class Killed(Exception):
    """The process died here."""


class NoBlock(SimUtxoReader):
    """Has headers, but no block for them."""

    async def block(self, block_hash: str) -> Block:
        raise NodeUnavailable("getblock answered null")


class EmptyBlocks(SimUtxoReader):
    """Answers every question for a block with another one of the same chain."""

    async def block(self, block_hash: str) -> Block:
        return await super().block(self.world.active[-1])


async def ask(watch: Watch, low: int = 0, high: int | None = None) -> RescanRow:
    """What the API does; each has a reason of its own."""
    height = (await watch.position()).height or 0
    async with watch.as_api.unit_of_work() as uow:
        earlier = await rescans.find(uow, network=watch.network.name)
        return await rescans.ask(
            uow,
            network=watch.network.name,
            from_height=low,
            to_height=height if high is None else high,
            asked_by="ada",
            reason=f"a deposit is missing {len(earlier)}",
            ids=watch.ids,
            at=watch.clock.now(),
        )


async def work_off(watch: Watch, follower: Follower | None = None) -> RescanRow:
    """Look until nothing more can be done; the newest rescan."""
    runner = follower or watch.follower
    while await runner.rescan(await watch.position(runner)):
        pass
    await watch.follow(runner)
    return await newest(watch)


async def newest(watch: Watch) -> RescanRow:
    """The last rescan that was asked for: ids of one moment have no order."""
    async with watch.as_api.unit_of_work() as uow:
        found = await rescans.find(uow, network=watch.network.name)
    return max(found, key=lambda row: row.reason)


async def start_late(bench: UtxoBench) -> None:
    """The watcher begins at the tip, whatever was paid before."""
    bench.watch.start_height = None
    bench.watch.follower = bench.watch.new_follower("first")
    await bench.watch.follow()


async def rows(watch: Watch) -> dict[str, list[dict[str, Any]]]:
    """Everything that is recorded of the chain and booked."""
    found: dict[str, list[dict[str, Any]]] = {}
    async with watch.as_owner.unit_of_work() as uow:
        for table in TABLES:
            result = await uow.execute(f"SELECT * FROM chain.{table} AS t ORDER BY t")
            found[table] = [dict(row) for row in result.mappings()]
        result = await uow.execute("SELECT reference FROM ledger.postings ORDER BY reference")
        found["postings"] = [dict(row) for row in result.mappings()]
        result = await uow.execute(
            "SELECT type, object_id FROM ledger.events ORDER BY object_id, object_version"
        )
        found["events"] = [dict(row) for row in result.mappings()]
    for row in found["evidence"]:
        del row["stored_at"]
    return found


async def missed(utxo: UtxoBench, *, blocks: int) -> None:
    """Anna is paid, and so is our hot wallet's change; then the watcher begins, `blocks` above."""
    anna = await utxo.watch.address("anna")
    utxo.sim.mine(5)
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(blocks)
    await start_late(utxo)
    assert await utxo.watch.deposits() == []


async def test_d11_a_deposit_before_the_start_height_is_found_and_credited_once(
    utxo: UtxoBench,
) -> None:
    await missed(utxo, blocks=130)
    await ask(utxo.watch)
    done = await work_off(utxo.watch)
    assert (done.state, done.found, done.next_height) == (RescanState.DONE, 1, 136)
    deposit = await utxo.watch.deposit()
    assert (deposit.state, deposit.height) == ("final", 6)
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    await utxo.watch.audit()

    before = await rows(utxo.watch)
    await ask(utxo.watch)
    again = await work_off(utxo.watch)
    assert (again.state, again.found) == (RescanState.DONE, 0)
    assert await rows(utxo.watch) == before
    await utxo.watch.audit()


async def test_d11_what_is_found_waits_for_its_usual_heights(utxo: UtxoBench) -> None:
    utxo.sim.mine(5)
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(1)
    await start_late_above(utxo, skipped=1)
    await ask(utxo.watch, 6, 6)
    await work_off(utxo.watch)
    assert (await utxo.watch.deposit()).state == "provisional"
    utxo.sim.mine(1)
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "final"
    await utxo.watch.audit()


async def start_late_above(bench: UtxoBench, *, skipped: int) -> None:
    """Some blocks more, then the watcher begins at the tip."""
    bench.sim.mine(skipped)
    await start_late(bench)


@pytest.mark.parametrize(
    "point",
    [
        "rescan.headers.before_commit",
        "rescan.headers.after_commit",
        "rescan.before_commit",
        "rescan.after_commit",
    ],
)
async def test_d11_killed_anywhere_it_goes_on_and_credits_once(utxo: UtxoBench, point: str) -> None:
    await missed(utxo, blocks=330)
    await ask(utxo.watch)
    for _ in range(2):
        dying = utxo.watch.new_follower("first", crash=die_at(point))
        with pytest.raises(Killed):
            await work_off(utxo.watch, dying)
    done = await work_off(utxo.watch, utxo.watch.new_follower("first"))
    assert (done.state, done.found) == (RescanState.DONE, 1)
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    await utxo.watch.audit()


def die_at(place: str) -> Crash:
    """Dies at this place."""

    def crash(point: str) -> None:
        if point == place:
            raise Killed

    return crash


async def test_d11_what_is_recorded_stays_as_it_is(utxo: UtxoBench) -> None:
    """Everything was followed: deposits of each state, coinbase, several players in one tx."""
    watch, sim = utxo.watch, utxo.sim
    anna, bob = await watch.address("anna"), await watch.address("bob", brand="zest")
    sim.mine(3)
    sim.pay([(anna.address, HALF), (bob.address, 2 * HALF), (anna.address, 700)])
    sim.mine(2)
    sim.pay([(bob.address, 3 * HALF)])
    await watch.follow()
    sim.mine(1)
    sim.rewind(1)
    sim.mine(2)
    await watch.follow()
    sim.pay([(anna.address, 5 * HALF)])
    sim.mine(1)
    await watch.follow()
    before = await rows(watch)
    await ask(watch)
    done = await work_off(watch)
    assert (done.state, done.found, done.withheld) == (RescanState.DONE, 0, 0)
    assert await rows(watch) == before
    await watch.audit()


async def test_d11_a_payment_in_suspense_is_not_credited_to_a_later_owner(
    utxo: UtxoBench,
) -> None:
    """It reached an address of the pool that nobody had; somebody has it now."""
    watch = utxo.watch
    async with watch.as_owner.unit_of_work() as uow:
        found = await uow.execute(
            "SELECT address FROM chain.addresses WHERE brand = 'acme' AND issued_at IS NULL "
            "ORDER BY address_index LIMIT 1"
        )
        free = str(found.scalar_one())
    utxo.sim.mine(1)
    utxo.sim.pay([(free, HALF)])
    utxo.sim.mine(4)
    await watch.follow()
    assert (await watch.address("anna")).address == free
    before = await rows(watch)
    await ask(watch)
    done = await work_off(watch)
    assert (done.state, done.found) == (RescanState.DONE, 0)
    assert await rows(watch) == before
    assert await watch.deposits() == []


async def test_n11_a_node_without_the_block_makes_it_wait_for_ever_with_an_alarm(
    utxo: UtxoBench,
) -> None:
    await missed(utxo, blocks=3)
    await ask(utxo.watch)
    for reader in (NoBlock(utxo.sim), EmptyBlocks(utxo.sim)):
        faulty = utxo.watch.new_follower("first", chain=utxo_chain(utxo.sim, reader=reader))
        for _ in range(3):
            assert not await faulty.rescan(await utxo.watch.position(faulty))
        row = await newest(utxo.watch)
        assert (row.state, row.next_height) == (RescanState.RUNNING, 0)
        assert row.waits_for
        assert "rescan_waiting" in await open_alarms(utxo)
    done = await work_off(utxo.watch)
    assert (done.state, done.found, done.waits_for) == (RescanState.DONE, 1, None)
    assert await open_alarms(utxo) == set()


async def test_n18_a_block_that_differs_from_the_kept_headers_is_not_looked_at(
    utxo: UtxoBench,
) -> None:
    """The nodes are on another branch, and the follower has not come by yet."""
    await missed(utxo, blocks=3)
    position = await utxo.watch.position()
    await ask(utxo.watch)
    anna = await utxo.watch.address("anna")
    utxo.sim.rewind(3)
    utxo.sim.pay([(anna.address, 7 * HALF)])
    utxo.sim.mine(4)
    while await utxo.watch.follower.rescan(position):
        pass
    row = await newest(utxo.watch)
    assert (row.state, row.next_height) == (RescanState.RUNNING, 0)
    assert row.waits_for
    assert await utxo.watch.deposits() == []
    await utxo.watch.follow()
    assert (await work_off(utxo.watch)).state is RescanState.DONE
    await utxo.watch.audit()


async def test_p12_of_two_watchers_the_fenced_one_looks_at_nothing(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    await missed(utxo, blocks=3)
    await ask(utxo.watch)
    stale = await utxo.watch.position()
    await utxo.watch.age_lease()
    standby = utxo.watch.new_follower("second")
    await utxo.watch.position(standby)
    with pytest.raises(LeaseLost):
        await utxo.watch.follower.rescan(stale)
    assert (await newest(utxo.watch)).next_height == 0
    assert (await work_off(utxo.watch, standby)).found == 1


async def test_d11_a_tx_recorded_in_another_block_fails_the_rescan_and_nothing_moves(
    utxo: UtxoBench,
) -> None:
    watch = utxo.watch
    anna = await watch.address("anna")
    utxo.sim.mine(3)
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(4)
    await watch.follow()
    async with watch.as_owner.unit_of_work() as uow:
        await uow.execute(
            "UPDATE chain.deposits SET height = 5, block_hash = (SELECT hash FROM chain.blocks "
            "WHERE height = 5 AND is_canonical)"
        )
    before = await rows(watch)
    await ask(watch)
    row = await work_off(watch)
    assert (row.state, row.next_height) == (RescanState.FAILED, 0)
    assert "recorded in block" in (row.failure or "")
    assert await rows(watch) == before
    assert await open_alarms(utxo) == {"rescan_failed"}


async def test_d11_an_account_chain_is_looked_at_again(account: AccountBench) -> None:
    watch, sim = account.watch, account.sim
    anna = await watch.address("anna")
    sim.mine(3)
    sim.pay("eth:ETH", anna.address, 10**18)
    sim.pay("eth:USDT", anna.address, 25_000_000)
    sim.mine(20)
    watch.start_height = None
    watch.follower = watch.new_follower("first")
    await watch.follow()
    assert await watch.deposits() == []
    await ask(watch)
    done = await work_off(watch)
    assert (done.state, done.found) == (RescanState.DONE, 2)
    assert await watch.deposit_states() == {"final"}
    await watch.audit()
    before = await rows(watch)
    await ask(watch)
    assert (await work_off(watch)).found == 0
    assert await rows(watch) == before
    await watch.audit()


async def test_d47_what_may_be_booked_without_explanation_is_withheld_and_told(
    account: AccountBench,
) -> None:
    watch, sim = account.watch, account.sim
    anna = await watch.address("anna")
    sim.mine(3)
    sim.pay("eth:ETH", anna.address, 10**18)
    sim.mine(20)
    watch.start_height = None
    watch.follower = watch.new_follower("first")
    await watch.follow()
    async with watch.as_watcher.unit_of_work() as uow:
        await inflow_of_difference(uow, watch, amount=10**18)
    await ask(watch)
    done = await work_off(watch)
    assert (done.state, done.found, done.withheld) == (RescanState.DONE, 0, 1)
    assert await watch.deposits() == []


async def inflow_of_difference(uow: Uow, watch: Watch, *, amount: int) -> None:
    """What a comparison of balances books when nothing explains them."""
    position = await watch.position()
    if position.height is None or position.hash is None:
        raise AssertionError("nobody follows")
    await inflows.connect_difference(
        uow,
        network=watch.network.name,
        code="custody:eth/deposit/acme:eth:ETH",
        role=AddressRole.DEPOSIT,
        brand="acme",
        asset="eth:ETH",
        amount_minor=amount,
        block_hash=position.hash,
        height=position.height,
        book_at_height=position.height,
        ids=watch.ids,
        at=watch.clock.now(),
    )


DEEP = 110  # blocks; 100 headers are kept below the first block


async def old_fork(utxo: UtxoBench) -> str:
    """A credited deposit, and a branch that leaves our chain below every header that we keep, with
    the deposit's tx far below them. The message that stops the network."""
    anna = await utxo.watch.address("anna")
    utxo.sim.mine(DEEP + 5)
    await start_late(utxo)
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "final"
    utxo.sim.rewind(DEEP + 3)
    utxo.sim.mine(DEEP + 4)
    with pytest.raises(ReorgTooDeep) as caught:
        await utxo.watch.follow()
    await utxo.watch.follower.stop(str(caught.value))
    return str(caught.value)


async def test_d09_the_way_out_of_a_fork_older_than_the_headers_restores_the_deposit(
    utxo: UtxoBench,
) -> None:
    reason = await old_fork(utxo)
    assert "--accept-reorg-depth 104" in reason
    assert "cage deposits rescan btc --from" in reason
    assert await is_stopped(utxo, Action.CREDIT)
    assert (await utxo.watch.deposit()).state == "final"

    await utxo.watch.start_again(depth=104)
    await utxo.watch.follow()
    assert (await utxo.watch.position()).hash == utxo.sim.active[-1]
    assert (await utxo.watch.deposit()).state == "orphaned"  # its new block is below our headers

    await ask(utxo.watch, 5)
    done = await work_off(utxo.watch)
    assert (done.state, done.found) == (RescanState.DONE, 1)
    deposit = await utxo.watch.deposit()
    assert (deposit.state, deposit.height) == ("final", 6)
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    await utxo.watch.audit()


async def test_d09_an_old_fork_is_not_walked_below_the_named_depth(utxo: UtxoBench) -> None:
    await old_fork(utxo)
    await utxo.watch.start_again(depth=103)
    await stop(utxo)
    assert await is_stopped(utxo, Action.CREDIT)
    assert (await utxo.watch.deposit()).state == "final"


@pytest.mark.parametrize("point", ["reorg.before_commit", "reorg.after_commit"])
async def test_d09_killed_on_the_way_out_it_comes_to_the_same_end(
    utxo: UtxoBench, point: str
) -> None:
    await old_fork(utxo)
    await utxo.watch.start_again(depth=104)
    for _ in range(104 if point == "reorg.after_commit" else 3):
        dying = utxo.watch.new_follower("first", crash=die_at(point))
        with pytest.raises(Killed):
            await utxo.watch.follow(dying)
    await utxo.watch.follow()
    assert (await utxo.watch.position()).hash == utxo.sim.active[-1]
    await ask(utxo.watch, 5)
    assert (await work_off(utxo.watch)).found == 1
    assert (await utxo.watch.books())["brand:acme:clearing:btc:BTC"] == HALF
    await utxo.watch.audit()
