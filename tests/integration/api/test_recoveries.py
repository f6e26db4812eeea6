"""Recoveries over the API: two people let a network go on, after the import, and nobody alone."""

from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from gateway.client import Reply
from gateway.payouts import recovery_store as store
from gateway.payouts.recovery_store import RecoveryRow
from tests.support.api import ApiHouse, problem
from watchers import rescans

pytestmark = pytest.mark.postgres

CASE = {"attempt_id": "a", "txid": "t", "requests": [["acme", "r-1"]], "reason": "by hand"}


async def opened(house: ApiHouse) -> RecoveryRow:
    """What a lane writes that found signatures which the books lack."""
    values: dict[str, Any] = {
        "id": house.ids.new_id(),
        "network": "btc",
        "cause": "unknown_signatures",
        "detail": "2 signatures",
        "sequence": 7,
        "entry_hash": "ab" * 32,
        "epoch": 3,
        "unknown": 2,
        "at": house.clock.now(),
    }
    async with house.owner.unit_of_work() as uow:
        assert await store.open_one(uow, values)
        assert not await store.open_one(uow, {**values, "id": house.ids.new_id()})
        row = await store.current(uow, "btc")
    assert row is not None
    return row


async def imported(house: ApiHouse, row: RecoveryRow, **changes: Any) -> None:
    """What `cage recover` writes."""
    values = {
        "imported": 2,
        "left_over": [],
        "rescan_id": None,
        "sequence": 8,
        "entry_hash": "cd" * 32,
        "epoch": 3,
        "at": house.clock.now(),
    }
    async with house.owner.unit_of_work() as uow:
        await store.note_import(uow, row.id, {**values, **changes})


async def confirm(house: ApiHouse, recovery: str, *, key: str, **fields: object) -> Reply:
    return await house.call(
        "POST",
        f"/v1/recoveries/{recovery}/confirm",
        body={"reason": "books are whole", **fields},
        key=key,
        idempotency_key=house.ids.new_id().hex,
    )


async def listed(house: ApiHouse) -> dict[str, Any]:
    [item] = (await house.call("GET", "/v1/recoveries", key="ada-key")).json()["items"]
    return dict(item)


async def test_p09_two_different_people_confirm_after_the_import(house: ApiHouse) -> None:
    row = await opened(house)
    found = await listed(house)
    early = await confirm(house, found["id"], key="ada-key")
    assert (early.status, problem(early)["code"]) == (409, "not_imported")

    await imported(house, row)
    first = await confirm(house, found["id"], key="ada-key")
    assert (first.status, first.json()["recovery"]["state"]) == (202, "imported")
    again = await confirm(house, found["id"], key="ada-key")
    assert (again.status, again.json()["recovery"]["state"]) == (202, "imported")

    second = await confirm(house, found["id"], key="grace-key")
    assert second.status == 200
    done = second.json()["recovery"]
    assert (done["state"], done["confirmed_by"]) == ("confirmed", ["ada", "grace"])
    late = await confirm(house, found["id"], key="grace-key")
    assert (late.status, problem(late)["code"]) == (409, "not_imported")


async def test_p09_an_import_meanwhile_voids_the_first_consent(house: ApiHouse) -> None:
    """The second person agrees to what stands now, or to nothing."""
    row = await opened(house)
    found = await listed(house)
    await imported(house, row)
    first = await confirm(house, found["id"], key="ada-key")
    await imported(house, row, imported=1)
    approval = first.json()["approval"]["id"]
    answer = await house.call(
        "POST",
        f"/v1/approvals/{approval}",
        body={"decision": "approve"},
        key="grace-key",
        idempotency_key=house.ids.new_id().hex,
    )
    assert (answer.status, problem(answer)["code"]) == (409, "changed_meanwhile")
    assert (await listed(house))["state"] == "imported"


async def test_p09_second_person_agrees_by_the_list_of_approvals(house: ApiHouse) -> None:
    row = await opened(house)
    found = await listed(house)
    await imported(house, row)
    first = await confirm(house, found["id"], key="ada-key")
    answer = await house.call(
        "POST",
        f"/v1/approvals/{first.json()['approval']['id']}",
        body={"decision": "approve"},
        key="grace-key",
        idempotency_key=house.ids.new_id().hex,
    )
    assert answer.status == 200
    assert (await listed(house))["confirmed_by"] == ["ada", "grace"]


