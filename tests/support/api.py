"""A running API for black-box tests: real listener on loopback, real PostgreSQL, signing clients.

The keys are made from public test seeds; they must never hold anything of value.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from embit import bip32
from embit.networks import NETWORKS
from sqlalchemy import text

from config.database import Database, Uow, async_url
from config.registry import Registry, load_registry
from config.settings import (
    ApiSettings,
    AssetSettings,
    BrandSettings,
    ColdSettings,
    NetworkSettings,
    RebalanceSettings,
    Settings,
    WalletSettings,
)
from gateway.api.role import ApiServer, build_services, endpoints
from gateway.client import ApiClient, Reply
from gateway.payouts import recovery_store
from gateway.payouts.recovery_store import GENESIS_HASH
from ledger import journal
from ledger.accounts import clearing, custody, suspense
from ledger.journal import Posting, credit, debit
from tests.support.clock import ManualClock, SequentialIds
from tests.support.colds import COLD_BTC_ADDRESS, COLD_BTC_DESCRIPTOR, COLD_ETH_ADDRESS
from tests.support.databases import TestDatabase
from tests.support.worlds import SEED
from watchers import addresses, cold
from watchers.addresses import AddressRole, PoolBranch
from watchers.network import Network
from watchers.registry import build_codec

AUTHORITY = "cage.test:8080"
TOKEN = "0x00000000000000000000000000000000000c0de1"
POOL_ROWS = 6
BRANDS = {"acme": 1, "bravo": 2}
CLIENT_SCOPES = (
    "addresses:write",
    "deposits:read",
    "withdrawals:read",
    "withdrawals:write",
    "webhooks:write",
    "ledger:read",
    "treasury:read",
)
STAFF_SCOPES = ("treasury:read", "treasury:write", "ledger:read", "audit:read")

# Destinations that belong to nobody here: public vectors of BIP 173 and EIP-55.
BTC_ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
LTC_ADDRESS = "rltc1qw508d6qejxtdg4y5r3zarvary0c5xw7k693xs3"
ETH_ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A registered key of the tests."""

    key_id: str
    key: Ed25519PrivateKey


