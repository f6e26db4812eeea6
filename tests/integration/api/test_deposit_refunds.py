"""POST /v1/deposits/{id}/refund: two people of compliance over the very same words."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import sqlstate
from config.ids import parse_public_id
from gateway import verification
from gateway.client import Reply
from gateway.payouts import recovery_store
from gateway.payouts.recovery_store import GENESIS_HASH
from tests.support.api import CLIENT_SCOPES, problem
from tests.support.vault import FOREIGN_BTC
from tests.support.ward import COIN, Ward

pytestmark = pytest.mark.postgres

HALF = COIN // 2
HELD = "player:acme:anna:held:btc:BTC"
RESERVED = "player:acme:anna:reserved:btc:BTC"
UNALLOCATED = "unallocated:btc:BTC"
CUSTODY = "custody:btc/hot:btc:BTC"
SCOPES = ("deposits:read", "deposits:write", "withdrawals:read", "withdrawals:approve")


@pytest.fixture
async def desk(ward: Ward) -> Ward:
    """Ada, Grace and Lin of the operator's compliance, Tom of the treasury, Zed of zest's and Amy
    of acme's compliance; the casino acme has blocked Anna."""
    for person in ("ada", "grace", "lin"):
        await _person(ward, person)
    await _person(ward, "tom", role="treasury")
    await _person(ward, "zed", brand="zest")
    await _person(ward, "amy", brand="acme")
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


async def rejected(desk: Ward, *, amount: int = HALF, blocks: int = 3) -> str:
    """The id of a deposit of Anna's that Ada has rejected."""
    row = await desk.watches["btc"].address("anna")
    txid = desk.btc.pay([(row.address, amount)])
    desk.btc.mine(blocks)
    await desk.follow()
    found = await desk.house.call("GET", f"/v1/deposits?txid={txid}")
    (item,) = found.json()["items"]
    reply = await desk.house.call(
        "POST",
        f"/v1/deposits/{item['id']}/reject",
        body={"reason": "source of funds unclear"},
        key="ada-key",
        idempotency_key=desk.house.ids.new_id().hex,
    )
    assert reply.status == 200, reply.body
    deposit_id: str = item["id"]
    return deposit_id


async def send_back(
    desk: Ward, deposit: str, *, key: str, idem: str | None = None, **changes: Any
) -> Reply:
    """A person signs that it goes back."""
    until = (desk.clock.now() + timedelta(days=2)).replace(hour=0, minute=0, second=0)
    body = {
        "action": "refund",
        "deposit_id": deposit,
        "asset": "btc:BTC",
        "address": FOREIGN_BTC,
        "amount": "0.5",
        "valid_until": f"{until:%Y-%m-%dT%H:%M:%SZ}",
        **changes,
    }
    return await desk.house.call(
        "POST",
        f"/v1/deposits/{deposit}/refund",
        body={name: value for name, value in body.items() if value is not None},
        key=key,
        idempotency_key=idem or desk.house.ids.new_id().hex,
    )


async def act(desk: Ward, withdrawal: str, word: str, body: dict[str, Any], *, key: str) -> Reply:
    """POST /v1/withdrawals/{id}/WORD."""
    return await desk.house.call(
        "POST",
        f"/v1/withdrawals/{withdrawal}/{word}",
        body=body,
        key=key,
        idempotency_key=desk.house.ids.new_id().hex,
    )


async def state_of(desk: Ward, deposit: str) -> str:
    reply = await desk.house.call("GET", f"/v1/deposits/{deposit}")
    found: str = reply.json()["state"]
    return found


