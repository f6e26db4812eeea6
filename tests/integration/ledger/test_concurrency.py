"""Many at once: nothing is lost, nothing is doubled, and every snapshot adds up."""

import asyncio
import random
from collections import Counter
from datetime import datetime, timedelta

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Database, Uow, sqlstate
from ledger import balances, holds, journal, reconcile
from ledger.accounts import (
    Account,
    Stage,
    capital,
    custody,
    network_fee,
    player,
    receivable,
    service,
    suspense,
    unallocated,
    write_off,
)
from ledger.errors import InsufficientFunds, StaleState
from ledger.journal import Posting, credit, debit
from tests.integration.ledger.conftest import AT, BTC, CLEARING, HOT, Books

pytestmark = pytest.mark.postgres

PLAYERS = [player("acme", f"p{number}", Stage.PROVISIONAL, BTC) for number in range(5)]
OPENING = 100
CLIENTS = 8
FEES_EACH = 3  # of each client, in each half


async def _transfer(
    books: Books,
    uow: Uow,
    source: Account,
    target: Account,
    amount: int,
    *,
    at: datetime = AT,
) -> None:
    posting = Posting(
        reference=f"move:{books.ids.new_id()}",
        kind="test",
        entries=(debit(source, amount), credit(target, amount)),
    )
    await journal.post(uow, posting, posting_id=books.ids.new_id(), at=at)


async def _bank_client(books: Books, number: int, seed: int, steps: int) -> None:
    """Transfers, reservations given back, and reads, in an order that only the seed decides."""
    choice = random.Random(seed * 100 + number)
    for step in range(steps):
        source, target = choice.sample(PLAYERS, 2)
        amount = choice.randint(1, 60)
        try:
            async with books.database.unit_of_work() as uow:
                match step % 3:
                    case 0:
                        await _transfer(books, uow, source, target, amount)
                    case 1:
                        hold_id = books.ids.new_id()
                        if await books.place_in(uow, amount, hold_id=hold_id):
                            await holds.release(uow, hold_id=hold_id, reference=f"{hold_id}", at=AT)
                    case _:
                        rows = (await balances.trial_balance(uow)).accounts
                        assert all(row.balance_minor >= 0 for row in rows)
                        held = sum(row.balance_minor for row in rows if row.code != HOT.code)
                        assert held == (len(PLAYERS) + 1) * OPENING
        except InsufficientFunds:
            continue


async def test_l04_every_snapshot_of_a_busy_bank_sums_to_the_same(books: Books, seed: int) -> None:
    for account in (*PLAYERS, CLEARING):
        await books.fund(OPENING, account=account)
    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(_bank_client(books, number, seed, 24))
        for _ in range(10):
            async with books.database.unit_of_work() as uow:
                await uow.execute("SELECT ledger.fold(3)")
    async with books.database.unit_of_work() as uow:
        assert await reconcile.check_books(uow) == []


async def test_l14_replaying_the_journal_from_zero_gives_every_balance(
    books: Books, seed: int
) -> None:
    for account in (*PLAYERS, CLEARING):
        await books.fund(OPENING, account=account)
    await _bank_client(books, 0, seed, 60)
    async with books.database.unit_of_work() as uow:
        lines = await uow.execute(
            "SELECT a.code, a.normal_side = e.side AS is_raised, e.amount FROM ledger.entries e "
            "JOIN ledger.accounts a ON a.id = e.account_id"
        )
        replayed: Counter[str] = Counter()
        for line in lines.mappings():
            replayed[line["code"]] += int(line["amount"]) * (1 if line["is_raised"] else -1)
        found = await balances.balances(uow)
    assert {row.code: row.balance_minor for row in found} == replayed


async def test_l05_two_units_of_work_cannot_both_spend_what_only_one_may(books: Books) -> None:
    """Each reads a sum over two accounts and spends it all: the CHECK decides, not the reading."""
    first, second = PLAYERS[:2]
    await books.fund(OPENING, account=first)
    both_read = asyncio.Barrier(2)

    async def spend() -> bool:
        try:
            async with books.database.unit_of_work() as uow:
                assert await balances.balance(uow, first) == OPENING
                await both_read.wait()
                await _transfer(books, uow, first, second, OPENING)
        except InsufficientFunds:
            return False
        return True

    assert sorted(await asyncio.gather(spend(), spend())) == [False, True]
    assert await books.balance(first) == 0


async def test_l06_a_deadlock_is_retried_as_a_whole_unit_of_work(books: Books) -> None:
    first, second = PLAYERS[:2]
    await books.fund(OPENING, account=first)
    await books.fund(OPENING, account=second)
    await books.fund(4)
    async with books.database.unit_of_work() as uow:
        await uow.execute("SELECT ledger.fold(10)")
    both_hold_one = asyncio.Barrier(2)
    one_is_done = asyncio.Event()
    tries: list[str] = []

    async def spend(name: str, one: Account, other: Account) -> None:
        async def work(uow: Uow) -> None:
            tries.append(name)
            if len(tries) > 2:  # the victim may not come between the survivor and its lock again
                await one_is_done.wait()
            await _transfer(books, uow, one, CLEARING, 1)
            if len(tries) <= 2:
                await both_hold_one.wait()
            await _transfer(books, uow, other, CLEARING, 1)

        await books.database.run(work)
        one_is_done.set()

    await asyncio.gather(spend("a", first, second), spend("b", second, first))
    assert len(tries) == 3
    assert await books.balance(first) == await books.balance(second) == OPENING - 2
    assert await books.balance(CLEARING) == 8


async def test_l06_what_no_retry_cures_is_told(books: Books) -> None:
    async def work(uow: Uow) -> None:
        await uow.execute("SELECT 1 / 0")

    with pytest.raises(DBAPIError) as failed:
        await books.database.run(work)
    assert sqlstate(failed.value) == "22012"


