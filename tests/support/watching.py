"""One watcher over any chain backend and a real database, driven step by step.

The signer's re-derivation is played by marking pool rows verified, under the role of payouts; keys
are those of a public BIP 32 test vector and must never hold anything of value.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from config.clock import Clock
from config.database import Database, Uow, async_url
from config.ids import Ids
from config.registry import Registry, load_registry
from config.settings import (
    AddressPoolSettings,
    AssetSettings,
    BrandSettings,
    DatabaseRole,
    NetworkSettings,
    Settings,
)
from ledger import balances, lifecycle, reconcile
from tests.support.auditor import audit
from tests.support.databases import TestDatabase
from tests.support.simchain import TOKEN_CONTRACT
from tests.support.worlds import Wallet
from watchers import addresses, deposit_commands, exposure, pool, reconcile_chain, switches
from watchers.addresses import AddressRow
from watchers.chain import Chain
from watchers.deposits import DepositRow
from watchers.follower import LEASE_SECONDS, Crash, Follower, Position, Step, no_crash
from watchers.loops import look_beside
from watchers.network import Network
from watchers.polling import MempoolPace
from watchers.switches import Action, GrantKind, Value

BRANDS = {"acme": 1, "zest": 2}
POOL_ROWS = 12
TWO_PEOPLE = {"proposed_by": "ada", "approved_by": "grace"}


def registry_for(
    chain: Chain,
    network: Mapping[str, Any],
    assets: Mapping[str, AssetSettings] | None = None,
) -> Registry:
    """The configuration of one test network; `network` and `assets` override its settings."""
    is_utxo = chain.family == "bitcoin"
    settings = Settings(
        networks={
            chain.network: NetworkSettings(**{"chain": "regtest" if is_utxo else "dev", **network})
        },
        assets=dict(assets)
        if assets is not None
        else ({} if is_utxo else {"eth:USDT": AssetSettings(contract=TOKEN_CONTRACT)}),
        brands={name: BrandSettings(account_index=index) for name, index in BRANDS.items()},
        pool=AddressPoolSettings(low=POOL_ROWS, high=POOL_ROWS),
    )
    return load_registry(settings)


def account_xpubs(chain: Chain) -> dict[int, str]:
    """Public keys of the operator's and the brands' accounts, of the public test vector."""
    purpose, version = ("84h/1h", "regtest") if chain.family == "bitcoin" else ("44h/60h", "main")
    return {
        account: Wallet(chain, account_path=f"m/{purpose}/{account}h", version=version).xpub
        for account in (0, *BRANDS.values())
    }


class Watch:
    """A follower with everything a test asks of it. Each role has its own connection."""

    def __init__(
        self,
        *,
        chain: Chain,
        registry: Registry,
        as_owner: Database,
        as_watcher: Database,
        as_api: Database,
        as_payouts: Database,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self.chain = chain
        self.registry = registry
        self.as_owner = as_owner
        self.as_watcher = as_watcher
        self.as_api = as_api
        self.as_payouts = as_payouts
        self.clock = clock
        self.ids = ids
        self.network = Network(
            spec=registry.chains[chain.network],
            assets=registry.assets,
            ids=ids,
            reversed_per_step_max=20,
        )
        self.start_height: int | None = 0
        self.follower = self.new_follower("first")

    def new_follower(
        self,
        holder: str,
        *,
        chain: Chain | None = None,
        crash: Crash = no_crash,
        clock: Clock | None = None,
    ) -> Follower:
        """Another instance of the watcher: a standby, or the one after a crash."""
        return Follower(
            chain=chain or self.chain,
            network=self.network,
            database=self.as_watcher,
            clock=clock or self.clock,
            holder=holder,
            start_height=self.start_height,
            crash=crash,
        )

    async def age_lease(self, seconds: float = LEASE_SECONDS + 1) -> None:
        """As if the holder had not renewed it for so much longer (its time is the database's)."""
        async with self.as_owner.unit_of_work() as uow:
            await uow.execute(
                "UPDATE chain.cursors SET lease_expires_at = lease_expires_at "
                "- make_interval(secs => CAST(:seconds AS double precision))",
                {"seconds": seconds},
            )

    async def fill_pool(self) -> None:
        """Top up the address pool and verify it."""
        rows = pool.branches(self.registry.settings, self.network, account_xpubs(self.chain))
        await pool.top_up(self.as_watcher, self.chain.codec, self.network, rows, clock=self.clock)
        async with self.as_payouts.unit_of_work() as uow:
            waiting = await addresses.unverified(uow, network=self.network.name, limit=1000)
            await addresses.mark_verified(uow, [row.id for row in waiting], at=self.clock.now())

    async def address(self, player_id: str, *, brand: str = "acme") -> AddressRow:
        """The player's deposit address, as the API hands it out."""
        async with self.as_api.unit_of_work(brand=brand) as uow:
            return await addresses.hand_out(
                uow,
                brand=brand,
                player_id=player_id,
                network=self.network.name,
                at=self.clock.now(),
            )

    async def position(self, follower: Follower | None = None) -> Position:
        """The follower's position under its lease."""
        found = await (follower or self.follower).take_lease()
        if found is None:
            raise AssertionError("the lease is another's")
        return found

    async def follow(self, follower: Follower | None = None) -> list[Step]:
        """Follow to the tip, then look at the mempool and at what is absent."""
        runner = follower or self.follower
        done: list[Step] = []
        while steps := await runner.follow(await self.position(runner)):
            done.extend(steps)
        position = await self.position(runner)
        await look_beside(runner, position, pace=MempoolPace(), clock=self.clock)
        return done

    async def deposits(self, *, brand: str | None = None) -> list[DepositRow]:
        """Every deposit, smallest amount first."""
        async with self.as_api.unit_of_work() as uow:
            found = await deposit_commands.find(uow, brand=brand, limit=500)
        return sorted(found, key=lambda item: item.amount_minor)

    async def deposit(self) -> DepositRow:
        """The only deposit."""
        (found,) = await self.deposits()
        return found

    async def deposit_states(self) -> set[str]:
        """The states that deposits are in."""
        return {item.state.value for item in await self.deposits()}

    async def states(self, deposit_id: UUID) -> list[str]:
        """Every state a deposit has had, in order."""
        async with self.as_watcher.unit_of_work() as uow:
            return [row.state for row in await lifecycle.history(uow, "deposit", deposit_id)]

    async def grant(self, kind: GrantKind, count: int, *, value: Value | None = None) -> None:
        """Two people let the watcher do this much."""
        async with self.as_api.unit_of_work() as uow:
            await self._grant(uow, kind, count, value=value)

    async def start_again(self, *, depth: int | None = None) -> None:
        """What the API does once two people let the network go on, and walk a reorg this deep."""
        async with self.as_api.unit_of_work() as uow:
            scope = f"network:{self.network.name}"
            found = await switches.get(uow, scope=scope, action=Action.ALL)
            if found is None:
                raise AssertionError("nothing was stopped")
            closed = await switches.close_breaker(
                uow,
                scope=scope,
                action=Action.ALL,
                version=found.version,
                reason="the branch is right",
                **TWO_PEOPLE,
                ids=self.ids,
                at=self.clock.now(),
            )
            if closed is None:
                raise AssertionError("the switch is of another version")
            if depth is not None:
                await self._grant(uow, GrantKind.REORG, depth)

    async def _grant(
        self, uow: Uow, kind: GrantKind, count: int, *, value: Value | None = None
    ) -> None:
        await switches.grant(
            uow,
            network=self.network.name,
            kind=kind,
            count=count,
            value=value,
            **TWO_PEOPLE,
            ids=self.ids,
            at=self.clock.now(),
        )

    async def books(self) -> dict[str, int]:
        """Every account that is not empty, by code."""
        async with self.as_watcher.unit_of_work() as uow:
            found = await balances.balances(uow)
        return {item.code: item.balance_minor for item in found if item.balance_minor}

    async def audit(self) -> None:
        """Books hold in themselves and explain the chain to the last unit, twice checked."""
        violations = await audit(self.as_owner.engine, at_rest=False)
        if violations:
            raise AssertionError(f"the auditor found: {violations}")
        async with self.as_watcher.unit_of_work() as uow:
            contradictions = await reconcile.check_books(uow)
            uncounted = await exposure.check(uow)
        if contradictions:
            raise AssertionError(f"the books contradict themselves: {contradictions}")
        if uncounted:
            raise AssertionError(f"exposures are not those of the deposits: {uncounted}")
        held = await reconcile_chain.holdings_at(self.as_watcher, self.chain, self.network)
        if held.breaks:
            raise AssertionError(f"books and chain differ: {held}")


@asynccontextmanager
async def watching(
    chain: Chain,
    database: TestDatabase,
    *,
    clock: Clock,
    ids: Ids,
    assets: Mapping[str, AssetSettings] | None = None,
    **network: Any,
) -> AsyncIterator[Watch]:
    """A watcher over `chain` with a filled pool; `network` overrides network settings."""
    roles: tuple[DatabaseRole, ...] = ("watchers", "gateway_api", "gateway_payouts")
    opened = [Database(async_url(database.role_url(role))) for role in roles]
    opened.append(Database(async_url(database.owner_url), pool_size=1))
    try:
        watch = Watch(
            chain=chain,
            registry=registry_for(chain, network, assets),
            as_owner=opened[3],
            as_watcher=opened[0],
            as_api=opened[1],
            as_payouts=opened[2],
            clock=clock,
            ids=ids,
        )
        await watch.fill_pool()
        yield watch
    finally:
        for item in opened:
            await item.close()


@asynccontextmanager
async def watched(
    chain: Chain, database: TestDatabase, clock: Clock, ids: Ids, **network: Any
) -> AsyncIterator[Watch]:
    """A watcher that starts at the present tip; `network` overrides network settings."""
    async with watching(chain, database, clock=clock, ids=ids, **network) as watch:
        watch.start_height = None
        watch.follower = watch.new_follower("first")
        await watch.follow()
        yield watch
