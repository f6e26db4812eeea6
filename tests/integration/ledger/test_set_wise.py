"""Many postings, state changes and events in one call: each as if it had come alone."""

import asyncio
from enum import StrEnum
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import ALL_BRANDS, Database, Uow, sqlstate
from ledger import balances, journal, lifecycle, outbox, reconcile, set_store, store
from ledger.accounts import Account, Stage, clearing, custody, player, receivable
from ledger.errors import (
    ForeignAccount,
    IllegalTransition,
    InsufficientFunds,
    ReferenceConflict,
    StaleState,
    UnbalancedPosting,
)
from ledger.journal import ChainEffect, Posted, Posting, credit, debit
from ledger.lifecycle import Lifecycle, Move
from tests.integration.ledger.conftest import AT, BTC, CLEARING, HOT, Books

pytestmark = pytest.mark.postgres

ANNA = player("acme", "anna", Stage.PROVISIONAL, BTC)
BERT = player("acme", "bert", Stage.PROVISIONAL, BTC)
EFFECT = ChainEffect(network="btc", block_hash="aa", height=5)


def paid(reference: str, account: Account = ANNA, amount: int = 7) -> Posting:
    """Dr custody / Cr an account."""
    return Posting(
        reference=reference,
        kind="test",
        entries=(debit(HOT, amount), credit(account, amount)),
        effect=EFFECT,
    )


def finalised(reference: str, amount: int = 7) -> Posting:
    """Dr anna's provisional / Cr clearing."""
    return Posting(
        reference=reference, kind="test", entries=(debit(ANNA, amount), credit(CLEARING, amount))
    )


async def post(books: Books, *postings: Posting, brand: str = ALL_BRANDS) -> list[Posted]:
    """All of them in one call, in a unit of work of its own."""

    async def work(uow: Uow) -> list[Posted]:
        return await journal.post_many(
            uow, [(books.ids.new_id(), posting) for posting in postings], at=AT
        )

    return await books.database.run(work, brand=brand)


async def check(books: Books) -> None:
    """The books hold in themselves."""
    async with books.database.unit_of_work() as uow:
        assert await reconcile.check_books(uow) == []


async def test_many_postings_stand_as_if_each_had_come_alone(books: Books) -> None:
    posted = await post(books, paid("a"), paid("b", BERT, 5), paid("c", ANNA, 1))
    assert [item.is_new for item in posted] == [True, True, True]
    assert [await books.balance(account) for account in (HOT, ANNA, BERT)] == [13, 8, 5]
    async with books.database.unit_of_work() as uow:
        rows = (await store.read_postings(uow, ["b"]))["b"]
    assert [(row["code"], row["side"], int(row["amount"])) for row in rows] == [
        (HOT.code, "debit", 5),
        (BERT.code, "credit", 5),
    ]
    assert (rows[0]["block_hash"], rows[0]["block_height"]) == ("aa", 5)
    await check(books)


async def test_no_postings_are_no_statement(books: Books) -> None:
    assert await post(books) == []


async def test_l08_a_replay_answers_the_first_postings_and_adds_only_what_is_new(
    books: Books,
) -> None:
    first = await post(books, paid("a"), paid("b", BERT))
    again = await post(books, paid("b", BERT), paid("c"), paid("a"))
    assert [item.is_new for item in again] == [False, True, False]
    assert (again[2].posting_id, again[0].posting_id) == (
        first[0].posting_id,
        first[1].posting_id,
    )
    assert await books.balance(HOT) == 21
    await check(books)


async def test_l08_single_and_set_wise_postings_know_each_other(books: Books) -> None:
    """The same reference and content is the same posting, whichever call booked it first."""
    single = paid("a")
    async with books.database.unit_of_work() as uow:
        first = await journal.post(uow, single, posting_id=books.ids.new_id(), at=AT)
    (again,) = await post(books, single)
    assert (again.posting_id, again.is_new) == (first.posting_id, False)
    (other,) = await post(books, finalised("b"))
    async with books.database.unit_of_work() as uow:
        second = await journal.post(uow, finalised("b"), posting_id=books.ids.new_id(), at=AT)
    assert (second.posting_id, second.is_new) == (other.posting_id, False)