async def test_p09_what_is_left_over_is_accepted_in_so_many_words(house: ApiHouse) -> None:
    row = await opened(house)
    found = await listed(house)
    await imported(house, row, left_over=[CASE])
    assert (await listed(house))["left_over"] == [CASE]
    silent = await confirm(house, found["id"], key="ada-key")
    assert (silent.status, problem(silent)["code"]) == (409, "left_over")
    said = await confirm(house, found["id"], key="ada-key", accept_left_over=True)
    assert said.status == 202


async def test_p09_blocks_are_looked_at_again_first(house: ApiHouse) -> None:
    row = await opened(house)
    found = await listed(house)
    async with house.owner.unit_of_work() as uow:
        asked = await rescans.ask(
            uow,
            network="btc",
            from_height=1,
            to_height=2,
            asked_by="recover",
            reason="signatures were imported",
            ids=house.ids,
            at=house.clock.now(),
        )
    await imported(house, row, rescan_id=asked.id)
    early = await confirm(house, found["id"], key="ada-key")
    assert (early.status, problem(early)["code"]) == (409, "rescan_not_done")
    await house.rows(
        "UPDATE chain.rescans SET state = 'done', next_height = to_height + 1,"
        " finished_at = created_at RETURNING id"
    )
    assert (await confirm(house, found["id"], key="ada-key")).status == 202


async def test_p09_a_machine_or_a_person_without_the_role_confirms_nothing(
    house: ApiHouse,
) -> None:
    row = await opened(house)
    found = await listed(house)
    await imported(house, row)
    await house.add_key(
        "sue-key", kind="staff", brand=None, person="sue", scopes=["withdrawals:read"],
        roles=["support"],
    )  # fmt: skip
    assert (await confirm(house, found["id"], key="sue-key")).status == 403
    unknown = await confirm(house, found["id"].replace("0", "1"), key="ada-key")
    assert unknown.status == 404


@pytest.mark.parametrize(
    ("change", "values"),
    [
        ("state = 'confirmed', confirmed_by = :people", {"people": ["ada", "bea"]}),
        ("state = 'closed', confirmed_by = :people", {"people": ["ada", "bea"]}),
    ],
)
async def test_p09_the_database_confirms_nothing_that_was_not_imported(
    house: ApiHouse, change: str, values: dict[str, Any]
) -> None:
    """Whoever owns the API's role, or any other, ends no recovery by a statement."""
    row = await opened(house)
    with pytest.raises(DBAPIError, match="does not go from open"):
        async with house.owner.unit_of_work() as uow:
            await uow.execute(
                f"UPDATE gateway.recoveries SET {change} WHERE id = :id", {"id": row.id, **values}
            )


async def test_p09_while_books_are_recovered_no_request_is_called_unknown(house: ApiHouse) -> None:
    """404 after `valid_until` is the PAM's leave to credit back: a row that the restore lost may be
    paid."""
    found = (await house.withdraw(request_id="kept")).json()
    row = await opened(house)

    lost = await house.call("GET", "/v1/withdrawals?request_id=lost")
    kept = await house.call("GET", "/v1/withdrawals?request_id=kept")

    assert (lost.status, problem(lost)["code"]) == (503, "recovery")
    assert kept.json()["id"] == found["id"]
    async with house.owner.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.recoveries SET state = 'imported' WHERE id = :id", {"id": row.id}
        )
    still = await house.call("GET", "/v1/withdrawals?request_id=lost")
    assert still.status == 503


async def test_p09_until_the_books_are_compared_nothing_is_cancelled_or_called_unknown(
    house: ApiHouse,
) -> None:
    """The API of a restored database, before payouts has looked: retryable, nothing changed."""
    await house.fund("acme", "btc:BTC", 100_000_000)
    made = (await house.withdraw(request_id="r-1", amount="0.25")).json()
    await house.rows("UPDATE gateway.signer_logs SET life = 'before' WHERE network = 'btc'")
    path = f"/v1/withdrawals/{made['id']}/cancel"
    reply = await house.call("POST", path, body={})
    assert (reply.status, problem(reply)["code"]) == (503, "not_compared")
    assert reply.headers["Retry-After"]
    unknown = await house.call("GET", "/v1/withdrawals?request_id=r-9")
    assert (unknown.status, problem(unknown)["code"]) == (503, "recovery")
    await house.compare("btc")
    cancelled = await house.call("POST", path, body={})
    assert (cancelled.status, cancelled.json()["state"]) == (200, "cancelled")
    unknown = await house.call("GET", "/v1/withdrawals?request_id=r-9")
    assert unknown.status == 404
