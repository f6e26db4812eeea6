"""What the ledger tests share: accounts, money to begin with, one reservation."""

from datetime import UTC, datetime
from uuid import UUID

from config.database import Database
from ledger import holds, journal
from ledger.accounts import Account, clearing, custody
from ledger.journal import Posted, Posting, credit, debit
from tests.support.clock import SequentialIds

AT = datetime(2026, 1, 1, tzinfo=UTC)
BTC = "btc:BTC"
HOT = custody("btc", "hot", BTC)
CLEARING = clearing("acme", BTC)


async def fund(
    database: Database,
    ids: SequentialIds,
    amount: int,
    *,
    into: Account = CLEARING,
    reference: str = "fund",
) -> Posted:
    """Dr custody / Cr `into`, in a unit of work of its own."""
    posting = Posting(
        reference=reference, kind="test", entries=(debit(HOT, amount), credit(into, amount))
    )
    async with database.unit_of_work() as uow:
        return await journal.post(uow, posting, posting_id=ids.new_id(), at=AT)


async def place(
    database: Database, hold_id: UUID, amount: int, *, player_id: str = "p", brand: str = "*"
) -> bool:
    """Reserve from acme's clearing, retried whole on a conflict."""
    return await database.run(
        lambda uow: holds.place(
            uow,
            hold_id=hold_id,
            brand="acme",
            player_id=player_id,
            asset=BTC,
            amount=amount,
            reference=f"w:{hold_id}",
            at=AT,
        ),
        brand=brand,
    )