async def test_l08_one_reference_twice_in_a_call_is_booked_once(books: Books) -> None:
    posted = await post(books, paid("a"), paid("a"))
    assert posted[0].posting_id == posted[1].posting_id
    assert [item.is_new for item in posted] == [True, False]
    assert await books.balance(HOT) == 7
    with pytest.raises(ReferenceConflict):
        await post(books, paid("b"), paid("b", ANNA, 8))
    await check(books)


async def test_l08_other_content_under_a_reference_refuses_the_whole_call(books: Books) -> None:
    await post(books, paid("a"))
    with pytest.raises(ReferenceConflict):
        await post(books, paid("b"), paid("a", ANNA, 8))
    assert await books.balance(HOT) == 7


async def test_l02_a_checked_account_below_zero_refuses_the_whole_call(books: Books) -> None:
    await post(books, paid("a", ANNA, 10))
    with pytest.raises(InsufficientFunds, match=ANNA.code):
        await post(books, paid("b", BERT), finalised("c", 6), finalised("d", 5))
    assert [await books.balance(account) for account in (ANNA, BERT, CLEARING)] == [10, 0, 0]
    await post(books, finalised("c", 6), finalised("d", 4))
    assert [await books.balance(account) for account in (ANNA, CLEARING)] == [0, 10]
    await check(books)


async def test_what_the_call_adds_may_be_taken_in_the_same_call(books: Books) -> None:
    await post(books, finalised("b"), paid("a"))
    assert [await books.balance(account) for account in (ANNA, CLEARING)] == [0, 7]
    await check(books)


async def test_a_taken_account_is_folded_only_where_its_row_is_short(books: Books) -> None:
    await post(books, paid("a", ANNA, 10))
    await post(books, finalised("b", 4))  # folds 10
    await post(books, paid("c", ANNA, 3))  # pending
    await post(books, finalised("d", 6))
    async with books.database.unit_of_work() as uow:
        pending = await uow.execute(
            "SELECT p.delta FROM ledger.pending_credits p JOIN ledger.accounts a "
            "ON a.id = p.account_id WHERE a.code = :code",
            {"code": ANNA.code},
        )
        assert [int(value) for value in pending.scalars()] == [3]
    assert await books.balance(ANNA) == 3
    await check(books)


async def test_l01_an_unbalanced_posting_in_a_call_is_refused_by_the_database(
    books: Books,
) -> None:
    wrong = paid("b")
    object.__setattr__(wrong, "entries", (debit(HOT, 7), credit(ANNA, 6)))
    with pytest.raises(UnbalancedPosting):
        await post(books, paid("a"), wrong)
    empty = paid("c")
    object.__setattr__(empty, "entries", ())
    with pytest.raises(UnbalancedPosting):
        await post(books, paid("a"), empty)
    assert await books.balance(HOT) == 0


async def test_l16_lines_on_an_account_of_another_asset_are_refused(books: Books) -> None:
    await post(books, paid("a"))
    wrong = paid("b")
    stranger = custody("btc", "hot", BTC)
    object.__setattr__(stranger, "asset", "eth:ETH")
    other = player("acme", "anna", Stage.PROVISIONAL, "eth:ETH")
    object.__setattr__(wrong, "entries", (debit(stranger, 7), credit(other, 7)))
    with pytest.raises(UnbalancedPosting):
        await post(books, wrong)


async def test_a29_a_brand_posts_to_no_account_of_another(books: Books) -> None:
    foreign = clearing("zest", BTC)
    entries = (debit(foreign, 1), credit(player("zest", "z", Stage.RESERVED, BTC), 1))
    with pytest.raises(ForeignAccount):
        await post(books, Posting(reference="x", kind="t", entries=entries), brand="acme")


