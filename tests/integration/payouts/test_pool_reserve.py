"""The pool of verified addresses: its reserve, its alarm, and rows that disagree (CONTRACT 8)."""

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest

from config.clock import SystemClock, Waker
from config.settings import DatabaseSettings, SignerSettings
from gateway.payouts.pool_verifier import POOL_LOW, PoolVerifier
from gateway.payouts.role import PayoutRole
from signer.protocol import MAX_POOL_ROWS
from tests.integration.payouts.test_attestations import alarms, fetch, hand_out, states
from tests.support.databases import TestDatabase
from tests.support.payouts import DEPOSIT_ROWS, Payouts
from tests.support.signing import socket_signer
from watchers import addresses

pytestmark = pytest.mark.postgres

DEADLINE_SECONDS = 30.0


def verifier(house: Payouts, *, reserve: int = 2, brands: tuple[str, ...] = ("acme",)) -> Any:
    """A fresh process under the payouts' own database role."""
    return PoolVerifier(
        house.network,
        database=house.role,
        signer=house.signer,
        clock=house.clock,
        ids=house.ids,
        brands=brands,
        reserve=reserve,
    )


async def add(house: Payouts, rows: list[dict[str, Any]]) -> None:
    async with house.database.unit_of_work() as uow:
        await addresses.add(uow, rows, at=house.clock.now())


async def test_reserve_below_its_size_is_one_alarm_until_it_is_full_again(btc: Payouts) -> None:
    process = verifier(btc, reserve=DEPOSIT_ROWS)
    await process.check_reserve()
    assert await alarms(btc) == []
    await hand_out(btc, "player-1")
    await process.check_reserve()
    await process.check_reserve()
    assert await alarms(btc) == [POOL_LOW]
    await add(btc, [btc._pool_row("deposit", 1, 0, DEPOSIT_ROWS)])
    await process.check_reserve()
    assert await alarms(btc) == [POOL_LOW]  # it is not verified yet
    await process.verify_batch()
    await process.check_reserve()
    assert await alarms(btc) == []


async def test_brand_without_any_address_is_in_the_alarm(btc: Payouts) -> None:
    await verifier(btc, reserve=1, brands=("acme", "bravo")).check_reserve()
    async with btc.database.unit_of_work() as uow:
        result = await uow.execute("SELECT detail FROM gateway.alarms")
        assert result.scalar_one().endswith("bravo 0")


async def test_signer_that_is_down_does_not_silence_the_alarm(btc: Payouts) -> None:
    btc.signer.is_down = True
    clock = SystemClock()
    work = asyncio.create_task(verifier(btc, reserve=DEPOSIT_ROWS + 1).run(Waker(poll_seconds=0.1)))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await alarms(btc) != [POOL_LOW]:
            await clock.sleep(0.05)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def test_rows_that_disagree_hold_up_nobody_behind_them(btc: Payouts) -> None:
    """A whole batch of a brand whose key is wrong; the next brand's rows come all the same."""
    wrong = [
        {
            "id": btc.ids.new_id(),
            "network": "btc",
            "role": "deposit",
            "brand": "acme",
            "account": 1,
            "branch": 0,
            "address_index": index,
            "path": f"m/84h/1h/1h/0/{index}",
            "key": f"0014{index:040x}",
            "address": f"wrong-{index}",
            "scheme": "p2wpkh",
        }
        for index in range(DEPOSIT_ROWS, DEPOSIT_ROWS + MAX_POOL_ROWS)
    ]
    await add(btc, wrong)
    await add(
        btc, [{**btc._pool_row("deposit", 2, 0, index), "brand": "bravo"} for index in (0, 1)]
    )
    process = verifier(btc)
    assert [await process.verify_batch() for _ in range(2)] == [0, 2]
    async with btc.database.unit_of_work() as uow:
        free = await addresses.reserves(uow, network="btc", brands=["acme", "bravo"], limit=100)
    assert free == {"acme": DEPOSIT_ROWS, "bravo": 2}
    assert await process.verify_batch() == 0  # from the start again
    assert await alarms(btc) == ["address_pool_mismatch"]


async def test_the_payout_role_fetches_statements_and_watches_the_reserve(
    btc: Payouts, test_database: TestDatabase
) -> None:
    """The role as `cage payouts` runs it, on the signer's own socket, without any node."""
    clock = SystemClock()
    await hand_out(btc, "player-1")
    async with socket_signer(btc) as (socket, _):
        settings = btc.registry.settings.model_copy(
            update={
                "signer": SignerSettings(socket=socket),
                "database": DatabaseSettings(url=test_database.owner_url),
            }
        )
        role = PayoutRole(
            replace(btc.registry, settings=settings), database=btc.role, clock=clock, ids=btc.ids
        )
        work = asyncio.create_task(role.run())
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await states(btc) != [("attested", None, 0)] or POOL_LOW not in await alarms(btc):
                await clock.sleep(0.05)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
    assert await fetch(btc).fetch_page() == 0
