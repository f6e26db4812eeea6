"""Bounded looks at open payouts: every row gets its turn, whatever never leaves."""

from datetime import timedelta

import pytest

from gateway.leases import hold
from gateway.payouts import store
from gateway.payouts.batcher import Batcher
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.lane import PayoutLane
from gateway.payouts.liquidity import LiquidityStep
from gateway.payouts.rounds import AttemptRound, RowRound
from gateway.payouts.signing import UNANSWERED_MAX
from gateway.payouts.silence import UNANSWERED
from gateway.payouts.withdrawals import State
from signer.protocol import Refusal, SignedTx, SignRequest
from tests.support.payout_parts import VaultSigner
from tests.support.payouts import Payouts

pytestmark = pytest.mark.postgres


class Deaf(VaultSigner):
    """Alive, and silent about some requests."""

    def __init__(self, inner: VaultSigner, *silent: str) -> None:
        super().__init__(inner.kit)
        self.silent = set(silent)

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        if self.silent & {payment.request_id for payment in request.payments}:
            self.asked.append(request)
            raise SignerUnavailable("TimeoutError: ")
        return await super().sign(request)


async def ready(house: Payouts) -> None:
    await house.fund(house.native, "1")
    await house.fund(house.native, "3", into="acme")


async def test_a_round_of_pages_reaches_every_attempt(eth: Payouts) -> None:
    await ready(eth)
    rows = [await eth.request("0.1", player_id=f"p-{number}") for number in range(5)]
    lane = eth.lane()
    await eth.expire_lease()
    await hold(eth.role, lane.lease)
    await Batcher(lane).plan()
    every = {(await eth.row(row)).attempt_id for row in rows}
    turn = AttemptRound("eth", [State.PLANNED], size=2)

    async with eth.database.unit_of_work() as uow:
        pages = [await turn.page(uow) for _ in range(6)]

    assert {len(page) for page in pages} == {2}
    assert set(pages[0] + pages[1] + pages[2]) == every
    assert set(pages[3] + pages[4] + pages[5]) == every
    assert pages[0] == sorted(pages[0])


async def test_a_round_of_rows_goes_by_promise_and_starts_anew(btc: Payouts) -> None:
    await ready(btc)
    rows = []
    for number in range(5):
        rows.append(await btc.request("0.1", player_id=f"p-{number}"))
        btc.clock.advance(1)
    turn = RowRound("btc", State.QUEUED, size=2)

    async with btc.database.unit_of_work() as uow:
        pages = [await turn.page(uow) for _ in range(4)]
        assert not turn.is_whole
        whole = RowRound("btc", State.QUEUED, size=6)
        assert len(await whole.page(uow)) == 5
        assert whole.is_whole

    assert [[row.id for row in page] for page in pages] == [
        [rows[0].id, rows[1].id],
        [rows[2].id, rows[3].id],
        [rows[4].id],
        [rows[0].id, rows[1].id],
    ]


async def test_what_may_be_signed_takes_no_place_among_the_overdue(btc: Payouts) -> None:
    """Such rows never expire by themselves: they would fill the page for ever."""
    await ready(btc)
    kept = await btc.request("0.1", valid_for=timedelta(minutes=5))
    overdue = await btc.request("0.1", player_id="p-2", valid_for=timedelta(minutes=6))
    async with btc.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET sign_requested_at = accepted_at WHERE id = :id",
            {"id": kept.id},
        )
    btc.clock.advance(3_600)

    async with btc.database.unit_of_work() as uow:
        found = await store.overdue(
            uow, network="btc", states=[State.QUEUED], at=btc.clock.now(), limit=1
        )

    assert [row.id for row in found] == [overdue.id]


async def test_a_brand_that_stays_short_takes_no_turn_from_another(btc: Payouts) -> None:
    """Two older payouts of acme wait for clearing that never comes, in pages of one row."""
    await btc.fund(btc.native, "1")
    stuck = [await btc.request("0.1", player_id=f"p-{number}") for number in range(2)]
    btc.clock.advance(1)
    other = await btc.request("0.2", brand="bravo", player_id="v")
    assert await btc.states(other) == ["waiting_liquidity"]
    await btc.fund(btc.native, "1", into="bravo")
    lane = btc.lane()
    await btc.expire_lease()
    await hold(btc.role, lane.lease)
    step = LiquidityStep(lane, rows_max=1)

    for _ in range(3):
        await step.run()

    assert await btc.states(*stuck, other) == ["waiting_liquidity"] * 2 + ["queued"]


async def test_s21_an_attempt_that_a_living_signer_does_not_answer_stops_no_other(
    btc: Payouts,
) -> None:
    await ready(btc)
    stuck = await btc.request("0.1")
    signer = Deaf(btc.signer, stuck.request_id)
    lane = await btc.cycle(btc.lane(signer=signer))
    assert await btc.states(stuck) == ["planned"]
    other = await btc.request("0.2", player_id="other")
    loop = PayoutLane(lane)

    for _ in range(3):
        await loop.cycle()

    assert await btc.states(stuck, other) == ["planned", "sent"]
    assert (await btc.alarms()).count(UNANSWERED) == 1
    asked = len([item for item in signer.asked if item.payments[0].request_id == "r-1"])
    assert asked == 2  # once per process at first, then at its own pace
    signer.silent.clear()
    btc.clock.advance(31)
    await loop.cycle()
    assert await btc.states(stuck) == ["sent"]
    assert UNANSWERED not in await btc.alarms()


async def test_s21_with_the_signer_down_the_rest_stays_cancellable(btc: Payouts) -> None:
    await ready(btc)
    stuck = await btc.request("0.1")
    signer = Deaf(btc.signer, stuck.request_id)
    lane = await btc.cycle(btc.lane(signer=signer))
    other = await btc.request("0.2", player_id="other")
    signer.is_down = True

    await btc.cycle(lane, times=2)

    assert await btc.states(stuck, other) == ["planned", "queued"]
    assert (await btc.row(other)).sign_requested_at is None


async def test_s21_a_pass_ends_after_a_few_silent_answers(eth: Payouts) -> None:
    await ready(eth)
    rows = [await eth.request("0.1", player_id=f"p-{number}") for number in range(6)]
    signer = Deaf(eth.signer, *(row.request_id for row in rows))

    await eth.cycle(eth.lane(signer=signer))

    assert 1 <= len(signer.asked) <= UNANSWERED_MAX
    assert await eth.states(*rows) == ["planned"] * 6
