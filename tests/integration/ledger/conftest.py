"""A brand's books with something in them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import pytest

from config.database import Database, Uow, async_url
from ledger import balances, holds, journal
from ledger.accounts import Account, clearing, custody
from ledger.journal import ChainEffect, Entry, Posting, credit, debit
from tests.support.clock import SequentialIds
from tests.support.databases import TestDatabase

AT = datetime(2026, 1, 1, tzinfo=UTC)
BTC = "btc:BTC"
HOT = custody("btc", "hot", BTC)
CLEARING = clearing("acme", BTC)


@dataclass(frozen=True, slots=True)
class Books:
    """Short words for what these tests do all the time, each in a unit of work of its own."""

    database: Database
    ids: SequentialIds

    async def post(
        self,
        reference: str,
        *entries: Entry,
        effect: ChainEffect | None = None,
        at: datetime = AT,
    ) -> journal.Posted:
        """One posting."""
        posting = Posting(reference=reference, kind="test", entries=entries, effect=effect)
        async with self.database.unit_of_work() as uow:
            return await journal.post(uow, posting, posting_id=self.ids.new_id(), at=at)

    async def fund(self, amount: int, *, account: Account = CLEARING) -> None:
        """Dr custody / Cr an account."""
        await self.post(f"fund:{self.ids.new_id()}", debit(HOT, amount), credit(account, amount))

    async def place(
        self, amount: int, *, hold_id: UUID, reference: str = "", brand: str = "acme"
    ) -> bool:
        """One reservation."""
        async with self.database.unit_of_work() as uow:
            return await self.place_in(
                uow, amount, hold_id=hold_id, reference=reference, brand=brand
            )

    async def place_in(
        self, uow: Uow, amount: int, *, hold_id: UUID, reference: str = "", brand: str = "acme"
    ) -> bool:
        """One reservation in the caller's unit of work."""
        return await holds.place(
            uow,
            hold_id=hold_id,
            brand=brand,
            player_id="p",
            asset=BTC,
            amount=amount,
            reference=reference or f"w:{hold_id}",
            at=AT,
        )

    async def balance(self, account: Account) -> int:
        """What stands on an account."""
        async with self.database.unit_of_work() as uow:
            return await balances.balance(uow, account)

    async def sql(self, statement: str) -> None:
        """As the owner, without triggers: what nobody but a broken disk could do."""
        async with self.database.unit_of_work() as uow:
            await uow.execute("SET LOCAL session_replication_role = replica")
            await uow.execute(statement)


@pytest.fixture
def books(database: Database, ids: SequentialIds) -> Books:
    """Empty books under the owner."""
    return Books(database, ids)


@pytest.fixture
async def api(test_database: TestDatabase) -> AsyncIterator[Database]:
    """The same database under the API's role."""
    opened = Database(async_url(test_database.role_url("gateway_api")), pool_size=10)
    yield opened
    await opened.close()
