"""Own transactions and inflows fall due in pages: one unit of work has a bound, nothing starves."""

import pytest

from tests.integration.watchers.conftest import UtxoBench
from watchers import addresses, inflows, outgoing_blocks

pytestmark = pytest.mark.postgres

SMALL = 1_000_000


class Died(Exception):
    """The process ends between two pages."""


def die(point: str) -> None:
    """At the first page after a block's own."""
    if point == "settle.before_commit":
        raise Died


async def plant(utxo: UtxoBench, *, count: int, is_conflict: bool) -> None:
    """Own transactions in the tip, or such that a tx in the tip makes impossible; the youngest ids
    are the longest due."""
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        await uow.execute(
            f"""
            INSERT INTO chain.outgoing (id, network, purpose, family_id, state, unsigned, raw, txid,
                payments, fee_cap_minor, block_hash, height, final_at_height, is_success,
                conflict_txid, conflict_hash, conflict_final_at_height, created_at, state_at)
            SELECT i.id, 'btc', 'withdrawal', i.id, '{"broadcast" if is_conflict else "mined"}',
                '\\x00', '\\x00', md5(i.n::text), '[]', 1,
                {
                "NULL, NULL, NULL, NULL, 'rival', c.hash, c.height - i.n % 2"
                if is_conflict
                else "c.hash, c.height, c.height - i.n % 2, true, NULL, NULL, NULL"
            },
                now(), now()
            FROM chain.cursors c, (SELECT n, gen_random_uuid() AS id
                                   FROM generate_series(1, {count}) AS n) AS i
            WHERE c.network = 'btc'
            """
        )


async def states(utxo: UtxoBench, table: str) -> dict[str, int]:
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute(f"SELECT state, count(*) AS n FROM chain.{table} GROUP BY 1")
        return {row.state: row.n for row in found}


@pytest.mark.parametrize(
    ("is_conflict", "before", "after"),
    [(False, "mined", "final"), (True, "broadcast", "replaced")],
    ids=["final", "replaced"],
)
async def test_own_transactions_fall_due_page_by_page(
    utxo: UtxoBench, is_conflict: bool, before: str, after: str
) -> None:
    """A block moves one page; a process that dies then leaves the rest to the next one."""
    page = outgoing_blocks.PAGE_ROWS
    utxo.sim.mine()
    await utxo.watch.follow()
    await plant(utxo, count=2 * page + 7, is_conflict=is_conflict)
    utxo.sim.mine()
    with pytest.raises(Died):
        await utxo.watch.follow(utxo.watch.new_follower("first", crash=die))
    assert await states(utxo, "outgoing") == {after: page, before: page + 7}
    await utxo.watch.follow(utxo.watch.new_follower("first"))
    assert await states(utxo, "outgoing") == {after: 2 * page + 7}


async def test_the_longest_due_is_settled_first(utxo: UtxoBench) -> None:
    """Half of them were due a block earlier: they are the page that the block moves."""
    page = outgoing_blocks.PAGE_ROWS
    utxo.sim.mine()
    await utxo.watch.follow()
    await plant(utxo, count=2 * page, is_conflict=False)
    utxo.sim.mine()
    with pytest.raises(Died):
        await utxo.watch.follow(utxo.watch.new_follower("first", crash=die))
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute(
            "SELECT DISTINCT state, final_at_height - height AS late FROM chain.outgoing ORDER BY 1"
        )
        assert [(row.state, row.late) for row in found] == [("final", -1), ("mined", 0)]


async def test_inflows_are_booked_page_by_page(utxo: UtxoBench) -> None:
    """More outputs to the hot wallet in one tx than a unit of work books."""
    count = inflows.PAGE_ROWS + 9
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
    utxo.sim.pay([(hot.address, SMALL + number) for number in range(count)])
    utxo.sim.mine(6)
    with pytest.raises(Died):
        await utxo.watch.follow(utxo.watch.new_follower("first", crash=die))
    assert (await states(utxo, "inflows"))["booked"] >= inflows.PAGE_ROWS
    await utxo.watch.follow(utxo.watch.new_follower("first"))
    assert await states(utxo, "inflows") == {"booked": count}
    assert (await utxo.watch.books())["suspense:btc:BTC"] == sum(SMALL + n for n in range(count))
    await utxo.watch.audit()


async def test_inflows_of_a_lost_block_leave_the_books_together(utxo: UtxoBench) -> None:
    """Booked ones are reversed and booked again in their next cycle; an assigned one stays."""
    count = 9
    async with utxo.watch.as_payouts.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network="btc", role="hot")
    utxo.sim.pay([(hot.address, SMALL + number) for number in range(count)])
    utxo.sim.mine(6)
    await utxo.watch.follow()
    async with utxo.watch.as_api.unit_of_work() as uow:
        (taken, *_) = await inflows.find(uow, state=inflows.InflowState.BOOKED, limit=1)
        await inflows.assign(
            uow,
            inflow_id=taken.id,
            target="capital",
            brand=None,
            ids=utxo.watch.ids,
            at=utxo.watch.clock.now(),
        )
    utxo.sim.rewind(6)
    utxo.sim.mine_exactly([])
    for _ in range(7):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    assert await states(utxo, "inflows") == {"orphaned": count}
    assert (await utxo.watch.books()).get("suspense:btc:BTC") is None
    utxo.sim.mine(6)
    await utxo.watch.follow()
    assert await states(utxo, "inflows") == {"assigned": 1, "booked": count - 1}
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        rows = await uow.execute(
            "SELECT posting_reference, version, cycle FROM chain.inflows WHERE state = 'booked'"
        )
        assert {
            (row.posting_reference.rsplit(":", 2)[1:] == [str(row.cycle), "book"], row.version)
            for row in rows
        } == {(True, 5)}
        events = await uow.execute(
            "SELECT type, count(*) AS n FROM ledger.events WHERE object_kind = 'inflow' "
            "GROUP BY type"
        )
        assert {row.type: row.n for row in events} == {
            "inflow.booked": 2 * count - 1,
            "inflow.assigned": 1,
            "inflow.orphaned": count,
        }
    await utxo.watch.audit()