async def test_a_reference_posted_by_many_at_once_is_posted_once(books: Books) -> None:
    async def one() -> bool:
        return (await books.post("same", debit(HOT, 5), credit(CLEARING, 5))).is_new

    answers = await asyncio.gather(*(one() for _ in range(8)))
    assert sorted(answers) == [False] * 7 + [True]
    assert await books.balance(CLEARING) == 5


async def test_l07_of_a_capture_and_a_release_at_once_one_wins(books: Books) -> None:
    await books.fund(10)
    hold_id = books.ids.new_id()
    await books.place(10, hold_id=hold_id)

    async def step(is_capture: bool) -> bool:
        move = holds.capture if is_capture else holds.release
        try:
            async with books.database.unit_of_work() as uow:
                await move(uow, hold_id=hold_id, reference=f"step:{is_capture}", at=AT)
        except StaleState:
            return False
        return True

    assert sorted(await asyncio.gather(step(True), step(False))) == [False, True]
    async with books.database.unit_of_work() as uow:
        assert await reconcile.check_books(uow) == []


async def test_increases_of_one_account_do_not_wait_for_each_other(
    books: Books, api: Database
) -> None:
    """HOUSE 7: an open unit of work that raises an account holds no row of it."""
    await books.fund(1)
    gas = custody("btc", "gas", BTC)
    await books.post("open the account", debit(gas, 1), credit(CLEARING, 1))
    async with books.database.unit_of_work() as uow:
        await _transfer(books, uow, HOT, CLEARING, 5)
        async with api.unit_of_work() as other:
            await other.execute("SET LOCAL lock_timeout = '200ms'")
            await _transfer(books, other, HOT, CLEARING, 7)
    assert await books.balance(CLEARING) == 14


async def test_player_locks_are_taken_in_one_order(books: Books) -> None:
    pairs = [("acme", "b"), ("acme", "a"), ("bravo", "a")]
    done: list[int] = []

    async def lock(number: int) -> None:
        async with books.database.unit_of_work() as uow:
            await balances.lock_players(uow, pairs if number % 2 else list(reversed(pairs)))
            await balances.lock_player(uow, brand="acme", player_id="a")
            done.append(number)

    await asyncio.gather(*(lock(number) for number in range(6)))
    async with books.database.unit_of_work() as uow:
        await balances.lock_players(uow, [])
    assert sorted(done) == [0, 1, 2, 3, 4, 5]


async def test_l18_one_query_shows_at_any_moment_that_assets_are_what_is_owed_and_owned(
    books: Books, seed: int
) -> None:
    """Every kind of account, asked again and again while eight clients move money between them."""
    owed = receivable("acme", BTC)
    for account in (
        *PLAYERS,
        CLEARING,
        unallocated(BTC),
        suspense(BTC),
        capital(BTC),
        service(BTC),
    ):
        await books.fund(OPENING, account=account)
    for name, account in (("fee", network_fee(BTC)), ("loss", write_off(BTC)), ("owed", owed)):
        await books.post(name, debit(account, 30), credit(HOT, 30))
    seen: list[balances.Equation] = []
    is_over = asyncio.Event()

    async def look() -> balances.Equation:
        async with books.database.unit_of_work() as uow:
            [found] = (await balances.trial_balance(uow)).equations
        seen.append(found)
        return found

    async def watch() -> None:
        while not is_over.is_set():
            await look()

    watching = asyncio.create_task(watch())
    for half in range(2):
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(_fee_client(books, seed * 100 + 10 * number + half))
        rest = await look()  # of this moment: what the watch sees last may be older
        fees = (half + 1) * CLIENTS * FEES_EACH
        assert rest.custody_minor + rest.receivables_minor == 10 * OPENING - 60 - fees
    is_over.set()
    await watching
    assert [item for item in seen if not (item.is_equal and item.is_covered)] == []
    assert len({item.own_minor for item in seen}) > 1


async def _fee_client(books: Books, seed: int) -> None:
    """Money of players goes around; each fifth step a fee leaves custody."""
    choice = random.Random(seed)
    for step in range(5 * FEES_EACH):
        try:
            async with books.database.unit_of_work() as uow:
                if step % 5 == 4:
                    await _transfer(books, uow, network_fee(BTC), HOT, 1)
                else:
                    source, target = choice.sample([*PLAYERS, CLEARING], 2)
                    await _transfer(books, uow, source, target, choice.randint(1, 9))
        except InsufficientFunds:
            continue


async def test_l17_the_answer_as_of_a_moment_is_the_same_while_money_moves_and_is_folded(
    books: Books, seed: int
) -> None:
    for account in (*PLAYERS, CLEARING):
        await books.fund(OPENING, account=account)
    later = AT + timedelta(seconds=1)

    async def asked() -> tuple[balances.AccountBalance, ...]:
        async with books.database.unit_of_work() as uow:
            report = await balances.trial_balance(uow, at=AT)
        return report.accounts

    first = await asked()
    choice = random.Random(seed)

    async def move() -> None:
        for _ in range(20):
            source, target = choice.sample(PLAYERS, 2)
            try:
                async with books.database.unit_of_work() as uow:
                    await _transfer(books, uow, source, target, choice.randint(1, 9), at=later)
                    await uow.execute("SELECT ledger.fold(3)")
            except InsufficientFunds:
                continue

    async with asyncio.TaskGroup() as group:
        movers = [group.create_task(move()) for _ in range(4)]
        answers = [await asked() for _ in range(10)]
    assert all(mover.done() for mover in movers)
    assert answers == [first] * 10
    assert await asked() == first
    async with books.database.unit_of_work() as uow:
        assert (await balances.trial_balance(uow)).accounts != first
