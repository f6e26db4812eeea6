"""Many deposits at once: a fixed number of statements, in pages that can be gone on from."""

import pytest
from sqlalchemy import event

from tests.integration.watchers.conftest import AccountBench, UtxoBench
from watchers import deposit_due, switches

pytestmark = pytest.mark.postgres

SMALL = 1_000_000
TINY = 10_000  # sixty of them in one tx stay in the tier of two, which counts their sum (D75)


class Statements:
    """Counts what a connection is asked."""

    def __init__(self, utxo: UtxoBench) -> None:
        self.count = 0
        event.listen(utxo.watch.as_watcher.engine.sync_engine, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self.count += 1

    def take(self) -> int:
        """What came since the last look."""
        self.count, taken = 0, self.count
        return taken


async def pay_many(utxo: UtxoBench, players: int, each: int, amount: int = SMALL) -> None:
    """One tx with `each` outputs to each of some players."""
    outputs = []
    for number in range(players):
        address = await utxo.watch.address(f"p{number}")
        outputs += [(address.address, amount + index) for index in range(each)]
    utxo.sim.pay(outputs)


async def states(utxo: UtxoBench) -> dict[str, int]:
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute("SELECT state, count(*) AS n FROM chain.deposits GROUP BY 1")
        return {row.state: row.n for row in found}


async def test_a_block_costs_the_same_statements_however_many_deposits_it_pays(
    utxo: UtxoBench,
) -> None:
    """Connect, credit, finalise, orphan and reverse: 2 deposits and 60 ask as often."""
    statements = Statements(utxo)
    counts = []
    for each in (1, 30):
        await pay_many(utxo, 2, each, TINY)
        utxo.sim.mine(1)
        await utxo.watch.follow()
        taken = [statements.take()]
        utxo.sim.mine(2)
        await utxo.watch.follow()
        taken.append(statements.take())
        utxo.sim.rewind(3)
        for _ in range(4):
            utxo.sim.mine_exactly([])
        await utxo.watch.follow()
        taken.append(statements.take())
        utxo.sim.mine(4)
        await utxo.watch.follow()
        taken.append(statements.take())
        counts.append(taken)
        assert await states(utxo) == {"final": 2 if each == 1 else 62}
    few, many = counts
    assert all(more - less <= 4 for less, more in zip(few, many, strict=True)), counts
    await utxo.watch.audit()


async def test_d28_a_block_of_more_deposits_than_a_page_is_credited_page_by_page(
    utxo: UtxoBench,
) -> None:
    """3,000 outputs of one tx; the process dies between two pages and the next one goes on."""
    await pay_many(utxo, 3, 1_000)
    utxo.sim.mine(6)

    class Died(Exception):
        pass

    def die(point: str) -> None:
        if point == "settle.before_commit":
            raise Died

    dying = utxo.watch.new_follower("first", crash=die)
    with pytest.raises(Died):
        await utxo.watch.follow(dying)
    found = await states(utxo)
    assert found["final"] >= deposit_due.PAGE_ROWS
    assert found["final"] < 3_000
    await utxo.watch.follow(utxo.watch.new_follower("first"))
    assert await states(utxo) == {"final": 3_000}
    books = await utxo.watch.books()
    assert books["brand:acme:clearing:btc:BTC"] == 3 * sum(SMALL + i for i in range(1_000))
    await utxo.watch.audit()


async def test_d74_an_asset_in_maintenance_waits_and_is_credited_in_order_when_it_runs_again(
    utxo: UtxoBench,
) -> None:
    """Recorded while it is stopped, no posting; credited oldest first once two people agree."""
    await set_stopped(utxo, is_stopped=True)
    for name in ("anna", "bert", "cleo"):
        utxo.watch.clock.advance(1.0)  # type: ignore[attr-defined]
        address = await utxo.watch.address(name)
        utxo.sim.pay([(address.address, SMALL)])
        utxo.sim.mine(3)
        await utxo.watch.follow()
    assert await states(utxo) == {"pending": 3}
    assert await utxo.watch.books() == {}
    await set_stopped(utxo, is_stopped=False)
    await utxo.watch.follow()
    assert await states(utxo) == {"final": 3}
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        events = await uow.execute(
            "SELECT d.player_id FROM ledger.events e JOIN chain.deposits d ON d.id = e.object_id "
            "WHERE e.type = 'deposit.final' ORDER BY e.position"
        )
        assert events.scalars().all() == ["anna", "bert", "cleo"]
    await utxo.watch.audit()


async def test_d74_another_asset_of_the_network_goes_on(account: AccountBench) -> None:
    anna = await account.watch.address("anna")
    async with account.watch.as_watcher.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope="asset:eth:USDT",
            action=switches.Action.CREDIT,
            reason="maintenance",
            actor="ann",
            ids=account.watch.ids,
            at=account.watch.clock.now(),
        )
    account.sim.pay("eth:ETH", anna.address, 10**17)
    account.sim.pay("eth:USDT", anna.address, 5_000_000)
    account.sim.mine(3)
    await account.watch.follow()
    found = {row.asset: row.state.value for row in await account.watch.deposits()}
    assert found == {"eth:ETH": "provisional", "eth:USDT": "pending"}


async def set_stopped(utxo: UtxoBench, *, is_stopped: bool) -> None:
    """Stop the credit of BTC, or start it again as two people would."""
    at = utxo.watch.clock.now()
    scope, action = "asset:btc:BTC", switches.Action.CREDIT
    async with utxo.watch.as_api.unit_of_work() as uow:
        if is_stopped:
            await switches.open_breaker(
                uow,
                scope=scope,
                action=action,
                reason="maintenance",
                actor="ann",
                ids=utxo.watch.ids,
                at=at,
            )
            return
        switch = await switches.get(uow, scope=scope, action=action)
        assert switch is not None
        await switches.close_breaker(
            uow,
            scope=scope,
            action=action,
            version=switch.version,
            reason="done",
            proposed_by="ann",
            approved_by="bob",
            ids=utxo.watch.ids,
            at=at,
        )
