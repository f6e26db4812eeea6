"""The set-up of the webhook tests: brands, endpoints, events, a sequencer and a relay by hand.

Everything runs on this test's own PostgreSQL database, under the database role of the process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from config.assets import load_assets
from config.chains import load_chains
from config.clock import Waker
from config.database import Database, Uow
from config.settings import load_settings
from gateway.api.wire import WireContext
from gateway.webhooks.connector import WebhookClient
from gateway.webhooks.delivery import Schedule
from gateway.webhooks.relay import Relay
from gateway.webhooks.secrets import SealingKey, new_secret, seal
from gateway.webhooks.sequencer import Sequencer
from ledger import outbox
from tests.support.clock import ManualClock, SequentialIds

SCHEDULE = Schedule(
    steps_seconds=(5, 30, 120),
    tail_seconds=600,
    total_seconds=2000,
    pause_after_failures=20,
    timeout_seconds=0.5,
)
SETTINGS = load_settings(environ={"CAGE_NETWORKS": '{"btc": {"chain": "regtest"}}'})
CONTEXT = WireContext(assets=load_assets(SETTINGS, load_chains(SETTINGS)), livemode=False)


@dataclass(kw_only=True)
class Desk:
    """`owner` writes events as the ledger does; `role` is what the process runs under."""

    owner: Database
    role: Database
    clock: ManualClock
    ids: SequentialIds
    key: SealingKey
    _numbering: Sequencer | None = None

    async def add_brands(self, *brands: str) -> None:
        async with self.owner.unit_of_work() as uow:
            for index, brand in enumerate(brands, start=1):
                await uow.execute(
                    "INSERT INTO gateway.brands (id, account_index, created_at) "
                    "VALUES (:id, :index, :at)",
                    {"id": brand, "index": index, "at": self.clock.now()},
                )

    async def add_endpoint(
        self, url: str, *, brand: str = "acme", types: tuple[str, ...] = (), secret: str = ""
    ) -> UUID:
        endpoint_id = self.ids.new_id()
        async with self.owner.unit_of_work() as uow:
            await uow.execute(
                "INSERT INTO gateway.webhook_endpoints "
                "(id, brand, url, types, secret_sealed, state, created_at) "
                "VALUES (:id, :brand, :url, :types, :secret, 'active', :at)",
                {
                    "id": endpoint_id,
                    "brand": brand,
                    "url": url,
                    "types": list(types),
                    "secret": seal(self.key, secret or new_secret(self.ids)),
                    "at": self.clock.now(),
                },
            )
        return endpoint_id

    async def append(
        self, uow: Uow, *, object_id: UUID, version: int = 1, brand: str | None = "acme"
    ) -> UUID:
        """One event inside the caller's unit of work."""
        event_id = self.ids.new_id()
        await outbox.append(
            uow,
            event_id=event_id,
            brand=brand,
            type="deposit.pending" if version == 1 else "deposit.final",
            object_kind="deposit",
            object_id=object_id,
            object_version=version,
            previous_state=None if version == 1 else "pending",
            snapshot=self.snapshot(object_id, version, brand),
            at=self.clock.now(),
        )
        return event_id

    async def event(
        self, *, object_id: UUID | None = None, version: int = 1, brand: str | None = "acme"
    ) -> UUID:
        """One committed event."""
        async with self.owner.unit_of_work() as uow:
            return await self.append(
                uow, object_id=object_id or self.ids.new_id(), version=version, brand=brand
            )

    def snapshot(self, object_id: UUID, version: int, brand: str | None) -> Mapping[str, Any]:
        at = self.clock.now().isoformat()
        return {
            "id": str(object_id),
            "version": version,
            "brand": brand or "operator",
            "player_id": "player-ü-1",
            "network": "btc",
            "asset": "btc:BTC",
            "amount": "5000000",
            "address": "bcrt1qexample",
            "txid": "ab" * 32,
            "position": "out:0",
            "cycle": 1,
            "state": "pending" if version == 1 else "final",
            "first_seen_at": at,
            "state_at": at,
        }

    def sequencer(self) -> Sequencer:
        return Sequencer(
            database=self.role,
            clock=self.clock,
            ids=self.ids,
            context=CONTEXT,
            waker=Waker(poll_seconds=0.05),
        )

    async def number(self) -> None:
        """Number all that is committed, always by the same sequencer: it has the lease."""
        if self._numbering is None:
            self._numbering = self.sequencer()
        while await self._numbering.run_once():
            pass

    def relay(self, client: WebhookClient, *, schedule: Schedule = SCHEDULE) -> Relay:
        return Relay(
            database=self.role,
            clock=self.clock,
            ids=self.ids,
            poster=client,
            key=self.key,
            schedule=schedule,
            livemode=False,
            waker=Waker(poll_seconds=0.05),
        )

    async def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        async with self.owner.unit_of_work() as uow:
            return [tuple(row) for row in await uow.execute(query, parameters)]

    async def feed(self, brand: str) -> list[tuple[Any, ...]]:
        """(seq, object id, version) of a brand's feed, in order."""
        return await self.rows(
            "SELECT seq, object_id, object_version FROM gateway.event_log "
            "WHERE brand = :brand ORDER BY seq",
            brand=brand,
        )

    async def deliveries(self) -> list[tuple[Any, ...]]:
        """(state, attempts) of every delivery by seq and endpoint."""
        return await self.rows(
            "SELECT state, attempts FROM gateway.deliveries ORDER BY seq, endpoint_id"
        )
