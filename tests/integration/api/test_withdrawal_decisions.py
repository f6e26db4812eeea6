"""What staff decide about a withdrawal: who may, how many it takes, and that one wins (W8)."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from gateway import withdrawals_store
from gateway.client import Reply
from gateway.errors import TooLate
from gateway.payouts import approvals, limits, withdrawals
from gateway.payouts.withdrawals import Trigger
from tests.support.api import ApiHouse, problem, vector_key
from tests.support.auditor import audit
from tests.support.staff import (
    COIN,
    PEOPLE,
    SCOPES,
    approve,
    consent,
    decline,
    hire,
    set_limits,
    set_rate,
    standing,
)

pytestmark = pytest.mark.postgres

DAY = 24 * 3_600


@pytest.fixture(autouse=True)
async def desk(house: ApiHouse) -> None:
    """Over 5,000 one person agrees, over 50,000 two do; a bitcoin is 50,000."""
    await hire(house, *PEOPLE)
    await set_rate(house, "50000")
    await house.fund("acme", "btc:BTC", 100 * COIN)
    await set_limits(
        house, {"scope": "transaction", "approval_above": "5000", "dual_above": "50000"}
    )


@pytest.fixture(autouse=True)
async def books(house: ApiHouse, desk: None) -> Any:
    """After each test the limits' sums and the auditor agree; deposits here are states alone."""
    yield
    async with house.owner.unit_of_work() as uow:
        assert await limits.check(uow) == []
    found = await audit(house.owner.engine, at_rest=False)
    assert [line for line in found if "deposit" not in line] == []


async def pending(house: ApiHouse, amount: str = "1", **fields: Any) -> dict[str, Any]:
    """An order that waits for people."""
    found: dict[str, Any] = (await house.withdraw(amount=amount, **fields)).json()
    assert (found["state"], found["code"]) == ("pending_approval", "limit_transaction")
    return found


async def state(house: ApiHouse, found: dict[str, Any]) -> str:
    """The state now."""
    return str((await standing(house, found))["state"])


async def signatures(house: ApiHouse, found: dict[str, Any]) -> list[tuple[str, str]]:
    """Who signed what about it."""
    path = f"/v1/withdrawals/{found['id']}/decisions"
    body = (await house.call("GET", path, key="rosa-key")).json()
    return [(item["action"], item["person"]) for item in body["signatures"]]


async def test_one_other_person_lets_it_go(house: ApiHouse) -> None:
    found = await pending(house)
    reply = await approve(house, found, key="rosa-key")
    assert (reply.status, reply.json()["waits_for"]) == (200, None)
    assert reply.json()["withdrawal"]["state"] == "queued"
    assert reply.json()["withdrawal"]["code"] is None
    late = await approve(house, found, key="remy-key")
    assert (late.status, problem(late)["code"]) == (409, "wrong_state")
    assert await signatures(house, found) == [("approve", "rosa")]


async def test_above_the_dual_limit_it_takes_two_different_people(house: ApiHouse) -> None:
    found = await pending(house, "1.5")
    first = await approve(house, found, key="rosa-key")
    assert (first.status, first.json()["waits_for"]) == (202, "person")
    assert first.json()["signed_by"] == ["rosa"]
    again = await approve(house, found, key="rosa-key")
    assert (again.status, again.json()["signed_by"]) == (202, ["rosa"])
    assert await state(house, found) == "pending_approval"
    house.tick(1)
    second = await approve(house, found, key="remy-key")
    assert (second.status, second.json()["signed_by"]) == (200, ["rosa", "remy"])
    assert await state(house, found) == "queued"


async def test_a31_one_person_with_two_keys_is_one_person(house: ApiHouse) -> None:
    await house.add_key(
        "rosa-other", kind="staff", brand=None, person="rosa", scopes=SCOPES, roles=("risk",)
    )
    found = await pending(house, "1.5")
    await approve(house, found, key="rosa-key")
    reply = await approve(house, found, key="rosa-other")
    assert (reply.status, problem(reply)["code"]) == (403, "same_person")
    assert await state(house, found) == "pending_approval"


async def test_a31_the_key_that_ordered_may_not_approve_under_any_name(house: ApiHouse) -> None:
    """The client's key as it is, and its public half registered as a person's."""
    found = await pending(house)
    refused = await approve(house, found, key="acme-key")
    assert (refused.status, problem(refused)["code"]) == (403, "wrong_principal")
    await house.rows(
        "UPDATE gateway.clients SET public_key = (SELECT public_key FROM gateway.clients "
        "WHERE key_id = 'acme-key') WHERE key_id = 'ruth-key'"
    )
    house.server._services.authenticator.keys.expire()
    async with house.client("ruth-key", key=vector_key("acme-key")) as client:
        path = f"/v1/withdrawals/{found['id']}/approve"
        reply = await client.request("POST", path, body=consent(found))
    assert (reply.status, problem(reply)["code"]) == (403, "same_person")
    assert await state(house, found) == "pending_approval"


