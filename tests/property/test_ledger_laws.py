"""Laws of the ledger: text and minor units, postings, shares, and holds against a simple model."""

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.database import Database, async_url
from gateway.sandbox.postgres import EmbeddedPostgres
from ledger import balances, holds, journal
from ledger.accounts import Stage, clearing, custody, player, suspense
from ledger.errors import AmountError, StaleState, UnbalancedPosting
from ledger.journal import Entry, Posting, credit, debit
from ledger.money import format_amount, parse_amount, parse_balance, split_by_largest_remainder
from tests.support.auditor import audit
from tests.support.clock import SequentialIds
from tests.support.databases import clone, drop
from tests.support.hosting import LoopThread

AT = datetime(2026, 1, 1, tzinfo=UTC)
BTC = "btc:BTC"
HOT, CLEARING = custody("btc", "hot", BTC), clearing("acme", BTC)
MINORS = st.integers(min_value=1, max_value=2**256 - 1)
DECIMALS = st.integers(min_value=0, max_value=18)


@given(minor=MINORS, decimals=DECIMALS)
def test_reading_what_was_written_gives_the_amount_back(minor: int, decimals: int) -> None:
    text = format_amount(minor, decimals=decimals)
    assert parse_amount(text, decimals=decimals) == minor
    assert parse_balance(text, decimals=decimals) == minor


@given(text=st.text(max_size=30), decimals=DECIMALS)
def test_a11_a_text_is_a_plain_ascii_decimal_or_refused(text: str, decimals: int) -> None:
    try:
        minor = parse_amount(text, decimals=decimals)
    except AmountError:
        return
    assert re.fullmatch(r"(0|[1-9][0-9]*)(\.[0-9]+)?", text, re.ASCII)
    shortest = text.rstrip("0").rstrip(".") if "." in text else text
    assert format_amount(minor, decimals=decimals) == shortest


@given(
    total=st.integers(min_value=0, max_value=2**256 - 1),
    weights=st.lists(st.integers(min_value=0, max_value=2**64), min_size=1).filter(any),
)
def test_l10_l11_shares_sum_exactly_and_are_within_one_unit(total: int, weights: list[int]) -> None:
    shares = split_by_largest_remainder(total, weights)
    assert sum(shares) == total
    whole = sum(weights)
    for share, weight in zip(shares, weights, strict=True):
        assert 0 <= share * whole - total * weight + whole < 2 * whole


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(min_value=-1, max_value=3), st.sampled_from("xy")),
        max_size=6,
    )
)
def test_l01_a_posting_is_balanced_per_asset_or_cannot_be_made(
    lines: list[tuple[bool, int, str]],
) -> None:
    skew: Counter[str] = Counter()
    entries: list[Entry] = []
    for is_debit, amount, asset in lines:
        skew[asset] += amount if is_debit else -amount
        make = debit if is_debit else credit
        entries.append(make(suspense(asset), amount))
    is_good = bool(lines) and all(a > 0 for _, a, _ in lines) and not any(skew.values())
    if is_good:
        assert Posting(reference="r", kind="test", entries=tuple(entries))
        return
    with pytest.raises(UnbalancedPosting):
        Posting(reference="r", kind="test", entries=tuple(entries))


STEPS = st.tuples(
    st.sampled_from(["place", "capture", "release", "return", "settle", "reopen", "fund", "fold"]),
    st.integers(min_value=0, max_value=3),  # which hold
    st.integers(min_value=1, max_value=60),  # how much, for place and fund
)
NEXT = {
    ("open", "capture"): "captured",
    ("open", "release"): "released",
    ("captured", "return"): "returned",
    ("captured", "settle"): "settled",
    ("settled", "reopen"): "captured",
}


@dataclass
class Model:
    """What four people with a notebook would say."""

    free: int = 0
    custody: int = 0
    amounts: dict[int, int] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)

    def place(self, number: int, amount: int) -> bool:
        if amount > self.free:
            return False
        self.free -= amount
        self.amounts[number], self.states[number] = amount, "open"
        return True

    def move(self, number: int, step: str) -> bool:
        reached = NEXT.get((self.states.get(number, ""), step))
        if reached is None:
            return False
        self.states[number] = reached
        if reached in ("released", "returned"):
            self.free += self.amounts[number]
        if reached == "settled":
            self.custody -= self.amounts[number]
        if step == "reopen":
            self.custody += self.amounts[number]
        return True

    def total(self, state: str) -> int:
        return sum(self.amounts[n] for n, at in self.states.items() if at == state)


