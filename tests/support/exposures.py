"""Deposits made by hand, so that caps can be tested without a chain.

The desk plays the part of the deposit step: it asks `exposure.admit` and moves the state in the
same unit of work, under the watcher's role.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from config.database import Database, Uow
from config.registry import Registry
from ledger import balances
from tests.support.clock import ManualClock, SequentialIds
from watchers import deposit_commands, deposit_store, exposure, policies, rates
from watchers.deposits import DepositRow, from_row
from watchers.network import Network


class CapDesk:
    """Deposits of one network and what the caps say of them."""

    def __init__(
        self,
        *,
        registry: Registry,
        network: str,
        as_owner: Database,
        as_watcher: Database,
        clock: ManualClock,
        ids: SequentialIds,
    ) -> None:
        self.registry = registry
        self.as_owner = as_owner
        self.as_watcher = as_watcher
        self.clock = clock
        self.ids = ids
        self.network = Network(
            spec=registry.chains[network],
            assets=registry.assets,
            ids=ids,
            reversed_per_step_max=20,
            reference=registry.policy.reference,
        )
        self._asset = registry.chains[network].native_asset
        self._heights = 0

    async def rate(self, text: str, *, asset: str | None = None) -> None:
        """A rate of now, agreed on by two people."""
        self.clock.advance(1)
        at = self.clock.now()
        async with self.as_owner.unit_of_work() as uow:
            await rates.record(
                uow,
                rate_id=self.ids.new_id(),
                asset=asset or self._asset,
                rate=Decimal(text),
                source=rates.STAFF,
                as_of=at,
                entered_by="ada",
                approved_by="grace",
                reference=self.network.reference,
                at=at,
            )

    async def caps(self, *rows: Mapping[str, Any]) -> int:
        """A new policy version with these caps; its number."""
        async with self.as_owner.unit_of_work() as uow:
            version = (await policies.VERSIONS.latest(uow)).version + 1
            await policies.VERSIONS.put(
                uow,
                version=version,
                content={"tiers": [], "caps": list(rows)},
                proposed_by="ada",
                approved_by="grace",
                at=self.clock.now(),
            )
        return version

    async def deposit(
        self,
        amount_minor: int,
        *,
        player: str = "anna",
        brand: str = "acme",
        asset: str | None = None,
        seen_at: datetime | None = None,
    ) -> UUID:
        """A pending deposit; each is a second younger than the one before."""
        deposit_id = self.ids.new_id()
        self._heights += 1
        async with self.as_owner.unit_of_work() as uow:
            address_id = self.ids.new_id()
            await uow.execute(
                "INSERT INTO chain.addresses (id, network, role, brand, player_id, account, branch,"
                " address_index, path, key, address, scheme, is_verified, issued_at, retired_at,"
                " created_at) VALUES (:id, :network, 'deposit', :brand, :player, 1, 7, :index,"
                " 'm', :text, :text, 'test', true, :at, :at, :at)",
                {
                    "id": address_id,
                    "text": address_id.hex,
                    "network": self.network.name,
                    "brand": brand,
                    "player": player,
                    "index": self._heights,
                    "at": self.clock.now(),
                },
            )
            await uow.execute(
                "INSERT INTO chain.deposits (id, brand, player_id, network, txid, position, asset,"
                " amount, address_id, address, state, block_hash, height, min_depth, full_depth,"
                " provisional_at_height, final_at_height, first_seen_at, state_at) VALUES (:id,"
                " :brand, :player, :network, :text, 'out:0', :asset, :amount,"
                " :address_id, 'a', 'pending', 'h', 1, 1, 3, 1, 3, :at, :at)",
                {
                    "id": deposit_id,
                    "text": deposit_id.hex,
                    "brand": brand,
                    "player": player,
                    "network": self.network.name,
                    "asset": asset or self._asset,
                    "amount": amount_minor,
                    "address_id": address_id,
                    "at": seen_at or self.clock.now() + timedelta(seconds=self._heights),
                },
            )
        return deposit_id

    async def rows(self, ids: Sequence[UUID]) -> list[DepositRow]:
        """The deposits as they stand."""
        async with self.as_watcher.unit_of_work() as uow:
            return [from_row(row) for row in await deposit_store.lock(uow, ids)]

    async def credit(self, *ids: UUID) -> frozenset[UUID]:
        """One due step: ask, and make those provisional that are admitted."""

        async def work(uow: Uow) -> frozenset[UUID]:
            found = [from_row(row) for row in await deposit_store.lock(uow, ids)]
            await balances.lock_players(uow, sorted({(d.brand, d.player_id) for d in found}))
            admitted = await exposure.admit(uow, self.network, found, at=self.clock.now())
            await self._set(uow, sorted(admitted), "provisional", None)
            return admitted

        return await self.as_watcher.run(work)

    async def move(self, state: str, *ids: UUID, prior: str | None = None) -> None:
        """Another step, whatever it is, with the count put right."""

        async def work(uow: Uow) -> None:
            await self._set(uow, ids, state, prior)
            found = [from_row(row) for row in await deposit_store.lock(uow, ids)]
            await exposure.keep(uow, self.network, found, at=self.clock.now())

        await self.as_watcher.run(work)

    async def _set(self, uow: Uow, ids: Sequence[UUID], state: str, prior: str | None) -> None:
        await uow.execute(
            "UPDATE chain.deposits SET state = :state, prior_state = :prior,"
            " version = version + 1 WHERE id = ANY(CAST(:ids AS uuid[]))",
            {"ids": list(ids), "state": state, "prior": prior},
        )

    async def substatus(self, deposit_id: UUID) -> str | None:
        """Why a deposit waits."""
        async with self.as_watcher.unit_of_work() as uow:
            found = await deposit_commands.get(uow, deposit_id)
        return None if found is None else found.substatus

    async def used(self, scope: str, *, brand: str = "acme", subject: str = "") -> tuple[int, int]:
        """Value and number of deposits in a scope; (0, 0) for one that was never used."""
        async with self.as_watcher.unit_of_work() as uow:
            result = await uow.execute(
                "SELECT value, deposits FROM chain.exposure_usage WHERE scope = :scope"
                " AND brand = :brand AND subject = :subject",
                {"scope": scope, "brand": brand, "subject": subject},
            )
            row = result.mappings().one_or_none()
        return (0, 0) if row is None else (int(row["value"]), int(row["deposits"]))

    async def alarms(self) -> list[str]:
        """Kinds of the alarms that are open."""
        async with self.as_watcher.unit_of_work() as uow:
            result = await uow.execute("SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL")
            return list(result.scalars())

    async def differences(self) -> list[exposure.Difference]:
        """What the check finds."""
        async with self.as_watcher.unit_of_work() as uow:
            return await exposure.check(uow)
