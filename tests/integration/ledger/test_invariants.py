"""What the database refuses and what its own checks find, whatever the code path."""

from dataclasses import replace

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Database, sqlstate
from ledger import balances, journal, reconcile
from ledger.accounts import (
    AccountKind,
    Side,
    Stage,
    capital,
    clearing,
    custody,
    fee_recovery,
    network_fee,
    player,
    receivable,
    reorg_loss,
    service,
    suspense,
    unallocated,
    write_off,
)
from ledger.errors import ForeignAccount, InsufficientFunds, UnbalancedPosting
from ledger.journal import ChainEffect, Posting, credit, debit
from ledger.reconcile import BreakKind, WalletBook
from tests.integration.ledger.conftest import AT, BTC, CLEARING, HOT, Books

pytestmark = pytest.mark.postgres

CHART = (
    HOT,
    CLEARING,
    *(player("acme", "p", stage, BTC) for stage in Stage),
    receivable("acme", BTC),
    unallocated(BTC),
    network_fee(BTC),
    reorg_loss(BTC),
    write_off(BTC),
    fee_recovery(BTC),
    service(BTC),
    capital(BTC),
    suspense(BTC),
)
_LINE = (
    "INSERT INTO ledger.{table} SELECT posting_id, 9, booked_at, account_id, asset, 'debit', 5, "
    "NULL FROM ledger.entries LIMIT 1"
)
_POST = (
    "SELECT ledger.post(gen_random_uuid(), now(), 'raw', 'raw', NULL, NULL, NULL, NULL, NULL, "
    "ARRAY['{code}', 'suspense:btc:BTC'], ARRAY['{kind}', 'suspense'], "
    "ARRAY['btc:BTC', 'btc:BTC'], ARRAY['acme', NULL], ARRAY[NULL, NULL]::text[], "
    "ARRAY[NULL, NULL]::text[], ARRAY['debit', 'credit'], ARRAY[{amount}, {amount}]::numeric[], "
    "ARRAY[NULL, NULL]::text[])"
)


@pytest.mark.parametrize("table", ["entries", "entries_default"])
async def test_l01_a_line_alone_is_refused_also_past_the_parent_table(
    books: Books, table: str
) -> None:
    await books.fund(7)
    with pytest.raises(DBAPIError) as refused:
        async with books.database.unit_of_work() as uow:
            await uow.execute(_LINE.format(table=table))
    assert sqlstate(refused.value) == "CG002"


async def test_l01_the_server_side_function_cannot_write_an_unbalanced_posting(
    books: Books,
) -> None:
    posting = Posting(reference="r", kind="t", entries=(debit(HOT, 5), credit(CLEARING, 5)))
    object.__setattr__(posting, "entries", (debit(HOT, 5), credit(CLEARING, 4)))
    with pytest.raises(UnbalancedPosting):
        async with books.database.unit_of_work() as uow:
            await journal.post(uow, posting, posting_id=books.ids.new_id(), at=AT)


@pytest.mark.parametrize("amount", ["'NaN'", "'Infinity'", "0.5", "0", "-1", "1e78"])
async def test_l09_the_server_side_function_takes_whole_positive_amounts_only(
    books: Books, amount: str
) -> None:
    await books.fund(7)
    with pytest.raises(DBAPIError):
        async with books.database.unit_of_work() as uow:
            await uow.execute(
                _POST.format(code=CLEARING.code, kind="clearing", amount=amount).replace(":", "\\:")
            )


async def test_l02_no_caller_can_say_that_an_account_is_not_checked(books: Books) -> None:
    """A code belongs to one kind, and a kind decides the check; an owed account is refused too."""
    for kind in ("capital", "suspense", "nonsense"):
        with pytest.raises(DBAPIError) as refused:
            async with books.database.unit_of_work() as uow:
                await uow.execute(
                    _POST.format(code="brand:acme:clearing:btc:BTC", kind=kind, amount=5).replace(
                        ":", "\\:"
                    )
                )
        assert sqlstate(refused.value) == "23514"
    await books.fund(4)
    with pytest.raises(InsufficientFunds):
        await books.post("spend", debit(CLEARING, 5), credit(HOT, 5))
    await books.fund(1)
    await books.post("spend", debit(CLEARING, 5), credit(HOT, 5))
    assert await books.balance(CLEARING) == 0