async def test_a31_two_people_sign_the_same_and_it_is_queued(desk: Ward) -> None:
    watch = desk.watches["btc"]
    deposit = await rejected(desk)
    first = await send_back(desk, deposit, key="ada-key", idem="back-1")
    assert first.status == 202, first.body
    made = first.json()["withdrawal"]
    assert (made["kind"], made["state"], made["deposit_id"]) == (
        "refund", "pending_approval", deposit,
    )  # fmt: skip
    assert first.json()["deposit"]["state"] == "refunding"
    assert first.json()["signed_by"] == ["ada"]
    assert await watch.books() == {CUSTODY: HALF, RESERVED: HALF}
    replayed = await send_back(desk, deposit, key="ada-key", idem="back-1")
    assert (replayed.status, replayed.body) == (202, first.body)

    second = await send_back(desk, deposit, key="grace-key")
    assert (second.status, second.json()["withdrawal"]["state"]) == (200, "queued")
    assert second.json()["signed_by"] == ["ada", "grace"]
    third = await send_back(desk, deposit, key="lin-key")
    assert (third.status, problem(third)["code"]) == (409, "decided")
    rows = await desk.house.rows(
        "SELECT person, convert_from(body, 'UTF8') AS body FROM gateway.refund_requests ORDER BY at"
    )
    assert [row["person"] for row in rows] == ["ada", "grace"]
    assert rows[0]["body"] == rows[1]["body"]
    types = await desk.house.rows(
        "SELECT type FROM ledger.events WHERE object_kind IN ('withdrawal', 'deposit')"
        " ORDER BY position DESC LIMIT 5"
    )
    assert [row["type"] for row in types] == [
        "withdrawal.queued", "withdrawal.pending_approval", "withdrawal.reserved",
        "withdrawal.received", "deposit.refunding",
    ]  # fmt: skip
    await watch.audit()
    async with desk.house.owner.unit_of_work() as uow:
        for part in verification.PARTS[-2:]:
            assert (await verification.check(uow, part, place=None)).findings == ()


async def test_a31_the_same_person_another_key_and_other_words_are_not_a_second_person(
    desk: Ward,
) -> None:
    deposit = await rejected(desk)
    assert (await send_back(desk, deposit, key="ada-key")).status == 202
    again = await send_back(desk, deposit, key="ada-key")
    assert (again.status, again.json()["signed_by"]) == (202, ["ada"])
    await desk.house.add_key(
        "ada-other", kind="staff", brand=None, person="ada", scopes=SCOPES, roles=("compliance",)
    )
    other = await send_back(desk, deposit, key="ada-other")
    assert (other.status, problem(other)["code"]) == (403, "same_person")
    later = f"{desk.clock.now() + timedelta(days=4):%Y-%m-%dT00:00:00Z}"
    for changes in (
        {"address": "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"},
        {"valid_until": later},
    ):
        reply = await send_back(desk, deposit, key="grace-key", **changes)
        assert (reply.status, problem(reply)["code"]) == (409, "other_content")
    assert await state_of(desk, deposit) == "refunding"


WRONG = (
    ("action", "recovery"),
    ("deposit_id", "dep_test_00000000000000000000000000000000"),
    ("asset", "ltc:LTC"),
    ("asset", "btc:XYZ"),
    ("amount", "0.49"),
    ("amount", "5e-1"),
    ("address", "nonsense"),
    ("valid_until", "2023-01-01T00:00:00Z"),
    ("valid_until", "2099-01-01T00:00:00Z"),
    ("valid_until", "tomorrow"),
    ("valid_until", None),
    ("reason", "because"),
)


async def test_a11_what_is_not_this_very_deposit_is_refused(desk: Ward) -> None:
    deposit = await rejected(desk)
    for field, value in WRONG:
        reply = await send_back(desk, deposit, key="ada-key", **{field: value})
        assert reply.status == 422, (field, value, reply.body)
    assert await state_of(desk, deposit) == "rejected"


async def test_a20_an_own_address_is_no_destination(desk: Ward) -> None:
    deposit = await rejected(desk)
    [row] = await desk.house.rows(
        "SELECT address FROM chain.addresses WHERE network = 'btc' AND player_id IS NULL LIMIT 1"
    )
    reply = await send_back(desk, deposit, key="ada-key", address=row["address"])
    assert (reply.status, problem(reply)["errors"][0]["code"]) == (422, "own_address")


async def test_a29_a30_who_may_not_send_back_is_refused(desk: Ward) -> None:
    deposit = await rejected(desk)
    for key in ("acme-key", "tom-key"):
        assert (await send_back(desk, deposit, key=key)).status == 403
    assert (await send_back(desk, deposit, key="zed-key")).status == 404
    assert await state_of(desk, deposit) == "rejected"
    assert (await send_back(desk, deposit, key="amy-key")).status == 202  # of the brand itself


async def test_nobodys_value_is_the_operators_to_send_back(desk: Ward) -> None:
    deposit = await rejected(desk, amount=500)
    assert await desk.watches["btc"].books() == {CUSTODY: 500, UNALLOCATED: 500}
    refused = await send_back(desk, deposit, key="amy-key", amount="0.000005")
    assert (refused.status, problem(refused)["code"]) == (409, "not_of_a_brand")
    assert (await send_back(desk, deposit, key="ada-key", amount="0.000005")).status == 202