def vector_key(name: str) -> Ed25519PrivateKey:
    """A key from its name; public by construction."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


class ApiHouse:
    """The API process of a test, its database, and what a test may do to both."""

    def __init__(
        self,
        *,
        server: ApiServer,
        registry: Registry,
        owner: Database,
        clock: ManualClock,
        ids: SequentialIds,
    ) -> None:
        self.server = server
        self.registry = registry
        self.owner = owner
        self.clock = clock
        self.ids = ids
        self.url = f"http://127.0.0.1:{server.port}"
        self._numbers = 0

    @asynccontextmanager
    async def client(
        self,
        name: str = "acme-key",
        *,
        key: Ed25519PrivateKey | None = None,
        clock: ManualClock | None = None,
    ) -> AsyncIterator[ApiClient]:
        """A signing client under a key id; with its own clock where they shall differ."""
        client = ApiClient(
            url=self.url,
            key_id=name,
            key=key or vector_key(name),
            authority=AUTHORITY,
            clock=clock or self.clock,
            ids=self.ids,
        )
        async with client:
            yield client

    async def call(
        self,
        method: str,
        target: str,
        *,
        body: Mapping[str, Any] | bytes | None = None,
        key: str = "acme-key",
        idempotency_key: str | None = None,
    ) -> Reply:
        """One call under a registered key."""
        async with self.client(key) as client:
            return await client.request(method, target, body=body, idempotency_key=idempotency_key)

    async def withdraw(
        self, *, key: str = "acme-key", idempotency_key: str | None = None, **fields: object
    ) -> Reply:
        """Order a withdrawal; fields replace those of a good one, None leaves one out."""
        self._numbers += 1
        body = {
            "request_id": f"r{self._numbers}",
            "player_id": "p1",
            "asset": "btc:BTC",
            "address": BTC_ADDRESS,
            "amount": "0.1",
            "pam_balance": "0",
            **fields,
        }
        return await self.call(
            "POST",
            "/v1/withdrawals",
            body={name: value for name, value in body.items() if value is not None},
            key=key,
            idempotency_key=idempotency_key or f"i{self._numbers}",
        )

    async def compare(self, network: str) -> None:
        """What a lane writes that found nothing of the signer's that the books lack."""
        async with self.owner.unit_of_work() as uow:
            await recovery_store.move_place(
                uow, network, sequence=0, entry_hash=GENESIS_HASH, at=self.clock.now()
            )

    async def fund(self, brand: str, asset: str, amount_minor: int) -> None:
        """Give a brand clearing, as final deposits would."""
        network = asset.partition(":")[0]
        posting = Posting(
            reference=f"test:fund:{self.ids.new_id()}",
            kind="deposit_final",
            entries=(
                debit(custody(network, "hot", asset), amount_minor),
                credit(clearing(brand, asset), amount_minor),
            ),
        )
        async with self.owner.unit_of_work() as uow:
            await journal.post(uow, posting, posting_id=self.ids.new_id(), at=self.clock.now())

    async def deposit(
        self, *, brand: str, player_id: str, asset: str, amount_minor: int, state: str
    ) -> UUID:
        """A deposit row as the watcher would have left it (state only, no posting)."""
        async with self.owner.unit_of_work() as uow:
            return await self.add_deposit(
                uow,
                brand=brand,
                player_id=player_id,
                asset=asset,
                amount_minor=amount_minor,
                state=state,
            )

    async def add_deposit(
        self, uow: Uow, *, brand: str, player_id: str, asset: str, amount_minor: int, state: str
    ) -> UUID:
        """The same in a unit of work of the caller, who may hold the player's lock."""
        network = asset.partition(":")[0]
        at, deposit_id = self.clock.now(), self.ids.new_id()
        row = await addresses.hand_out(
            uow, brand=brand, player_id=player_id, network=network, at=at
        )
        await uow.execute(
            """
            INSERT INTO chain.deposits (id, brand, player_id, network, txid, position, asset,
                amount, address_id, address, state, prior_state, min_depth, full_depth,
                first_seen_at, state_at)
            VALUES (:id, :brand, :player_id, :network, :txid, 'out:0', :asset, :amount,
                :address_id, :address, :state,
                CASE WHEN :state = 'orphaned' THEN 'provisional' END, 1, 2, :at, :at)
            """,
            {
                "id": deposit_id,
                "brand": brand,
                "player_id": player_id,
                "network": network,
                "txid": deposit_id.hex * 2,
                "asset": asset,
                "amount": amount_minor,
                "address_id": row.id,
                "address": row.address,
                "state": state,
                "at": at,
            },
        )
        return deposit_id

    async def inflow(self, *, asset: str, amount_minor: int) -> UUID:
        """An inflow on the hot address, booked."""
        network = asset.partition(":")[0]
        at, inflow_id = self.clock.now(), self.ids.new_id()
        async with self.owner.unit_of_work() as uow:
            hot = await addresses.own_address(uow, network=network, role="hot")
            await uow.execute(
                """
                INSERT INTO chain.inflows (id, network, txid, position, role, asset, amount,
                    address_id, address, state, block_hash, height, posting_reference,
                    first_seen_at, state_at)
                VALUES (:id, :network, :txid, 'out:0', 'hot', :asset, :amount, :address_id,
                    :address, 'booked', :hash, 7, 'test', :at, :at)
                """,
                {
                    "id": inflow_id,
                    "network": network,
                    "txid": inflow_id.hex * 2,
                    "asset": asset,
                    "amount": amount_minor,
                    "address_id": hot.id,
                    "address": hot.address,
                    "hash": "ab" * 32,
                    "at": at,
                },
            )
            posting = Posting(
                reference=f"test:inflow:{inflow_id}",
                kind="inflow_booked",
                entries=(
                    debit(custody(network, "hot", asset), amount_minor),
                    credit(suspense(asset), amount_minor),
                ),
            )
            await journal.post(uow, posting, posting_id=self.ids.new_id(), at=at)
        return inflow_id

    async def own_text(self, network: str, role: str) -> str:
        """The text of an own address of a role."""
        rows = await self.rows(
            "SELECT address FROM chain.addresses WHERE network = :network AND role = :role"
            " ORDER BY address_index LIMIT 1",
            network=network,
            role=role,
        )
        return str(rows[0]["address"])

    async def rows(self, statement: str, **values: Any) -> Sequence[Mapping[str, Any]]:
        """What stands in the database."""
        async with self.owner.engine.begin() as connection:
            await connection.execute(text("SELECT set_config('cage.brand', '*', true)"))
            result = await connection.execute(text(statement), values)
            return [dict(row) for row in result.mappings()] if result.returns_rows else []

    async def add_key(
        self,
        key_id: str,
        *,
        kind: str = "client",
        brand: str | None = "acme",
        person: str | None = None,
        scopes: Sequence[str] = CLIENT_SCOPES,
        roles: Sequence[str] = (),
        ip_allow: Sequence[str] = (),
        expires_at: datetime | None = None,
    ) -> Caller:
        """Register a key."""
        key = vector_key(key_id)
        await self.rows(
            """
            INSERT INTO gateway.clients (key_id, kind, brand, person, public_key, scopes, roles,
                ip_allow, expires_at, created_at)
            VALUES (:key_id, :kind, :brand, :person, :public_key, :scopes, :roles,
                CAST(CAST(:ip_allow AS text[]) AS cidr[]), :expires_at, :at)
            """,
            key_id=key_id,
            kind=kind,
            brand=brand,
            person=person,
            public_key=key.public_key().public_bytes_raw(),
            scopes=list(scopes),
            roles=list(roles),
            ip_allow=list(ip_allow),
            expires_at=expires_at,
            at=self.clock.now(),
        )
        self.server._services.authenticator.keys.expire()  # as after KEY_CACHE_SECONDS
        return Caller(key_id=key_id, key=key)

    def tick(self, seconds: float) -> None:
        """Move the one clock of server and clients."""
        self.clock.advance(seconds)