async def test_the_database_has_the_same_chart_as_the_code(books: Books) -> None:
    for account in CHART:
        other = capital(BTC) if account.kind is not AccountKind.CAPITAL else HOT
        is_debit = account.normal_side is Side.DEBIT
        left, right = (account, other) if is_debit else (other, account)
        await books.post(f"chart:{account.code}", debit(left, 1), credit(right, 1))
    async with books.database.unit_of_work() as uow:
        rows = (
            await uow.execute("SELECT code, kind, normal_side, is_checked FROM ledger.accounts")
        ).all()
    assert {row.kind for row in rows} == set(AccountKind)
    assert {tuple(row) for row in rows} == {
        (account.code, account.kind, account.normal_side, account.is_checked) for account in CHART
    }


async def test_l03_a_partition_is_as_closed_as_its_parent(books: Books) -> None:
    async with books.database.unit_of_work() as uow:
        made = (await uow.execute("SELECT ledger.ensure_partitions('2026-01-15', 2)")).scalar_one()
        again = (await uow.execute("SELECT ledger.ensure_partitions('2026-01-15', 2)")).scalar_one()
    assert (made, again) == (3, 0)
    await books.fund(7)
    for statement in (
        "TRUNCATE ledger.entries_202601",
        "DELETE FROM ledger.entries_202601",
        "UPDATE ledger.entries_202601 SET amount = 1",
        _LINE.format(table="entries_202601"),
    ):
        with pytest.raises(DBAPIError) as refused:
            async with books.database.unit_of_work() as uow:
                await uow.execute(statement)
        assert sqlstate(refused.value) in ("CG001", "CG002")


async def test_a_month_with_rows_in_the_default_partition_stays_there(books: Books) -> None:
    await books.fund(7)
    async with books.database.unit_of_work() as uow:
        made = (await uow.execute("SELECT ledger.ensure_partitions('2026-01-15', 1)")).scalar_one()
        assert made == 1
        assert await reconcile.check_books(uow) == []


async def test_a29_a_brand_reads_its_own_rows_of_the_books_only(
    books: Books, api: Database
) -> None:
    await books.fund(7)
    await books.fund(5, account=clearing("bravo", BTC))
    await books.place(2, hold_id=books.ids.new_id())
    async with api.unit_of_work(brand="bravo") as uow:
        seen = await balances.balances(uow)
        assert [(row.code, row.balance_minor) for row in seen] == [
            ("brand:bravo:clearing:btc:BTC", 5)
        ]
        for table, count in [("entries", 1), ("postings", 0), ("balances", 1), ("holds", 0)]:
            found = await uow.execute(f"SELECT count(*) FROM ledger.{table}")
            assert found.scalar_one() == count, table
    async with api.unit_of_work() as uow:
        assert len(await balances.balances(uow)) == 4


async def test_a29_a_brand_posts_to_no_account_of_another(books: Books, api: Database) -> None:
    posting = Posting(
        reference="r", kind="t", entries=(debit(CLEARING, 1), credit(clearing("bravo", BTC), 1))
    )
    with pytest.raises(ForeignAccount):
        async with api.unit_of_work(brand="bravo") as uow:
            await journal.post(uow, posting, posting_id=books.ids.new_id(), at=AT)


async def test_a29_anothers_account_code_under_the_own_brand_is_refused(
    books: Books, api: Database
) -> None:
    """The code names the account; a line that claims it for another brand is a forgery."""
    await books.fund(10)
    own = clearing("zest", BTC)
    forged = replace(CLEARING, brand="zest")
    posting = Posting(reference="theft", kind="test", entries=(debit(forged, 5), credit(own, 5)))
    with pytest.raises(ForeignAccount):
        async with api.unit_of_work(brand="zest") as uow:
            await journal.post(uow, posting, posting_id=books.ids.new_id(), at=AT)
    assert await books.balance(CLEARING) == 10


_PLANTS = {
    BreakKind.UNBALANCED_POSTING: "DELETE FROM ledger.entries WHERE line = 1",
    BreakKind.CACHE_DRIFT: "UPDATE ledger.pending_credits SET delta = delta + 1",
    BreakKind.NEGATIVE_ACCOUNT: "INSERT INTO ledger.pending_credits SELECT account_id, -100 "
    "FROM ledger.balances WHERE is_checked",
    BreakKind.OUT_OF_BALANCE: "UPDATE ledger.checked_balances SET balance = balance + 1",
    BreakKind.UNDERCOVERED: "UPDATE ledger.pending_credits SET delta = 1 WHERE account_id IN "
    "(SELECT id FROM ledger.accounts WHERE kind = 'custody')",
    BreakKind.HOLD_DRIFT: "UPDATE ledger.holds SET state = 'captured'",
}


