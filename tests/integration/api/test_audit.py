"""The audit log over the API: who changed what, who may read it, and its chain."""

import hashlib
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Database, async_url
from gateway import audit
from gateway.audit_chain import BrokenChain, ChainCheck
from tests.support.api import ApiHouse, problem
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.postgres

AUDIT_SCOPES = ("audit:read", "webhooks:write", "players:write", "ledger:read")
STOP = {"scope": "network:btc", "action": "all", "state": "stopped", "reason": "a strange fork"}


async def _audit(house: ApiHouse, query: str = "", *, key: str = "ada-key") -> list[dict[str, Any]]:
    reply = await house.call("GET", f"/v1/audit?limit=500{query}", key=key)
    assert reply.status == 200, reply.body
    items: list[dict[str, Any]] = reply.json()["items"]
    return items


async def _seal(house: ApiHouse) -> None:
    async with house.owner.unit_of_work() as uow:
        await audit.seal_next(uow)


async def _chain(house: ApiHouse) -> list[dict[str, Any]]:
    reply = await house.call("GET", "/v1/audit/chain?after=0&limit=500", key="ada-key")
    assert reply.status == 200, reply.body
    items: list[dict[str, Any]] = reply.json()["items"]
    return items


async def test_a_call_of_a_person_leaves_its_row_and_those_of_what_it_changed(
    house: ApiHouse,
) -> None:
    reply = await house.call("POST", "/v1/switches", body=STOP, key="ada-key", idempotency_key="k")
    assert reply.status == 200
    call, switch = await _audit(house, f"&correlation={reply.headers['X-Request-Id']}")
    assert (call["actor"], call["action"], call["subject"], call["brand"]) == (
        "ada",
        "POST /v1/switches",
        "/v1/switches",
        None,
    )
    assert call["after"] == {"request": STOP, "status": 200}
    assert (call["before"], call["reason"]) == (None, "a strange fork")
    assert (switch["actor"], switch["action"], switch["subject"]) == (
        "ada",
        "switch.created",
        "network:btc/all",
    )
    assert (switch["before"], switch["after"]["state"]) == (None, "stopped")


async def test_of_a_change_what_differs_is_told_before_and_after(house: ApiHouse) -> None:
    await house.call("POST", "/v1/switches", body=STOP, key="ada-key", idempotency_key="k1")
    start = {**STOP, "state": "running", "reason": "it was nothing"}
    for number, key in enumerate(("ada-key", "grace-key")):
        reply = await house.call(
            "POST", "/v1/switches", body=start, key=key, idempotency_key=f"s{number}"
        )
    assert reply.status == 200
    rows = await _audit(house, "&action=switch.changed")
    assert [row["actor"] for row in rows] == ["grace"]
    assert (rows[0]["before"]["state"], rows[0]["after"]["state"]) == ("stopped", "running")
    assert rows[0]["after"]["approved_by"] == "grace"
    assert "scope" not in rows[0]["after"]
    decided = await _audit(house, "&action=approval.")
    assert [row["action"] for row in decided] == ["approval.changed", "approval.created"]
    assert [row["actor"] for row in decided] == ["grace", "ada"]


async def test_a_decision_on_an_object_tells_the_states_that_it_went_through(
    house: ApiHouse,
) -> None:
    await house.add_key(
        "rita-key", kind="staff", brand=None, person="rita", roles=("risk",),
        scopes=("withdrawals:read", "withdrawals:approve"),
    )  # fmt: skip
    order = (await house.withdraw(amount="0.3")).json()
    assert order["state"] == "waiting_liquidity"
    reply = await house.call(
        "POST", f"/v1/withdrawals/{order['id']}/decline", body={"reason": "a stolen card"},
        key="rita-key", idempotency_key="d",
    )  # fmt: skip
    assert reply.status == 200, reply.body
    [row] = await _audit(house, f"&subject={order['id']}")
    assert (row["actor"], row["brand"], row["reason"]) == ("rita", "acme", "a stolen card")
    assert row["before"] == {"state": "waiting_liquidity"}
    assert (row["after"]["state"], row["after"]["status"]) == ("declined", 200)


async def test_orders_of_machines_leave_no_row_and_a_refused_call_none_either(
    house: ApiHouse,
) -> None:
    before = await _audit(house)
    await house.fund("acme", "btc:BTC", 100_000_000)
    assert (await house.withdraw()).status == 202
    await house.call("POST", "/v1/players/p9/addresses", body={"network": "btc"})
    refused = await house.call(
        "POST", "/v1/switches", body={**STOP, "state": "running"}, key="ada-key",
        idempotency_key="r",
    )  # fmt: skip
    assert refused.status == 409
    assert await _audit(house) == before


