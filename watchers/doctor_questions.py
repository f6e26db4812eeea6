"""What the gateway's doctor asks of the watchers: questions about a txid, and deposits as rows.

Public surface of `watchers`: reads, and the one row that a question is. It calls no node.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from config.database import Uow
from watchers import doctor_store as store
from watchers.deposit_postings import Booking, reference
from watchers.deposits import DepositRow, from_row
from watchers.exposure import SUBSTATUS as EXPOSURE_CAP

__all__ = [
    "EXPOSURE_CAP",
    "answers",
    "ask",
    "of_player",
    "of_tx",
    "posting_references",
]


async def ask(
    uow: Uow,
    *,
    probe_id: UUID,
    network: str,
    brand: str,
    txid: str,
    fresh_since: datetime,
    at: datetime,
) -> UUID:
    """Ask the watcher of a network, unless the same was asked since `fresh_since` or is open."""
    recent = await store.recent_probe(
        uow, network=network, brand=brand, txid=txid, since=fresh_since
    )
    if recent is not None:
        return recent
    return await store.ask(uow, probe_id=probe_id, network=network, brand=brand, txid=txid, at=at)


async def answers(uow: Uow, ids: Sequence[UUID]) -> Mapping[UUID, Mapping[str, Any]]:
    """Questions by id: `state` is `asked`, `answered` or `failed`; `answer` as it was given."""
    return {row["id"]: dict(row) for row in await store.probes(uow, ids)}


async def of_tx(uow: Uow, *, brand: str | None, txid: str, limit: int) -> list[DepositRow]:
    """The visible deposits of a tx, newest first."""
    rows = await store.deposits_of_tx(uow, brand=brand, txid=txid, limit=limit)
    return [from_row(row) for row in rows]


async def of_player(
    uow: Uow, *, brand: str, player_id: str, address_ids: Sequence[UUID] | None, limit: int
) -> list[DepositRow]:
    """A player's deposits, newest first; of these addresses where they are given."""
    rows = await store.deposits_of_player(
        uow, brand=brand, player_id=player_id, address_ids=address_ids, limit=limit
    )
    return [from_row(row) for row in rows]


def posting_references(deposit: DepositRow) -> list[str]:
    """Every reference that a posting of this cycle of the deposit can have."""
    return [reference(deposit, step) for step in Booking]
