"""The comparison of an account chain asks for few addresses, and in time for every one."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.integration.watchers.conftest import AccountBench
from tests.support.clock import ManualClock
from tests.support.simchain import SimAccount, SimAccountReader, account_chain
from watchers.addresses import AddressRow
from watchers.balance_scan import SCAN_KEYS
from watchers.searches import SearchLoop

pytestmark = pytest.mark.postgres

ETHER = 10**18
PAGE = 5
CUSTODY = "custody:eth/deposit/acme:eth:ETH"


class PlantedReader(SimAccountReader):
    """A node that remembers which balances it was asked for, and knows of more than the logs."""

    def __init__(self, world: SimAccount) -> None:
        super().__init__(world)
        self.planted: dict[str, int] = {}
        self.asked: list[str] = []

    async def holdings(
        self, keys: Sequence[str], asset: str, *, block_hash: str
    ) -> Mapping[str, int]:
        found = dict(await super().holdings(keys, asset, block_hash=block_hash))
        if asset == "eth:ETH":
            self.asked.extend(keys)
            found |= {key: found[key] + self.planted.get(key, 0) for key in keys}
        return found


class Skipping(ManualClock):
    """Time passes as soon as somebody waits for it."""

    async def sleep(self, delay_seconds: float) -> None:
        self.advance(delay_seconds)


class Scan:
    """Cycles of the reconciliation, each by a process that has just started."""

    def __init__(self, account: AccountBench) -> None:
        self.watch = account.watch
        self.reader = PlantedReader(account.sim)
        self._chain = account_chain(account.sim, reader=self.reader)

    async def cycle(self) -> set[str]:
        """One cycle; the keys it asked for."""
        self.reader.asked.clear()
        loop = SearchLoop(
            chain=self._chain,
            network=self.watch.network,
            database=self.watch.as_watcher,
            clock=Skipping(),
            scan_keys=PAGE,
        )
        assert await loop.look()
        return set(self.reader.asked)

    async def rows(self, statement: str) -> list[Any]:
        async with self.watch.as_watcher.unit_of_work() as uow:
            return list((await uow.execute(statement)).scalars())

    async def keys(self, role: str = "= 'deposit'") -> set[str]:
        return set(await self.rows(f"SELECT key FROM chain.addresses WHERE role {role}"))


async def last_address(scan: Scan) -> AddressRow:
    """A player's address that the first pages do not reach."""
    found = [await scan.watch.address(f"player{number}") for number in range(PAGE + 3)]
    return found[-1]


async def test_a_cycle_asks_for_what_received_something_and_a_page_of_the_rest(
    account: AccountBench,
) -> None:
    """Each page is another one; together they are all, and then the first comes again."""
    scan = Scan(account)
    anna = await scan.watch.address("anna")
    account.sim.pay("eth:ETH", anna.address, ETHER)
    account.sim.mine(20)
    await scan.watch.follow()
    always = {anna.key} | await scan.keys("<> 'deposit'")
    rest = await scan.keys() - {anna.key}
    seen: set[str] = set()
    for _ in range(len(rest) // PAGE + 1):
        asked = await scan.cycle()
        assert always <= asked
        page = asked - always
        assert 0 < len(page) <= PAGE
        seen |= page
    assert seen == rest
    assert await scan.cycle() - always
    assert await scan.rows("SELECT rounds FROM chain.balance_scans") == [1]
    assert SCAN_KEYS == 5_000


async def test_d45_d47_coins_on_an_address_never_used_are_found_when_their_turn_comes(
    account: AccountBench,
) -> None:
    """Then they are in suspense once, and compared in every cycle: no shortfall follows."""
    scan = Scan(account)
    strange = await last_address(scan)
    account.sim.mine(20)
    await scan.watch.follow()
    first = await scan.cycle()
    scan.reader.planted[strange.key] = 7 * ETHER
    assert strange.key not in first
    cycles = 0
    while not await scan.rows("SELECT kind FROM chain.searches"):
        await scan.cycle()
        cycles += 1
        assert cycles <= len(await scan.keys()) // PAGE + 1
    account.sim.mine(100)  # the deepest tier
    await scan.watch.follow()
    assert (await scan.watch.books())[CUSTODY] == 7 * ETHER
    for _ in range(3):
        assert strange.key in await scan.cycle()
    assert await scan.rows("SELECT kind FROM chain.searches") == ["unexplained"]
    alarms = await scan.rows("SELECT DISTINCT kind FROM gateway.alarms")
    assert alarms == ["unexplained_inflow"]


async def test_a_cycle_that_dies_looks_at_its_page_again(account: AccountBench) -> None:
    scan = Scan(account)
    account.sim.mine(3)
    await scan.watch.follow()
    before = await scan.rows("SELECT number FROM chain.balance_scans")
    first = await scan.cycle()
    async with scan.watch.as_owner.unit_of_work() as uow:
        await uow.execute("DELETE FROM chain.balance_scans")  # as if it had not come that far
    assert before == []
    assert await scan.cycle() == first