async def test_an_answer_that_is_repeated_changed_nothing(house: ApiHouse) -> None:
    for _ in range(2):
        await house.call("POST", "/v1/switches", body=STOP, key="ada-key", idempotency_key="k")
    assert len(await _audit(house, "&action=POST%20/v1/switches")) == 1


async def test_a_long_body_is_told_by_its_digest_and_a_nul_by_its_mark(house: ApiHouse) -> None:
    long = b"x" * (audit.REQUEST_BYTES_MAX + 1)
    for request, body in (({"file": "x"}, long), ({"text": "a\x00b", "n": Decimal("1.50")}, b"")):
        async with house.owner.unit_of_work() as uow:
            await audit.record(
                uow,
                audit.Operation(
                    action="POST /v1/test", subject="/v1/test", brand=None, object_ids=(),
                    request=request, body=body, status=200, at=house.clock.now(),
                ),
            )  # fmt: skip
    await _seal(house)
    second, first = await _audit(house, "&action=POST%20/v1/test")
    assert first["after"]["request"] == {
        "bytes": len(long),
        "sha256": hashlib.sha256(long).hexdigest(),
    }
    assert second["after"]["request"] == {"text": "a\ufffdb", "n": "1.50"}
    ChainCheck().add_all(await _chain(house))


async def test_secrets_of_webhooks_are_left_out(house: ApiHouse) -> None:
    await house.add_key("hooks-key", scopes=AUDIT_SCOPES)
    reply = await house.call(
        "POST", "/v1/webhook_endpoints", body={"url": "https://pam.example/cage"}, key="hooks-key"
    )
    assert reply.status == 201, reply.body
    rows = await _audit(house, "&action=webhook_endpoint.")
    assert [row["action"] for row in rows] == ["webhook_endpoint.created"]
    assert not [name for name in rows[0]["after"] if "secret" in name]
    assert reply.json()["secret"] not in str(await _audit(house))


async def test_a_brand_sees_its_own_rows_and_not_the_chain(house: ApiHouse) -> None:
    for brand in ("acme", "bravo"):
        await house.add_key(f"{brand}-audit", brand=brand, scopes=AUDIT_SCOPES)
        reply = await house.call(
            "PUT", "/v1/players/p1/flags", body={"blocked_reasons": ["fraud"]}, key=f"{brand}-audit"
        )
        assert reply.status == 200, reply.body
    await house.call("POST", "/v1/switches", body=STOP, key="ada-key", idempotency_key="k")
    mine = await _audit(house, key="acme-audit")
    assert {row["brand"] for row in mine} == {"acme"}
    assert {"player_flags.created", "PUT /v1/players/{player_id}/flags"} <= {
        row["action"] for row in mine
    }
    assert {row["brand"] for row in await _audit(house)} == {None, "acme", "bravo"}
    assert {row["brand"] for row in await _audit(house, "&brand=bravo")} == {"bravo"}
    for target in ("/v1/audit/chain", "/v1/audit/tail", "/v1/ledger/seals/1"):
        assert (await house.call("GET", target, key="acme-audit")).status == 403
        assert (await house.call("GET", f"{target}?brand=acme", key="ada-key")).status == 404
    reply = await house.call("GET", "/v1/audit")
    assert (reply.status, problem(reply)["code"]) == (403, "missing_scope")


async def test_rows_come_page_by_page_newest_first(house: ApiHouse) -> None:
    every = await _audit(house)
    paged: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = (await house.call("GET", f"/v1/audit?limit=2{cursor}", key="ada-key")).json()
        paged += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert paged == every
    assert len(every) >= 6  # brands and keys of this house
    reply = await house.call("GET", "/v1/audit?cursor=!", key="ada-key")
    assert (reply.status, problem(reply)["errors"][0]["field"]) == (422, "cursor")


async def test_a_change_past_the_api_has_its_row_under_the_role_that_made_it(
    house: ApiHouse, test_database: TestDatabase
) -> None:
    watchers = Database(async_url(test_database.role_url("watchers")), pool_size=1)
    async with watchers.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO chain.switches (id, scope, action, state, reason, causes, changed_by,"
            " stopped_at, changed_at) VALUES (gen_random_uuid(), 'network:ltc', 'all', 'stopped',"
            " 'deep reorg', '{watcher: deep reorg}', 'watcher', now(), now())"
        )
    await watchers.close()
    [row] = await _audit(house, "&action=switch.")
    assert (row["actor"], row["subject"]) == ("role:watchers", "network:ltc/all")
    assert row["correlation"].startswith("tx:")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE gateway.audit SET actor = 'nobody'",
        "DELETE FROM gateway.audit",
        "TRUNCATE gateway.audit",
        "DELETE FROM gateway.audit_seals",
        "TRUNCATE gateway.audit_queue",
    ],
)
async def test_the_log_is_append_only_also_for_its_owner(house: ApiHouse, statement: str) -> None:
    await _seal(house)
    with pytest.raises(DBAPIError, match="append-only"):
        await house.rows(statement)