async def test_l05_the_same_references_from_many_sides_are_booked_once(books: Books) -> None:
    """Eight calls with the same twenty postings in different orders: no deadlock, one effect."""
    postings = [paid(f"p{number}", ANNA if number % 2 else BERT) for number in range(20)]
    results = await asyncio.gather(
        *(post(books, *(postings[turn:] + postings[:turn])) for turn in range(8))
    )
    assert sum(item.is_new for result in results for item in result) == 20
    assert await books.balance(HOT) == 140
    await check(books)


async def test_l05_one_account_is_never_taken_below_zero_from_many_sides(books: Books) -> None:
    await post(books, paid("fund", ANNA, 30))

    async def take(name: int) -> bool:
        try:
            await post(books, finalised(f"t{name}", 4), finalised(f"u{name}", 3))
        except InsufficientFunds:
            return False
        return True

    assert sum(await asyncio.gather(*(take(name) for name in range(8)))) == 4
    assert await books.balance(ANNA) == 2
    await check(books)


async def test_credits_to_clearing_repay_the_receivable_in_order(books: Books) -> None:
    owed = receivable("acme", BTC)
    async with books.database.unit_of_work() as uow:
        entry = Posting(reference="r", kind="t", entries=(debit(owed, 10), credit(HOT, 10)))
        await journal.post(uow, entry, posting_id=books.ids.new_id(), at=AT)
        wanted = [("acme", BTC, 6), ("zest", BTC, 5), ("acme", BTC, 7), ("acme", BTC, 1)]
        found = await journal.clearing_credits_many(uow, wanted)
    assert [[(e.account.kind.value, e.amount_minor) for e in entries] for entries in found] == [
        [("receivable", 6)],
        [("clearing", 5)],
        [("receivable", 4), ("clearing", 3)],
        [("clearing", 1)],
    ]


async def test_debits_of_clearing_take_what_is_free_in_order(books: Books) -> None:
    await books.fund(10)
    async with books.database.unit_of_work() as uow:
        wanted = [("acme", BTC, 6), ("acme", BTC, 7), ("zest", BTC, 1)]
        found = await journal.clearing_debits_many(uow, wanted)
    assert [[(e.account.kind.value, e.amount_minor) for e in entries] for entries in found] == [
        [("clearing", 6)],
        [("clearing", 4), ("receivable", 3)],
        [("receivable", 1)],
    ]
    async with books.database.unit_of_work() as uow:
        assert await journal.clearing_credits_many(uow, []) == []
        assert await journal.clearing_debits_many(uow, []) == []


class _State(StrEnum):
    """Of a lamp."""

    OFF = "off"
    """Dark."""
    ON = "on"
    """Bright."""
    BROKEN = "broken"
    """Dark for ever."""


class _Event(StrEnum):
    """What happens to a lamp."""

    PRESS = "press"
    """A finger."""
    DROP = "drop"
    """A floor."""


LAMP = Lifecycle(
    kind="lamp",
    table="gateway.set_lamps",
    transitions={(_State.OFF, _Event.PRESS): _State.ON, (_State.OFF, _Event.DROP): _State.BROKEN},
)


async def lamps(books: Books, count: int) -> list[UUID]:
    """A table of dark lamps, with the history trigger."""
    found = [books.ids.new_id() for _ in range(count)]
    async with books.database.unit_of_work() as uow:
        for statement in (
            "CREATE TABLE IF NOT EXISTS gateway.set_lamps (id uuid PRIMARY KEY, state text, "
            "version integer, state_at timestamptz, watts numeric(78, 0), note text)",
            "CREATE OR REPLACE TRIGGER history AFTER INSERT OR UPDATE OF state "
            "ON gateway.set_lamps FOR EACH ROW EXECUTE FUNCTION ledger.record_state('lamp')",
        ):
            await uow.execute(statement)
        await uow.execute(
            "INSERT INTO gateway.set_lamps SELECT id, 'off', 1, :at FROM "
            "unnest(CAST(:ids AS uuid[])) AS l (id)",
            {"ids": found, "at": AT},
        )
    return found


