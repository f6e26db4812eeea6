"""Replay from zero: books that hold give no finding, each planted contradiction gives its own."""

import random

import pytest

from config.database import Uow
from ledger import holds, journal, verify
from ledger.accounts import Stage, player
from ledger.journal import credit, debit
from ledger.verify import Finding, Part
from tests.integration.ledger.conftest import AT, BTC, HOT, Books

pytestmark = pytest.mark.postgres

ANNA = player("acme", "anna", Stage.PROVISIONAL, BTC)


async def replay(books: Books) -> tuple[list[Finding], dict[Part, int]]:
    """Every page of every part, each in a unit of work of its own."""
    findings: list[Finding] = []
    checked = dict.fromkeys(Part, 0)
    for part in Part:
        place: str | None = None
        while True:
            async with books.database.unit_of_work() as uow:
                page = await verify.replay(uow, part, place=place)
            findings += page.findings
            checked[part] += page.checked
            if page.place is None:
                break
            assert page.place != place
            place = page.place
    return findings, checked


async def _history(books: Books, seed: int) -> None:
    """Postings, holds at every step and a reversal; some folded, some pending."""
    choice = random.Random(seed)
    await books.fund(500)
    for number in range(20):
        amount = choice.randint(1, 9)
        await books.post(f"in:{number}", debit(HOT, amount), credit(ANNA, amount))
        hold_id = books.ids.new_id()
        await books.place(amount, hold_id=hold_id)
        async with books.database.unit_of_work() as uow:
            if number % 3:
                await holds.capture(uow, hold_id=hold_id, reference=f"c:{number}", at=AT)
            if number % 3 == 2:
                back = holds.return_in_flight
                await back(uow, hold_id=hold_id, reference=f"b:{number}", at=AT)
    async with books.database.unit_of_work() as uow:
        await uow.execute("SELECT ledger.fold(2)")
        await journal.reverse(
            uow, "in:3", new_reference="in:3:reversed", posting_id=books.ids.new_id(), at=AT,
            reason="test",
        )  # fmt: skip


async def test_l14_replayed_from_zero_every_balance_is_what_the_books_say(
    books: Books, seed: int
) -> None:
    await _history(books, seed)
    findings, checked = await replay(books)
    assert findings == []
    [row] = await _rows(books, "SELECT count(*) AS n FROM ledger.postings")
    assert checked[Part.POSTINGS] == row["n"]
    assert checked[Part.ENTRIES] == 2 * row["n"]


async def test_l14_more_rows_than_a_page_are_replayed_page_by_page(books: Books) -> None:
    postings = [
        (
            books.ids.new_id(),
            journal.Posting(
                reference=f"in:{number}",
                kind="test",
                entries=(
                    debit(HOT, 1),
                    credit(player("acme", f"p{number % 450}", Stage.PROVISIONAL, BTC), 1),
                ),
            ),
        )
        for number in range(verify.PAGE_ROWS + 5)
    ]
    async with books.database.unit_of_work() as uow:
        await journal.post_many(uow, postings, at=AT)
    findings, checked = await replay(books)
    assert findings == []
    assert checked[Part.POSTINGS] == verify.PAGE_ROWS + 5
    assert checked[Part.ENTRIES] == 2 * (verify.PAGE_ROWS + 5)
    assert checked[Part.ACCOUNTS] == 451


_FIRST = "(SELECT id FROM ledger.postings WHERE reference = 'in:1')"
_PLANTS = {
    "unbalanced_posting": f"DELETE FROM ledger.entries WHERE line = 1 AND posting_id = {_FIRST}",
    "foreign_asset": "UPDATE ledger.entries SET asset = 'eth:BTC' WHERE line = 1",
    "posting_without_entries": f"DELETE FROM ledger.entries WHERE posting_id = {_FIRST}",
    "entry_without_posting": f"DELETE FROM ledger.postings WHERE id = {_FIRST}",
    "reversed_twice": "UPDATE ledger.postings SET reverses = (SELECT id FROM ledger.postings "
    "WHERE reference = 'in:3') WHERE reference = 'in:4'",
    "reversal_differs": "UPDATE ledger.entries SET amount = amount + 1 WHERE posting_id = "
    "(SELECT id FROM ledger.postings WHERE reference = 'in:3:reversed')",
    "cache_drift": "UPDATE ledger.checked_balances SET balance = balance + 1",
    "negative_account": "UPDATE ledger.entries SET side = 'debit' WHERE account_id = "
    "(SELECT id FROM ledger.accounts WHERE kind = 'provisional')",
    "hold_drift": "UPDATE ledger.holds SET amount = amount + 1",
    "out_of_balance": "UPDATE ledger.pending_credits SET delta = delta + 1",
    "undercovered": "UPDATE ledger.free_balances SET balance = balance - 700",
    "pending_without_account": "INSERT INTO ledger.pending_credits VALUES (99999, 1)",
}


async def test_l14_each_planted_contradiction_is_found_by_the_replay(books: Books) -> None:
    """Past every trigger, as only a broken disk or a stolen owner could write it; each one is
    planted in a unit of work that is rolled back."""
    await _history(books, 1)
    missed = []
    for kind, plant in _PLANTS.items():
        async with books.database.engine.connect() as connection:
            uow = Uow(connection)
            await uow.execute("SELECT set_config('cage.brand', '*', true)")
            await uow.execute("SET LOCAL session_replication_role = replica")
            await uow.execute(plant)
            kinds = set()
            for part in Part:
                page = await verify.replay(uow, part, place=None)
                kinds |= {finding.kind for finding in page.findings}
            await connection.rollback()
        if kind not in kinds:
            missed.append(kind)
    assert missed == []
    assert (await replay(books))[0] == []


@pytest.mark.parametrize(
    ("part", "place"), [(Part.POSTINGS, "nowhere"), (Part.ENTRIES, "")], ids=["postings", "entries"]
)
async def test_a_place_of_no_part_is_refused(books: Books, part: Part, place: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        async with books.database.unit_of_work() as uow:
            await verify.replay(uow, part, place=place)


async def _rows(books: Books, statement: str) -> list[dict[str, int]]:
    async with books.database.unit_of_work() as uow:
        return [dict(row) for row in (await uow.execute(statement)).mappings()]
