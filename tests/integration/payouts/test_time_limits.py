"""Time limits of CONTRACT 5: one test per row of the table, before and after."""

from datetime import timedelta

import pytest

from gateway.payouts import withdrawals
from gateway.payouts.batcher import Batcher
from gateway.payouts.broadcaster import RESEND_SECONDS
from gateway.payouts.lane import PayoutLane
from gateway.payouts.signing import SigningStep
from gateway.payouts.time_limits import TIME_LIMITS
from gateway.payouts.withdrawals import WITHDRAWALS, State, Trigger
from gateway.withdrawals_store import WithdrawalRow
from ledger import holds
from tests.support.payouts import Payouts
from tests.support.people import approve, employ
from tests.support.simchain import SimUtxo, SimUtxoWriter, utxo_chain
from watchers.chain import SendOutcome, SendResult

pytestmark = pytest.mark.postgres


async def funded(btc: Payouts) -> None:
    """Something to pay, and capital for fees."""
    await employ(btc)
    await btc.fund(btc.native, "0.01")
    await btc.fund(btc.native, "2", into="acme")


async def put(btc: Payouts, row: WithdrawalRow, *path: State) -> None:
    """Take a queued row to another state by the columns alone, with its history and event."""
    async with btc.database.unit_of_work() as uow:
        for state in path:
            await uow.execute(
                "UPDATE gateway.withdrawals SET state = :state, state_at = :at, "
                "version = version + 1 WHERE id = :id",
                {"state": state.value, "at": btc.clock.now(), "id": row.id},
            )


async def at_the_limit(btc: Payouts, row: WithdrawalRow, seconds: int) -> tuple[str, str]:
    """The state one second before the limit, and at it."""
    btc.clock.advance(seconds - 1)
    await btc.sample_fees()
    await btc.cycle()
    [before] = await btc.states(row)
    btc.clock.advance(1)
    await btc.cycle()
    [after] = await btc.states(row)
    return before, after


def test_the_table_names_what_the_contract_limits() -> None:
    assert {limit.state for limit in TIME_LIMITS} == {
        State.SCREENING, State.PENDING_APPROVAL, State.WAITING_LIQUIDITY, State.PLANNED,
        State.BROADCASTING, State.UNCERTAIN, State.CONFIRMING, State.CANCELLING,
    }  # fmt: skip
    for limit in TIME_LIMITS:
        assert limit.exit is not None or limit.alarm is not None
        if limit.exit is not None:
            assert WITHDRAWALS.allows(limit.state, limit.exit)


async def test_screening_of_ten_minutes_ends_on_hold(btc: Payouts) -> None:
    await funded(btc)
    row = await btc.request("0.25")
    await put(btc, row, State.SCREENING)
    assert await at_the_limit(btc, row, 600) == ("screening", "on_hold")
    assert (await btc.row(row)).code == "screening_timeout"
    assert await btc.alarms() == ["screening_timeout"]
    await approve(btc, row, "alice")
    await btc.cycle()
    assert await btc.states(row) == ["sent"]
    assert await btc.alarms() == []


async def test_an_approval_that_nobody_gives_for_a_day_expires(btc: Payouts) -> None:
    await funded(btc)
    row = await btc.request("0.25")
    await put(btc, row, State.PENDING_APPROVAL)
    assert await at_the_limit(btc, row, 86_400) == ("pending_approval", "expired")
    assert (await btc.row(row)).code == "approval_timeout"
    async with btc.database.unit_of_work() as uow:
        hold = await holds.get(uow, row.id)
    assert hold is not None
    assert hold.state == "released"


async def test_waiting_for_liquidity_ends_with_valid_until(btc: Payouts) -> None:
    await funded(btc)
    row = await btc.request("5", valid_for=timedelta(hours=2))
    assert await btc.states(row) == ["waiting_liquidity"]
    btc.clock.advance(7_200)
    await btc.cycle()
    assert await btc.states(row) == ["waiting_liquidity"]
    btc.clock.advance(1)
    await btc.cycle()
    assert await btc.states(row) == ["expired"]


async def test_planned_for_a_minute_without_a_question_is_queued_again(btc: Payouts) -> None:
    await funded(btc)
    row = await btc.request("0.25")
    lane = btc.lane()
    await btc.cycle(lane, times=0)
    assert await Batcher(lane).plan() == 1
    [before] = await btc.states(row)
    btc.clock.advance(61)
    await btc.sample_fees()
    await SigningStep(lane).run()
    assert (before, await btc.states(row)) == ("planned", ["queued"])
    assert btc.signer.asked == []


class Refusing(SimUtxoWriter):
    """A node that keeps nothing and says each time what the test says."""

    outcome = SendOutcome.FEE_TOO_LOW

    async def send(self, raw: bytes) -> SendResult:
        return SendResult(outcome=self.outcome, detail="no")


