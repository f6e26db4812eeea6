"""The books read back: as of a moment, by posting, by time, as a player's statement."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from config.database import Database
from ledger import balances, holds, journal, reading
from ledger.accounts import AccountKind, Stage, clearing, custody, player
from ledger.journal import ChainEffect, Posting, credit, debit
from ledger.reading import Head, Line, Place, StatementLine
from tests.integration.ledger.conftest import AT, BTC, CLEARING, HOT, Books

pytestmark = pytest.mark.postgres

ANNA = player("acme", "anna", Stage.PROVISIONAL, BTC)
LTC = "ltc:LTC"
LATER = AT + timedelta(days=400)
END = AT + timedelta(days=4_000)


async def _journal(
    books: Books,
    *,
    limit: int,
    since: datetime = AT,
    until: datetime = END,
    brand: str = "*",
    database: Database | None = None,
) -> list[tuple[Head, Line]]:
    """Every page of a period, each in a unit of work of its own."""
    found: list[tuple[Head, Line]] = []
    after: Place | None = None
    while True:
        async with (database or books.database).unit_of_work(brand=brand) as uow:
            page = await reading.journal_page(
                uow, since=since, until=until, after=after, limit=limit
            )
        assert len(page.lines) <= limit
        found += page.lines
        if page.following is None:
            return found
        assert after is None or page.following != after
        after = page.following


async def test_l17_an_account_as_of_a_moment_counts_its_own_second_and_nothing_later(
    books: Books,
) -> None:
    """Pending and folded alike: the balance of the past does not know of either."""
    moments = [AT + timedelta(microseconds=step) for step in range(4)]
    for number, at in enumerate(moments):
        await books.post(f"in:{number}", debit(HOT, 10), credit(CLEARING, 10), at=at)
    async with books.database.unit_of_work() as uow:
        pending = [await reading.balance_at(uow, CLEARING, at) for at in moments]
        await uow.execute("SELECT ledger.fold(10)")
        folded = [await reading.balance_at(uow, CLEARING, at) for at in moments]
        before = await reading.balance_at(uow, CLEARING, AT - timedelta(microseconds=1))
        unknown = await reading.balance_at(uow, clearing("nobody", BTC), moments[-1])
    assert pending == folded == [10, 20, 30, 40]
    assert (before, unknown) == (0, 0)


async def test_as_of_equals_the_trial_balance_of_that_moment(books: Books, seed: int) -> None:
    choice = random.Random(seed)
    accounts = [CLEARING, ANNA, player("acme", "bert", Stage.HELD, BTC)]
    moments = []
    for number in range(30):
        at = AT + timedelta(hours=choice.randrange(2_000))
        moments.append(at)
        amount = choice.randint(1, 9)
        await books.post(
            f"in:{number}", debit(HOT, amount), credit(choice.choice(accounts), amount), at=at
        )
    for at in choice.sample(moments, 8):
        async with books.database.unit_of_work() as uow:
            report = await balances.trial_balance(uow, at=at)
            listed = await reading.accounts(uow, at=at, limit=100)
        expected = {row.code: row.balance_minor for row in report.accounts}
        assert {row.code: row.balance_minor for row in listed if row.balance_minor} == expected


async def test_accounts_are_listed_in_pages_and_by_filter(books: Books) -> None:
    for name in ("a", "b", "c"):
        await books.fund(5, account=player("acme", name, Stage.PROVISIONAL, BTC))
    await books.post("ltc", debit(custody("ltc", "hot", LTC), 3), credit(clearing("bravo", LTC), 3))
    codes: list[str] = []
    async with books.database.unit_of_work() as uow:
        while page := await reading.accounts(uow, after=codes[-1] if codes else None, limit=2):
            codes += [row.code for row in page]
        of_kind = await reading.accounts(uow, kind=AccountKind.CUSTODY, limit=9)
        of_asset = await reading.accounts(uow, asset=LTC, limit=9)
        of_player = await reading.accounts(uow, brand="acme", player_id="b", limit=9)
        nobody = await reading.accounts(uow, player_id="nobody", limit=9)
    assert len(codes) == len(set(codes)) == 6
    assert (len(of_kind), len(of_asset), nobody) == (2, 2, [])
    assert [(row.code, row.balance_minor) for row in of_player] == [
        ("player:acme:b:provisional:btc:BTC", 5)
    ]


async def test_l15_a_posting_names_what_it_reverses_and_what_reversed_it(books: Books) -> None:
    effect = ChainEffect(network="btc", block_hash="ab", height=7)
    first = await books.post("in", debit(HOT, 5), credit(CLEARING, 5), effect=effect)
    mirror_id = books.ids.new_id()
    async with books.database.unit_of_work() as uow:
        await journal.reverse(
            uow, "in", new_reference="out", posting_id=mirror_id, at=LATER, reason="typing error"
        )
        original = await reading.posting(uow, first.posting_id)
        mirror = await reading.posting(uow, mirror_id)
        assert await reading.posting(uow, UUID(int=9)) is None
    assert original is not None
    assert mirror is not None
    assert (original.reversed_by, original.head.reverses) == (mirror_id, None)
    assert (mirror.reversed_by, mirror.head.reverses) == (None, first.posting_id)
    assert (original.head.block_hash, original.head.block_height) == ("ab", 7)
    assert (mirror.head.reason, mirror.head.kind) == ("typing error", "test_reversed")
    assert [line.change_minor for line in mirror.lines] == [-5, -5]
    assert (len(mirror.lines), mirror.lines_total) == (2, 2)


async def test_a29_a_brand_reads_only_its_own_lines_of_the_journal(
    books: Books, api: Database
) -> None:
    """A posting of both brands shows each its own line; one of neither does not exist for them."""
    bravo = clearing("bravo", BTC)
    shared = await books.post("shared", debit(HOT, 12), credit(CLEARING, 5), credit(bravo, 7))
    foreign = await books.post("bravo", debit(HOT, 3), credit(bravo, 3))
    async with api.unit_of_work(brand="acme") as uow:
        view = await reading.posting(uow, shared.posting_id)
        assert await reading.posting(uow, foreign.posting_id) is None
        codes = [row.code for row in await reading.accounts(uow, limit=9)]
        assert await reading.balance_at(uow, bravo, AT) == 0
    assert view is not None
    assert ([line.account.code for line in view.lines], view.lines_total) == ([CLEARING.code], 3)
    assert codes == [CLEARING.code]
    pages = await _journal(books, limit=1, brand="acme", database=api)
    assert [line.account.code for _, line in pages] == [CLEARING.code]
    async with api.unit_of_work(brand="nobody") as uow:
        assert await reading.posting(uow, shared.posting_id) is None


async def test_the_reason_of_a_posting_is_the_operators(books: Books, api: Database) -> None:
    await books.fund(5)
    mirror_id = books.ids.new_id()
    async with books.database.unit_of_work() as uow:
        posting = Posting(
            reference="why",
            kind="test",
            entries=(debit(HOT, 1), credit(CLEARING, 1)),
            reason="bravo asked",
        )
        await journal.post(uow, posting, posting_id=mirror_id, at=AT)
    async with api.unit_of_work(brand="acme") as uow:
        mine = await reading.posting(uow, mirror_id)
    async with api.unit_of_work() as uow:
        whole = await reading.posting(uow, mirror_id)
    assert mine is not None
    assert whole is not None
    assert (mine.head.reason, whole.head.reason) == (None, "bravo asked")


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 500])
async def test_the_journal_in_pages_has_each_line_once_and_in_order(
    books: Books, limit: int
) -> None:
    """Whatever the page ends in: between two postings, or between two lines of one."""
    async with books.database.unit_of_work() as uow:
        await uow.execute(
            "SELECT ledger.ensure_partitions(CAST('2026-01-01 00:00+00' AS timestamptz), 3)"
        )
    for number in range(9):
        shares = [credit(player("acme", f"p{n}", Stage.PROVISIONAL, BTC), 1) for n in range(4)]
        lines = (debit(HOT, 4), *shares) if number % 3 == 0 else (debit(HOT, 1), shares[0])
        at = AT + timedelta(days=20 * (number // 2))
        await books.post(f"in:{number}", *lines, at=at)
    found = await _journal(books, limit=limit)
    places = [(head.booked_at, head.posting_id, line.line) for head, line in found]
    assert places == sorted(set(places))
    assert len(places) == 3 * 5 + 6 * 2
    assert sum(line.amount_minor for _, line in found if line.account == HOT) == 18


async def test_a_period_of_the_journal_is_half_open(books: Books) -> None:
    for day in range(4):
        await books.post(
            f"in:{day}", debit(HOT, 1), credit(CLEARING, 1), at=AT + timedelta(days=day)
        )
    found = await _journal(
        books, limit=9, since=AT + timedelta(days=1), until=AT + timedelta(days=3)
    )
    assert sorted({head.reference for head, _ in found}) == ["in:1", "in:2"]


async def _statement(
    books: Books, *, since: datetime, until: datetime, limit: int, asset: str | None = None
) -> tuple[Sequence[reading.StageBalance], list[StatementLine]]:
    lines: list[StatementLine] = []
    after: Place | None = None
    while True:
        async with books.database.unit_of_work(brand="acme") as uow:
            page = await reading.statement(
                uow,
                brand="acme",
                player_id="p",
                asset=asset,
                since=since,
                until=until,
                after=after,
                limit=limit,
            )
        lines += page.lines
        if page.following is None:
            return page.balances, lines
        after = page.following


@pytest.mark.parametrize("limit", [1, 3, 500])
async def test_opening_and_lines_of_a_statement_make_its_closing(
    books: Books, seed: int, limit: int
) -> None:
    """Any history, any period, any page size; and closing equals the balance as of then."""
    choice = random.Random(seed * 1_000 + limit)
    await books.fund(10_000)
    for number in range(40):
        at = AT + timedelta(minutes=choice.randrange(600))
        async with books.database.unit_of_work() as uow:
            hold_id = books.ids.new_id()
            await holds.place(
                uow, hold_id=hold_id, brand="acme", player_id="p", asset=BTC,
                amount=choice.randint(1, 50), reference=f"withdrawal:{hold_id}:reserve", at=at,
            )  # fmt: skip
            move = choice.choice([holds.capture, holds.release])
            later = at + timedelta(minutes=choice.randrange(60))
            await move(uow, hold_id=hold_id, reference=f"withdrawal:{hold_id}:{number}", at=later)
    since = AT + timedelta(minutes=choice.randrange(300))
    until = since + timedelta(minutes=choice.randrange(300))
    stages, lines = await _statement(books, since=since, until=until, limit=limit)
    sums = reading.changes(lines)
    assert {stage.kind for stage in stages} == {AccountKind.RESERVED, AccountKind.IN_FLIGHT}
    for stage in stages:
        assert stage.opening_minor + sums.get(stage.code, 0) == stage.closing_minor
        account = player("acme", "p", Stage(stage.kind.value), BTC)
        async with books.database.unit_of_work() as uow:
            just_before = until - timedelta(microseconds=1)
            assert stage.closing_minor == await reading.balance_at(uow, account, just_before)
    places = [(line.place.booked_at, line.place.posting_id, line.place.line) for line in lines]
    assert places == sorted(set(places))
    assert {line.posting_kind for line in lines} <= {
        "hold_placed", "hold_captured", "hold_released"
    }  # fmt: skip


async def test_a29_a_statement_of_nobody_or_of_another_brand_is_empty(
    books: Books, api: Database
) -> None:
    await books.fund(10)
    await books.place(4, hold_id=books.ids.new_id())
    stages, lines = await _statement(books, since=AT, until=END, limit=9, asset=LTC)
    assert (stages, lines) == ((), [])
    async with api.unit_of_work(brand="bravo") as uow:
        page = await reading.statement(
            uow, brand="acme", player_id="p", asset=None, since=AT, until=END, after=None, limit=9
        )
    assert (page.balances, page.lines) == ((), ())
