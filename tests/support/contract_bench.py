"""The payout house over anvil, with the batch contract of `contracts/`, and a token."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.assets import load_assets
from config.chains import load_chains
from config.database import Database
from gateway.payouts.context import Lane
from gateway.sandbox.nodes import Anvil
from gateway.withdrawals_store import WithdrawalRow
from tests.support import batch, evm
from tests.support.batch import fresh
from tests.support.clock import ManualClock, SequentialIds
from tests.support.payout_parts import settings_of
from tests.support.payouts import Payouts
from tests.support.sign_requests import GAS, LANE
from tests.support.vault import BATCH_CONTRACT, COLLECTOR, TOKEN
from tests.support.worlds import AnvilWorld
from watchers import batch_contract, outgoing, reconcile_chain
from watchers.chains.evm import collect
from watchers.network import Network
from watchers.outgoing import OutgoingRow, OutgoingState
from watchers.registry import build_chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The house over anvil, which has our contract (of lane 0) and a token."""

    node: Anvil
    house: Payouts

    async def own_txs(self) -> list[OutgoingRow]:
        """Every attempt, oldest first."""
        async with self.house.database.unit_of_work() as uow:
            return await outgoing.in_states(
                uow, network="eth", states=list(OutgoingState), limit=1_000
            )

    async def assert_reconciled(self) -> None:
        """The chain holds what the books say, and each account what the evidence adds up to."""
        held = await reconcile_chain.holdings_at(
            self.house.database, self.house.chain, network_of(self.house)
        )
        assert held.breaks == {}
        assert held.drifts == ()

    async def finish(self, *, lane: Lane | None = None) -> None:
        """Send, mine and settle."""
        lane = await self.house.cycle(lane, times=2)
        for _ in range(4):
            await self.house.mine()
            await self.house.cycle(lane)

    async def pay(self, count: int, amount: str, *, asset: str = "eth:USDT") -> list[WithdrawalRow]:
        """As many withdrawals, each to an address of its own."""
        return [
            await self.house.request(amount, asset=asset, address=fresh(number))
            for number in range(count)
        ]


def network_of(house: Payouts) -> Network:
    """What the watcher knows of it."""
    registry = house.registry
    return Network(
        spec=registry.chains["eth"],
        assets=registry.assets,
        ids=house.ids,
        reversed_per_step_max=20,
    )


BuildBench = Callable[..., Awaitable[Bench]]

BASE_FEE = 10**9  # of a new anvil: whatever ran before


@pytest.fixture
async def build_bench(
    anvil: Anvil,
    database: Database,
    payouts_role: Database,
    clock: ManualClock,
    ids: SequentialIds,
    tmp_path: Path,
) -> AsyncIterator[BuildBench]:
    """Builds the house: `has_contract`, `lanes`, `has_collector`, `safe` (the cold wallet)."""
    stack = AsyncExitStack()

    async def build(
        *,
        has_contract: bool = True,
        lanes: int = 1,
        has_collector: bool = False,
        safe: str | None = None,
    ) -> Bench:
        await anvil.rpc("anvil_setNextBlockBaseFeePerGas", hex(BASE_FEE))
        await batch.place(anvil, "OddToken", TOKEN)
        world = (await anvil.accounts())[0]
        await anvil.transact(to=TOKEN, data=evm.call_data("mint(address,uint256)", world, 10**12))
        overrides: dict[str, Any] = {"hot_lanes": lanes}
        if has_contract:
            overrides["batch_contract"] = BATCH_CONTRACT
        if has_collector:
            overrides["collector"] = COLLECTOR
        if safe is not None:
            overrides["safe"] = safe
        settings = settings_of("eth", **overrides)
        chains = load_chains(settings)
        chain = build_chain(
            chains["eth"], [anvil.url], load_assets(settings, chains).values(), timeout_seconds=10.0
        )
        stack.push_async_callback(chain.close)
        opened = AnvilWorld(anvil, chain, native="eth:ETH", token="eth:USDT", contract=TOKEN)
        await anvil.mine()
        house = await Payouts.start(
            "eth",
            database=database,
            role=payouts_role,
            clock=clock,
            ids=ids,
            folder=tmp_path,
            world=opened,
            overrides=overrides,
        )
        if has_collector:
            kit = house.signer.kit
            hot, gas = (kit.address("eth", path).lower() for path in (LANE, GAS))
            data = collect.deploy_data(hot_key=hot, sender_key=gas)
            await anvil.transact(to=collect.FACTORY, data="0x" + data.hex())
            await house.mine(3)
        if has_contract:
            owner = house.signer.kit.address("eth", LANE)
            await batch.place(anvil, "BatchPayer", BATCH_CONTRACT, owner=owner)
            await house.mine(3)
            assert await batch_contract.register(database, chain, network_of(house), clock=clock)
        return Bench(node=anvil, house=house)

    yield build
    await anvil.rpc("anvil_dropAllTransactions")
    await stack.aclose()
