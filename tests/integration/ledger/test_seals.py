"""The journal's chain: books that were sealed give no finding, each change past the guards does."""

from datetime import timedelta

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Uow
from ledger import journal, seals, verify
from ledger.accounts import Stage, player
from ledger.journal import Posting, credit, debit
from ledger.verify import Finding, Part
from tests.integration.ledger.conftest import AT, BTC, HOT, Books

pytestmark = pytest.mark.postgres

ANNA = player("acme", "anna", Stage.PROVISIONAL, BTC)
BERT = player("acme", "bert", Stage.PROVISIONAL, BTC)
POSTINGS = 12
LATER = AT + timedelta(hours=1)


async def _book(books: Books, first: int, last: int) -> None:
    """Postings a second apart."""
    for number in range(first, last):
        at = AT + timedelta(seconds=number)
        account = ANNA if number % 2 else BERT
        await books.post(f"in:{number}", debit(HOT, 5), credit(account, 5), at=at)


async def _seal(books: Books, *, at_seconds: float) -> int:
    async with books.database.unit_of_work() as uow:
        return await seals.seal_next(uow, at=AT + timedelta(seconds=at_seconds))


async def _findings(uow: Uow) -> set[tuple[str, str]]:
    found: list[Finding] = []
    for part in (Part.SEALS, Part.UNSEALED):
        page = await verify.replay(uow, part, place=None)
        found += page.findings
    return {(item.kind, item.subject) for item in found}


async def _sealed(books: Books) -> None:
    """Two seals of six postings each."""
    await _book(books, 0, 6)
    assert await _seal(books, at_seconds=30) == 6
    await _book(books, 31, 37)
    assert await _seal(books, at_seconds=3600) == 6


async def test_l19_sealed_books_hold_and_what_is_sealed_is_not_sealed_again(books: Books) -> None:
    await _sealed(books)
    assert await _seal(books, at_seconds=3600) == 0
    assert await _seal(books, at_seconds=7200) == 0
    async with books.database.unit_of_work() as uow:
        assert await _findings(uow) == set()
        head = await seals.newest(uow)
        assert head is not None
        first = await seals.get(uow, 1)
        assert first is not None
    assert (head.sequence, head.postings, head.previous_hash) == (2, 6, first.hash)


async def test_l19_the_youngest_postings_wait_and_are_no_finding(books: Books) -> None:
    await _book(books, 0, 6)
    assert await _seal(books, at_seconds=12) == 2  # those at 0 and 1: ten seconds are settled
    async with books.database.unit_of_work() as uow:
        assert await _findings(uow) == set()
    assert await _seal(books, at_seconds=3600) == 4


async def test_l19_a_posting_that_commits_late_gets_its_seal_with_the_next(books: Books) -> None:
    await _sealed(books)
    late = AT + timedelta(seconds=3600) - seals.LATE + timedelta(seconds=30)
    await books.post("late", debit(HOT, 1), credit(ANNA, 1), at=late)
    assert await _seal(books, at_seconds=3700) == 1
    async with books.database.unit_of_work() as uow:
        assert await _findings(uow) == set()


async def test_l19_more_than_one_seal_of_postings_of_one_moment_are_sealed_once_each(
    books: Books,
) -> None:
    count = seals.SEAL_POSTINGS + 3
    postings = [
        (
            books.ids.new_id(),
            Posting(reference=f"m:{n}", kind="test", entries=(debit(HOT, 1), credit(ANNA, 1))),
        )
        for n in range(count)
    ]
    async with books.database.unit_of_work() as uow:
        await journal.post_many(uow, postings, at=AT)
    assert await _seal(books, at_seconds=60) == seals.SEAL_POSTINGS
    assert await _seal(books, at_seconds=60) == 3
    assert await _seal(books, at_seconds=120) == 0
    async with books.database.unit_of_work() as uow:
        assert await _findings(uow) == set()
        rows = await uow.rows("SELECT count(DISTINCT u.id) AS n FROM ledger.seals s,"
                              " unnest(s.postings) AS u (id)")  # fmt: skip
    assert rows[0]["n"] == count


_THIRD = "(SELECT id FROM ledger.postings WHERE reference = 'in:3')"
_CHANGES = {
    "sealed_posting_changed": (
        # Both sides alike: the books still balance, and only the seal knows.
        f"UPDATE ledger.entries SET amount = 4 WHERE posting_id = {_THIRD}",
        f"UPDATE ledger.entries SET brand_tag = 'bravo' WHERE posting_id = {_THIRD} AND line = 1",
        f"UPDATE ledger.entries SET account_id = (SELECT id FROM ledger.accounts WHERE player_id"
        f" = 'bert') WHERE posting_id = {_THIRD} AND line = 2",
        f"DELETE FROM ledger.entries WHERE posting_id = {_THIRD} AND line = 2",
        "UPDATE ledger.postings SET reason = 'agreed' WHERE reference = 'in:3'",
        "UPDATE ledger.postings SET reference = 'in:300' WHERE reference = 'in:3'",
        "UPDATE ledger.postings SET block_hash = 'ab', network = 'btc', block_height = 1"
        " WHERE reference = 'in:3'",
        "UPDATE ledger.accounts SET player_id = 'bertha', code ="
        " 'player:acme:bertha:provisional:btc:BTC' WHERE player_id = 'bert'",
    ),
    "sealed_posting_missing": (
        f"DELETE FROM ledger.entries WHERE posting_id = {_THIRD};"
        "DELETE FROM ledger.postings WHERE reference = 'in:3'",
        "UPDATE ledger.postings SET booked_at = booked_at - interval '1 day'"
        " WHERE reference = 'in:3'",
    ),
    "unsealed_posting": (
        "INSERT INTO ledger.postings (reference, id, booked_at, kind) SELECT 'slipped',"
        " gen_random_uuid(), booked_at, kind FROM ledger.postings WHERE reference = 'in:3'",
    ),
    "seal_missing": ("DELETE FROM ledger.seals WHERE sequence = 1",),
    "seal_changed": (
        "UPDATE ledger.seals SET until = until + interval '1 second' WHERE sequence = 1",
        "UPDATE ledger.seals SET postings[2] = postings[1] WHERE sequence = 1",
    ),
    "seal_unlinked": (
        "UPDATE ledger.seals SET previous_hash = repeat('0', 64) WHERE sequence = 2",
    ),
}


@pytest.mark.parametrize(
    ("kind", "change"),
    [(kind, change) for kind, changes in _CHANGES.items() for change in changes],
    ids=lambda value: value[:40],
)
async def test_l19_a_change_by_a_superuser_is_found(books: Books, kind: str, change: str) -> None:
    """Past every trigger and right, in a unit of work that is rolled back."""
    await _sealed(books)
    async with books.database.engine.connect() as connection:
        uow = Uow(connection)
        await uow.execute("SELECT set_config('cage.brand', '*', true)")
        await uow.execute("SET LOCAL session_replication_role = replica")
        for statement in change.split(";"):
            await uow.execute(statement)
        found = await _findings(uow)
        await connection.rollback()
    assert kind in {name for name, _ in found}
    async with books.database.unit_of_work() as uow:
        assert await _findings(uow) == set()


async def test_l19_nobody_but_a_superuser_changes_a_seal(books: Books) -> None:
    await _sealed(books)
    for statement in ("UPDATE ledger.seals SET sequence = 9", "DELETE FROM ledger.seals"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with books.database.unit_of_work() as uow:
                await uow.execute(statement)
