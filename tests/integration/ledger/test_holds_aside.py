"""Holds of refunds: from held or unallocated value, and back to where it stood."""

from uuid import UUID

import pytest

from config.database import Database
from ledger import holds, reconcile
from ledger.accounts import Account, Stage, player, receivable, unallocated
from ledger.errors import (
    ForeignAccount,
    InsufficientFunds,
    ReferenceConflict,
    StaleState,
)
from ledger.holds import HoldRequest, HoldSource
from ledger.journal import credit, debit
from tests.integration.ledger.conftest import AT, BTC, CLEARING, HOT, Books

pytestmark = pytest.mark.postgres

HELD = player("acme", "p", Stage.HELD, BTC)
RESERVED = player("acme", "p", Stage.RESERVED, BTC)
IN_FLIGHT = player("acme", "p", Stage.IN_FLIGHT, BTC)
NOBODYS = unallocated(BTC)
SOURCES = [(HoldSource.HELD, HELD), (HoldSource.UNALLOCATED, NOBODYS)]


def request(amount: int, *, hold_id: UUID, reference: str = "w:1") -> HoldRequest:
    return HoldRequest(
        hold_id=hold_id,
        brand="acme",
        player_id="p",
        asset=BTC,
        amount=amount,
        reference=reference,
    )


async def place(books: Books, wanted: HoldRequest, source: HoldSource) -> None:
    async with books.database.unit_of_work() as uow:
        await holds.place_aside(uow, wanted, source=source, at=AT)


async def holds_up(books: Books) -> None:
    async with books.database.unit_of_work() as uow:
        assert await reconcile.check_books(uow) == []


@pytest.mark.parametrize(("source", "account"), SOURCES)
@pytest.mark.parametrize("is_signed", [False, True])
async def test_what_is_given_back_goes_where_it_stood(
    books: Books, source: HoldSource, account: Account, is_signed: bool
) -> None:
    await books.post("owed", debit(receivable("acme", BTC), 5), credit(CLEARING, 5))
    await books.fund(10, account=account)
    hold_id = books.ids.new_id()
    await place(books, request(6, hold_id=hold_id), source)
    assert (await books.balance(account), await books.balance(RESERVED)) == (4, 6)
    async with books.database.unit_of_work() as uow:
        if is_signed:
            await holds.capture(uow, hold_id=hold_id, reference="w:1:capture", at=AT)
            await holds.return_in_flight(uow, hold_id=hold_id, reference="w:1:returned", at=AT)
        else:
            await holds.release(uow, hold_id=hold_id, reference="w:1:release", at=AT)
    assert (await books.balance(account), await books.balance(RESERVED)) == (10, 0)
    assert await books.balance(receivable("acme", BTC)) == 5  # it is not the brand's to repay with
    await holds_up(books)


@pytest.mark.parametrize(("source", "account"), SOURCES)
async def test_a_refund_is_captured_and_settled_as_a_withdrawal(
    books: Books, source: HoldSource, account: Account
) -> None:
    await books.fund(10, account=account)
    hold_id = books.ids.new_id()
    await place(books, request(10, hold_id=hold_id), source)
    async with books.database.unit_of_work() as uow:
        await holds.capture(uow, hold_id=hold_id, reference="w:1:capture", at=AT)
        await holds.settle(uow, hold_id=hold_id, at=AT)
    await books.post("settled", debit(IN_FLIGHT, 10), credit(HOT, 10))
    assert await books.balance(account) == 0
    await holds_up(books)


@pytest.mark.parametrize(("source", "account"), SOURCES)
async def test_l08_the_same_again_is_one_and_more_than_stands_there_is_refused(
    books: Books, source: HoldSource, account: Account
) -> None:
    await books.fund(10, account=account)
    hold_id = books.ids.new_id()
    for _ in range(2):
        await place(books, request(6, hold_id=hold_id), source)
    assert (await books.balance(account), await books.balance(RESERVED)) == (4, 6)
    with pytest.raises(ReferenceConflict):
        await place(books, request(2, hold_id=hold_id), source)
    with pytest.raises(StaleState):
        await place(books, request(2, hold_id=hold_id, reference="w:2"), source)
    more = request(5, hold_id=books.ids.new_id(), reference="w:3")
    with pytest.raises(InsufficientFunds):
        await place(books, more, source)
    assert (await books.balance(account), await books.balance(RESERVED)) == (4, 6)


async def test_l07_a_refunds_hold_is_not_placed_again_from_clearing(books: Books) -> None:
    await books.fund(10, account=HELD)
    await books.fund(10)
    hold_id = books.ids.new_id()
    await place(books, request(6, hold_id=hold_id), HoldSource.HELD)
    async with books.database.unit_of_work() as uow:
        await holds.release(uow, hold_id=hold_id, reference="w:1:release", at=AT)
    with pytest.raises(StaleState):
        await books.place(6, hold_id=hold_id, reference="again")
    assert await books.balance(CLEARING) == 10


async def test_a_brand_sets_aside_nothing_of_another_owner(books: Books, api: Database) -> None:
    await books.fund(10, account=HELD)
    await books.fund(10, account=NOBODYS)
    wanted = request(1, hold_id=books.ids.new_id())
    for brand, source in (("zest", HoldSource.HELD), ("acme", HoldSource.UNALLOCATED)):
        with pytest.raises(ForeignAccount):
            async with api.unit_of_work(brand=brand) as uow:
                await holds.place_aside(uow, wanted, source=source, at=AT)


async def test_clearing_does_not_stand_aside(books: Books) -> None:
    await books.fund(10)
    with pytest.raises(ValueError, match="clearing"):
        await place(books, request(1, hold_id=books.ids.new_id()), HoldSource.CLEARING)
