"""Release and reject over the API: compliance decides, two people release (CONTRACT 3 and 4)."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import sqlstate
from config.ids import parse_public_id
from gateway import verification
from gateway.client import Reply
from tests.support.api import CLIENT_SCOPES, problem
from tests.support.ward import COIN, Ward
from watchers import switches
from watchers.switches import Action

pytestmark = pytest.mark.postgres

HALF = COIN // 2
HELD = "player:acme:anna:held:btc:BTC"
CLEARING = "brand:acme:clearing:btc:BTC"
UNALLOCATED = "unallocated:btc:BTC"
CUSTODY = "custody:btc/hot:btc:BTC"
SCOPES = ("deposits:read", "deposits:write", "audit:read")


@pytest.fixture
async def desk(ward: Ward) -> Ward:
    """Ada, Grace and Lin of the operator's compliance, Tom of the treasury, Zed of zest's
    compliance; the casino acme has blocked Anna."""
    for person in ("ada", "grace", "lin"):
        await _person(ward, person)
    await _person(ward, "tom", role="treasury")
    await _person(ward, "zed", brand="zest")
    await ward.house.add_key("flags-key", scopes=(*CLIENT_SCOPES, "players:write"))
    reply = await ward.house.call(
        "PUT", "/v1/players/anna/flags", body={"blocked_reasons": ["fraud"]}, key="flags-key"
    )
    assert reply.status == 200, reply.body
    return ward


async def _person(
    ward: Ward, person: str, *, role: str = "compliance", brand: str | None = None
) -> None:
    await ward.house.add_key(
        f"{person}-key", kind="staff", brand=brand, person=person, scopes=SCOPES, roles=(role,)
    )


async def paid(desk: Ward, *, amount: int = HALF, blocks: int = 3) -> str:
    """The id of a deposit of Anna's."""
    row = await desk.watches["btc"].address("anna")
    txid = desk.btc.pay([(row.address, amount)])
    desk.btc.mine(blocks)
    await desk.follow()
    found = await desk.house.call("GET", f"/v1/deposits?txid={txid}")
    (item,) = found.json()["items"]
    deposit_id: str = item["id"]
    return deposit_id


async def decide(
    desk: Ward, deposit: str, word: str, *, key: str, idem: str | None = None
) -> Reply:
    """POST /v1/deposits/{id}/release or /reject."""
    return await desk.house.call(
        "POST",
        f"/v1/deposits/{deposit}/{word}",
        body={"reason": "source of funds seen"},
        key=key,
        idempotency_key=idem or desk.house.ids.new_id().hex,
    )


async def shown(desk: Ward, deposit: str) -> dict[str, Any]:
    reply = await desk.house.call("GET", f"/v1/deposits/{deposit}")
    found: dict[str, Any] = reply.json()
    return found


async def history(desk: Ward, deposit: str) -> list[tuple[str, str | None, str | None]]:
    """State, actor and reason of every change."""
    reply = await desk.house.call("GET", f"/v1/deposits/{deposit}", key="ada-key")
    rows = await desk.house.rows(
        "SELECT h.to_state, h.actor, h.reason FROM ledger.state_history h"
        " JOIN chain.deposits d ON d.id = h.object_id WHERE d.txid = :txid ORDER BY h.version",
        txid=reply.json()["txid"],
    )
    return [(row["to_state"], row["actor"], row["reason"]) for row in rows]


async def test_a31_two_people_release_a_held_deposit_once(desk: Ward) -> None:
    watch = desk.watches["btc"]
    deposit = await paid(desk)
    assert await watch.books() == {CUSTODY: HALF, HELD: HALF}

    first = await decide(desk, deposit, "release", key="ada-key")
    assert (first.status, first.json()["approval"]["state"]) == (202, "pending_approval")
    assert first.json()["approval"]["subject"] == deposit
    again = await decide(desk, deposit, "release", key="ada-key")
    assert (again.status, again.json()["deposit"]["state"]) == (202, "on_hold")
    assert await watch.books() == {CUSTODY: HALF, HELD: HALF}

    second = await decide(desk, deposit, "release", key="grace-key", idem="release-1")
    assert (second.status, second.json()["approval"]["state"]) == (200, "done")
    assert second.json()["deposit"]["state"] == "final"
    assert await watch.books() == {CUSTODY: HALF, CLEARING: HALF}
    replayed = await decide(desk, deposit, "release", key="grace-key", idem="release-1")
    assert (replayed.status, replayed.body) == (200, second.body)
    third = await decide(desk, deposit, "release", key="lin-key")
    assert (third.status, problem(third)["code"]) == (409, "not_decidable")

    assert (await history(desk, deposit))[-1] == ("final", "grace", "source of funds seen")
    events = await desk.house.rows(
        "SELECT type, snapshot ->> 'substatus' AS substatus FROM ledger.events"
        " WHERE object_kind = 'deposit' ORDER BY object_version DESC LIMIT 1"
    )
    assert events == [{"type": "deposit.released", "substatus": None}]
    desk.btc.mine(3)
    await desk.follow()
    assert await watch.books() == {CUSTODY: HALF, CLEARING: HALF}
    await watch.audit()