async def test_a31_the_database_refuses_the_ordering_key_too(house: ApiHouse) -> None:
    found = await pending(house)
    await approve(house, found, key="rosa-key")
    await house.rows(
        "UPDATE gateway.clients SET public_key = (SELECT public_key FROM gateway.clients "
        "WHERE key_id = 'acme-key') WHERE key_id = 'remy-key'"
    )
    copy = (
        "INSERT INTO gateway.withdrawal_approvals SELECT gen_random_uuid(), withdrawal_id, brand, "
        "action, round, '{key}', '{person}', method, authority, path, query, headers, body, "
        "signature_input, signature, at FROM gateway.withdrawal_approvals"
    )
    for key, person in (("remy-key", "remy"), ("acme-key", "acme"), ("ruth-key", "remy")):
        with pytest.raises(DBAPIError):
            await house.rows(copy.format(key=key, person=person))
    assert await signatures(house, found) == [("approve", "rosa")]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("brand", "bravo"),
        ("request_id", "other"),
        ("asset", "eth:ETH"),
        ("address", "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"),
        ("amount", "1.00000001"),
        ("amount", "1.0"),
        ("action", "abort"),
    ],
)
async def test_s15_consent_to_anything_else_is_refused(
    house: ApiHouse, field: str, value: str
) -> None:
    found = await pending(house)
    path = f"/v1/withdrawals/{found['id']}/approve"
    reply = await house.call("POST", path, body=consent(found) | {field: value}, key="rosa-key")
    assert reply.status == 422
    missing = {name: text for name, text in consent(found).items() if name != field}
    assert (await house.call("POST", path, body=missing, key="rosa-key")).status == 422
    assert await signatures(house, found) == []


async def test_the_signature_is_kept_exactly_as_it_came(house: ApiHouse) -> None:
    found = await pending(house)
    await approve(house, found, key="rosa-key")
    rows = await house.rows("SELECT * FROM gateway.withdrawal_approvals")
    async with house.owner.unit_of_work() as uow:
        row = await withdrawals_store.by_request_id(
            uow, brand="acme", request_id=found["request_id"]
        )
        assert row is not None
        [signed] = await approvals.of(uow, row.id, "approve")
    assert (signed.method, signed.path) == ("POST", f"/v1/withdrawals/{found['id']}/approve")
    assert signed.body == bytes(rows[0]["body"])
    assert 'keyid="rosa-key"' in signed.signature_input
    assert "content-digest" in signed.headers


async def test_a_person_who_left_meanwhile_has_not_agreed(house: ApiHouse) -> None:
    found = await pending(house, "1.5")
    await approve(house, found, key="rosa-key")
    await house.rows(
        "UPDATE gateway.clients SET revoked_at = :at WHERE key_id = 'rosa-key'",
        at=house.clock.now(),
    )
    assert (await approve(house, found, key="remy-key")).status == 202
    assert (await approve(house, found, key="ruth-key")).status == 200


async def test_nobody_approves_after_a_day(house: ApiHouse) -> None:
    found = await pending(house)
    house.tick(DAY)
    reply = await approve(house, found, key="rosa-key")
    assert (reply.status, problem(reply)["code"]) == (409, "expired")
    assert await state(house, found) == "pending_approval"


@pytest.mark.parametrize("scopes", [("withdrawals:read",), ("policies:write", "treasury:write")])
async def test_a31_without_the_scope_nobody_decides(
    house: ApiHouse, scopes: tuple[str, ...]
) -> None:
    await house.add_key(
        "fay-key", kind="staff", brand=None, person="fay", scopes=scopes, roles=("risk",)
    )
    found = await pending(house)
    for reply in (
        await approve(house, found, key="fay-key"),
        await decline(house, found, key="fay-key"),
    ):
        assert (reply.status, problem(reply)["code"]) == (403, "missing_scope")


async def test_a29_staff_of_another_brand_find_nothing(house: ApiHouse) -> None:
    await hire(house, "bob", brand="bravo")
    found = await pending(house)
    for action, body in (
        ("approve", consent(found)),
        ("decline", {"reason": "odd"}),
        ("expedite", {"reason": "odd"}),
        ("abort", {**_subject(found), "action": "abort", "txid": "ab" * 32}),
        ("reissue", {**_subject(found), "action": "reissue", "dead_txids": ["ab" * 32]}),
    ):
        path = f"/v1/withdrawals/{found['id']}/{action}"
        reply = await house.call("POST", path, body=body, key="bob-key")
        assert reply.status == 404, action
    path = f"/v1/withdrawals/{found['id']}/decisions"
    assert (await house.call("GET", path, key="bob-key")).status == 404


