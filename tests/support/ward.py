"""The API with the watchers of three simulated chains that answer questions of the doctor."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.client import Reply
from tests.support.api import ApiHouse, api_house
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.simchain import (
    TOKEN_CONTRACT,
    UTXO_PARAMS,
    SimAccount,
    SimUtxo,
    sim_account,
    sim_utxo,
)
from tests.support.watching import Watch, watching
from watchers import doctor_probe, health
from watchers.health import Observation

ANSWER_SECONDS = 20.0  # of real time, for a stuck test
COIN = 10**8
LTC_PARAMS = replace(UTXO_PARAMS, network="ltc", asset="ltc:LTC", hrp="rltc")
NOBODYS = "ab" * 32


@dataclass(slots=True, kw_only=True)
class Ward:
    """The API with the watchers of btc, ltc and eth over simulated chains."""

    house: ApiHouse
    clock: ManualClock
    btc: SimUtxo
    ltc: SimUtxo
    eth: SimAccount
    watches: dict[str, Watch]
    silent: set[str] = field(default_factory=set)
    """Networks whose watcher answers no question."""

    async def follow(self) -> None:
        """Every watcher to its tip, health told."""
        for name, watch in self.watches.items():
            await watch.follow()
            await self.observe(name)

    async def observe(self, network: str, *, error: str | None = None) -> None:
        """What a watcher's look tells of its network."""
        watch = self.watches[network]
        tip = await watch.chain.reader.tip()
        position = await watch.position()
        seen = Observation(
            network=network,
            tip_height=tip.height,
            tip_hash=tip.hash,
            height=position.height,
            nodes_total=1,
            nodes_agreeing=1,
            error=error,
        )
        async with watch.as_watcher.unit_of_work() as uow:
            await health.observe(uow, seen, ids=watch.ids, at=self.clock.now())

    async def look(self, query: str, *, key: str = "acme-key") -> Reply:
        """One lookup while the watchers answer questions and time goes on."""
        return await self.fetch(f"/v1/deposits/doctor?{query}", key=key)

    async def fetch(self, target: str, *, key: str = "acme-key") -> Reply:
        """One call while the watchers answer questions and time goes on."""
        task = asyncio.create_task(self.house.call("GET", target, key=key))
        async with asyncio.timeout(ANSWER_SECONDS):
            while not task.done():
                await self.answer()
                await asyncio.wait({task}, timeout=0.02)
                self.clock.advance(0.1)
        return task.result()

    async def answer(self) -> None:
        """One round of every watcher's questions."""
        for name, watch in self.watches.items():
            if name not in self.silent:
                await doctor_probe.answer_all(
                    watch.as_watcher, watch.chain, watch.network, clock=self.clock
                )

    async def report(self, query: str, *, key: str = "acme-key") -> dict[str, Any]:
        """The report of a lookup that is complete."""
        reply = await self.look(query, key=key)
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json()
        return found


@asynccontextmanager
async def open_ward(
    database: TestDatabase, folder: Path, *, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[Ward]:
    """The API of two brands; every watcher has followed to its tip."""
    btc, btc_chain = sim_utxo()
    ltc, ltc_chain = sim_utxo(LTC_PARAMS)
    eth, eth_chain = sim_account()
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(
            api_house(
                database,
                folder,
                clock=clock,
                ids=ids,
                is_furnished=True,
                token=TOKEN_CONTRACT,
            )
        )
        watches = {
            chain.network: await stack.enter_async_context(
                watching(chain, database, clock=clock, ids=ids)
            )
            for chain in (btc_chain, ltc_chain, eth_chain)
        }
        for index, brand in enumerate(("acme", "zest")):
            await house.rows(
                "INSERT INTO gateway.brands (id, account_index, created_at)"
                " VALUES (:id, :index, :at)",
                id=brand,
                index=index + 1,
                at=clock.now(),
            )
            await house.add_key(f"{brand}-key", brand=brand)
        await house.add_key("operator-key", kind="operator", brand=None)
        ward = Ward(house=house, clock=clock, btc=btc, ltc=ltc, eth=eth, watches=watches)
        await ward.follow()
        yield ward


def codes(items: list[Mapping[str, Any]]) -> list[str]:
    return [item["code"] for item in items]


def deposit_codes(report: Mapping[str, Any]) -> list[str]:
    (one,) = report["deposits"]
    return codes(one["findings"])
