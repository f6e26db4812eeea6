"""What READ COMMITTED alone would let through, and what the house does about it (L05, L06)."""

import asyncio

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import RETRY_LIMIT, Uow, sqlstate
from ledger import balances, holds, journal
from ledger.accounts import Stage, clearing, custody, player
from ledger.errors import InsufficientFunds
from ledger.journal import Posting, credit, debit
from tests.integration.ledger.conftest import AT, BTC, CLEARING, HOT, Books

pytestmark = pytest.mark.postgres

LTC = "ltc:LTC"
COINS = player("acme", "anna", Stage.PROVISIONAL, BTC)
LITE = player("acme", "anna", Stage.PROVISIONAL, LTC)
FLOOR = 100


async def _take_if_enough(books: Books, uow: Uow, asset: str) -> bool:
    """Take 100 of one stage if both together leave 100: a rule over two rows, no row's own."""
    rows = await balances.balances(uow, brand="acme", player_id="anna")
    if sum(row.balance_minor for row in rows) - 100 < FLOOR:
        return False
    network = asset.partition(":")[0]
    source = COINS if asset == BTC else LITE
    posting = Posting(
        reference=f"take:{asset}",
        kind="test",
        entries=(debit(source, 100), credit(custody(network, "hot", asset), 100)),
    )
    await journal.post(uow, posting, posting_id=books.ids.new_id(), at=AT)
    return True


async def _both_stages(books: Books) -> None:
    await books.fund(100, account=COINS)
    await books.post("ltc", debit(custody("ltc", "hot", LTC), 100), credit(LITE, 100))


async def test_l05_without_the_players_lock_two_stages_are_spent_past_their_rule(
    books: Books,
) -> None:
    """The write skew itself (G2-item): each reads both rows, each writes the other one."""
    await _both_stages(books)
    both_read = asyncio.Barrier(2)

    async def take(asset: str) -> bool:
        async with books.database.unit_of_work() as uow:
            await balances.balances(uow, brand="acme", player_id="anna")
            await both_read.wait()
            taken = await _take_if_enough(books, uow, asset)
            await both_read.wait()
            return taken

    assert all(await asyncio.gather(take(BTC), take(LTC)))


@pytest.mark.parametrize("turn", range(4))
async def test_l05_under_the_players_lock_the_second_sees_what_the_first_took(
    books: Books, turn: int
) -> None:
    await _both_stages(books)
    started = asyncio.Barrier(2)

    async def take(asset: str) -> bool:
        async with books.database.unit_of_work() as uow:
            await started.wait()  # both are open before either holds the lock
            await balances.lock_player(uow, brand="acme", player_id="anna")
            return await _take_if_enough(books, uow, asset)

    order = (BTC, LTC) if turn % 2 else (LTC, BTC)
    assert sorted(await asyncio.gather(*(take(asset) for asset in order))) == [False, True]
    async with books.database.unit_of_work() as uow:
        rows = await balances.balances(uow, brand="acme", player_id="anna")
    assert sum(row.balance_minor for row in rows) == FLOOR


async def test_l05_a_reversal_and_a_reservation_do_not_both_take_the_same_clearing(
    books: Books,
) -> None:
    """One looks what is free, the other reserves it: the reversal's look holds the row."""
    await books.fund(100)
    looked = asyncio.Event()
    reserved: list[bool] = []

    async def reverse() -> None:
        async with books.database.unit_of_work() as uow:
            taken = await journal.clearing_debits(uow, brand="acme", asset=BTC, amount=80)
            looked.set()
            posting = Posting(reference="back", kind="test", entries=(*taken, credit(HOT, 80)))
            await journal.post(uow, posting, posting_id=books.ids.new_id(), at=AT)

    async def reserve() -> None:
        await looked.wait()
        reserved.append(await books.place(60, hold_id=books.ids.new_id()))

    await asyncio.gather(reverse(), reserve())
    assert reserved == [False]
    assert await books.balance(CLEARING) == 20


async def test_l06_a_serialization_failure_is_retried_as_a_whole_unit_of_work(
    books: Books,
) -> None:
    """What the failed tries had done is gone; the last one books it once."""
    await books.fund(100)
    hold_id = books.ids.new_id()
    tries: list[int] = []

    async def work(uow: Uow) -> None:
        tries.append(len(tries))
        await books.place_in(uow, 60, hold_id=hold_id)
        await holds.capture(uow, hold_id=hold_id, reference="capture", at=AT)
        if len(tries) < RETRY_LIMIT:
            await _fail(uow)

    await books.database.run(work)
    assert len(tries) == RETRY_LIMIT
    assert await books.balance(player("acme", "p", Stage.IN_FLIGHT, BTC)) == 60
    assert await books.balance(CLEARING) == 40


async def test_l06_the_retry_is_bounded_and_leaves_nothing(books: Books) -> None:
    await books.fund(100)
    tries: list[int] = []

    async def work(uow: Uow) -> None:
        tries.append(len(tries))
        await books.place_in(uow, 60, hold_id=books.ids.new_id())
        await _fail(uow)

    with pytest.raises(DBAPIError) as failed:
        await books.database.run(work)
    assert (sqlstate(failed.value), len(tries)) == ("40001", RETRY_LIMIT)
    assert await books.balance(CLEARING) == 100


async def test_l06_an_answer_of_the_books_is_no_reason_to_retry(books: Books) -> None:
    await books.fund(1)
    tries: list[int] = []

    async def work(uow: Uow) -> None:
        tries.append(len(tries))
        posting = Posting(
            reference="much", kind="test", entries=(debit(CLEARING, 2), credit(HOT, 2))
        )
        await journal.post(uow, posting, posting_id=books.ids.new_id(), at=AT)

    with pytest.raises(InsufficientFunds):
        await books.database.run(work)
    assert len(tries) == 1


@pytest.mark.parametrize("other", ["tron:USDT", "bsc:USDT"])
async def test_l16_the_usdt_of_two_networks_never_meet_in_one_balance(
    books: Books, other: str
) -> None:
    """Each is an account of its own, and no posting makes one out of the other."""
    await books.post(
        "eth",
        debit(custody("eth", "hot", "eth:USDT"), 5),
        credit(clearing("acme", "eth:USDT"), 5),
    )
    raw = (
        "INSERT INTO ledger.entries SELECT posting_id, line + 2, booked_at, account_id, "
        f"'{other}', CASE side WHEN 'debit' THEN 'credit' ELSE 'debit' END, amount, NULL "
        "FROM ledger.entries"
    )
    with pytest.raises(DBAPIError) as refused:
        async with books.database.unit_of_work() as uow:
            await uow.execute(raw)
    assert sqlstate(refused.value) == "CG003"
    assert await books.balance(clearing("acme", other)) == 0


async def _fail(uow: Uow) -> None:
    await uow.execute("DO $$ BEGIN RAISE SQLSTATE '40001'; END $$")