def _subject(found: dict[str, Any]) -> dict[str, str]:
    return {"brand": found["brand"], "request_id": found["request_id"]}


async def test_a_decline_ends_it_once_and_gives_the_money_back_once(house: ApiHouse) -> None:
    found = await pending(house, "60")
    first = await decline(house, found, key="rosa-key")
    again = await decline(house, found, key="remy-key")
    assert (first.status, again.status) == (200, 200)
    body = first.json()["withdrawal"]
    assert (body["state"], body["code"]) == ("declined", "declined_by_staff")
    assert again.json()["withdrawal"] == body
    timeline = await house.call("GET", f"/v1/withdrawals/{found['id']}/timeline")
    last = timeline.json()["items"][-1]
    assert (last["state"], last["actor"], last["reason"]) == ("declined", "rosa", "odd")
    whole = (await house.withdraw(amount="100")).json()
    assert (whole["state"], whole["code"]) == ("pending_approval", "limit_transaction")


async def test_a_decline_takes_a_reason_or_every_dead_txid(house: ApiHouse) -> None:
    found = await pending(house)
    path = f"/v1/withdrawals/{found['id']}/decline"
    dead = {**_subject(found), "action": "decline_dead", "dead_txids": ["ab" * 32]}
    bodies: list[dict[str, Any]] = [
        {},
        {"reason": ""},
        {**dead, "reason": "both"},
        {name: value for name, value in dead.items() if name != "dead_txids"},
        {name: value for name, value in dead.items() if name != "action"},
    ]
    for body in bodies:
        assert (await house.call("POST", path, body=body, key="rosa-key")).status == 422
    reply = await house.call("POST", path, body=dead, key="rosa-key")
    assert (reply.status, problem(reply)["code"]) == (409, "wrong_state")
    assert await state(house, found) == "pending_approval"


async def test_expedite_makes_it_urgent_and_says_who(house: ApiHouse) -> None:
    found = (await house.withdraw(fee_class="economy")).json()
    house.tick(60)
    path = f"/v1/withdrawals/{found['id']}/expedite"
    replies = [
        await house.call("POST", path, body={"reason": "vip waits"}, key="rosa-key")
        for _ in range(2)
    ]
    body = replies[0].json()["withdrawal"]
    assert (body["fee_class"], body["promise_at"]) == ("urgent", "2026-01-01T00:03:00.000000Z")
    assert replies[1].json()["withdrawal"] == body == await standing(house, found)
    assert await signatures(house, found) == [("expedite", "rosa")]


async def test_expedite_never_makes_a_promise_later(house: ApiHouse) -> None:
    found = (await house.withdraw(fee_class="normal")).json()
    house.tick(14 * 60)
    path = f"/v1/withdrawals/{found['id']}/expedite"
    reply = await house.call("POST", path, body={"reason": "vip waits"}, key="rosa-key")
    assert reply.json()["withdrawal"]["promise_at"] == found["promise_at"]


async def test_what_has_ended_is_neither_expedited_nor_declined(house: ApiHouse) -> None:
    found = (await house.withdraw()).json()
    await house.call("POST", f"/v1/withdrawals/{found['id']}/cancel")
    expedited = await house.call(
        "POST", f"/v1/withdrawals/{found['id']}/expedite", body={"reason": "why"}, key="rosa-key"
    )
    declined = await decline(house, found, key="rosa-key")
    for reply in (expedited, declined):
        assert (reply.status, problem(reply)["code"]) == (409, "too_late")
    assert await signatures(house, found) == []


async def hold(house: ApiHouse, found: dict[str, Any], code: str, **columns: Any) -> None:
    """What the payout lane leaves behind: on hold, with a code."""
    async with house.owner.unit_of_work() as uow:
        row = await withdrawals_store.by_request_id(
            uow, brand="acme", request_id=found["request_id"]
        )
        assert row is not None
        await withdrawals.move(
            uow, row, Trigger.HOLD, ids=house.ids, at=house.clock.now(),
            changes={"code": code, **columns},
        )  # fmt: skip


@pytest.mark.parametrize("code", ["signer_refused", "sign_request_too_large", "deposit_orphaned"])
async def test_staff_let_a_held_one_go_on(house: ApiHouse, code: str) -> None:
    """`deposit_orphaned` with nothing orphaned: the deposit was reversed, and people decide."""
    found = (await house.withdraw()).json()
    await hold(house, found, code)
    reply = await approve(house, found, key="rosa-key")
    assert (reply.status, reply.json()["withdrawal"]["state"]) == (200, "queued")