async def test_many_rows_move_each_with_its_own_values_and_history(books: Books) -> None:
    first, second, third = await lamps(books, 3)
    moves = [
        Move(object_id=first, current=_State.OFF, event=_Event.PRESS, set={"watts": 2**200}),
        Move(object_id=second, current=_State.OFF, event=_Event.DROP, set={"note": None}),
        Move(object_id=third, current=_State.OFF, event=_Event.PRESS, set={"watts": 5}),
    ]
    async with books.database.unit_of_work() as uow:
        rows = await lifecycle.advance_many(uow, LAMP, moves, at=AT)
        assert [(row["id"], row["state"], row["version"], row["watts"]) for row in rows] == [
            (first, "on", 2, 2**200),
            (second, "broken", 2, None),
            (third, "on", 2, 5),
        ]
        assert [row.state for row in await lifecycle.history(uow, "lamp", second)] == [
            "off",
            "broken",
        ]


async def test_many_rows_move_together_or_not_at_all(books: Books) -> None:
    first, second = await lamps(books, 2)

    def press(lamp: UUID, current: _State = _State.OFF) -> Move[_State, _Event]:
        return Move(object_id=lamp, current=current, event=_Event.PRESS, set={})

    async with books.database.unit_of_work() as uow:
        await lifecycle.advance_many(uow, LAMP, [press(second)], at=AT)
    with pytest.raises(StaleState):
        async with books.database.unit_of_work() as uow:
            await lifecycle.advance_many(uow, LAMP, [press(first), press(second)], at=AT)
    async with books.database.unit_of_work() as uow:
        assert [row.state for row in await lifecycle.history(uow, "lamp", first)] == ["off"]
        with pytest.raises(IllegalTransition):
            await lifecycle.advance_many(uow, LAMP, [press(first, _State.ON)], at=AT)
        with pytest.raises(ValueError, match="twice"):
            await lifecycle.advance_many(uow, LAMP, [press(first), press(first)], at=AT)


async def test_names_of_tables_and_columns_are_checked(books: Books) -> None:
    (lamp,) = await lamps(books, 1)
    async with books.database.unit_of_work() as uow:
        for table, changes in (("x; DROP", {}), ("gateway.set_lamps", {"note = 1": 1})):
            with pytest.raises(ValueError, match="not a column"):
                await set_store.advance_many(uow, table, [(lamp, "off", "on", changes)], at=AT)


async def test_events_keep_their_order(books: Books) -> None:
    lamp = books.ids.new_id()
    events = [
        outbox.Event(
            event_id=books.ids.new_id(),
            brand="acme",
            type=f"lamp.{number}",
            object_kind="lamp",
            object_id=lamp,
            object_version=number,
            previous_state=None if number == 1 else "off",
            snapshot={"id": lamp, "at": AT, "watts": str(2**100)},
        )
        for number in range(1, 40)
    ]
    async with books.database.unit_of_work() as uow:
        await outbox.append_many(uow, [], at=AT)
        await outbox.append_many(uow, events, at=AT)
        found = await uow.execute(
            "SELECT type, snapshot FROM ledger.events WHERE object_id = :id ORDER BY position",
            {"id": lamp},
        )
        rows = found.all()
    assert [row.type for row in rows] == [f"lamp.{number}" for number in range(1, 40)]
    assert rows[0].snapshot == {
        "id": str(lamp),
        "at": "2026-01-01T00:00:00Z",
        "watts": str(2**100),
    }


async def test_l03_no_role_may_call_the_inner_functions(api: Database) -> None:
    for call in (
        "ledger.take_many('{1}', '{1}')",
        "ledger.open_accounts('{}', '{}', '{}', '{}', '{}', '{}')",
    ):
        with pytest.raises(DBAPIError) as refused:
            async with api.unit_of_work() as uow:
                await uow.execute(f"SELECT {call}")
        assert sqlstate(refused.value) == "42501"


async def test_balances_of_a_set_are_those_of_singles(books: Books) -> None:
    await post(books, *(paid(f"m{number}", ANNA, number + 1) for number in range(50)))
    async with books.database.unit_of_work() as uow:
        assert await balances.balance(uow, ANNA) == 50 * 51 // 2
    await check(books)
