"""A hold resolves once, whatever is asked of it and in whatever order (L07)."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.database import Database, Uow, async_url
from ledger import balances, holds, journal, reconcile
from ledger.accounts import Stage, clearing, custody, player
from ledger.errors import StaleState
from ledger.journal import Posting, credit, debit
from tests.support.clock import SequentialIds

pytestmark = pytest.mark.postgres

AT = datetime(2026, 1, 1, tzinfo=UTC)
BTC = "btc:BTC"
AMOUNT = 10
# (state, step) -> state; the model that the ledger is compared with.
MODEL = {
    ("none", "place"): "open",
    ("open", "capture"): "captured",
    ("open", "release"): "released",
    ("released", "place"): "open",
    ("captured", "return"): "returned",
    ("returned", "place"): "open",
}
STEPS = ("place", "capture", "release", "return")


def _step(name: str, hold_id: UUID, number: int) -> Callable[[Uow], Awaitable[bool | None]]:
    reference = f"{hold_id}:{number}"
    match name:
        case "place":
            return lambda uow: holds.place(
                uow, hold_id=hold_id, brand="acme", player_id="p", asset=BTC, amount=AMOUNT,
                reference=reference, at=AT,
            )  # fmt: skip
        case "capture":
            return lambda uow: holds.capture(uow, hold_id=hold_id, reference=reference, at=AT)
        case "release":
            return lambda uow: holds.release(uow, hold_id=hold_id, reference=reference, at=AT)
        case _:
            return lambda uow: holds.return_in_flight(
                uow, hold_id=hold_id, reference=reference, at=AT
            )


async def _play(url: str, ids: SequentialIds, steps: list[str]) -> None:
    database = Database(async_url(url))
    hold_id, state = ids.new_id(), "none"
    try:
        before = await _clearing_after_funding(database, ids)
        for number, name in enumerate(steps):
            expected = MODEL.get((state, name))
            try:
                async with database.unit_of_work() as uow:
                    await _step(name, hold_id, number)(uow)
                assert expected is not None, (state, name)
                state = expected
            except StaleState:
                assert expected is None, (state, name)
        async with database.unit_of_work() as uow:
            assert await reconcile.check_books(uow) == []
            is_out = state in ("open", "captured")
            assert await balances.balance(uow, clearing("acme", BTC)) == before - AMOUNT * is_out
            if state == "captured":
                in_flight = player("acme", "p", Stage.IN_FLIGHT, BTC)
                assert await balances.balance(uow, in_flight) >= AMOUNT
    finally:
        await database.close()


async def _clearing_after_funding(database: Database, ids: SequentialIds) -> int:
    """Enough for the hold and for a wrong second placing of it."""
    lines = (
        debit(custody("btc", "hot", BTC), 2 * AMOUNT),
        credit(clearing("acme", BTC), 2 * AMOUNT),
    )
    posting = Posting(reference=f"fund:{ids.new_id()}", kind="test", entries=lines)
    async with database.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=ids.new_id(), at=AT)
        return await balances.balance(uow, clearing("acme", BTC))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.sampled_from(STEPS), max_size=9))
def test_l07_a_hold_resolves_once_in_any_order_of_steps(
    database_url: str, ids: SequentialIds, steps: list[str]
) -> None:
    """Each example has a hold of its own in the same books."""
    asyncio.run(_play(database_url, ids, steps))
