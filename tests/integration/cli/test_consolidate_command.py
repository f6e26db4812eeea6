"""`cage treasury consolidate`: what it says, what it asks a person for, and its exit codes.

Payouts answers by hand here; the lane itself is in `integration/payouts/test_consolidations.py`,
both together on a node in `e2e/test_treasury_desk.py`.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from config.clock import SystemClock
from config.database import Database, async_url
from config.ids import SystemIds
from gateway.payouts import consolidations
from gateway.payouts import consolidations_store as store
from gateway.payouts.coin_shapes import Shape
from gateway.payouts.consolidations import Trigger
from signer.protocol import Purpose
from tests.support.databases import TestDatabase
from tests.support.desk import REFUSED, USAGE, Desk
from tests.support.hosting import LoopThread
from watchers.chain import Coin, Outpoint

pytestmark = pytest.mark.postgres

MERGE = Shape(
    purpose=Purpose.CONSOLIDATE,
    coins=tuple(
        Coin(
            outpoint=Outpoint(txid=f"{index:064x}", vout=0),
            amount_minor=100_000,
            key="0014" + "00" * 20,
            path="m/84h/1h/0h/0/0",
            previous_tx=b"",
        )
        for index in range(12)
    ),
    parts_minor=(1_198_284,),
    fee_minor=1_716,
    rate_sat_per_kvb=2_000,
    saves_vb=748,
)


@pytest.fixture
def more_networks() -> str:
    return '[networks.eth]\nchain = "dev"\n'


async def answer(url: str, *, code: str | None) -> None:
    """What payouts does with the next request."""
    database, clock = Database(async_url(url)), SystemClock()
    ids = SystemIds(clock)
    try:
        while True:
            async with database.unit_of_work() as uow:
                row = await store.asked(uow, network="btc", lock=True)
                if row is not None and code is not None:
                    await consolidations.move(uow, row, Trigger.REFUSE, at=clock.now(), code=code)
                elif row is not None:
                    await consolidations.move(
                        uow,
                        row,
                        Trigger.QUOTE if row.is_dry else Trigger.PLAN,
                        at=clock.now(),
                        shape=MERGE,
                        attempt_id=None if row.is_dry else ids.new_id(),
                    )
            if row is not None:
                return
            await clock.sleep(0.02)
    finally:
        await database.close()


@contextmanager
def payouts(loop_thread: LoopThread, database: TestDatabase, *codes: str | None) -> Iterator[None]:
    """Answers requests in turn: each with a no by code, or with what was found."""

    async def every() -> None:
        for code in codes:
            await answer(database.role_url("gateway_payouts"), code=code)

    with ThreadPoolExecutor(max_workers=1) as pool:
        answering = pool.submit(loop_thread.run, every())
        yield
        answering.result()


def test_t8_a_dry_run_tells_coins_fee_rate_and_what_it_saves_and_moves_nothing(
    desk: Desk, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    with payouts(loop_thread, test_database, None):
        code, out, err = desk.runs("treasury", "consolidate", "btc", "--dry-run", *desk.treasurer)
    assert code == 0, err
    assert out.splitlines() == [
        "merge 12 coins of 0.012 btc:BTC into 1, fee 0.00001716 (2.000 sat/vB)",
        "saves later payouts 748 vB: it pays off where they pay more than 2.295 sat/vB",
    ]
    code, out, _ = desk.runs("treasury", "consolidations", *desk.treasurer, "--json")
    assert [(row["state"], row["txid"]) for row in json.loads(out)["items"]] == [("quoted", None)]


def test_t8_a_person_types_the_most_that_it_may_cost_and_gets_it_planned(
    desk: Desk, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    ask = ("treasury", "consolidate", "btc", "--max-fee", "0.00002", "--confirm-amount")
    with payouts(loop_thread, test_database, None):
        code, _, err = desk.runs(*ask, "0.0002", *desk.treasurer)
    assert (code, "the amounts differ" in err) == (USAGE, True)
    with payouts(loop_thread, test_database, None, None):
        code, out, err = desk.runs(*ask, "0.00002", *desk.treasurer, "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["state"], made["fee"], made["fee_max"]) == ("planned", "0.00001716", "0.00002")
    code, out, _ = desk.runs("treasury", "consolidations", "--state", "planned", *desk.treasurer)
    assert (code, made["id"] in out, "alice" in out) == (0, True, True)


def test_t8_a_no_of_payouts_is_told_in_words(
    desk: Desk, test_database: TestDatabase, loop_thread: LoopThread
) -> None:
    with payouts(loop_thread, test_database, "payouts_wait"):
        code, _, err = desk.runs("treasury", "consolidate", "btc", "--dry-run", *desk.treasurer)
    assert (code, "withdrawals that wait need these coins" in err) == (REFUSED, True), err


def test_t8_an_account_chain_has_no_coins_and_a_supporter_no_say(desk: Desk) -> None:
    code, _, err = desk.runs("treasury", "consolidate", "eth", *desk.treasurer)
    assert (code, "cage treasury sweep" in err) == (REFUSED, True), err
    code, _, err = desk.runs("treasury", "consolidate", "btc", *desk.supporter)
    assert (code, "your key" in err) == (REFUSED, True)