@pytest.mark.parametrize("kind", BreakKind)
async def test_l12_a_planted_contradiction_is_found(books: Books, kind: BreakKind) -> None:
    await books.fund(7)
    await books.place(2, hold_id=books.ids.new_id())
    async with books.database.unit_of_work() as uow:
        assert await reconcile.check_books(uow) == []
    await books.sql(_PLANTS[kind])
    async with books.database.unit_of_work() as uow:
        assert kind in {found.kind for found in await reconcile.check_books(uow)}


async def test_l12_books_at_a_block_count_its_ancestors_only(books: Books) -> None:
    """Heights 1 (pruned header), 5 (canonical), 5' (orphaned), 7 (canonical), and no block."""
    for height, block_hash, is_canonical in [(4, "d", True), (5, "e", True), (5, "x", False),
                                             (7, "g", True)]:  # fmt: skip
        await books.sql(
            "INSERT INTO chain.blocks VALUES "
            f"('btc', '{block_hash}', {height}, 'parent', 0, {is_canonical})"
        )
    for amount, height, block_hash in [(1, 1, "a"), (10, 5, "e"), (100, 5, "x"), (1000, 7, "g")]:
        effect = ChainEffect(network="btc", block_hash=block_hash, height=height)
        await books.post(
            f"in:{amount}", debit(HOT, amount), credit(CLEARING, amount), effect=effect
        )
    await books.fund(20_000)
    gas = custody("btc", "gas", BTC)
    await books.post("other wallet", debit(gas, 3), credit(capital(BTC), 3))
    async with books.database.unit_of_work() as uow:
        at_five = await reconcile.book_at(uow, network="btc", height=5)
        at_seven = await reconcile.book_at(uow, network="btc", height=7)
        assert await reconcile.book_at(uow, network="ltc", height=7) == []
    assert at_five[1] == WalletBook(wallet="btc/hot", asset=BTC, balance_minor=20_011)
    assert [book.balance_minor for book in at_seven] == [3, 21_011]


async def test_l17_a_balance_as_of_a_moment_stays_what_it_was(books: Books) -> None:
    await books.fund(7)
    later = AT.replace(year=2027)
    await books.post("later", debit(HOT, 5), credit(CLEARING, 5), at=later)
    async with books.database.unit_of_work() as uow:
        before = await balances.trial_balance(uow, at=AT)
        now = await balances.trial_balance(uow)
    assert [row.balance_minor for row in before.accounts] == [7, 7]
    assert [row.balance_minor for row in now.accounts] == [12, 12]
    assert (now.is_balanced, now.totals[0].debit_minor) == (True, 12)


async def test_balances_are_filtered_by_kind_brand_player_and_asset(books: Books) -> None:
    await books.fund(7)
    await books.place(2, hold_id=books.ids.new_id())
    async with books.database.unit_of_work() as uow:
        assert len(await balances.balances(uow, kind=AccountKind.CUSTODY)) == 1
        assert len(await balances.balances(uow, brand="acme")) == 2
        assert len(await balances.balances(uow, brand="acme", player_id="p")) == 1
        assert await balances.balances(uow, asset="ltc:LTC") == []
        assert await balances.balance(uow, clearing("nobody", BTC)) == 0


async def test_fee_capital_falls_by_what_was_spent(books: Books) -> None:
    await books.fund(50, account=capital(BTC))
    await books.post("fee", debit(network_fee(BTC), 20, brand_tag="acme"), credit(HOT, 20))
    async with books.database.unit_of_work() as uow:
        assert await balances.fee_capital(uow, BTC) == 30


async def test_l15_only_a_known_posting_is_reversed(books: Books) -> None:
    async with books.database.unit_of_work() as uow:
        with pytest.raises(KeyError):
            await journal.reverse(
                uow, "none", new_reference="n", posting_id=books.ids.new_id(), at=AT, reason="x"
            )


async def test_one_posting_may_touch_an_account_twice(books: Books) -> None:
    """An output and its fee leave the same wallet: one net movement, every line kept."""
    await books.fund(10)
    await books.fund(3, account=capital(BTC))
    async with books.database.unit_of_work() as uow:
        posted = await journal.post_many(
            uow,
            [
                (
                    books.ids.new_id(),
                    Posting(
                        reference="out",
                        kind="t",
                        entries=(
                            debit(CLEARING, 10),
                            credit(HOT, 10),
                            debit(network_fee(BTC), 2),
                            credit(HOT, 2),
                        ),
                    ),
                )
            ],
            at=AT,
        )
        assert posted[0].is_new
        assert await reconcile.check_books(uow) == []
    assert await books.balance(HOT) == 1
