"""What the books owe to others on one network, account by account, for a proof of reserves.

Reads only; call it in the snapshot that reads the other side. What is the operator's own (capital,
income) is no liability; suspense is one, since whose it is was not explained yet (L18).
"""

from dataclasses import dataclass

from config.database import Uow
from ledger import liabilities_store as store


@dataclass(frozen=True, slots=True, kw_only=True)
class Liability:
    """One account: `kind` is the account's, brand and player are empty for the house's own.
    Minor units. Of `receivable` it is what a brand owes us, and no liability."""

    kind: str
    asset: str
    brand: str
    player_id: str
    amount_minor: int


async def owed(uow: Uow, *, network: str) -> list[Liability]:
    """Every account of a liability, and every receivable, that is not zero."""
    return [
        Liability(
            kind=row["kind"],
            asset=row["asset"],
            brand=row["brand"],
            player_id=row["player_id"],
            amount_minor=int(row["amount"]),
        )
        for row in await store.owed(uow, network=network)
    ]