@dataclass
class Books:
    """The same steps on the real database."""

    database: Database
    ids: SequentialIds
    numbers: "count[int]" = field(default_factory=count)
    hold_ids: dict[int, UUID] = field(default_factory=dict)

    def reference(self) -> str:
        return f"step:{next(self.numbers)}"

    async def fund(self, amount: int) -> None:
        await self.post(debit(HOT, amount), credit(CLEARING, amount))

    async def post(self, *entries: Entry) -> None:
        posting = Posting(reference=self.reference(), kind="test", entries=entries)
        async with self.database.unit_of_work() as uow:
            await journal.post(uow, posting, posting_id=self.ids.new_id(), at=AT)

    async def place(self, number: int, amount: int) -> bool:
        self.hold_ids[number] = self.ids.new_id()
        async with self.database.unit_of_work() as uow:
            return await holds.place(
                uow,
                hold_id=self.hold_ids[number],
                brand="acme",
                player_id="p",
                asset=BTC,
                amount=amount,
                reference=self.reference(),
                at=AT,
            )

    async def move(self, number: int, step: str) -> bool:
        hold_id = self.hold_ids.get(number, UUID(int=number))
        try:
            async with self.database.unit_of_work() as uow:
                if step == "settle":
                    await holds.settle(uow, hold_id=hold_id, at=AT)
                elif step == "reopen":
                    await holds.reopen(uow, hold_id=hold_id)
                else:
                    move = {
                        "capture": holds.capture,
                        "release": holds.release,
                        "return": holds.return_in_flight,
                    }[step]
                    await move(uow, hold_id=hold_id, reference=self.reference(), at=AT)
        except StaleState:
            return False
        return True

    async def settled(self, amount: int, *, is_reopened: bool) -> None:
        """The posting that belongs to settle and reopen, which the caller writes."""
        in_flight = player("acme", "p", Stage.IN_FLIGHT, BTC)
        if is_reopened:
            await self.post(debit(HOT, amount), credit(in_flight, amount))
        else:
            await self.post(debit(in_flight, amount), credit(HOT, amount))


async def _play(books: Books, steps: list[tuple[str, int, int]]) -> None:
    model = Model()
    for step, number, amount in steps:
        if step == "fund":
            model.free += amount
            model.custody += amount
            await books.fund(amount)
        elif step == "fold":
            async with books.database.unit_of_work() as uow:
                await uow.execute("SELECT ledger.fold(100)")
        elif step == "place":
            if model.states.get(number) in ("open", "captured", "settled"):
                continue
            assert await books.place(number, amount) is model.place(number, amount)
        else:
            is_legal = model.move(number, step)
            assert await books.move(number, step) is is_legal
            if is_legal and step in ("settle", "reopen"):
                await books.settled(model.amounts[number], is_reopened=step == "reopen")
    async with books.database.unit_of_work() as uow:
        found = [
            await balances.balance(uow, account)
            for account in (
                HOT,
                CLEARING,
                player("acme", "p", Stage.RESERVED, BTC),
                player("acme", "p", Stage.IN_FLIGHT, BTC),
            )
        ]
    assert found == [model.custody, model.free, model.total("open"), model.total("captured")]
    assert await audit(books.database.engine, at_rest=False) == []


@pytest.mark.postgres
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEPS, min_size=5, max_size=25))
def test_l07_any_sequence_of_steps_keeps_the_books_equal_to_the_model(
    postgres: EmbeddedPostgres, loop_thread: LoopThread, steps: list[tuple[str, int, int]]
) -> None:
    """Funded first, so that most sequences get somewhere; each example has its own database."""

    async def example() -> None:
        fresh = await clone(postgres)
        database = Database(async_url(fresh.owner_url))
        try:
            await _play(Books(database, SequentialIds()), [("fund", 0, 60), *steps])
        finally:
            await database.close()
            await drop(fresh)

    loop_thread.run(example())
