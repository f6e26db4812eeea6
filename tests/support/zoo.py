"""Compiled tokens that misbehave, on anvil, and a watcher that lists them (CASES D33-D58).

Every token has 6 decimals and tiers of one and two blocks; amounts are whole tokens.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from config.assets import load_assets
from config.chains import load_chains
from config.settings import AssetSettings, NetworkSettings, Settings, TierSettings
from gateway.sandbox.nodes import Anvil
from tests.support import evm
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.watching import Watch, watching
from watchers import reconcile_chain, searches, switches, token_store
from watchers.registry import build_chain

ONE = 10**6
ETHER = 10**18
MINTED = 1_000_000 * ONE
TOKENS = {
    "eth:USDT": "UsdtLike",
    "eth:FEE": "FeeToken",  # flagged as keeping a fee
    "eth:TAX": "FeeToken",  # not flagged
    "eth:REB": "RebasingToken",
    "eth:ISS": "IssuerToken",
    "eth:LIE": "LyingToken",
}
TIERS = (TierSettings(min=1, full=2),)


@dataclass(slots=True, kw_only=True)
class Zoo:
    """A watcher over anvil, the tokens that it lists, and the outside world's first account."""

    node: Anvil
    watch: Watch
    tokens: dict[str, str]
    world: str

    async def call(self, to: str, signature: str, *values: object, wei: int = 0) -> str:
        """Send a call of the world, not mined yet; the gas limit lets a failing one be mined."""
        call = {
            "from": self.world,
            "to": to,
            "data": evm.call_data(signature, *values),
            "value": hex(wei),
            "gas": hex(3_000_000),
        }
        txid: str = await self.node.rpc("eth_sendTransaction", call)
        return txid

    async def pay(self, asset: str, to: str, amount: int) -> str:
        """A plain `transfer` of a token."""
        return await self.call(self.tokens[asset], "transfer(address,uint256)", to, amount)

    async def mine(self, count: int = 6) -> None:
        """Mine (six blocks are final for every tier of one or two) and follow."""
        await self.node.mine(count)
        await self.watch.follow()

    async def reconcile(self) -> int:
        """One cycle; how many searches it opened."""
        held = await reconcile_chain.holdings_at(
            self.watch.as_watcher, self.watch.chain, self.watch.network
        )
        return await searches.book(
            self.watch.as_watcher, self.watch.network, held, at=self.watch.clock.now()
        )

    async def searches(self) -> list[tuple[str, str, int, int]]:
        """(kind, asset, claimed, moved) of what is open."""
        async with self.watch.as_watcher.unit_of_work() as uow:
            rows = await token_store.searches(uow, network="eth", limit=50)
        return [(r["kind"], r["asset"], int(r["claimed"]), int(r["moved"])) for r in rows]

    async def is_stopped(self, asset: str, action: switches.Action) -> bool:
        async with self.watch.as_watcher.unit_of_work() as uow:
            return await switches.is_stopped(uow, network="eth", asset=asset, action=action)

    async def alarms(self) -> set[str]:
        async with self.watch.as_owner.unit_of_work() as uow:
            rows = await uow.execute(text("SELECT DISTINCT kind FROM gateway.alarms"))
            return set(rows.scalars().all())


def _settings(tokens: dict[str, str], **network: Any) -> Settings:
    assets = {
        asset: AssetSettings(
            contract=contract,
            decimals=6,
            minimum_deposit="0",
            tiers=TIERS,
            fee_on_transfer=asset == "eth:FEE",
        )
        for asset, contract in tokens.items()
    }
    assets["eth:ETH"] = AssetSettings(tiers=TIERS)
    return Settings(
        networks={"eth": NetworkSettings(chain="dev", absence_blocks=20, **network)}, assets=assets
    )


@asynccontextmanager
async def token_zoo(
    node: Anvil,
    database: TestDatabase,
    *,
    clock: ManualClock,
    ids: SequentialIds,
    **network: Any,
) -> AsyncIterator[Zoo]:
    """Every token deployed, the world rich, the follower at the tip.

    `network` overrides network settings.
    """
    tokens = {asset: await evm.deploy(node, name) for asset, name in TOKENS.items()}
    world = (await node.accounts())[0]
    for token in tokens.values():
        await evm.mint(node, token, world, MINTED)
    settings = _settings(tokens, **network)
    chains = load_chains(settings)
    assets = load_assets(settings, chains)
    chain = build_chain(chains["eth"], [node.url], assets.values(), timeout_seconds=10.0)
    try:
        async with watching(
            chain,
            database,
            clock=clock,
            ids=ids,
            assets=settings.assets,
            absence_blocks=20,
            **network,
        ) as watch:
            watch.start_height = await node.height()
            watch.follower = watch.new_follower("zoo")
            await watch.follow()
            yield Zoo(node=node, watch=watch, tokens=tokens, world=world)
    finally:
        await node.rpc("anvil_dropAllTransactions")
        await chain.close()


async def amounts(zoo: Zoo) -> list[tuple[str, str, int, str]]:
    """(asset, position, amount, state) of deposits that count."""
    return [
        (item.asset, item.position, item.amount_minor, item.state.value)
        for item in await zoo.watch.deposits()
        if item.state != "unsupported"
    ]


def custody(asset: str) -> str:
    return f"custody:eth/deposit/acme:{asset}"
