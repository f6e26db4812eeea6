"""The API beside a payout house, for what a brand is told about the payout road."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.database import Database, async_url
from config.settings import ApiSettings
from gateway.api.role import ApiServer, build_services, endpoints
from gateway.client import ApiClient, Reply
from gateway.withdrawals_store import WithdrawalRow
from tests.support.api import AUTHORITY, CLIENT_SCOPES, vector_key
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts

BRANDS = ("acme", "bravo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A running API over the house's database."""

    house: Payouts
    port: int

    async def get(self, path: str, *, brand: str = "acme") -> Reply:
        """One signed read by a brand's key."""
        client = ApiClient(
            url=f"http://127.0.0.1:{self.port}",
            key_id=f"{brand}-door",
            key=vector_key(f"{brand}-door"),
            authority=AUTHORITY,
            clock=self.house.clock,
            ids=self.house.ids,
        )
        async with client:
            return await client.request("GET", path)

    async def attempts(self, row: WithdrawalRow) -> list[dict[str, Any]]:
        """The attempts of a withdrawal as its brand sees them."""
        reply = await self.get(path_of(row), brand=row.brand)
        if reply.status != 200:
            raise AssertionError(reply.body)
        return list(reply.json()["items"])


def path_of(row: WithdrawalRow) -> str:
    """Where the attempts of a withdrawal are told."""
    return f"/v1/withdrawals/wd_test_{row.id.hex}/attempts"


@asynccontextmanager
async def open_door(
    house: Payouts, test_database: TestDatabase, folder: Path
) -> AsyncIterator[Door]:
    """The API under its own database role, with one key per brand."""
    for brand in BRANDS:
        async with house.database.unit_of_work() as uow:
            await uow.execute(
                "INSERT INTO gateway.clients (key_id, kind, brand, public_key, scopes, created_at)"
                " VALUES (:key_id, 'client', :brand, :public_key, :scopes, :at)",
                {
                    "key_id": f"{brand}-door",
                    "brand": brand,
                    "public_key": vector_key(f"{brand}-door").public_key().public_bytes_raw(),
                    "scopes": list(CLIENT_SCOPES),
                    "at": house.clock.now(),
                },
            )
    api = ApiSettings(port=0, authorities=(AUTHORITY,))
    settings = house.registry.settings.model_copy(update={"api": api, "state_dir": folder})
    database = Database(async_url(test_database.role_url("gateway_api")), pool_size=4)
    services = build_services(
        settings=settings,
        registry=house.registry,
        database=database,
        clock=house.clock,
        ids=house.ids,
    )
    server = ApiServer(services, endpoints())
    await server.start()
    try:
        yield Door(house=house, port=server.port)
    finally:
        await server.stop()
        await database.close()