async def test_no_role_writes_rows_or_seals_by_itself(
    house: ApiHouse, test_database: TestDatabase
) -> None:
    api = Database(async_url(test_database.role_url("gateway_api")), pool_size=1)
    for statement in (
        "INSERT INTO gateway.audit (actor, action, subject_kind, subject, correlation)"
        " VALUES ('ada', 'x', 'x', 'x', 'x')",
        "INSERT INTO gateway.audit_seals SELECT 1, 1, now(), repeat('0', 64), repeat('0', 64),"
        " now()",
        "DELETE FROM gateway.audit_queue",
        "SELECT gateway.write_audit('x', 'x', 'x', NULL, NULL, NULL, NULL)",
    ):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with api.unit_of_work() as uow:
                await uow.execute(statement)
    with pytest.raises(DBAPIError, match="another owner"):
        async with api.unit_of_work(brand="acme") as uow:
            await uow.execute(
                "SELECT gateway.append_audit('x', 'x', 'x', 'bravo', NULL, NULL, NULL)"
            )
    await api.close()


async def test_the_chain_is_verified_from_what_the_api_tells(house: ApiHouse) -> None:
    await house.call("POST", "/v1/switches", body=STOP, key="ada-key", idempotency_key="k")
    tail = (await house.call("GET", "/v1/audit/tail", key="ada-key")).json()
    assert (tail["audit"], tail["lost"]) == ({"sequence": 0, "hash": None}, 0)
    assert tail["waiting"] == len(await _audit(house))
    await _seal(house)
    check = ChainCheck()
    check.add_all(await _chain(house))
    tail = (await house.call("GET", "/v1/audit/tail", key="ada-key")).json()
    assert tail["audit"] == {"sequence": check.sequence, "hash": check.hash}
    assert (tail["waiting"], tail["lost"]) == (0, 0)
    newest = (await _audit(house))[0]
    assert (newest["sequence"], newest["hash"]) == (check.sequence, check.hash)


_CHANGES = {
    "its row is not what was sealed": (
        "UPDATE gateway.audit SET actor = 'nobody' WHERE position = 3",
        "UPDATE gateway.audit SET after = after || '{\"roles\": []}' WHERE position = 3",
        "UPDATE gateway.audit SET brand = 'bravo' WHERE position = 3",
    ),
    "its row is gone": (
        "DELETE FROM gateway.audit WHERE position = 3",
        "UPDATE gateway.audit SET at = at - interval '1 hour' WHERE position = 3",
    ),
    "record 4 stands in its place": ("DELETE FROM gateway.audit_seals WHERE sequence = 3",),
    "it does not follow the record before it": (
        "UPDATE gateway.audit_seals SET previous_hash = repeat('a', 64) WHERE sequence = 3",
    ),
}


@pytest.mark.parametrize(
    ("reason", "change"),
    [(reason, change) for reason, changes in _CHANGES.items() for change in changes],
    ids=lambda value: value[:40],
)
async def test_the_first_broken_record_is_named_whatever_a_superuser_changed(
    house: ApiHouse, reason: str, change: str
) -> None:
    await _seal(house)
    async with house.owner.unit_of_work() as uow:
        await uow.execute("SET LOCAL session_replication_role = replica")
        await uow.execute(change)
    records = await _chain(house)
    with pytest.raises(BrokenChain) as found:
        ChainCheck().add_all(records)
    assert (found.value.sequence, found.value.reason) == (3, reason)


async def test_a_row_that_is_put_in_past_the_queue_is_lost_and_counted(house: ApiHouse) -> None:
    await _seal(house)
    async with house.owner.unit_of_work() as uow:
        await uow.execute("SET LOCAL session_replication_role = replica")
        await uow.execute(
            "INSERT INTO gateway.audit (actor, action, subject_kind, subject, correlation)"
            " VALUES ('ada', 'policy.changed', 'policy', 'limits', 'x')"
        )
    tail = (await house.call("GET", "/v1/audit/tail", key="ada-key")).json()
    assert (tail["waiting"], tail["lost"]) == (0, 1)
