"""A whole deployment under load: every role a process, real nodes, real PostgreSQL, a sample PAM.

Owns the load (deposits and withdrawals on BTC and ETH, told apart by their round) and what must be
true after it. It sees the house from outside: the API, the nodes, the PAM; the database only
through the auditor.
"""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from sqlalchemy import text

from config.clock import SystemClock
from config.database import Database, async_url
from config.ids import SystemIds
from gateway.client import ApiClient
from gateway.sandbox import story
from gateway.sandbox.narration import Narration
from gateway.sandbox.provision import Provisioned
from gateway.sandbox.stage import Stage, open_story, quiet_webhooks, reconcile, set_up
from gateway.sandbox.story import Payment, Story
from gateway.sandbox.world import start_world
from tests.support.auditor import audit

NETWORKS = ("btc", "eth")
REST_SECONDS = 45.0
HOT_FUNDS = {"btc:BTC": "2", "eth:ETH": "10"}
CLEARING = [
    Payment(brand="acme", player="ann", asset="btc:BTC", amount="0.5"),
    Payment(brand="bravo", player="dan", asset="eth:ETH", amount="5"),
]
BRAND = {"btc:BTC": "acme", "eth:ETH": "bravo"}
DEPOSITS = {"btc:BTC": ("0.011", "0.012"), "eth:ETH": ("0.11", "0.12")}
WITHDRAWALS = {
    "btc:BTC": {"0.001": 100_000, "0.002": 200_000},
    "eth:ETH": {"0.01": 10**16, "0.02": 2 * 10**16},
}


