"""`cage ledger reconcile RUN | breaks | explain` as processes of their own against a real API."""

import json
from datetime import UTC, datetime

import pytest

from config.database import Database, async_url
from config.ids import SystemIds
from tests.support.clock import ManualClock
from tests.support.databases import TestDatabase
from tests.support.desk import FAILED, REFUSED, Desk
from tests.support.hosting import LoopThread
from tests.support.simchain import sim_utxo
from tests.support.watching import registry_for
from watchers import reconciliations
from watchers.breaks import BreakKind, Finding
from watchers.network import Network
from watchers.reconcile_chain import Holdings
from watchers.reconciliations import Run, RunState, Trigger

pytestmark = pytest.mark.postgres

HOT = "custody:btc/hot:btc:BTC"
TXID = "ab" * 32


@pytest.fixture
def broken(test_database: TestDatabase, loop_thread: LoopThread, clock: ManualClock) -> str:
    """A kept comparison that misses one satoshi; its id."""
    _, chain = sim_utxo()
    registry = registry_for(chain, {})
    network = Network(
        spec=registry.chains["btc"],
        assets=registry.assets,
        ids=SystemIds(clock),
        reversed_per_step_max=20,
    )
    at = datetime(2026, 1, 1, tzinfo=UTC)
    missing = Finding(
        kind=BreakKind.UNKNOWN_OUTGOING,
        subject=HOT,
        asset="btc:BTC",
        difference_minor=-1,
        details={"places": [{"coin": f"{TXID}:0", "txid": TXID, "amount_minor": "-1"}]},
    )
    run = Run(
        id=network.ids.new_id(),
        network="btc",
        trigger=Trigger.CYCLE,
        state=RunState.BREAKS,
        height=7,
        block_hash="07" * 32,
        error=None,
        breaks=(missing,),
        started_at=at,
        finished_at=at,
    )
    held = Holdings(
        network="btc",
        height=7,
        block_hash="07" * 32,
        read_at=at,
        chain={HOT: 9},
        books={HOT: 10},
        unposted={},
        unsettled={},
        awaited={},
    )

    async def keep() -> None:
        database = Database(async_url(test_database.role_url("watchers")), pool_size=1)
        async with database.unit_of_work() as uow:
            await reconciliations.keep(uow, network=network, run=run, held=held)
        await database.close()

    loop_thread.run(keep())
    return f"rec_test_{run.id.hex}"


def test_l12_a_stored_comparison_is_shown_with_where_it_differs(desk: Desk, broken: str) -> None:
    code, out, _ = desk.runs("ledger", "reconcile", broken, *desk.treasurer)
    assert (code, HOT in out, TXID[:16] in out) == (FAILED, True, True)
    code, out, _ = desk.runs("ledger", "reconcile", broken, "--json", *desk.treasurer)
    [found] = json.loads(out)["breaks"]
    assert (code, found["kind"]) == (FAILED, "unknown_outgoing")


def test_l13_two_people_explain_a_break_by_the_same_command(desk: Desk, broken: str) -> None:
    code, out, _ = desk.runs("ledger", "breaks", "--json", *desk.treasurer)
    [found] = json.loads(out)
    said = ("ledger", "explain", found["id"], "--reason", "a test of the key")
    code, out, _ = desk.runs(*said, *desk.treasurer)
    assert (code, "waits for a second person" in out) == (0, True)
    code, out, err = desk.runs(*said, *desk.risk)
    assert (code, "explained by alice and rita" in out) == (0, True), err
    code, _, err = desk.runs(*said[:3], "--reason", "another", *desk.supporter)
    assert (code, "your key" in err) == (REFUSED, True), err