async def test_a_held_one_is_approved_anew_by_as_many_as_its_limit_asks(house: ApiHouse) -> None:
    found = await pending(house, "1.5")
    await approve(house, found, key="rosa-key")
    await approve(house, found, key="remy-key")
    await hold(house, found, "signer_refused")
    assert (await approve(house, found, key="rosa-key")).status == 200
    assert await state(house, found) == "queued"


async def test_a_lost_deposit_is_waited_for_and_not_talked_away(house: ApiHouse) -> None:
    found = (await house.withdraw()).json()
    await hold(house, found, "deposit_orphaned")
    await house.deposit(
        brand="acme", player_id="p1", asset="btc:BTC", amount_minor=COIN, state="orphaned"
    )
    reply = await approve(house, found, key="rosa-key")
    assert (reply.status, problem(reply)["code"]) == (409, "deposit_orphaned")
    assert (await decline(house, found, key="rosa-key")).status == 200


async def test_p06_what_may_be_paid_already_is_neither_approved_nor_declined(
    house: ApiHouse,
) -> None:
    found = (await house.withdraw()).json()
    await hold(house, found, "signer_knows_more", sign_requested_at=house.clock.now())
    for reply in (
        await approve(house, found, key="rosa-key"),
        await decline(house, found, key="rosa-key"),
    ):
        assert (reply.status, problem(reply)["code"]) == (409, "maybe_signed")
    assert await state(house, found) == "on_hold"
    assert await signatures(house, found) == []


async def test_a33_cancel_approve_decline_and_expire_at_once_have_one_winner(
    house: ApiHouse,
) -> None:
    """A hundred calls at ten orders; who comes second sees what the first one did."""
    orders = [await pending(house, player_id=f"p{n}") for n in range(10)]
    async with house.owner.unit_of_work() as uow:
        rows = {
            found["request_id"]: await withdrawals_store.by_request_id(
                uow, brand="acme", request_id=found["request_id"]
            )
            for found in orders
        }

    async def expire(found: dict[str, Any]) -> str:
        async def work(uow: Any) -> str:
            row = rows[found["request_id"]]
            assert row is not None
            locked = await withdrawals_store.get(uow, row.id, lock=True)
            assert locked is not None
            await withdrawals.give_up(
                uow, locked, Trigger.EXPIRE, ids=house.ids, at=house.clock.now()
            )
            return "expired"

        try:
            return await house.owner.run(work)
        except TooLate:
            return "late"

    async def cancel(found: dict[str, Any]) -> str:
        reply = await house.call("POST", f"/v1/withdrawals/{found['id']}/cancel")
        return _outcome(reply, "cancelled")

    async def say_no(found: dict[str, Any], key: str) -> str:
        return _outcome(await decline(house, found, key=key), "declined")

    async def say_yes(found: dict[str, Any], key: str) -> str:
        return _outcome(await approve(house, found, key=key), "queued")

    def calls(found: dict[str, Any]) -> list[Any]:
        people = [f"{person}-key" for person in PEOPLE]
        return [
            *(say_yes(found, key) for key in people),
            *(say_no(found, key) for key in people),
            cancel(found), cancel(found), expire(found), expire(found),
        ]  # fmt: skip

    done = await asyncio.gather(*(call for found in orders for call in calls(found)))
    for number, found in enumerate(orders):
        outcomes = set(done[number * 10 : number * 10 + 10]) - {"late"}
        end = await state(house, found)
        assert end in ("cancelled", "declined", "expired")
        assert outcomes in ({end}, {end, "queued"})
    changes = await house.rows(
        "SELECT object_id, count(*) FILTER (WHERE to_state IN ('cancelled', 'declined', 'expired'))"
        " AS ends, count(*) FILTER (WHERE to_state = 'queued') AS approvals "
        "FROM ledger.state_history WHERE object_kind = 'withdrawal' GROUP BY 1"
    )
    assert all(row["ends"] == 1 and row["approvals"] <= 1 for row in changes)
    holds = await house.rows("SELECT state, count(*) AS n FROM ledger.holds GROUP BY 1")
    assert holds == [{"state": "released", "n": 10}]


def _outcome(reply: Reply, done: str) -> str:
    if reply.status == 200:
        return done
    assert (reply.status, problem(reply)["code"]) in {(409, "too_late"), (409, "wrong_state")}
    return "late"


async def test_reads_of_decisions_are_for_staff(house: ApiHouse) -> None:
    found = await pending(house, "1.5")
    await approve(house, found, key="rosa-key")
    path = f"/v1/withdrawals/{found['id']}/decisions"
    body = (await house.call("GET", path, key="remy-key")).json()
    assert (body["limit"], body["value"], body["approvals_missing"]) == (
        "limit_transaction",
        "75000",
        1,
    )
    assert body["signatures"][0]["is_current"] is True
    assert (await house.call("GET", path, key="acme-key")).status == 403