async def test_before_it_is_final_or_rejected_nothing_is_sent_back(desk: Ward) -> None:
    early = await rejected(desk, blocks=1)
    reply = await send_back(desk, early, key="ada-key")
    assert (reply.status, problem(reply)["code"]) == (409, "not_final")
    row = await desk.watches["btc"].address("otto")
    txid = desk.btc.pay([(row.address, HALF)])
    desk.btc.mine(3)
    await desk.follow()
    found = await desk.house.call("GET", f"/v1/deposits?txid={txid}")
    final = found.json()["items"][0]["id"]
    reply = await send_back(desk, final, key="ada-key")
    assert (reply.status, problem(reply)["code"]) == (409, "not_decidable")


async def test_the_other_ways_to_decide_about_a_payout_are_not_for_a_refund(desk: Ward) -> None:
    """It is approved by signing it; a person may decline it; its brand's key cannot cancel it."""
    deposit = await rejected(desk)
    made = (await send_back(desk, deposit, key="ada-key")).json()["withdrawal"]
    name = made["id"]
    words = {"brand": "acme", "request_id": made["request_id"]}
    consent = {"action": "approve", **words, "asset": "btc:BTC", "address": made["address"],
               "amount": "0.5"}  # fmt: skip
    reply = await act(desk, name, "approve", consent, key="grace-key")
    assert (reply.status, problem(reply)["code"]) == (409, "sign_the_refund")
    reply = await desk.house.call(
        "POST", f"/v1/withdrawals/{name}/cancel", body={}, idempotency_key="no"
    )
    assert (reply.status, problem(reply)["code"]) == (409, "too_late")
    assert await desk.watches["btc"].books() == {CUSTODY: HALF, RESERVED: HALF}


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_person_declines_a_refund_and_its_value_is_where_it_was(
    is_lost: bool, desk: Ward
) -> None:
    """By the role of the API alone; of a deposit whose block is lost it is orphaned by that."""
    watch = desk.watches["btc"]
    async with desk.house.owner.unit_of_work() as uow:  # what payouts writes at its first start
        await recovery_store.move_place(
            uow, "btc", sequence=0, entry_hash=GENESIS_HASH, at=desk.clock.now()
        )
    deposit = await rejected(desk)
    made = (await send_back(desk, deposit, key="ada-key")).json()["withdrawal"]
    if is_lost:
        desk.btc.rewind(3)
        for _ in range(4):
            desk.btc.mine_exactly([])
        await desk.follow()
        assert await state_of(desk, deposit) == "refunding"
    reply = await act(desk, made["id"], "decline", {"reason": "not to there"}, key="grace-key")
    assert reply.status == 200, reply.body
    assert reply.json()["withdrawal"]["state"] == "declined"
    assert await state_of(desk, deposit) == ("orphaned" if is_lost else "rejected")
    assert await watch.books() == {CUSTODY: HALF, HELD: HALF}
    again = await act(desk, made["id"], "decline", {"reason": "not to there"}, key="lin-key")
    assert again.status == 200  # twice is once
    await watch.audit()
    if not is_lost:
        other = await send_back(desk, deposit, key="lin-key")
        assert (other.status, other.json()["signed_by"]) == (202, ["lin"])
        assert other.json()["withdrawal"]["id"] != made["id"]
        return
    desk.btc.mine(4)  # it comes back
    await desk.follow()
    assert await state_of(desk, deposit) == "rejected"
    assert await watch.books() == {CUSTODY: HALF, HELD: HALF}
    await watch.audit()


async def test_a_stolen_api_makes_no_other_step_of_a_deposit(desk: Ward) -> None:
    """Its role sends nothing back alone: the row says so, and the signer wants two people."""
    deposit = await rejected(desk)
    wanted = parse_public_id("deposit", deposit, livemode=False)
    for change in (
        "state = 'final', credited_stage = 'clearing'",
        "state = 'refunded'",
        "state = 'provisional'",
        "state = 'on_hold'",
    ):
        with pytest.raises(DBAPIError) as refused:
            async with desk.watches["btc"].as_api.unit_of_work() as uow:
                await uow.execute(
                    f"UPDATE chain.deposits SET {change} WHERE id = :id", {"id": wanted}
                )
        assert sqlstate(refused.value) == "42501"
    with pytest.raises(DBAPIError, match="is no staff key of"):
        async with desk.watches["btc"].as_api.unit_of_work() as uow:
            await uow.execute(
                "INSERT INTO gateway.refund_requests VALUES (gen_random_uuid(), 'grace', 'ada-key',"
                " 'POST', '', '', '', '{}', '', '', '', now())"
            )
    assert await state_of(desk, deposit) == "rejected"
