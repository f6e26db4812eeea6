"""The treasury desk beside a payout house with a cold wallet: a real API, real commands."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config.clock import SystemClock
from config.database import Database, async_url
from config.ids import SystemIds
from config.settings import ApiSettings
from gateway.api.role import ApiServer, build_services, endpoints
from gateway.client import ApiClient, Reply
from gateway.sandbox.nodes import free_port
from tests.support.databases import TestDatabase
from tests.support.desk import Desk
from tests.support.people import PEOPLE
from tests.support.refills import RefillHouse
from tests.support.vault import staff_key

WORDS = ("direction", "network", "asset", "address", "amount", "valid_until")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreasuryDesk:
    """Two people of the treasury, by command and by call."""

    cold: RefillHouse
    url: str
    folder: Path

    async def runs(self, person: str, *arguments: str) -> tuple[int, str, str]:
        """One command as its own process."""
        desk = Desk(treasurer=[], supporter=[], risk=[], admin=[])
        options = ("--api", self.url, "--key-id", f"{person}-key", "--key", str(self._key(person)))
        return await asyncio.to_thread(desk.runs, *arguments, *options)

    async def call(
        self, person: str, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Reply:
        """One signed call."""
        clock = SystemClock()
        ids = SystemIds(clock)
        client = ApiClient(
            url=self.url, key_id=f"{person}-key", key=staff_key(person), clock=clock, ids=ids
        )
        key = ids.new_id().hex if method == "POST" else None
        async with client:
            return await client.request(method, path, body=body, idempotency_key=key)

    async def approved(self, refill: str) -> str:
        """Both people sign it; the state afterwards."""
        state = ""
        for person in PEOPLE:
            row = (await self.call(person, "GET", f"/v1/rebalances/{refill}")).json()
            words = {"rebalance_id": refill, **{name: row[name] for name in WORDS}}
            reply = await self.call(person, "POST", f"/v1/rebalances/{refill}/approve", words)
            state = str(reply.json()["state"])
        return state

    def _key(self, person: str) -> Path:
        path = self.folder / f"{person}.pem"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(
                staff_key(person).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            )
        return path


@asynccontextmanager
async def open_desk(
    cold: RefillHouse, test_database: TestDatabase, folder: Path, *, role: str = "treasury"
) -> AsyncIterator[TreasuryDesk]:
    """The API under its own database role; the people's keys have this role."""
    house = cold.house
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.clients SET scopes = '{treasury:read,treasury:write}', "
            "roles = ARRAY[CAST(:role AS text)] WHERE kind = 'staff'",
            {"role": role},
        )
    settings = house.registry.settings.model_copy(
        update={"api": ApiSettings(port=free_port()), "state_dir": folder}
    )
    clock = SystemClock()
    database = Database(async_url(test_database.role_url("gateway_api")), pool_size=8)
    services = build_services(
        settings=settings,
        registry=replace(house.registry, settings=settings),
        database=database,
        clock=clock,
        ids=SystemIds(clock),
    )
    server = ApiServer(services, endpoints())
    await server.start()
    try:
        yield TreasuryDesk(cold=cold, url=f"http://127.0.0.1:{server.port}", folder=folder)
    finally:
        await server.stop()
        await database.close()