async def test_broadcasting_of_thirty_seconds_is_uncertain(ltc: Payouts) -> None:
    """A clear no leaves it `broadcasting`, and is asked again; after 30 s nobody knows. Nothing is
    replaced here: a replacement is another transaction, with its own 30 s."""
    await funded(ltc)
    row = await ltc.request("0.25")
    assert isinstance(ltc.sim, SimUtxo)
    lane = ltc.lane(chain=utxo_chain(ltc.sim, writer=Refusing(ltc.sim)))
    await ltc.cycle(lane, times=0)
    loop = PayoutLane(lane)  # one process: a fresh one would be in doubt at once
    await loop.cycle()
    assert await ltc.states(row) == ["broadcasting"]
    for _ in range(2):
        ltc.clock.advance(15)
        await loop.cycle()
    assert await ltc.states(row) == ["broadcasting"]
    ltc.clock.advance(15)
    await loop.cycle()
    assert await ltc.states(row) == ["uncertain"]


async def test_uncertain_for_ten_minutes_calls_a_person(btc: Payouts) -> None:
    await funded(btc)
    row = await btc.request("0.25")
    assert isinstance(btc.sim, SimUtxo)
    writer = Refusing(btc.sim)
    writer.outcome = SendOutcome.UNCLEAR
    lane = await btc.cycle(btc.lane(chain=utxo_chain(btc.sim, writer=writer)))
    assert await btc.states(row) == ["uncertain"]
    btc.clock.advance(600)
    await btc.cycle(lane)
    assert "payout_uncertain" not in await btc.alarms()
    btc.clock.advance(10)
    await btc.cycle(lane)
    assert "payout_uncertain" in await btc.alarms()
    assert await btc.states(row) == ["uncertain"]


async def test_confirming_for_three_tiers_calls_a_person_until_it_is_final(btc: Payouts) -> None:
    await funded(btc)
    row = await btc.request("0.25")
    lane = await btc.cycle()
    await btc.mine()
    await btc.cycle(lane)
    assert await btc.states(row) == ["confirming"]
    limit = 3 * 2 * btc.registry.chains["btc"].block_seconds
    btc.clock.advance(limit - 1)
    await btc.cycle(lane)
    assert "payout_confirming" not in await btc.alarms()
    btc.clock.advance(1)
    await btc.cycle(lane)
    assert "payout_confirming" in await btc.alarms()
    await btc.mine(3)
    await btc.cycle(lane, times=2)
    assert await btc.states(row) == ["completed"]
    assert "payout_confirming" not in await btc.alarms()


async def test_cancelling_for_a_day_calls_a_person(btc: Payouts) -> None:
    await funded(btc)
    row = await btc.request("0.25")
    lane = await btc.cycle()
    async with btc.database.unit_of_work() as uow:
        await withdrawals.move(
            uow, await btc.row(row), Trigger.ABORT, ids=btc.ids, at=btc.clock.now()
        )
    btc.clock.advance(86_399)
    await btc.cycle(lane)
    assert "payout_cancelling" not in await btc.alarms()
    btc.clock.advance(1)
    await btc.cycle(lane)
    assert "payout_cancelling" in await btc.alarms()


@pytest.mark.parametrize(
    ("path", "move", "seconds", "alarm"),
    [
        ((State.UNCERTAIN,), Trigger.REPLACE, 600, "payout_uncertain"),
        ((State.CONFIRMING,), Trigger.ADOPT, 3 * 2 * 600, "payout_confirming"),
        ((State.CANCELLING,), Trigger.REPLACE, 86_400, "payout_cancelling"),
    ],
)
async def test_a_bump_gives_no_more_time(
    btc: Payouts, path: tuple[State, ...], move: Trigger, seconds: int, alarm: str
) -> None:
    """Another attempt is no other state: the clock goes on from where it came into this one."""
    await funded(btc)
    row = await btc.request("0.25")
    lane = await btc.cycle()
    if State.CONFIRMING in path:
        await btc.mine()
        await btc.cycle(lane)
    else:
        btc.sim.pool.clear()
        await put(btc, row, *path)
    since = (await btc.row(row)).state_at
    assert isinstance(btc.sim, SimUtxo)
    writer = Refusing(btc.sim)
    writer.outcome = SendOutcome.UNCLEAR
    lane = btc.lane(chain=utxo_chain(btc.sim, writer=writer))
    await btc.cycle(lane, times=0)
    loop = PayoutLane(lane)
    for part in (seconds // 2, seconds // 2 - 1):
        btc.clock.advance(part)
        async with btc.database.unit_of_work() as uow:
            await withdrawals.move(uow, await btc.row(row), move, ids=btc.ids, at=btc.clock.now())
    await loop.cycle()
    assert alarm not in await btc.alarms()
    btc.clock.advance(1 + RESEND_SECONDS)
    await loop.cycle()
    assert alarm in await btc.alarms()
    found = await btc.row(row)
    assert (found.in_state_since, found.state_at > since) == (since, True)
