"""The books in a real PostgreSQL: what the database refuses, whatever the code path."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from config.database import Database, async_url, sqlstate
from config.settings import DatabaseRole
from ledger import balances, holds, journal, reconcile
from ledger.accounts import Stage, capital, clearing, custody, player, suspense
from ledger.errors import InsufficientFunds, ReferenceConflict, StaleState
from ledger.journal import ChainEffect, Posting, Reversal, credit, debit
from tests.support.clock import SequentialIds
from tests.support.databases import TestDatabase

pytestmark = pytest.mark.postgres

AT = datetime(2026, 1, 1, tzinfo=UTC)
BTC = "btc:BTC"
HOT = custody("btc", "hot", BTC)
CLEARING = clearing("acme", BTC)
BIG = 2**256 - 1


def _funding(amount: int, *, reference: str = "fund") -> Posting:
    return Posting(
        reference=reference, kind="test", entries=(debit(HOT, amount), credit(CLEARING, amount))
    )


async def _fund(database: Database, ids: SequentialIds, amount: int) -> None:
    async with database.unit_of_work() as uow:
        await journal.post(uow, _funding(amount), posting_id=ids.new_id(), at=AT)


async def test_l08_same_reference_returns_the_first_posting(
    database: Database, ids: SequentialIds
) -> None:
    async with database.unit_of_work() as uow:
        first = await journal.post(uow, _funding(7), posting_id=ids.new_id(), at=AT)
        second = await journal.post(uow, _funding(7), posting_id=ids.new_id(), at=AT)
        assert (first.is_new, second.is_new) == (True, False)
        assert first.posting_id == second.posting_id
        assert await balances.balance(uow, HOT) == 7


async def test_l08_same_reference_with_other_content_is_refused(
    database: Database, ids: SequentialIds
) -> None:
    await _fund(database, ids, 7)
    with pytest.raises(ReferenceConflict):
        await _fund(database, ids, 8)


async def test_l01_an_unbalanced_posting_fails_at_commit_even_for_the_owner(
    database: Database, ids: SequentialIds
) -> None:
    await _fund(database, ids, 7)
    with pytest.raises(DBAPIError) as refused:
        async with database.unit_of_work() as uow:
            await uow.execute(
                text(
                    "INSERT INTO ledger.entries SELECT gen_random_uuid(), 1, booked_at, "
                    "account_id, asset, side, 5, NULL FROM ledger.entries LIMIT 1"
                )
            )
    assert sqlstate(refused.value) == "CG002"


async def test_l16_an_entry_of_another_asset_than_its_account_is_refused(
    database: Database, ids: SequentialIds
) -> None:
    await _fund(database, ids, 7)
    with pytest.raises(DBAPIError) as refused:
        async with database.unit_of_work() as uow:
            await uow.execute(
                text(
                    "INSERT INTO ledger.entries SELECT e.posting_id, e.line + 10, e.booked_at, "
                    "e.account_id, 'eth:ETH', e.side, e.amount, NULL FROM ledger.entries e"
                )
            )
    assert sqlstate(refused.value) == "CG003"


async def test_l02_clearing_never_goes_below_zero(database: Database, ids: SequentialIds) -> None:
    await _fund(database, ids, 7)
    too_much = Posting(reference="spend", kind="test", entries=(debit(CLEARING, 8), credit(HOT, 8)))
    with pytest.raises(InsufficientFunds) as refused:
        async with database.unit_of_work() as uow:
            await journal.post(uow, too_much, posting_id=ids.new_id(), at=AT)
    assert refused.value.account_code == CLEARING.code
    with pytest.raises(DBAPIError):
        async with database.unit_of_work() as uow:
            await uow.execute("UPDATE ledger.checked_balances SET balance = -1")


@pytest.mark.parametrize("table", ["postings", "entries", "events"])
async def test_l03_nobody_edits_the_journal(
    database: Database, ids: SequentialIds, table: str
) -> None:
    await _fund(database, ids, 7)
    async with database.unit_of_work() as uow:
        await uow.execute(
            "INSERT INTO ledger.events (id, type, object_kind, object_id, object_version, "
            "snapshot, created_at) VALUES (gen_random_uuid(), 't', 'k', gen_random_uuid(), 1, "
            "'{}', now())"
        )
    for statement in (f"DELETE FROM ledger.{table}", f"TRUNCATE ledger.{table}"):
        with pytest.raises(DBAPIError) as refused:
            async with database.unit_of_work() as uow:
                await uow.execute(statement)
        assert sqlstate(refused.value) == "CG001"


@pytest.mark.parametrize("role", ["gateway_api", "gateway_payouts", "watchers", "scheduler"])
async def test_l03_application_roles_cannot_write_the_books_directly(
    test_database: TestDatabase, role: DatabaseRole
) -> None:
    opened = Database(async_url(test_database.role_url(role)))
    try:
        for statement in (
            "INSERT INTO ledger.checked_balances VALUES (1, 1)",
            "UPDATE ledger.checked_balances SET balance = 1",
            "INSERT INTO ledger.free_balances VALUES (1, 1)",
            "UPDATE ledger.free_balances SET balance = 1",
            "DELETE FROM ledger.entries",
            "UPDATE ledger.postings SET kind = 'x'",
            "INSERT INTO ledger.pending_credits (account_id, delta) VALUES (1, 1)",
        ):
            with pytest.raises(DBAPIError) as refused:
                async with opened.unit_of_work() as uow:
                    await uow.execute(statement)
            assert sqlstate(refused.value) == "42501"
    finally:
        await opened.close()


async def test_l09_uint256_survives_and_nan_is_refused(
    database: Database, ids: SequentialIds
) -> None:
    await _fund(database, ids, BIG)
    async with database.unit_of_work() as uow:
        assert await balances.balance(uow, CLEARING) == BIG
    for bad in ("NaN", "Infinity", "1e78"):
        with pytest.raises(DBAPIError):
            async with database.unit_of_work() as uow:
                await uow.execute(
                    f"INSERT INTO ledger.pending_credits (account_id, delta) VALUES (1, '{bad}')"
                )


async def test_l15_a_reversal_mirrors_and_links_the_original(
    database: Database, ids: SequentialIds
) -> None:
    effect = ChainEffect(network="btc", block_hash="aa", height=5)
    posting = Posting(
        reference="in",
        kind="test",
        entries=(debit(HOT, 9), credit(suspense(BTC), 9)),
        effect=effect,
    )
    async with database.unit_of_work() as uow:
        first = await journal.post(uow, posting, posting_id=ids.new_id(), at=AT)
        await journal.reverse(
            uow, "in", new_reference="out", posting_id=ids.new_id(), at=AT, reason="orphaned"
        )
        assert await balances.balance(uow, HOT) == 0
        row = (
            await uow.execute(
                "SELECT reverses, block_hash FROM ledger.postings WHERE reference='out'"
            )
        ).one()
    assert (row.reverses, row.block_hash) == (first.posting_id, "aa")


async def test_l15_many_reversals_mirror_and_link_their_originals(
    database: Database, ids: SequentialIds
) -> None:
    """An unknown one among them ends the whole unit of work."""
    postings = [
        Posting(
            reference=f"in {n}",
            kind="test",
            entries=(debit(HOT, n), credit(suspense(BTC), n)),
            effect=ChainEffect(network="btc", block_hash=f"{n:02}", height=n),
        )
        for n in (1, 2, 3)
    ]

    def reversal(n: int) -> Reversal:
        return Reversal(reference=f"in {n}", new_reference=f"out {n}", posting_id=ids.new_id())

    async with database.unit_of_work() as uow:
        first = await journal.post_many(uow, [(ids.new_id(), item) for item in postings], at=AT)
        assert await journal.reverse_many(uow, [], reason="orphaned", at=AT) == []
        wanted = [reversal(3), reversal(1)]
        done = await journal.reverse_many(uow, wanted, reason="orphaned", at=AT)
        assert [item.posting_id for item in done] == [item.posting_id for item in wanted]
        again = await journal.reverse_many(uow, wanted, reason="orphaned", at=AT)
        assert [item.is_new for item in again] == [False, False]
        assert await balances.balance(uow, HOT) == 2
        rows = await uow.execute(
            "SELECT reverses, block_hash FROM ledger.postings WHERE reference LIKE 'out%' "
            "ORDER BY reference"
        )
        assert [tuple(row) for row in rows] == [
            (first[0].posting_id, "01"),
            (first[2].posting_id, "03"),
        ]
    with pytest.raises(KeyError, match="in 9"):
        async with database.unit_of_work() as uow:
            await journal.reverse_many(uow, [reversal(2), reversal(9)], reason="orphaned", at=AT)


async def test_a07_a_hundred_holds_of_the_whole_clearing_leave_one_winner(
    test_database: TestDatabase, database: Database, ids: SequentialIds
) -> None:
    await _fund(database, ids, 10)
    opened = Database(async_url(test_database.role_url("gateway_api")), pool_size=10)

    async def one(number: int, hold_id: UUID) -> bool:
        async with opened.unit_of_work(brand="acme") as uow:
            return await holds.place(
                uow,
                hold_id=hold_id,
                brand="acme",
                player_id=f"p{number}",
                asset=BTC,
                amount=10,
                reference=f"w:{hold_id}",
                at=AT,
            )

    try:
        answers = await asyncio.gather(*(one(i, ids.new_id()) for i in range(100)))
    finally:
        await opened.close()
    assert sorted(answers) == [False] * 99 + [True]
    async with database.unit_of_work() as uow:
        assert await balances.balance(uow, CLEARING) == 0
        assert await reconcile.check_books(uow) == []


async def test_place_many_lets_a_smaller_later_request_fit(
    database: Database, ids: SequentialIds
) -> None:
    await _fund(database, ids, 10)
    amounts = [6, 5, 4, 1]
    requests = [
        holds.HoldRequest(
            hold_id=ids.new_id(),
            brand="acme",
            player_id="p",
            asset=BTC,
            amount=amount,
            reference=f"w:{n}",
        )
        for n, amount in enumerate(amounts)
    ]
    async with database.unit_of_work() as uow:
        assert await holds.place_many(uow, requests, at=AT) == [True, False, True, False]
        reserved = player("acme", "p", Stage.RESERVED, BTC)
        assert await balances.balance(uow, reserved) == 10


async def test_l07_a_hold_resolves_once(database: Database, ids: SequentialIds) -> None:
    await _fund(database, ids, 10)
    hold_id = ids.new_id()
    async with database.unit_of_work() as uow:
        assert await holds.place(
            uow,
            hold_id=hold_id,
            brand="acme",
            player_id="p",
            asset=BTC,
            amount=10,
            reference="w",
            at=AT,
        )
        await holds.capture(uow, hold_id=hold_id, reference="w:capture", at=AT)
    for step in (holds.release, holds.capture):
        with pytest.raises(StaleState):
            async with database.unit_of_work() as uow:
                await step(uow, hold_id=hold_id, reference="w:again", at=AT)
    async with database.unit_of_work() as uow:
        await holds.return_in_flight(uow, hold_id=hold_id, reference="w:returned", at=AT)
        assert await balances.balance(uow, CLEARING) == 10
        assert await reconcile.check_books(uow) == []


async def test_fold_keeps_every_balance(database: Database, ids: SequentialIds) -> None:
    await _fund(database, ids, 10)
    async with database.unit_of_work() as uow:
        assert (await uow.execute("SELECT ledger.fold(100)")).scalar_one() == 2
        assert (await uow.execute("SELECT count(*) FROM ledger.pending_credits")).scalar_one() == 0
        assert await balances.balance(uow, CLEARING) == 10
        assert (await balances.trial_balance(uow)).is_balanced


async def test_fee_capital_is_capital_less_what_was_spent(
    database: Database, ids: SequentialIds
) -> None:
    posting = Posting(
        reference="cap", kind="test", entries=(debit(HOT, 50), credit(capital(BTC), 50))
    )
    async with database.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=ids.new_id(), at=AT)
        assert await balances.fee_capital(uow, BTC) == 50