def house_settings(
    folder: Path, *, port: int = 0, token: str = TOKEN, batch_contract: str | None = None
) -> Settings:
    """Three test networks, two brands; a free port unless one is given."""
    return Settings(
        state_dir=folder,
        api=ApiSettings(port=port, authorities=(AUTHORITY, f"127.0.0.1:{port}")),
        networks={
            "btc": NetworkSettings(chain="regtest"),
            "ltc": NetworkSettings(chain="regtest"),
            "eth": NetworkSettings(chain="dev", batch_contract=batch_contract),
        },
        assets={"eth:USDT": AssetSettings(contract=token)},
        brands={name: BrandSettings(account_index=index) for name, index in BRANDS.items()},
        wallets={"btc:BTC": WalletSettings(min="0.5", target="1", max="2")},
        cold={
            "btc": ColdSettings(
                address=COLD_BTC_ADDRESS, descriptor=COLD_BTC_DESCRIPTOR, addresses=2
            ),
            "eth": ColdSettings(address=COLD_ETH_ADDRESS),
        },
        rebalances={"btc:BTC": RebalanceSettings(two_people_above="1")},
    )


@asynccontextmanager
async def api_house(
    test_database: TestDatabase,
    folder: Path,
    *,
    clock: ManualClock,
    ids: SequentialIds,
    port: int = 0,
    is_furnished: bool = False,
    token: str = TOKEN,
    batch_contract: str | None = None,
) -> AsyncIterator[ApiHouse]:
    """The API under its own database role, with keys, brands and a verified address pool.

    `is_furnished`: another process on a database that has them.
    """
    settings = house_settings(folder, port=port, token=token, batch_contract=batch_contract)
    registry = load_registry(settings)
    owner = Database(async_url(test_database.owner_url), pool_size=4)
    database = Database(async_url(test_database.role_url("gateway_api")), pool_size=8)
    services = build_services(
        settings=settings, registry=registry, database=database, clock=clock, ids=ids
    )
    server = ApiServer(services, endpoints())
    await server.start()
    house = ApiHouse(server=server, registry=registry, owner=owner, clock=clock, ids=ids)
    loops = asyncio.create_task(server.run())
    try:
        if not is_furnished:
            await _furnish(house)
        yield house
    finally:
        loops.cancel()
        await asyncio.wait({loops})
        await server.stop()
        await database.close()
        await owner.close()


