"""People who decide about a payout of the payout house: their keys, signatures and calls."""

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import withdrawals_store
from gateway.payouts import decisions
from gateway.payouts.approvals import Action, Staff
from gateway.payouts.decisions import Desk
from gateway.withdrawals_store import WithdrawalRow
from ledger.money import format_amount
from tests.support.api import vector_key
from tests.support.payouts import Payouts
from tests.support.sign_requests import approval
from tests.support.vault import STAFF_SEEDS, staff_key

PEOPLE = ("alice", "bob")
"""Staff of the test signer too: the same keys (public test seeds)."""


async def employ(house: Payouts, *people: str) -> None:
    """Register their keys with the gateway."""
    async with house.database.unit_of_work() as uow:
        for person in people or PEOPLE:
            await uow.execute(
                "INSERT INTO gateway.clients (key_id, kind, person, public_key, scopes, roles, "
                "created_at) VALUES (:key_id, 'staff', :person, :public_key, "
                "'{withdrawals:approve}', '{risk}', :at)",
                {
                    "key_id": f"{person}-key",
                    "person": person,
                    "public_key": key_of(person).public_key().public_bytes_raw(),
                    "at": house.clock.now(),
                },
            )


def said(house: Payouts, row: WithdrawalRow, body: Mapping[str, Any], person: str) -> Desk:
    """A person at the API with a signed body about a withdrawal."""
    route = str(body["action"]) if body["action"] != "decline_dead" else "decline"
    signed = approval(
        person,
        body,
        action=route,
        key=key_of(person),
        keyid=f"{person}-key",
        withdrawal=f"wd_test_{row.id.hex}",
        created=int(house.clock.now().timestamp()),
    )
    return Desk(
        staff=Staff(key_id=f"{person}-key", person=person, signed=signed),
        policy=house.registry.policy,
        ids=house.ids,
        at=house.clock.now(),
    )


def key_of(person: str) -> Ed25519PrivateKey:
    """Of the signer's staff, or of somebody whom only the gateway knows."""
    return staff_key(person) if person in STAFF_SEEDS else vector_key(person)


def _subject(row: WithdrawalRow) -> dict[str, Any]:
    return {"brand": row.brand, "request_id": row.request_id}


async def _locked(uow: Any, row: WithdrawalRow) -> WithdrawalRow:
    found = await withdrawals_store.get(uow, row.id, lock=True)
    assert found is not None
    return found


async def approve(house: Payouts, row: WithdrawalRow, person: str) -> None:
    """One person agrees to a payment."""
    decimals = house.registry.assets[row.asset].decimals
    body = {
        "action": "approve",
        **_subject(row),
        "asset": row.asset,
        "address": row.address,
        "amount": format_amount(row.amount_minor, decimals=decimals),
    }
    async with house.database.unit_of_work() as uow:
        await decisions.approve(uow, await _locked(uow, row), said(house, row, body, person))


async def call_dead(
    house: Payouts, row: WithdrawalRow, action: Action, txids: list[str], *people: str
) -> bool:
    """People say that these txids are all of it, and dead; True when two have."""
    is_enough = False
    for person in people or PEOPLE:
        body = {"action": action.value, **_subject(row), "dead_txids": txids}
        async with house.database.unit_of_work() as uow:
            is_enough = await decisions.sign_about_dead(
                uow, await _locked(uow, row), action, txids, said(house, row, body, person)
            )
    return is_enough


async def ask_abort(house: Payouts, row: WithdrawalRow, txid: str, *people: str) -> bool:
    """People want it stopped; True when two do."""
    is_enough = False
    for person in people or PEOPLE:
        body = {"action": "abort", **_subject(row), "txid": txid}
        async with house.database.unit_of_work() as uow:
            is_enough = await decisions.sign_abort(
                uow, await _locked(uow, row), txid, said(house, row, body, person)
            )
    return is_enough
