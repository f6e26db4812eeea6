"""W3, N4: PostgreSQL itself takes no two attempts of a payment that could both be mined."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import sqlstate
from gateway.payouts import store
from gateway.withdrawals_store import WithdrawalRow
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts
from tests.support.people import employ
from watchers import nonces, outgoing
from watchers.chain import Outpoint
from watchers.outgoing import OutgoingDraft, OutgoingRow, PlannedPayment

pytestmark = pytest.mark.postgres

BOTH = pytest.mark.parametrize("network", ["btc", "eth"])
CHECK_VIOLATION = "23514"
STRANGE = Outpoint(txid="ab" * 32, vout=7)


@dataclass(frozen=True, slots=True)
class Place:
    """What an attempt excludes others by: coins, or an account's nonce."""

    coins: tuple[Outpoint, ...] = ()
    sender: str | None = None
    nonce: int | None = None


async def paid(house: Payouts) -> tuple[WithdrawalRow, OutgoingRow]:
    """A payout that a node shows, and its attempt."""
    await house.fund(house.native, "0.5")
    await house.fund(house.native, "2", into="acme")
    row = await house.request("0.25")
    await house.cycle()
    row = await house.row(row)
    assert row.state == "sent"
    assert row.attempt_id is not None
    async with house.role.unit_of_work() as uow:
        tx = await outgoing.get(uow, row.attempt_id)
    assert tx is not None
    return row, tx


async def elsewhere(house: Payouts, tx: OutgoingRow) -> Place:
    """A place that does not exclude that attempt."""
    if tx.sender_key is None:
        return Place(coins=(STRANGE,))
    async with house.role.unit_of_work() as uow:
        nonce = await nonces.allocate(
            uow, network=tx.network, sender_key=tx.sender_key, attempt_id=house.ids.new_id()
        )
    return Place(sender=tx.sender_key, nonce=nonce)


def beside(tx: OutgoingRow) -> Place:
    """A place that excludes it: one of its coins and a strange one, or its nonce."""
    if tx.sender_key is None:
        return Place(coins=(tx.inputs[0], STRANGE))
    return Place(sender=tx.sender_key, nonce=tx.nonce)


async def attempt(house: Payouts, row: WithdrawalRow, place: Place) -> UUID:
    """A further attempt of a payment under the role of payouts, in a family of its own."""
    found = house.ids.new_id()
    draft = OutgoingDraft(
        id=found,
        network=row.network,
        purpose="withdrawal",
        family_id=found,
        unsigned=b"\x01",
        payments=(
            PlannedPayment(
                asset=row.asset, address=row.address, key=row.address_key, amount_minor=1
            ),
        ),
        fee_cap_minor=1,
        inputs=place.coins,
        sender_key=place.sender,
        nonce=place.nonce,
    )
    async with house.role.unit_of_work() as uow:
        await store.add_members(uow, attempt_id=found, outputs=[(row.id, 0)])
        await outgoing.record(uow, draft, at=house.clock.now())
    return found


async def say_dead(house: Payouts, row: WithdrawalRow, txid: str, person: str) -> None:
    """A person's word in the table, whatever code would have asked."""
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO gateway.withdrawal_approvals (id, withdrawal_id, brand, action, round, "
            "txids, key_id, person, method, authority, path, query, headers, body, "
            "signature_input, signature, at) VALUES (:id, :row, :brand, 'reissue', :round, "
            "CAST(:txids AS text[]), :key, :person, 'POST', 'a', '/', '?', '{}', '', '', '', :at)",
            {
                "id": house.ids.new_id(),
                "row": row.id,
                "brand": row.brand,
                "round": row.version,
                "txids": [txid],
                "key": f"{person}-key",
                "person": person,
                "at": house.clock.now(),
            },
        )


def states_of(errors: Sequence[object]) -> list[str | None]:
    return [sqlstate(error) for error in errors if isinstance(error, DBAPIError)]


