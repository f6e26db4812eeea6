"""SQL of what a period did to the books."""

from collections.abc import Sequence
from datetime import datetime

from config.database import Uow
from ledger.store import Row

# Players' accounts of one brand, stage and asset are one line.
_ACCOUNT = (
    "CASE WHEN a.player_id IS NULL THEN a.code "
    "ELSE 'player:' || a.brand || ':*:' || a.kind || ':' || a.asset END"
)


async def movements(uow: Uow, *, since: datetime, until: datetime) -> Sequence[Row]:
    """Debits and credits by account and kind of posting."""
    result = await uow.execute(
        f"SELECT {_ACCOUNT} AS account, a.asset, a.normal_side AS side, p.kind, "
        "coalesce(sum(e.amount) FILTER (WHERE e.side = 'debit'), 0) AS debits, "
        "coalesce(sum(e.amount) FILTER (WHERE e.side = 'credit'), 0) AS credits, "
        "count(*) AS entries FROM ledger.entries e "
        "JOIN ledger.postings p ON p.id = e.posting_id AND p.booked_at = e.booked_at "
        "JOIN ledger.accounts a ON a.id = e.account_id "
        "WHERE e.booked_at >= :since AND e.booked_at < :until "
        "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 4",
        {"since": since, "until": until},
    )
    return result.mappings().all()


async def balances_before(uow: Uow, *, until: datetime) -> Sequence[Row]:
    """Balances of what was booked before a moment, on the normal side."""
    result = await uow.execute(
        f"SELECT {_ACCOUNT} AS account, a.asset, a.normal_side AS side, "
        "sum(CASE e.side WHEN a.normal_side THEN e.amount ELSE -e.amount END) AS balance "
        "FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id "
        "WHERE e.booked_at < :until GROUP BY 1, 2, 3",
        {"until": until},
    )
    return result.mappings().all()