async def _furnish(house: ApiHouse) -> None:
    for name, index in BRANDS.items():
        await house.rows(
            "INSERT INTO gateway.brands (id, account_index, created_at) VALUES (:id, :index, :at)",
            id=name,
            index=index,
            at=house.clock.now(),
        )
        await house.add_key(f"{name}-key", brand=name)
    await house.add_key("operator-key", kind="operator", brand=None)
    for person in ("ada", "grace"):
        await house.add_key(
            f"{person}-key",
            kind="staff",
            brand=None,
            person=person,
            scopes=STAFF_SCOPES,
            roles=("treasury",),
        )
    for network in house.registry.chains:
        await _fill_pool(house, network)
        await house.compare(network)


async def _fill_pool(house: ApiHouse, network: str) -> None:
    spec = house.registry.chains[network]
    is_utxo = spec.family.value == "bitcoin"
    branches: list[tuple[AddressRole, str | None, int, int]] = [(AddressRole.HOT, None, 0, 0)]
    branches += [(AddressRole.CHANGE if is_utxo else AddressRole.GAS, None, 0, 1)]
    branches += [(AddressRole.DEPOSIT, name, index, 0) for name, index in BRANDS.items()]
    for role, brand, account, branch in branches:
        pool = _branch(house, network, role, brand, account, branch)
        await _derive(house, pool, start=0, count=POOL_ROWS if brand else 2)
    watched = Network(
        spec=spec, assets=house.registry.assets, ids=house.ids, reversed_per_step_max=20
    )
    wallet = house.registry.settings.cold.get(network)
    await cold.register(house.owner, watched, wallet, clock=house.clock)


def _xpub(path: str, *, is_utxo: bool) -> str:
    version = NETWORKS["regtest" if is_utxo else "main"]["xprv"]
    root = bip32.HDKey.from_seed(SEED, version=version)
    return str(root.derive(path).to_public().to_base58())


def problem(reply: Reply) -> dict[str, Any]:
    """The problem of an error answer, checked for its form."""
    assert reply.headers["Content-Type"].startswith("application/problem+json"), reply.body
    found: dict[str, Any] = json.loads(reply.body)
    assert found["status"] == reply.status
    assert found["correlation_id"]
    return found


async def add_addresses(house: ApiHouse, network: str, brand: str, *, count: int) -> None:
    """So many more verified deposit addresses of a brand than a house begins with; once."""
    pool = _branch(house, network, AddressRole.DEPOSIT, brand, BRANDS[brand], 0)
    await _derive(house, pool, start=POOL_ROWS, count=count)


def _branch(
    house: ApiHouse, network: str, role: AddressRole, brand: str | None, account: int, branch: int
) -> PoolBranch:
    spec = house.registry.chains[network]
    return PoolBranch(
        network=network,
        role=role,
        brand=brand,
        account=account,
        branch=branch,
        xpub=_xpub(spec.account_path(account), is_utxo=spec.family.value == "bitcoin"),
        low=POOL_ROWS,
        high=POOL_ROWS,
    )


async def _derive(house: ApiHouse, pool: PoolBranch, *, start: int, count: int) -> None:
    codec = build_codec(house.registry.chains[pool.network], house.registry.assets.values())
    rows = await addresses.derive_rows(codec, pool, start=start, count=count, ids=house.ids)
    at = house.clock.now()
    async with house.owner.unit_of_work() as uow:
        await addresses.add(uow, rows, at=at)
        await addresses.mark_verified(uow, [row["id"] for row in rows], at=at)
