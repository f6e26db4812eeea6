"""A database taken back to an earlier moment by PostgreSQL's own pg_dump and pg_restore."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from config.database import Database, async_url
from tests.support.databases import TestDatabase, recreate
from tests.support.payouts import Payouts
from watchers.follower import Follower
from watchers.network import Network

TOOL_SECONDS = 120.0


async def dump(database: TestDatabase, file: Path) -> None:
    """Everything of a database, as an operator's nightly backup has it."""
    await _run(database, "pg_dump", "--format=custom", f"--file={file}", database.name)


async def restore(database: TestDatabase, file: Path) -> None:
    """The backup in the place of a database; what came after it is gone."""
    await recreate(database)
    await _run(database, "pg_restore", "--exit-on-error", f"--dbname={database.name}", str(file))


async def _run(database: TestDatabase, tool: str, *arguments: str) -> None:
    server = database.server
    process = await asyncio.create_subprocess_exec(
        str(server.binaries / tool),
        f"--host={server.socket_dir}",
        "--username=postgres",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(TOOL_SECONDS):
        _, errors = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{tool}: {errors.decode()[:2_000]}")


TakeBack = Callable[[Payouts, TestDatabase, Path], Awaitable[Payouts]]


@dataclass(kw_only=True)
class Backup:
    """One backup of the database."""

    database: TestDatabase
    file: Path
    take_back: TakeBack

    async def take(self) -> None:
        """Everything until now."""
        await dump(self.database, self.file)

    async def bring_back(self, house: Payouts) -> Payouts:
        """Lose everything since."""
        return await self.take_back(house, self.database, self.file)


@asynccontextmanager
async def backups() -> AsyncIterator[TakeBack]:
    """Lends `taken_back` and closes what it opened."""
    opened: list[Payouts] = []

    async def take_back(house: Payouts, database: TestDatabase, file: Path) -> Payouts:
        opened.append(await taken_back(house, database, file))
        return opened[-1]

    try:
        yield take_back
    finally:
        for house in opened:
            await house.database.close()
            await house.role.close()


async def taken_back(house: Payouts, database: TestDatabase, file: Path) -> Payouts:
    """The house on its restored database: the same chain, signer and clock, fresh processes."""
    await house.database.engine.dispose()
    await house.role.engine.dispose()
    await restore(database, file)
    owner = Database(async_url(database.owner_url))
    role = Database(async_url(database.role_url("gateway_payouts")))
    spec = house.registry.chains[house.network]
    network = Network(
        spec=spec, assets=house.registry.assets, ids=house.ids, reversed_per_step_max=20
    )
    follower = Follower(
        chain=house.chain,
        network=network,
        database=owner,
        clock=house.clock,
        holder="after the restore",
        start_height=None,
    )
    # what it does not know of it signed is a break, until it is recovered
    made = replace(house, database=owner, role=role, follower=follower, is_compared=False)
    await made.expire_lease()
    async with owner.unit_of_work() as uow:
        await uow.execute("UPDATE chain.cursors SET lease_holder = NULL, lease_expires_at = NULL")
    return made


async def rescan(house: Payouts) -> None:
    """What the watcher does with blocks that were asked for again."""
    while True:
        position = await house.follower.take_lease()
        assert position is not None
        if not await house.follower.rescan(position):
            return
