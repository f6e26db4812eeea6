"""Reservations: each resolves once, repays what is owed first, and stays inside its brand."""

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Database, sqlstate
from ledger import holds, journal, reconcile
from ledger.accounts import Stage, player, receivable
from ledger.errors import ForeignAccount, ReferenceConflict, StaleState
from ledger.holds import HoldRequest, HoldState
from ledger.journal import credit, debit
from tests.integration.ledger.conftest import AT, BTC, CLEARING, HOT, Books

pytestmark = pytest.mark.postgres

RESERVED = player("acme", "p", Stage.RESERVED, BTC)
IN_FLIGHT = player("acme", "p", Stage.IN_FLIGHT, BTC)
OWED = receivable("acme", BTC)


async def test_l08_the_same_reservation_again_answers_as_the_first(books: Books) -> None:
    await books.fund(10)
    hold_id = books.ids.new_id()
    assert await books.place(6, hold_id=hold_id) is True
    assert await books.place(6, hold_id=hold_id) is True
    assert (await books.balance(CLEARING), await books.balance(RESERVED)) == (4, 6)


async def test_l08_a_reference_with_another_amount_is_refused(books: Books) -> None:
    await books.fund(10)
    hold_id = books.ids.new_id()
    await books.place(6, hold_id=hold_id)
    with pytest.raises(ReferenceConflict):
        await books.place(2, hold_id=hold_id)


async def test_l07_an_open_hold_is_not_placed_again_under_another_reference(books: Books) -> None:
    await books.fund(10)
    hold_id = books.ids.new_id()
    await books.place(3, hold_id=hold_id)
    with pytest.raises(StaleState):
        await books.place(3, hold_id=hold_id, reference="other")
    assert await books.balance(CLEARING) == 7


async def test_l07_a_hold_that_was_given_back_is_placed_and_moved_once_more(books: Books) -> None:
    await books.fund(10)
    hold_id = books.ids.new_id()
    await books.place(3, hold_id=hold_id)
    async with books.database.unit_of_work() as uow:
        await holds.release(uow, hold_id=hold_id, reference="w:release", at=AT)
    await books.place(3, hold_id=hold_id, reference="second")
    async with books.database.unit_of_work() as uow:
        await holds.release(uow, hold_id=hold_id, reference="w:release", at=AT)
        hold = await holds.get(uow, hold_id)
        assert hold is not None
        assert (hold.state, hold.cycle, hold.amount) == (HoldState.RELEASED, 2, 3)
        assert await reconcile.check_books(uow) == []
    assert await books.balance(CLEARING) == 10


async def test_a_paid_hold_is_settled_and_opened_again_when_its_block_leaves(books: Books) -> None:
    await books.fund(10)
    hold_id = books.ids.new_id()
    await books.place(10, hold_id=hold_id)
    async with books.database.unit_of_work() as uow:
        await holds.capture(uow, hold_id=hold_id, reference="w:capture", at=AT)
        await holds.settle(uow, hold_id=hold_id, at=AT)
    await books.post("settled", debit(IN_FLIGHT, 10), credit(HOT, 10))
    async with books.database.unit_of_work() as uow:
        assert await reconcile.check_books(uow) == []
        await holds.reopen(uow, hold_id=hold_id)
        await journal.reverse(
            uow,
            "settled",
            new_reference="settled:reversed",
            posting_id=books.ids.new_id(),
            at=AT,
            reason="block_orphaned",
        )
        assert await reconcile.check_books(uow) == []
    assert await books.balance(IN_FLIGHT) == 10


@pytest.mark.parametrize("step", ["release", "return"])
async def test_what_comes_back_to_clearing_repays_the_receivable_first(
    books: Books, step: str
) -> None:
    await books.fund(10)
    hold_id = books.ids.new_id()
    await books.place(10, hold_id=hold_id)
    await books.post("reversed", debit(OWED, 4), credit(HOT, 4))
    async with books.database.unit_of_work() as uow:
        if step == "release":
            await holds.release(uow, hold_id=hold_id, reference="w:release", at=AT)
        else:
            await holds.capture(uow, hold_id=hold_id, reference="w:capture", at=AT)
            await holds.return_in_flight(uow, hold_id=hold_id, reference="w:returned", at=AT)
        assert await reconcile.check_books(uow) == []
    assert (await books.balance(OWED), await books.balance(CLEARING)) == (0, 6)


async def test_a_reversal_takes_what_is_free_and_later_credits_repay_the_rest(books: Books) -> None:
    await books.fund(10)
    await books.place(7, hold_id=books.ids.new_id())
    async with books.database.unit_of_work() as uow:
        lines = await journal.clearing_debits(uow, brand="acme", asset=BTC, amount=10)
        assert lines == (debit(CLEARING, 3), debit(OWED, 7))
    await books.post("reversed", *lines, credit(HOT, 10))
    async with books.database.unit_of_work() as uow:
        lines = await journal.clearing_credits(uow, brand="acme", asset=BTC, amount=5)
        assert lines == (credit(OWED, 5),)
        lines = await journal.clearing_credits(uow, brand="acme", asset=BTC, amount=9)
        assert lines == (credit(OWED, 7), credit(CLEARING, 2))
        assert await journal.clearing_credits(uow, brand="new", asset=BTC, amount=1) != ()