async def test_the_second_person_may_answer_the_approval(desk: Ward) -> None:
    deposit = await paid(desk)
    first = await decide(desk, deposit, "release", key="ada-key")
    target = f"/v1/approvals/{first.json()['approval']['id']}"

    async def answer(key: str, decision: str = "approve") -> Reply:
        return await desk.house.call(
            "POST",
            target,
            body={"decision": decision},
            key=key,
            idempotency_key=desk.house.ids.new_id().hex,
        )

    own = await answer("ada-key")
    assert (own.status, problem(own)["code"]) == (403, "same_person")
    assert (await answer("tom-key")).status == 403
    assert (await answer("zed-key")).status == 403
    assert (await shown(desk, deposit))["state"] == "on_hold"
    assert (await answer("grace-key")).status == 200
    assert (await shown(desk, deposit))["state"] == "final"
    await desk.watches["btc"].audit()


async def test_a_declined_release_releases_nothing(desk: Ward) -> None:
    deposit = await paid(desk)
    first = await decide(desk, deposit, "release", key="ada-key")
    declined = await desk.house.call(
        "POST",
        f"/v1/approvals/{first.json()['approval']['id']}",
        body={"decision": "decline"},
        key="grace-key",
        idempotency_key="no",
    )
    assert (declined.status, declined.json()["state"]) == (200, "declined")
    again = await decide(desk, deposit, "release", key="grace-key")
    assert again.status == 202  # a new decision, which waits for its own second person
    assert (await shown(desk, deposit))["state"] == "on_hold"


async def test_a29_a30_who_may_not_decide_is_refused(desk: Ward) -> None:
    deposit = await paid(desk)
    for word in ("release", "reject"):
        assert (await decide(desk, deposit, word, key="acme-key")).status == 403
        assert (await decide(desk, deposit, word, key="tom-key")).status == 403
        assert (await decide(desk, deposit, word, key="zed-key")).status == 404
    assert (await shown(desk, deposit))["state"] == "on_hold"


async def test_nothing_is_released_before_it_is_final(desk: Ward) -> None:
    deposit = await paid(desk, blocks=1)
    early = await decide(desk, deposit, "release", key="ada-key")
    assert (early.status, problem(early)["code"]) == (409, "not_final")
    desk.btc.mine(2)
    await desk.follow()
    assert (await decide(desk, deposit, "release", key="ada-key")).status == 202


async def test_nothing_is_released_while_credits_are_stopped(desk: Ward) -> None:
    deposit = await paid(desk)
    assert (await decide(desk, deposit, "release", key="ada-key")).status == 202
    watch = desk.watches["btc"]
    async with watch.as_watcher.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope="network:btc",
            action=Action.CREDIT,
            reason="nodes disagree",
            actor="watcher",
            ids=watch.ids,
            at=desk.clock.now(),
        )
    stopped = await decide(desk, deposit, "release", key="grace-key")
    assert (stopped.status, problem(stopped)["code"]) == (409, "credit_stopped")
    assert await watch.books() == {CUSTODY: HALF, HELD: HALF}


async def test_d04_what_was_proposed_before_a_reorg_is_proposed_again(desk: Ward) -> None:
    deposit = await paid(desk)
    assert (await decide(desk, deposit, "release", key="ada-key")).status == 202
    desk.btc.rewind(3)
    for _ in range(4):
        desk.btc.mine_exactly([])
    await desk.follow()
    gone = await decide(desk, deposit, "release", key="grace-key")
    assert (gone.status, problem(gone)["code"]) == (409, "not_decidable")
    desk.btc.mine(3)
    await desk.follow()
    assert (await shown(desk, deposit))["state"] == "on_hold"
    anew = await decide(desk, deposit, "release", key="grace-key")
    assert (anew.status, anew.json()["approval"]["proposed_by"]) == (202, "grace")
    assert (await decide(desk, deposit, "release", key="ada-key")).status == 200
    await desk.watches["btc"].audit()


