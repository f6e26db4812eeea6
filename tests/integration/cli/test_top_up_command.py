"""`cage treasury top-up --dry-run`: what would be booked, and who has proposed it."""

import json
from uuid import UUID

import pytest

from config.clock import SystemClock
from config.database import Database, async_url
from config.ids import public_id
from tests.support.databases import TestDatabase
from tests.support.desk import REFUSED, Desk
from tests.support.hosting import LoopThread

pytestmark = pytest.mark.postgres

INFLOW = UUID("01890000-0000-7000-8000-000000000001")
ALLOCATE = ("--allocate", "acme", "--asset", "btc:BTC", "--amount", "0.25", "--reason", "prize")


@pytest.fixture
def inflow(test_database: TestDatabase, loop_thread: LoopThread) -> str:
    """Coins in suspense, at an address that this test does not need."""

    async def book() -> None:
        owner = Database(async_url(test_database.owner_url), pool_size=1)
        async with owner.unit_of_work() as uow:
            await uow.execute("SET LOCAL session_replication_role = replica")
            await uow.execute(
                "INSERT INTO chain.inflows (id, network, txid, position, role, asset, amount,"
                " address_id, address, state, block_hash, height, posting_reference, first_seen_at,"
                " state_at) VALUES (:id, 'btc', :txid, 'out:0', 'hot', 'btc:BTC', 150000000, :id,"
                " 'bcrt1qexample', 'booked', :hash, 7, 'test', :at, :at)",
                {"id": INFLOW, "txid": "cd" * 32, "hash": "ab" * 32, "at": SystemClock().now()},
            )
        await owner.close()

    loop_thread.run(book())
    return public_id("inflow", INFLOW, livemode=False)


def test_t8_a_dry_run_of_a_top_up_tells_what_it_would_book_and_stores_nothing(
    desk: Desk, inflow: str
) -> None:
    ask = ("treasury", "top-up", inflow, "--as", "capital")
    code, out, err = desk.runs(*ask, "--dry-run", *desk.treasurer)
    assert code == 0, err
    assert out.splitlines() == [
        f"would book: {inflow} btc:BTC 1.5 capital",
        "nobody has proposed it; you would, and a second person would have to agree",
    ]
    code, out, err = desk.runs(*ask, *desk.treasurer)
    assert (code, "proposed as capital" in out) == (0, True), err
    code, out, err = desk.runs(*ask, "--dry-run", "--json", *desk.treasurer)
    told = json.loads(out)
    assert (code, told["stands"]["proposed_by"], told["dry_run"]) == (0, "alice", True), err


def test_t8_a_dry_run_of_an_allocation_proposes_nothing(desk: Desk) -> None:
    ask = ("treasury", "top-up", *ALLOCATE, "--dry-run")
    for _ in range(2):
        code, out, err = desk.runs(*ask, "--json", *desk.treasurer)
        told = json.loads(out)
        assert (code, told["would_book"]["amount"], told["stands"]) == (0, "0.25", None), err


def test_t8_an_inflow_that_waits_for_nobody_is_refused(desk: Desk) -> None:
    nobody = f"inf_test_{'0' * 32}"
    ask = ("treasury", "top-up", nobody, "--as", "capital", "--dry-run")
    code, _, err = desk.runs(*ask, *desk.treasurer)
    assert (code, "no inflow that waits" in err) == (REFUSED, True)