async def test_a_reservation_is_more_than_zero(books: Books) -> None:
    with pytest.raises(ValueError, match="more than zero"):
        await books.place(0, hold_id=books.ids.new_id())


@pytest.mark.parametrize("amount", ["0", "-1", "'NaN'", "0.5"])
async def test_l09_the_database_refuses_a_reservation_of_no_amount(
    books: Books, amount: str
) -> None:
    await books.fund(10)
    with pytest.raises(DBAPIError) as refused:
        await books.sql(
            "SELECT ledger.place_many(now(), ARRAY[gen_random_uuid()], ARRAY[gen_random_uuid()], "
            f"ARRAY['r'], ARRAY['acme'], ARRAY['p'], ARRAY['{BTC}'], ARRAY[{amount}]::numeric[])"
        )
    assert sqlstate(refused.value) == "CG006"


async def test_at_most_two_hundred_reservations_in_one_statement(books: Books) -> None:
    await books.fund(300)
    requests = [
        HoldRequest(
            hold_id=books.ids.new_id(),
            brand="acme",
            player_id=f"p{number}",
            asset=BTC,
            amount=1,
            reference=f"w:{number}",
        )
        for number in range(holds.PLACE_MANY_MAX + 1)
    ]
    async with books.database.unit_of_work() as uow:
        with pytest.raises(ValueError, match="200"):
            await holds.place_many(uow, requests, at=AT)
        assert await holds.place_many(uow, requests[:-1], at=AT) == [True] * 200
        assert await holds.place_many(uow, [], at=AT) == []
        assert await reconcile.check_books(uow) == []
    assert await books.balance(CLEARING) == 100


def wanted(books: Books, reference: str, amount: int, *, player_id: str = "p") -> HoldRequest:
    return HoldRequest(
        hold_id=books.ids.new_id(),
        brand="acme",
        player_id=player_id,
        asset=BTC,
        amount=amount,
        reference=reference,
    )


async def test_l08_one_reservation_twice_in_a_call_is_placed_once(books: Books) -> None:
    await books.fund(10)
    one = wanted(books, "w:1", 4)
    requests = [one, wanted(books, "w:2", 7), one, wanted(books, "w:3", 6, player_id="q")]
    async with books.database.unit_of_work() as uow:
        assert await holds.place_many(uow, requests, at=AT) == [True, False, True, True]
        assert await reconcile.check_books(uow) == []
    assert (await books.balance(CLEARING), await books.balance(RESERVED)) == (0, 4)


async def test_l08_what_was_placed_before_takes_nothing_beside_what_is_new(books: Books) -> None:
    await books.fund(10)
    before = wanted(books, "w:1", 8)
    async with books.database.unit_of_work() as uow:
        assert await holds.place_many(uow, [before], at=AT) == [True]
    new = [wanted(books, "w:2", 3), before, wanted(books, "w:3", 2)]
    async with books.database.unit_of_work() as uow:
        assert await holds.place_many(uow, new, at=AT) == [False, True, True]
        assert await reconcile.check_books(uow) == []
    assert (await books.balance(CLEARING), await books.balance(RESERVED)) == (0, 10)


@pytest.mark.parametrize("is_known", [True, False])
async def test_l08_a_reference_with_another_amount_spoils_its_whole_call(
    books: Books, is_known: bool
) -> None:
    await books.fund(10)
    first, other = wanted(books, "w:1", 4), wanted(books, "w:1", 3)
    if is_known:
        async with books.database.unit_of_work() as uow:
            await holds.place_many(uow, [first], at=AT)
    requests = [wanted(books, "w:2", 1), *([] if is_known else [first]), other]
    with pytest.raises(ReferenceConflict):
        async with books.database.unit_of_work() as uow:
            await holds.place_many(uow, requests, at=AT)
    assert await books.balance(CLEARING) == (6 if is_known else 10)


async def test_a29_a_brand_reserves_nothing_of_another(books: Books, api: Database) -> None:
    await books.fund(10)
    with pytest.raises(ForeignAccount):
        async with api.unit_of_work(brand="bravo") as uow:
            await books.place_in(uow, 1, hold_id=books.ids.new_id())


async def test_a29_a_brand_moves_no_hold_of_another(books: Books, api: Database) -> None:
    await books.fund(10)
    hold_id = books.ids.new_id()
    await books.place(1, hold_id=hold_id)
    with pytest.raises(ForeignAccount):
        async with api.unit_of_work(brand="bravo") as uow:
            await holds.release(uow, hold_id=hold_id, reference="w:release", at=AT)


async def test_an_unknown_hold_has_no_row_and_no_step(books: Books) -> None:
    unknown = books.ids.new_id()
    async with books.database.unit_of_work() as uow:
        assert await holds.get(uow, unknown) is None
    with pytest.raises(StaleState):
        async with books.database.unit_of_work() as uow:
            await holds.settle(uow, hold_id=unknown, at=AT)