async def test_two_second_people_at_once_release_once(desk: Ward) -> None:
    deposit = await paid(desk)
    assert (await decide(desk, deposit, "release", key="ada-key")).status == 202
    replies = await asyncio.gather(
        decide(desk, deposit, "release", key="grace-key"),
        decide(desk, deposit, "release", key="lin-key"),
    )
    assert sorted(reply.status for reply in replies) == [200, 409]
    assert await desk.watches["btc"].books() == {CUSTODY: HALF, CLEARING: HALF}
    await desk.watches["btc"].audit()


async def test_a_rejected_deposit_stays_held_and_is_released_no_more(desk: Ward) -> None:
    watch = desk.watches["btc"]
    deposit = await paid(desk)
    assert (await decide(desk, deposit, "release", key="ada-key")).status == 202
    rejected = await decide(desk, deposit, "reject", key="grace-key")
    assert (rejected.status, rejected.json()["deposit"]["state"]) == (200, "rejected")
    assert rejected.json()["approval"] is None
    assert await watch.books() == {CUSTODY: HALF, HELD: HALF}
    assert (await history(desk, deposit))[-1] == ("rejected", "grace", "source of funds seen")
    for word in ("release", "reject"):
        late = await decide(desk, deposit, word, key="lin-key")
        assert (late.status, problem(late)["code"]) == (409, "not_decidable")
    await watch.audit()


async def test_d20_rejected_before_its_finality_it_is_nobodys(desk: Ward) -> None:
    watch = desk.watches["btc"]
    deposit = await paid(desk, amount=9_999, blocks=1)
    assert (await shown(desk, deposit))["state"] == "below_minimum"
    never = await decide(desk, deposit, "release", key="ada-key")
    assert (never.status, problem(never)["code"]) == (409, "not_on_hold")
    assert (await decide(desk, deposit, "reject", key="ada-key")).status == 200
    assert await watch.books() == {}
    desk.btc.mine(2)
    await desk.follow()
    assert await watch.books() == {CUSTODY: 9_999, UNALLOCATED: 9_999}
    await watch.audit()


async def found(desk: Ward) -> list[str]:
    """What the whole check of deposits against their postings finds."""
    async with desk.house.owner.unit_of_work() as uow:
        page = await verification.check(uow, "deposits", place=None)
    return [item.kind for item in page.findings]


async def test_l14_the_check_of_the_books_knows_each_place_that_a_deposit_may_stand_in(
    desk: Ward,
) -> None:
    """Held from pending, held, released, rejected, and held after it was provisional."""
    waiting = await paid(desk, blocks=1)
    await paid(desk, amount=HALF + 1)
    released = await paid(desk, amount=HALF + 2)
    for key in ("ada-key", "grace-key"):
        assert (await decide(desk, released, "release", key=key)).status < 300
    rejected = await paid(desk, amount=HALF + 3)
    assert (await decide(desk, rejected, "reject", key="ada-key")).status == 200
    row = await desk.watches["btc"].address("ben")
    desk.btc.pay([(row.address, HALF + 4)])
    desk.btc.mine()
    await desk.follow()
    await desk.house.call(
        "PUT", "/v1/players/ben/flags", body={"blocked_reasons": ["fraud"]}, key="flags-key"
    )
    desk.btc.mine(2)
    await desk.follow()
    assert [item.state.value for item in await desk.watches["btc"].deposits()] == [
        "on_hold",
        "on_hold",
        "final",
        "rejected",
        "on_hold",
    ]
    assert await found(desk) == []
    await desk.watches["btc"].audit()

    await desk.house.rows(
        "UPDATE chain.deposits SET state = 'final', credited_stage = 'clearing',"
        " version = version + 1 WHERE id = :id",
        id=parse_public_id("deposit", waiting, livemode=False),
    )
    assert await found(desk) == ["deposit_stage"]  # released with no posting


@pytest.mark.parametrize(
    "change",
    [
        "state = 'reversed', credited_stage = NULL",
        "state = 'final'",  # without its money
        "state = 'refunded'",
        "amount = amount + 1",
        "player_id = 'mallory'",
    ],
)
async def test_the_role_of_the_api_moves_a_deposit_no_other_way(desk: Ward, change: str) -> None:
    await paid(desk)
    with pytest.raises(DBAPIError) as refused:
        async with desk.watches["btc"].as_api.unit_of_work() as uow:
            await uow.execute(f"UPDATE chain.deposits SET {change} WHERE state = 'on_hold'", {})
    assert sqlstate(refused.value) == "42501"  # of a column, or of the policy
