"""Merges and splits of own coins that people ask for, and a row for each that policy made (T8).

Owns the lifecycle of the request. It ends where the tx begins: how that fares stands in
`chain.outgoing`, which every reader joins, so that nothing is told twice. `upkeep` decides what is
moved and `upkeep_asked` carries out what was asked for.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from gateway.payouts import consolidations_store as store
from gateway.payouts.coin_shapes import Shape
from gateway.payouts.consolidations_store import ConsolidationRow
from gateway.payouts.errors import DecisionRefused
from ledger import lifecycle
from ledger.lifecycle import Lifecycle
from signer.protocol import Purpose

VALID: Final = timedelta(minutes=10)
"""Payouts that looks later does nothing: the person has seen the rates of another hour."""


class State(StrEnum):
    """Where a request stands."""

    ASKED = "asked"
    """A person wants it; payouts looks at it in its next pass."""
    QUOTED = "quoted"
    """A dry run: what would be moved, and what it would cost. Nothing was."""
    PLANNED = "planned"
    """Bytes and coins are stored: its tx goes the road of every own move."""
    REFUSED = "refused"
    """Nothing was moved; `code` says why."""


class Trigger(StrEnum):
    """What moves a request."""

    QUOTE = "quote"
    """Payouts tells what a dry run would move."""
    PLAN = "plan"
    """Bytes and coins are stored."""
    REFUSE = "refuse"
    """There is nothing to move, or a bound forbids it."""


CONSOLIDATIONS: Final = Lifecycle(
    kind="consolidation",
    table="gateway.consolidations",
    transitions={
        (State.ASKED, Trigger.QUOTE): State.QUOTED,
        (State.ASKED, Trigger.PLAN): State.PLANNED,
        (State.ASKED, Trigger.REFUSE): State.REFUSED,
    },
)


async def ask(
    uow: Uow,
    *,
    network: str,
    asset: str,
    purpose: Purpose,
    fee_max_minor: int | None,
    person: str,
    ids: Ids,
    at: datetime,
) -> ConsolidationRow:
    """A person's request; a dry run without `fee_max_minor`. Raises DecisionRefused."""
    row = ConsolidationRow(
        id=ids.new_id(),
        network=network,
        asset=asset,
        purpose=purpose.value,
        is_dry=fee_max_minor is None,
        state=State.ASKED.value,
        code=None,
        version=1,
        requested_by=person,
        fee_max_minor=fee_max_minor,
        coins=None,
        parts=None,
        amount_minor=None,
        fee_minor=None,
        rate_per_kvb=None,
        saves_vb=None,
        attempt_id=None,
        created_at=at,
        state_at=at,
    )
    if not await store.insert(uow, row):
        raise DecisionRefused(
            "already_asked", "Another request of this network waits for payouts; ask again."
        )
    return row


async def made_by_policy(
    uow: Uow, *, network: str, asset: str, shape: Shape, attempt_id: UUID, ids: Ids, at: datetime
) -> None:
    """The row of a move that nobody asked for."""
    await store.insert(
        uow,
        ConsolidationRow(
            id=ids.new_id(),
            network=network,
            asset=asset,
            purpose=shape.purpose.value,
            is_dry=False,
            state=State.PLANNED.value,
            code=None,
            version=1,
            requested_by=None,
            fee_max_minor=None,
            coins=len(shape.coins),
            parts=len(shape.parts_minor),
            amount_minor=shape.amount_minor,
            fee_minor=shape.fee_minor,
            rate_per_kvb=shape.rate_sat_per_kvb,
            saves_vb=shape.saves_vb,
            attempt_id=attempt_id,
            created_at=at,
            state_at=at,
        ),
    )


async def move(
    uow: Uow,
    row: ConsolidationRow,
    trigger: Trigger,
    *,
    at: datetime,
    shape: Shape | None = None,
    code: str | None = None,
    attempt_id: UUID | None = None,
) -> None:
    """One transition with what was found. Raises StaleState, IllegalTransition."""
    found: dict[str, Any] = {"code": code, "attempt_id": attempt_id}
    if shape is not None:
        found |= {
            "coins": len(shape.coins),
            "parts": len(shape.parts_minor),
            "amount": shape.amount_minor,
            "fee": shape.fee_minor,
            "rate_per_kvb": shape.rate_sat_per_kvb,
            "saves_vb": shape.saves_vb,
        }
    await lifecycle.advance(
        uow,
        CONSOLIDATIONS,
        object_id=row.id,
        current=State(row.state),
        event=trigger,
        set=found,
        at=at,
    )