@BOTH
async def test_w3_n4_an_attempt_that_could_be_mined_beside_another_is_refused(
    network: str, house: BuildHouse
) -> None:
    built = await house(network)
    row, tx = await paid(built)
    with pytest.raises(DBAPIError, match="could be paid twice") as refused:
        await attempt(built, row, await elsewhere(built, tx))
    assert sqlstate(refused.value) == CHECK_VIOLATION
    further = await attempt(built, row, beside(tx))
    async with built.database.unit_of_work() as uow:
        found = await uow.execute(
            "SELECT attempt_id FROM gateway.attempt_members WHERE withdrawal_id = :id",
            {"id": row.id},
        )
        assert set(found.scalars()) == {tx.id, further}


@BOTH
async def test_w3_n4_it_must_exclude_every_earlier_attempt_and_not_only_one(
    network: str, house: BuildHouse
) -> None:
    built = await house(network)
    row, tx = await paid(built)
    second = await attempt(built, row, beside(tx))
    only_the_second = Place(coins=(STRANGE,)) if network == "btc" else await elsewhere(built, tx)
    with pytest.raises(DBAPIError, match="could be paid twice"):
        await attempt(built, row, only_the_second)
    async with built.role.unit_of_work() as uow:  # nothing of it was signed
        await outgoing.drop_unsigned(uow, attempt_id=second, at=built.clock.now())
    assert await attempt(built, row, beside(tx))


@BOTH
async def test_w3_n4_of_two_families_begun_at_once_one_is_taken(
    network: str, house: BuildHouse
) -> None:
    """Two workers that both think they have the lease; neither sees the other's rows."""
    built = await house(network)
    _, tx = await paid(built)
    row = await built.request("0.125")
    places = [
        Place(coins=(Outpoint(txid=f"{number:02x}" * 32, vout=0),))
        if network == "btc"
        else await elsewhere(built, tx)
        for number in range(8)
    ]

    answers = await asyncio.gather(
        *(attempt(built, row, place) for place in places), return_exceptions=True
    )

    assert states_of(answers) == [CHECK_VIOLATION] * 7
    assert len([item for item in answers if isinstance(item, UUID)]) == 1


@BOTH
async def test_w3_n4_another_family_takes_two_people_who_name_what_was_signed(
    network: str, house: BuildHouse
) -> None:
    built = await house(network)
    await employ(built)
    row, tx = await paid(built)
    await say_dead(built, row, str(tx.txid), "alice")
    with pytest.raises(DBAPIError, match="could be paid twice"):
        await attempt(built, row, await elsewhere(built, tx))
    await say_dead(built, row, "cd" * 32, "bob")
    with pytest.raises(DBAPIError, match="could be paid twice"):
        await attempt(built, row, await elsewhere(built, tx))
    async with built.database.unit_of_work() as uow:
        await uow.execute("UPDATE gateway.withdrawals SET version = version + 1")
    await say_dead(built, await built.row(row), str(tx.txid), "bob")
    assert await attempt(built, row, await elsewhere(built, tx))


async def test_w3_a_member_of_an_attempt_that_does_not_exist_is_refused(btc: Payouts) -> None:
    row, _ = await paid(btc)
    with pytest.raises(DBAPIError, match="which is none"):
        async with btc.role.unit_of_work() as uow:
            await store.add_members(uow, attempt_id=btc.ids.new_id(), outputs=[(row.id, 0)])


@BOTH
@pytest.mark.parametrize(
    "change",
    ["state = 'refused'", "family_id = gen_random_uuid()", "network = 'ltc'"],
)
async def test_w3_what_was_signed_keeps_its_place_in_its_family(
    network: str, change: str, house: BuildHouse
) -> None:
    built = await house(network)
    _, tx = await paid(built)
    with pytest.raises(DBAPIError) as refused:
        async with built.role.unit_of_work() as uow:
            await uow.execute(f"UPDATE chain.outgoing SET {change} WHERE id = :id", {"id": tx.id})
    assert sqlstate(refused.value) == CHECK_VIOLATION


@pytest.mark.parametrize("change", ["nonce = nonce + 1", "sender_key = 'another'"])
async def test_w3_an_attempt_keeps_its_account_and_nonce(change: str, eth: Payouts) -> None:
    _, tx = await paid(eth)
    with pytest.raises(DBAPIError, match="keeps its network") as refused:
        async with eth.role.unit_of_work() as uow:
            await uow.execute(f"UPDATE chain.outgoing SET {change} WHERE id = :id", {"id": tx.id})
    assert sqlstate(refused.value) == CHECK_VIOLATION
