"""Rows that are over while the chain says otherwise: what SQL finds is what the step acts on."""

from itertools import product
from uuid import UUID

import pytest

from gateway.payouts import ends, rebalances_store
from gateway.payouts.rebalances import Direction
from tests.support.payouts import Payouts
from tests.support.rebalancing import ask, with_cold
from watchers import outgoing
from watchers.outgoing import OutgoingDraft, OutgoingState

pytestmark = pytest.mark.postgres

ENDS = [
    ("done", None),
    ("failed", ends.REVERTED),
    ("failed", ends.DIFFERENT),
    ("failed", ends.NOT_OURS),
    ("failed", "coins_or_nonce_taken"),
]
STATES = [
    OutgoingState.SIGNED,
    OutgoingState.BROADCAST,
    OutgoingState.SEEN,
    OutgoingState.MINED,
    OutgoingState.FINAL,
    OutgoingState.REPLACED,
    OutgoingState.DROPPED,
    OutgoingState.REVERTED,
]
DECIDED = {OutgoingState.FINAL, OutgoingState.REVERTED}
OTHERS = [None, OutgoingState.REPLACED, OutgoingState.SEEN, OutgoingState.FINAL]


async def signed(house: Payouts, family_id: UUID, *, number: int, state: OutgoingState) -> UUID:
    """An attempt of a family that stands there."""
    attempt_id = family_id if number == 1 else house.ids.new_id()
    async with house.database.unit_of_work() as uow:
        await outgoing.record(
            uow,
            OutgoingDraft(
                id=attempt_id,
                network="btc",
                purpose="hot_to_cold",
                family_id=family_id,
                family_number=number,
                unsigned=b"unsigned",
                payments=(),
                fee_cap_minor=1,
            ),
            at=house.clock.now(),
        )
        await uow.execute(
            "UPDATE chain.outgoing SET state = :state, raw = 'raw', txid = :txid WHERE id = :id",
            {"id": attempt_id, "state": state.value, "txid": attempt_id.hex},
        )
    return attempt_id


async def test_a_row_is_looked_at_again_exactly_where_the_chain_says_otherwise(
    btc: Payouts,
) -> None:
    await with_cold(btc)
    wanted, every = set[UUID](), 0
    for (state, code), mine, other in product(ENDS, STATES, OTHERS):
        if mine in DECIDED and other in DECIDED:
            continue  # attempts of a family exclude each other
        row = await ask(btc, "0.1")
        attempt_id = await signed(btc, btc.ids.new_id(), number=1, state=mine)
        if other is not None:
            await signed(btc, attempt_id, number=2, state=other)
        async with btc.database.unit_of_work() as uow:
            await uow.execute(
                "UPDATE gateway.rebalances SET state = :state, code = :code, version = 2, "
                "attempt_id = :attempt_id, txid = 'tx' WHERE id = :id",
                {"id": row.id, "state": state, "code": code, "attempt_id": attempt_id},
            )
            family = await outgoing.family(uow, attempt_id)
        if not ends.says_so(family, is_done=state == "done", code=code, attempt_id=attempt_id):
            wanted.add(row.id)
        every += 1
    async with btc.database.unit_of_work() as uow:
        found = await rebalances_store.disagreeing(
            uow, network="btc", direction=Direction.HOT_TO_COLD, limit=1_000
        )
    assert set(found) == wanted
    assert 0 < len(wanted) < every
