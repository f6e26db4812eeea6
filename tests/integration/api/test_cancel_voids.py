"""A cancel leaves what the signer must hear of, in its own unit of work (CONTRACT 3, S25)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.payouts import void_store
from signer.protocol import Voided, VoidRequest
from tests.support.api import ApiHouse, problem, vector_key
from tests.support.vault import VaultKit, public_text, trust_client, trusted_kit

COIN = 100_000_000
CANCELS: tuple[Mapping[str, Any], ...] = (
    {},
    {"body": b"{}"},
    {"body": {"request_id": "order/1"}},
    {"idempotency_key": "cancel-1"},
    {"body": {"request_id": "order/1"}, "idempotency_key": "cancel-1"},
)


async def voids(house: ApiHouse) -> list[Mapping[str, Any]]:
    """Every row, oldest first."""
    return list(await house.rows("SELECT * FROM gateway.voids ORDER BY withdrawal_id"))


async def taken_by_the_signer(house: ApiHouse, folder: Path) -> VaultKit:
    """A signer that trusts the same client took the one void as the database has it."""
    kit = trusted_kit(folder)
    kit.clock.now = int(house.clock.now().timestamp())
    trust_client(kit, "acme-key", public_key=public_text(vector_key("acme-key")))
    [row] = await voids(house)
    async with house.owner.unit_of_work() as uow:
        found = await void_store.get(uow, row["withdrawal_id"])
    assert found is not None
    assert found.order is not None
    answer = kit.vault.void(
        VoidRequest(
            brand=found.brand,
            request_id=found.request_id,
            order=found.order,
            cancel=found.cancel,
        )
    )
    assert isinstance(answer, Voided), answer
    return kit


@pytest.mark.parametrize("form", CANCELS)
async def test_s25_cancel_is_kept_as_received_and_the_signer_takes_it(
    house: ApiHouse, tmp_path: Path, form: Mapping[str, Any]
) -> None:
    """Whatever form of cancel the API takes from a client, the signer reads the same bytes."""
    await house.fund("acme", "btc:BTC", COIN)
    made = (await house.withdraw(request_id="order/1")).json()
    target = f"/v1/withdrawals/{made['id']}/cancel"
    reply = await house.call("POST", target, **form)
    assert (reply.status, reply.json()["state"]) == (200, "cancelled")
    [row] = await voids(house)
    body = form.get("body", b"")
    sent = body if isinstance(body, bytes) else json.loads(bytes(row["body"]))
    assert sent == (bytes(row["body"]) if isinstance(body, bytes) else body)
    assert (row["method"], row["path"], row["query"]) == ("POST", target, "?")
    assert (row["brand"], row["request_id"], row["state"]) == ("acme", "order/1", "pending")

    kit = await taken_by_the_signer(house, tmp_path)
    rows = kit.store.rows("SELECT brand, request_id, withdrawal FROM voids")
    assert rows == [("acme", "order/1", made["id"])]
    kit.store.close()


async def test_s25_second_cancel_answers_the_same_and_changes_nothing(house: ApiHouse) -> None:
    made = (await house.withdraw()).json()
    first = await house.call("POST", f"/v1/withdrawals/{made['id']}/cancel")
    before = await voids(house)
    again = await house.call("POST", f"/v1/withdrawals/{made['id']}/cancel")
    assert again.json() == first.json()
    assert await voids(house) == before
    assert len(before) == 1


async def test_s25_cancel_that_names_another_order_is_refused_and_leaves_nothing(
    house: ApiHouse,
) -> None:
    made = (await house.withdraw(request_id="order/1")).json()
    target = f"/v1/withdrawals/{made['id']}/cancel"
    reply = await house.call("POST", target, body={"request_id": "order/2"})
    assert (reply.status, problem(reply)["code"]) == (422, "mismatch")
    unknown = await house.call("POST", target, body={"request": "order/1"})
    assert unknown.status == 422
    found = (await house.call("GET", f"/v1/withdrawals/{made['id']}")).json()
    assert found == made
    assert await voids(house) == []


async def test_s25_cancel_that_comes_too_late_leaves_no_void(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    made = (await house.withdraw()).json()
    await house.rows(
        "UPDATE gateway.withdrawals SET state = 'planned', version = 4, sign_requested_at = :at",
        at=house.clock.now(),
    )
    reply = await house.call("POST", f"/v1/withdrawals/{made['id']}/cancel")
    assert reply.status == 409
    assert await voids(house) == []


async def test_s25_operators_cancel_is_the_gateways_word(house: ApiHouse, tmp_path: Path) -> None:
    """An operator's key is in no brand's register: the void goes out without a client's cancel."""
    made = (await house.withdraw()).json()
    await house.add_key("house-key", kind="operator", brand=None, scopes=["withdrawals:write"])
    target = f"/v1/withdrawals/{made['id']}/cancel"
    reply = await house.call("POST", target, key="house-key")
    assert reply.status == 200, reply.body
    [row] = await voids(house)
    assert row["signature"] is None
    kit = await taken_by_the_signer(house, tmp_path)
    kit.store.close()


async def test_s25_rejected_order_is_void_too(house: ApiHouse, tmp_path: Path) -> None:
    """The PAM credits back what a rule refused; its signed bytes stay valid for days."""
    made = (await house.withdraw(amount="0.00000001")).json()
    assert (made["state"], made["code"]) == ("rejected", "below_minimum")
    [row] = await voids(house)
    assert (row["request_id"], row["signature"]) == (made["request_id"], None)
    kit = await taken_by_the_signer(house, tmp_path)
    kit.store.close()


async def test_s25_waiting_and_queued_orders_are_not_void(house: ApiHouse) -> None:
    await house.withdraw()
    await house.fund("acme", "btc:BTC", COIN)
    await house.withdraw()
    assert await voids(house) == []
