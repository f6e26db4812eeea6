"""Comparisons over the API, and how payouts that a break stopped are started again (L12, L13)."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.client import Reply
from ledger.accounts import custody
from tests.support.api import ApiHouse, problem
from tests.support.waiting import until_it_waits
from watchers import reconciliations
from watchers.breaks import BreakKind, Finding
from watchers.network import Network
from watchers.reconcile_chain import Holdings
from watchers.reconciliations import Run, RunState, Trigger

pytestmark = pytest.mark.postgres

HOT = custody("btc", "hot", "btc:BTC").code
COIN = 10**8
MISSING = Finding(
    kind=BreakKind.UNKNOWN_OUTGOING,
    subject=HOT,
    asset="btc:BTC",
    difference_minor=-1,
    details={"places": [{"txid": "ab" * 32, "amount_minor": "-1"}], "left_off": 0},
)


async def compared(
    house: ApiHouse,
    height: int,
    *found: Finding,
    seconds_ago: float = 0,
    trigger: Trigger = Trigger.CYCLE,
) -> str:
    """What the watcher of btc keeps of one comparison that read the books so long ago; the id of
    the run on the wire."""
    network = Network(
        spec=house.registry.chains["btc"],
        assets=house.registry.assets,
        ids=house.ids,
        reversed_per_step_max=20,
        breakers=house.registry.policy.breakers,
    )
    block = f"{height:064x}"
    missing = -sum(item.difference_minor for item in found)
    held = Holdings(
        network="btc",
        height=height,
        block_hash=block,
        read_at=house.clock.now() - timedelta(seconds=seconds_ago),
        chain={HOT: COIN - missing},
        books={HOT: COIN},
        unposted={},
        unsettled={},
        awaited={},
    )
    run = Run(
        id=house.ids.new_id(),
        network="btc",
        trigger=trigger,
        state=RunState.BREAKS if found else RunState.CLEAN,
        height=height,
        block_hash=block,
        error=None,
        breaks=found,
        started_at=house.clock.now(),
        finished_at=house.clock.now(),
    )
    await house.rows(
        "INSERT INTO chain.blocks (network, height, hash, parent_hash, time_seconds, is_canonical)"
        " VALUES ('btc', :height, :hash, '', 0, true) ON CONFLICT DO NOTHING",
        height=height,
        hash=block,
    )
    async with house.owner.unit_of_work() as uow:
        await reconciliations.keep(uow, network=network, run=run, held=held)
    return f"rec_test_{run.id.hex}"


async def start(house: ApiHouse, action: str, *, key: str) -> Reply:
    """One person's word for starting the asset's payouts again."""
    return await house.call(
        "POST",
        "/v1/switches",
        body={
            "scope": "asset:btc:BTC",
            "action": action,
            "state": "running",
            "reason": "looked into it",
        },
        key=key,
        idempotency_key=house.ids.new_id().hex,
    )


async def both_start(house: ApiHouse, action: str) -> Reply:
    """The answer to the second person."""
    assert (await start(house, action, key="ada-key")).status == 202
    return await start(house, action, key="grace-key")


async def explain(house: ApiHouse, break_id: str, *, key: str, text: str = "a lost key") -> Reply:
    return await house.call(
        "POST",
        f"/v1/reconciliation_breaks/{break_id}/explain",
        body={"explanation": text},
        key=key,
        idempotency_key=house.ids.new_id().hex,
    )


async def open_breaks(house: ApiHouse) -> list[dict[str, Any]]:
    reply = await house.call("GET", "/v1/reconciliation_breaks", key="ada-key")
    found: list[dict[str, Any]] = reply.json()["items"]
    return found


async def stopped(house: ApiHouse) -> set[str]:
    rows = await house.rows("SELECT action FROM chain.switches WHERE state = 'stopped'")
    return {row["action"] for row in rows}


async def test_l12_a_cycle_is_listed_with_its_wallets_and_its_breaks(house: ApiHouse) -> None:
    clean = await compared(house, 7)
    house.tick(1)
    broken = await compared(house, 8, MISSING)
    listed = (await house.call("GET", "/v1/reconciliations?network=btc", key="ada-key")).json()
    assert [(item["id"], item["state"], item["trigger"]) for item in listed["items"]] == [
        (broken, "done", "cycle"),
        (clean, "done", "cycle"),
    ]
    only = (await house.call("GET", "/v1/reconciliations?state=breaks", key="ada-key")).json()
    assert [item["id"] for item in only["items"]] == [broken]
    wallets = await house.call("GET", f"/v1/reconciliations/{broken}/wallets", key="ada-key")
    [line] = wallets.json()["items"]
    assert (line["account"], line["chain_minor"], line["books"]) == (HOT, "99999999", "1")
    assert line["difference"] == "-0.00000001"
    breaks = await house.call("GET", f"/v1/reconciliations/{broken}/breaks", key="ada-key")
    [found] = breaks.json()["items"]
    assert (found["kind"], found["subject"], found["difference_minor"]) == (
        "unknown_outgoing",
        HOT,
        "-1",
    )
    assert found["details"]["places"][0]["txid"] == "ab" * 32


async def test_a29_a_brand_sees_no_comparison_and_no_break(house: ApiHouse) -> None:
    run = await compared(house, 8, MISSING)
    for path in (
        "/v1/reconciliations",
        f"/v1/reconciliations/{run}",
        f"/v1/reconciliations/{run}/wallets",
        "/v1/reconciliation_breaks",
    ):
        assert (await house.call("GET", path)).status == 403, path


async def test_l13_two_people_cannot_start_while_the_break_stands(house: ApiHouse) -> None:
    await compared(house, 8, MISSING)
    assert await stopped(house) == {"build", "sign", "broadcast"}
    refused = await both_start(house, "build")
    assert (refused.status, problem(refused)["code"]) == (409, "break_open")
    assert "build" in await stopped(house)

    await compared(house, 9)  # what it was is in the books now
    assert await open_breaks(house) == []
    assert "build" in await stopped(house)  # nothing starts by itself
    assert (await start(house, "build", key="grace-key")).status == 200
    assert await stopped(house) == {"sign", "broadcast"}


async def test_l13_a31_one_person_explains_nothing_and_two_do(house: ApiHouse) -> None:
    await compared(house, 8, MISSING)
    [found] = await open_breaks(house)
    assert (await explain(house, found["id"], key="ada-key")).status == 202
    again = await explain(house, found["id"], key="ada-key")
    assert (again.status, again.json()["item"]["explanation"]) == (202, None)
    other = await explain(house, found["id"], key="grace-key", text="something else")
    assert problem(other)["code"] == "other_content"
    assert (await both_start(house, "sign")).status == 409

    done = await explain(house, found["id"], key="grace-key")
    item = done.json()["item"]
    assert (done.status, item["explanation"]) == (200, "a lost key")
    assert (item["proposed_by"], item["approved_by"]) == ("ada", "grace")
    assert (await start(house, "sign", key="grace-key")).status == 200
    await compared(house, 9, MISSING)  # the same difference stops nothing any more
    assert await stopped(house) == {"build", "broadcast"}


async def test_l13_another_difference_of_the_same_wallet_is_a_new_question(
    house: ApiHouse,
) -> None:
    await compared(house, 8, MISSING)
    [found] = await open_breaks(house)
    await explain(house, found["id"], key="ada-key")
    await explain(house, found["id"], key="grace-key")
    for action in ("build", "sign", "broadcast"):
        assert (await both_start(house, action)).status == 200
    assert await stopped(house) == set()

    await compared(house, 9, replace(MISSING, difference_minor=-2))
    assert await stopped(house) == {"build", "sign", "broadcast"}
    [worse] = await open_breaks(house)
    assert (worse["id"], worse["difference_minor"], worse["explanation"]) == (
        found["id"],
        "-2",
        None,
    )


async def test_a_break_that_is_only_told_stops_nothing(house: ApiHouse) -> None:
    dust = replace(MISSING, kind=BreakKind.DUST, difference_minor=3)
    await compared(house, 8, dust)
    assert await stopped(house) == set()
    events = await house.rows("SELECT snapshot FROM ledger.events WHERE type LIKE 'reconc%'")
    assert [row["snapshot"]["kind"] for row in events] == ["dust"]


async def test_a_slower_comparison_of_an_older_block_judges_nothing(house: ApiHouse) -> None:
    await compared(house, 9, MISSING)
    await compared(house, 8, seconds_ago=1)
    assert len(await open_breaks(house)) == 1


async def test_l13_an_older_look_at_the_same_block_closes_no_break(house: ApiHouse) -> None:
    """Somebody asked, and was slower than the cycle that found it."""
    await compared(house, 9, MISSING)
    await compared(house, 9, trigger=Trigger.REQUEST, seconds_ago=1)
    assert len(await open_breaks(house)) == 1
    await compared(house, 9, trigger=Trigger.REQUEST)
    assert await open_breaks(house) == []


async def test_l13_what_two_people_explain_during_a_comparison_is_not_stopped_again(
    house: ApiHouse,
) -> None:
    await compared(house, 7, MISSING)
    [found] = await open_breaks(house)
    await explain(house, found["id"], key="ada-key")
    await explain(house, found["id"], key="grace-key")
    await both_start(house, "build")
    async with house.owner.unit_of_work() as uow:
        await uow.execute(
            "UPDATE chain.reconciliation_breaks SET explanation = NULL, proposed_by = NULL, "
            "approved_by = NULL"
        )
    async with house.owner.unit_of_work() as uow:  # the second person's call, not committed yet
        await uow.execute(
            "UPDATE chain.reconciliation_breaks SET explanation = 'a lost key', "
            "proposed_by = 'ada', approved_by = 'grace'"
        )
        cycle = asyncio.create_task(compared(house, 8, MISSING))
        await until_it_waits(house.owner)
    await cycle
    assert "build" not in await stopped(house)