@dataclass(slots=True, kw_only=True)
class Live:
    """The running deployment and everything that was asked of it so far."""

    tale: Story
    stage: Stage
    deposits: dict[str, str] = field(default_factory=dict)
    withdrawals: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """Withdrawal id -> asset, address (used once), minor units that it must hold in the end."""
    rounds: "itertools.count[int]" = field(default_factory=itertools.count)
    accepted: asyncio.Event = field(default_factory=asyncio.Event)
    """A withdrawal of the newest round is."""
    purse: asyncio.Lock = field(default_factory=asyncio.Lock)
    """The strangers' account on anvil takes one nonce at a time."""

    def pid(self, role: str) -> int:
        """The pid of a role now; raises KeyError when it is down."""
        return self.stage.deployment.role_pids()[role]

    async def begin(self) -> asyncio.Task[None]:
        """A round of load whose first withdrawal is accepted, so that money is on its way both
        ways; the task ends with the round. Raises what ended the round before that."""
        self.accepted.clear()
        working = asyncio.create_task(self.work())
        accepted = asyncio.create_task(self.accepted.wait())
        await asyncio.wait({working, accepted}, return_when=asyncio.FIRST_COMPLETED)
        accepted.cancel()
        if working.done():
            working.result()
        return working

    async def work(self) -> None:
        """One round of load: each deposit final, each withdrawal completed."""
        number = next(self.rounds)
        async with asyncio.TaskGroup() as group:
            for asset in BRAND:
                for place, amount in enumerate(DEPOSITS[asset]):
                    group.create_task(self._deposit(asset, f"p{number}-{place}", amount))
                for place, amount in enumerate(WITHDRAWALS[asset]):
                    group.create_task(self._withdraw(asset, f"w{number}-{asset}-{place}", amount))

    async def _deposit(self, asset: str, player: str, amount: str) -> None:
        network = asset.partition(":")[0]
        address = await self.tale.address(BRAND[asset], player, network)
        async with self.purse:
            txid = await self.tale.world.pay(asset, address, amount)
        found = await self.tale.deposit_state(BRAND[asset], txid, player, "final", mine=network)
        assert found["amount"] == amount
        self.deposits[found["id"]] = BRAND[asset]

    async def _withdraw(self, asset: str, request_id: str, amount: str) -> None:
        network = asset.partition(":")[0]
        address = await self._new_address(network)

        async def order() -> dict[str, Any] | None:
            return await self.tale.withdraw(
                BRAND[asset], request_id, player_id="payee", asset=asset, address=address,
                amount=amount, pam_balance="100",
            )  # fmt: skip

        row = await self.tale.until(f"an answer to {request_id}", order)
        self.accepted.set()
        self.withdrawals[row["id"]] = BRAND[asset]
        self.addresses[row["id"]] = (asset, address, WITHDRAWALS[asset][amount])
        await self.tale.withdrawal_state(BRAND[asset], row["id"], "completed", mine=network)

    async def _new_address(self, network: str) -> str:
        if network == "eth":  # no key is known for it, and nobody else pays it
            return "0x" + SystemIds(self.stage.clock).token_bytes(20).hex()
        return await self.tale.world.utxo[network].new_address()

    async def replaced(self, role: str, pid: int) -> int:
        """The pid of the process that the supervisor started in place of `pid`."""

        async def probe() -> int | None:
            now = self.stage.deployment.role_pids().get(role)
            return now if now not in (None, pid) else None

        return await self.tale.until(f"a new {role} process", probe)

    def endings(self) -> Counter[str]:
        """How the supervisor says that roles ended so far, `role ended (exit 0)`, each counted."""
        text = (self.stage.deployment.folder / "up.log").read_text("utf-8")
        return Counter(re.findall(r"cage up: (\S+ ended \([^)]*\)), again in", text))

    async def lease_holder(self, name: str) -> str:
        """Who holds a lease of the payout role now."""
        database = self._books()
        try:
            async with database.engine.connect() as connection:
                found = await connection.execute(
                    text("SELECT holder FROM gateway.leases WHERE name = :name"), {"name": name}
                )
                return str(found.scalar_one())
        finally:
            await database.close()

    def _books(self) -> Database:
        return Database(async_url(self.stage.deployment.settings.owner_url()), pool_size=1)

    async def violations_at_rest(self) -> list[str]:
        """What the auditor says once every queue is empty; mines so that txs become final."""
        clock = self.stage.clock
        deadline_seconds = clock.monotonic_seconds() + REST_SECONDS
        database = self._books()
        try:
            while True:
                found = await audit(database.engine, at_rest=True)
                if not found or clock.monotonic_seconds() > deadline_seconds:
                    return found
                for network in NETWORKS:
                    await self.tale.world.mine(network)
                await clock.sleep(story.POLL_SECONDS)
        finally:
            await database.close()

    async def assert_all_is_well(self) -> None:
        """Everything asked for happened once, on chain and in the books, and the PAM knows."""
        for key, brand in self.deposits.items():
            states = await self._states(f"/v1/deposits/{key}", brand)
            assert states.count("final") == 1, (key, states)
        for key, brand in self.withdrawals.items():
            states = await self._states(f"/v1/withdrawals/{key}", brand)
            assert states.count("completed") == 1, (key, states)
        await self._assert_paid_once()
        assert await self.violations_at_rest() == []
        alice = self.tale.staff["alice"]
        assert (await alice.get("/v1/ledger/trial_balance"))["balanced"]
        key = f"reconcile-{next(self.rounds)}"
        assert await reconcile(self.tale, alice, key=key) == []
        await self._assert_pam_knows_all()

    async def _states(self, path: str, brand: str) -> list[str]:
        page = await self.tale.brands[brand].get(f"{path}/timeline")
        return [item["state"] for item in page["items"]]

    async def _assert_paid_once(self) -> None:
        paid = {
            address: await self._received(asset, address)
            for asset, address, _ in self.addresses.values()
        }
        assert paid == {address: minor for _, address, minor in self.addresses.values()}

    async def _received(self, asset: str, address: str) -> int:
        """Everything that ever reached an address, mined, in minor units."""
        if asset == "eth:ETH":
            return await self.tale.world.received(asset, address)
        # Not what lies there now: the strangers' wallet may have spent it on a deposit.
        coins = await self.tale.world.utxo["btc"].rpc("getreceivedbyaddress", address, 1)
        return int(coins * 10**8)

    async def _assert_pam_knows_all(self) -> None:
        figures = await quiet_webhooks(self.tale, self.stage)
        assert (figures["bad_signatures"], figures["pending"]) == (0, 0)
        last = {}
        for brand, client in self.tale.brands.items():
            numbers = await feed(client)
            assert numbers == list(range(1, len(numbers) + 1))
            last[brand] = len(numbers)
        stats = await self.stage.pam.stats()
        assert stats["last_seq"] == last
        assert stats["delivered"] == sum(last.values())


async def feed(client: ApiClient) -> list[int]:
    """The numbers of every event of the client's brand, in the order of the feed."""
    numbers: list[int] = []
    while True:
        query = {"after": str(numbers[-1] if numbers else 0), "limit": "500"}
        page = await client.get("/v1/events", query)
        if not page["items"]:
            return numbers
        numbers += [int(event["seq"]) for event in page["items"]]


@asynccontextmanager
async def live(folder: Path, programs: Mapping[str, Path]) -> AsyncIterator[Live]:
    """A funded deployment of BTC and ETH, all roles ready."""
    clock = SystemClock()
    with (folder / "story.log").open("w") as log:
        told = Narration(
            clock=clock,
            console=Console(file=log, highlight=False),
            started_seconds=clock.monotonic_seconds(),
        )
        wanted = Provisioned(programs={name: programs[name] for name in ("bitcoind", "anvil")})
        async with AsyncExitStack() as stack:
            world = await start_world(stack, wanted, folder / "nodes", ids=SystemIds(clock))
            stage = await set_up(stack, told, clock, folder, world)
            tale = await open_story(stack, stage)
            await story.fund_hot_wallets(tale, HOT_FUNDS)
            await story.plain_deposits(tale, CLEARING)
            assert told.failed() == []
            yield Live(tale=tale, stage=stage, deposits=dict(tale.deposit_ids))
