"""Blocks in runs leave the same rows behind as block by block (ADR 0017).

Two watchers with a database each look at one simulated chain at the same moments, one of them takes
it block by block. Afterwards every row is compared, by what it says and not by its generated id.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from sqlalchemy import event

from gateway.sandbox.postgres import EmbeddedPostgres
from tests.integration.watchers.test_credit_policy import put_policy, put_rate
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import clone, drop
from tests.support.simchain import (
    SimUtxo,
    account_chain,
    sim_account,
    sim_utxo,
    utxo_chain,
)
from tests.support.watching import Watch, watching
from watchers import addresses
from watchers.ahead import RUN_BLOCKS_MAX
from watchers.chain import Chain
from watchers.deposit_due import PAGE_ROWS
from watchers.follower import Follower

pytestmark = pytest.mark.postgres

PLAYERS = ("anna", "bert", "cleo")
COINS = (1_000, 50_000_000, 200_000_000)  # below the minimum; full tier 3; min 2, full tier 6
WEI = (10**12, 10**17, 10**19)
STEPS = 14
GIVEN = {"id", "address_id", "deposit_id", "posting_id", "rate_id", "event_id"}
"""Generated, so that they depend on the order of the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One watcher that takes what it can at once, and one that takes block by block."""

    many: Watch
    one: Watch

    def __iter__(self) -> Any:
        return iter((self.many, self.one))

    async def follow(self) -> None:
        """Both, to the tip."""
        for watch in self:
            await watch.follow()


@pytest.fixture
async def paired(postgres: EmbeddedPostgres) -> AsyncIterator[Callable[..., Any]]:
    """Opens two watchers over a world: `paired(chain_of)`."""
    async with AsyncExitStack() as stack:

        async def opened(chain_of: Callable[[], Chain]) -> Pair:
            watches = []
            for most in (RUN_BLOCKS_MAX, 1):
                database = await clone(postgres)
                stack.push_async_callback(drop, database)
                clock, chain = ManualClock(), chain_of()
                watch = await stack.enter_async_context(
                    watching(
                        chain, database, clock=clock, ids=SequentialIds(clock), absence_blocks=6
                    )
                )
                watch.follower = Follower(
                    chain=chain,
                    network=watch.network,
                    database=watch.as_watcher,
                    clock=clock,
                    holder="first",
                    start_height=0,
                    run_blocks_max=most,
                )
                watches.append(watch)
            return Pair(many=watches[0], one=watches[1])

        yield opened


async def addresses_of(pair: Pair) -> list[str]:
    """A deposit address of every player and one of the hot wallet, the same with both."""
    found: list[str] = []
    for name in PLAYERS:
        texts = {(await watch.address(name)).address for watch in pair}
        assert len(texts) == 1
        found += texts
    return [*found, await hot_address(pair.many)]


async def hot_address(watch: Watch) -> str:
    """Where value arrives that no player has: an inflow."""
    async with watch.as_payouts.unit_of_work() as uow:
        network = watch.network.name
        return (await addresses.own_address(uow, network=network, role="hot")).address


_DEPOSIT = (
    "coalesce((SELECT d.txid || d.position FROM chain.deposits d WHERE d.id = {0}), "
    "(SELECT i.txid || i.position FROM chain.inflows i WHERE i.id = {0}))"
)
QUERIES = {
    "cursor": "SELECT to_jsonb(t) - 'fence' - 'lease_expires_at' AS row FROM chain.cursors t",
    "blocks": "SELECT to_jsonb(t) AS row FROM chain.blocks t",
    "deposits": "SELECT to_jsonb(t) AS row FROM chain.deposits t",
    "inputs": "SELECT to_jsonb(t) AS row FROM chain.deposit_inputs t",
    "history": f"SELECT {_DEPOSIT.format('t.object_id')} AS of, to_jsonb(t) - 'object_id' AS row "
    "FROM ledger.state_history t",
    "events": f"SELECT {_DEPOSIT.format('t.object_id')} AS of, "
    "to_jsonb(t) - '{object_id,position,xid,snapshot}'::text[] "
    "|| jsonb_build_object('snapshot', t.snapshot - '{id,address_id}'::text[]) AS row "
    "FROM ledger.events t",
    "postings": "SELECT p.reference, p.kind, p.block_hash, p.block_height, (SELECT "
    "jsonb_agg(jsonb_build_array(a.code, e.side, e.amount::text) ORDER BY e.line) "
    "FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id "
    "WHERE e.posting_id = p.id) AS entries FROM ledger.postings p",
    "coins": "SELECT to_jsonb(t) AS row FROM chain.coins t",
    "inflows": "SELECT to_jsonb(t) AS row FROM chain.inflows t",
    "evidence": "SELECT to_jsonb(t) AS row FROM chain.evidence t",
    "headers": "SELECT to_jsonb(t) AS row FROM chain.headers t",
    "bytes": "SELECT to_jsonb(t) AS row FROM chain.previous_txs t",
    "exposures": f"SELECT {_DEPOSIT.format('t.deposit_id')} AS of, to_jsonb(t) AS row "
    "FROM chain.exposures t",
    "usage": "SELECT to_jsonb(t) AS row FROM chain.exposure_usage t",
    "switches": "SELECT to_jsonb(t) AS row FROM chain.switches t",
    "alarms": "SELECT kind, network, detail FROM gateway.alarms",
    "searches": "SELECT to_jsonb(t) AS row FROM chain.searches t",
}


async def rows_of(watch: Watch) -> dict[str, list[str]]:
    """Everything that a follower leaves behind, sorted; nothing of it generated."""
    found = {}
    async with watch.as_owner.unit_of_work() as uow:
        for name, query in QUERIES.items():
            rows = (await uow.execute(query)).mappings().all()
            plain = [{key: _plain(value) for key, value in row.items()} for row in rows]
            found[name] = sorted(repr(sorted(row.items())) for row in plain)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in GIVEN}
        return sorted((key, repr(item)) for key, item in kept.items())
    return value


async def assert_same(pair: Pair) -> None:
    """Both left the same rows, and the books of both hold."""
    many, one = await rows_of(pair.many), await rows_of(pair.one)
    for name in QUERIES:
        assert many[name] == one[name], name
    for watch in pair:
        await watch.audit()


async def play_coins(sim: SimUtxo, pair: Pair, payable: list[str], dice: Random) -> None:
    """Some steps, few of them followed at once, so that runs are long."""
    for _ in range(STEPS):
        depth = min(dice.randint(1, 4), len(sim.active) - 1)
        match dice.choice(("pay", "pay", "pay", "mine", "mine", "lose", "conflict", "follow")):
            case "pay":
                outputs = [(dice.choice(payable), dice.choice(COINS)) for _ in range(2)]
                sim.pay(outputs)
                sim.mine(dice.randint(0, 2))
            case "mine":
                sim.mine(dice.randint(1, 5))
            case "lose" if depth:
                sim.rewind(depth)
                for _ in range(depth):
                    sim.mine_exactly([])
            case "conflict" if sim.pool:
                sim.conflict(dice.choice(list(sim.pool)))
            case "follow":
                await pair.follow()
    sim.mine(9)
    await pair.follow()


@pytest.mark.parametrize("seed", range(5))
async def test_runs_of_coins_leave_what_block_by_block_leaves(
    paired: Callable[..., Any], seed: int
) -> None:
    sim, _ = sim_utxo()
    pair = await paired(lambda: utxo_chain(sim))
    payable = await addresses_of(pair)
    await play_coins(sim, pair, payable, Random(seed))
    assert len(await pair.many.deposits()) > 2
    await assert_same(pair)


@pytest.mark.parametrize("seed", range(3))
async def test_n2_under_a_cap_room_goes_to_the_same_deposits(
    paired: Callable[..., Any], seed: int
) -> None:
    """Room that a deposit frees at its full tier goes to who waits at that height, in both."""
    sim, _ = sim_utxo()
    pair = await paired(lambda: utxo_chain(sim))
    payable = await addresses_of(pair)
    for watch in pair:
        await put_rate(watch, "100")
        await put_policy(watch, caps=[{"per_brand": "260.00"}])
    await play_coins(sim, pair, payable, Random(seed))
    await assert_same(pair)


@pytest.mark.parametrize("seed", range(4))
async def test_runs_of_an_account_chain_leave_what_block_by_block_leaves(
    paired: Callable[..., Any], seed: int
) -> None:
    dice = Random(seed)
    sim, _ = sim_account()
    pair = await paired(lambda: account_chain(sim))
    payable = await addresses_of(pair)
    for _ in range(STEPS):
        depth = min(dice.randint(1, 4), len(sim.active) - 1)
        match dice.choice(("pay", "pay", "token", "mine", "lose", "conflict", "follow")):
            case "pay":
                sim.pay("eth:ETH", dice.choice(payable), dice.choice(WEI))
                sim.mine(dice.randint(0, 2))
            case "token":
                sim.pay("eth:USDT", dice.choice(payable), dice.randint(1, 9) * 1_000_000)
                sim.mine(dice.randint(0, 2))
            case "mine":
                sim.mine(dice.randint(1, 9))
            case "lose" if depth:
                sim.rewind(depth)
                for _ in range(depth):
                    sim.mine_exactly([])
            case "conflict" if sim.pool:
                sim.conflict(list(sim.pool)[-1])
            case "follow":
                await pair.follow()
    sim.mine(20)
    await pair.follow()
    assert await pair.many.deposits()
    await assert_same(pair)


async def test_a_deposit_takes_every_step_in_a_run_that_it_takes_block_by_block(
    paired: Callable[..., Any],
) -> None:
    sim, _ = sim_utxo()
    pair = await paired(lambda: utxo_chain(sim))
    address, *_ = await addresses_of(pair)
    sim.pay([(address, COINS[2])])
    sim.mine(8)
    await pair.follow()
    deposit = await pair.many.deposit()
    assert await pair.many.states(deposit.id) == ["pending", "provisional", "final"]
    await assert_same(pair)


async def test_d28_more_than_a_page_takes_every_step_in_a_run_too(
    paired: Callable[..., Any],
) -> None:
    sim, _ = sim_utxo()
    pair = await paired(lambda: utxo_chain(sim))
    address, *_ = await addresses_of(pair)
    count = PAGE_ROWS + 50
    for first in range(0, count, 25):
        sim.pay([(address, COINS[2] + first + k) for k in range(25)])
    sim.mine(9)
    await pair.follow()
    for watch in pair:
        async with watch.as_owner.unit_of_work() as uow:
            told = await uow.execute(
                "SELECT type, count(*) AS n FROM ledger.events GROUP BY 1 ORDER BY 1"
            )
            assert {row.type: row.n for row in told} == {
                "deposit.pending": count,
                "deposit.final": count,
                "deposit.provisional": count,
            }


async def test_d14_a_rival_in_a_run_replaces_before_its_own_run_ends(
    paired: Callable[..., Any],
) -> None:
    """Seen unconfirmed, excluded by the second block of a run; the earliest rival is told."""
    sim, _ = sim_utxo()
    pair = await paired(lambda: utxo_chain(sim))
    address, *_ = await addresses_of(pair)
    txid = sim.pay([(address, COINS[1])])
    sim.mine_exactly([])
    await pair.follow()
    sim.mine_exactly([])
    sim.conflict(txid)
    sim.mine(6)
    await pair.follow()
    assert (await pair.many.deposit()).state == "replaced"
    await assert_same(pair)


async def test_d09_reversals_of_a_run_are_limited_by_the_height_that_ends_them(
    paired: Callable[..., Any],
) -> None:
    """Fifteen conflicts become final at one height and fifteen at the next: both steps are below
    the limit of twenty, though the run has thirty."""
    sim, _ = sim_utxo()
    pair = await paired(lambda: utxo_chain(sim))
    address, *_ = await addresses_of(pair)
    txids = [sim.pay([(address, COINS[1])]) for _ in range(30)]
    sim.mine(3)
    await pair.follow()
    sim.rewind(3)
    rivals = [sim.conflict(txid) for txid in txids]
    sim.mine_exactly(rivals[:15])
    sim.mine_exactly(rivals[15:])
    sim.mine(6)
    await pair.follow()
    assert {item.state for item in await pair.many.deposits()} == {"reversed"}
    await assert_same(pair)


async def test_a_run_costs_little_more_than_one_block(
    paired: Callable[..., Any],
) -> None:
    """Thirty blocks that each pay somebody take fewer statements than three block by block."""
    sim, _ = sim_utxo()
    pair = await paired(lambda: utxo_chain(sim))
    payable = await addresses_of(pair)
    await pair.follow()
    counts = []
    for watch, blocks in ((pair.one, 3), (pair.many, 27)):
        for number in range(blocks):
            sim.pay([(payable[number % 3], COINS[1])])
            sim.mine()
        if watch is pair.many:
            blocks += 3
        asked = _Count(watch)
        await watch.follow()
        counts.append(asked.count)
    assert counts[1] < counts[0], counts
    await pair.follow()
    await assert_same(pair)


class _Count:
    """Counts what a watcher asks its database."""

    def __init__(self, watch: Watch) -> None:
        self.count = 0
        event.listen(watch.as_watcher.engine.sync_engine, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self.count += 1
