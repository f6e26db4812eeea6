"""A signer that signed what the database lost: nothing is given back, nothing new is signed."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import TooLate
from gateway.payouts import withdrawals
from gateway.payouts.errors import MaybeSigned
from gateway.payouts.withdrawals import Trigger
from signer.protocol import Refusal, SignedTx, SignRequest
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres


class LostHistory:
    """The real signer, which first signs the same orders in a history the database lost."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._has_signed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        if not self._has_signed:
            self._has_signed = True
            lost = await self._inner.sign(replace(request, attempt_id="lost-history"))
            assert isinstance(lost, SignedTx)
        answer: SignedTx | Refusal = await self._inner.sign(request)
        return answer


async def test_a_payment_the_signer_already_signed_is_kept_and_stops_the_network(
    btc: Payouts,
) -> None:
    await btc.fund(btc.native, "1")
    await btc.fund(btc.native, "3", into="acme")
    row = await btc.request("0.5")
    lane = await btc.cycle(btc.lane(signer=LostHistory(btc.signer)), times=2)

    found = await btc.row(row)
    assert (found.state, found.code) == ("on_hold", "signer_knows_more")
    assert found.sign_requested_at is not None
    assert found.attempt_id is not None
    assert "signer_knows_more" in await btc.alarms()
    with pytest.raises(TooLate):
        async with btc.database.unit_of_work() as uow:
            await withdrawals.cancel(uow, row.id, ids=btc.ids, at=btc.clock.now())
    async with btc.database.unit_of_work() as uow:
        kept = await uow.execute("SELECT count(*) FROM chain.coins WHERE reserved_by IS NOT NULL")
        assert kept.scalar_one() > 0

    later = await btc.request("0.1", player_id="later")
    await btc.cycle(lane, times=2)
    assert await btc.states(row, later) == ["on_hold", "queued"]


@pytest.mark.parametrize("trigger", [Trigger.APPROVE, Trigger.REISSUE, Trigger.RESUME_QUEUED])
async def test_a_row_that_may_be_signed_is_not_queued_again_without_evidence(
    btc: Payouts, trigger: Trigger
) -> None:
    """Also by a caller whose copy of the row is older than the gate's commit."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "3", into="acme")
    row = await btc.request("0.5")
    await btc.cycle(btc.lane(signer=LostHistory(btc.signer)))
    kept = await btc.row(row)

    for copy in (kept, replace(kept, sign_requested_at=None)):
        with pytest.raises(MaybeSigned):
            async with btc.database.unit_of_work() as uow:
                await withdrawals.move(uow, copy, trigger, ids=btc.ids, at=btc.clock.now())

    assert await btc.row(row) == kept
