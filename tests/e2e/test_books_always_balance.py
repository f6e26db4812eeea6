"""L20: the books balance in every look, while money moves, roles die and the database falls.

Goal: no moment at which debits and credits differ, by the entries or by the cached balances, and at
rest afterwards both sealed logs hold. One look a second, each of one moment (a snapshot).
"""

import asyncio
import os
import signal
from dataclasses import dataclass, field

import pytest

from config.database import AWAY, Database, async_url, is_away
from gateway import audit, audit_store
from gateway.audit_chain import ChainCheck
from ledger import balances, seals
from tests.support.live import Live

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.node,
    pytest.mark.postgres,
    pytest.mark.slow,
]

LOOK_SECONDS = 1.0
VICTIMS = ("watch-btc", "payouts", "api", "signer", "watch-eth", "scheduler")
LOOKS_MIN = 15
SEALED_SECONDS = 150.0  # the journal's youngest posting, its ten seconds, and the next minute
EVERY_RECORD = 100_000
EVERYTHING = "SELECT max(booked_at) AS newest, count(*) AS postings FROM ledger.postings"


@dataclass(slots=True, kw_only=True)
class Looks:
    """What was seen."""

    good: int = 0
    away: int = 0
    wrong: list[str] = field(default_factory=list)
    totals: set[int] = field(default_factory=set)


async def _look(database: Database, looks: Looks) -> None:
    """Trial balance by the cached balances and by the entries, of one moment."""
    async with database.snapshot() as uow:
        cached = await balances.trial_balance(uow)
        entered = await uow.rows(
            "SELECT asset, sum(CASE side WHEN 'debit' THEN amount ELSE -amount END) AS skew"
            " FROM ledger.entries GROUP BY asset"
        )
    looks.wrong += [
        f"{row.asset}: {row}" for row in cached.equations if not (row.is_equal and row.is_covered)
    ]
    looks.wrong += [f"{row['asset']}: entries by {row['skew']}" for row in entered if row["skew"]]
    if not cached.is_balanced:
        looks.wrong.append("the cached balances")
    looks.totals.add(sum(row.custody_minor for row in cached.equations))
    looks.good += 1


async def _keep_looking(house: Live, database: Database, looks: Looks) -> None:
    while True:
        try:
            await _look(database, looks)
        except AWAY as error:
            if not is_away(error):
                raise
            looks.away += 1
        await house.stage.clock.sleep(LOOK_SECONDS)


async def test_l20_the_trial_balance_is_zero_in_every_look_under_load_crash_and_recovery(
    house: Live,
) -> None:
    database = Database(async_url(house.stage.deployment.settings.owner_url()), pool_size=1)
    looks = Looks()
    looking = asyncio.create_task(_keep_looking(house, database, looks))
    try:
        for victim in VICTIMS:
            working = await house.begin()
            pid = house.pid(victim)
            os.kill(pid, signal.SIGKILL)
            await house.replaced(victim, pid)
            await working
        working = await house.begin()
        await house.stage.deployment.stop_database()
        await house.stage.deployment.start_database()
        await working
        await house.assert_all_is_well()
    finally:
        looking.cancel()
        await asyncio.wait({looking})
    assert looking.cancelled(), looking.exception()
    assert looks.wrong == []
    assert looks.good >= LOOKS_MIN
    assert len(looks.totals) > 1  # it looked while money came and went
    await _assert_sealed(house, database)
    await database.close()


async def _assert_sealed(house: Live, database: Database) -> None:
    """The scheduler, killed meanwhile, has bound both logs; each chain holds from its start."""
    async with database.unit_of_work() as uow:
        [last] = await uow.rows(EVERYTHING)

    async def sealed() -> bool | None:
        async with database.unit_of_work() as uow:
            head = await seals.newest(uow)
        return None if head is None or head.until <= last["newest"] else True

    async with asyncio.timeout(SEALED_SECONDS):
        while not await sealed():
            await house.stage.clock.sleep(LOOK_SECONDS)
    check, sequence = ChainCheck(), 0
    async with database.unit_of_work() as uow:
        while (looked := await seals.flaws(uow, after=sequence)) is not None:
            sequence, flaws = looked
            assert flaws == []
        check.add_all(
            audit.link(item) for item in await audit_store.chain(uow, after=0, limit=EVERY_RECORD)
        )
        tail = await audit_store.tail(uow)
    assert sequence > 0
    assert (tail.sequence, tail.lost) == (check.sequence, 0)
    assert check.sequence > 0
