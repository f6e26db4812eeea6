"""One bad row hurts one payout: whatever is wrong with it, those beside it are paid."""

from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.leases import hold
from gateway.payouts.batcher import Batcher
from gateway.payouts.context import Lane
from gateway.payouts.signing import SigningStep
from gateway.withdrawals_store import WithdrawalRow
from tests.integration.payouts.test_lots import finish, funded
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.simchain import (
    SimAccount,
    SimAccountWriter,
    SimUtxo,
    SimUtxoWriter,
    account_chain,
    utxo_chain,
)
from tests.support.vault import FOREIGN_BTC
from watchers.chain import Plan, SendOutcome, SendResult, Unsigned, UtxoPlan

pytestmark = pytest.mark.postgres

BAD = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"


class Lossy(SimAccountWriter):
    """Takes every tx, says nothing, passes none on."""

    async def send(self, raw: bytes) -> SendResult:
        return SendResult(outcome=SendOutcome.UNCLEAR, detail="no answer")


class Dearer(SimUtxoWriter):
    """Builds a tx to one address with another fee than planned."""

    def build(self, plan: Plan) -> Unsigned:
        built = super().build(plan)
        assert isinstance(plan, UtxoPlan)
        if any(pay.address == BAD for pay in plan.payments):
            return replace(built, fee_minor=built.fee_minor + 1)
        return built


def in_order(rows: list[WithdrawalRow]) -> list[WithdrawalRow]:
    """As they get their numbers: all were promised for the same moment."""
    return sorted(rows, key=lambda row: row.id)


async def killed(house: Payouts, point: str) -> None:
    with pytest.raises(SimulatedCrash):
        await house.cycle(house.lane(crash=crash_at(point)))


async def lose_request(house: Payouts, row: WithdrawalRow) -> None:
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "DELETE FROM gateway.withdrawal_requests WHERE withdrawal_id = :id", {"id": row.id}
        )


async def stick(house: Payouts, row: WithdrawalRow, *, state: str) -> None:
    """The row never gets into a state, as if somebody else were quicker each time."""
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "CREATE FUNCTION gateway.stick() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RETURN NULL; END'"
        )
        await uow.execute(
            "CREATE TRIGGER a_stick BEFORE UPDATE ON gateway.withdrawals FOR EACH ROW "
            f"WHEN (OLD.id = '{row.id}' AND NEW.state = '{state}') EXECUTE FUNCTION gateway.stick()"
        )


async def with_one_expired(house: Payouts, *, is_planned: bool) -> list[WithdrawalRow]:
    """Three orders, the second of which has expired in books that nobody has compared."""
    await house.fund(house.native, "1")
    await house.fund(house.native, "5", into="acme")
    rows = [
        await house.request("0.001", player_id=f"p-{n}", valid_for=timedelta(minutes=minutes))
        for n, minutes in enumerate((600, 1, 600))
    ]
    if is_planned:
        await killed(house, "payout.planned")
    house.clock.advance(61)
    await house.sample_fees()
    return rows


@pytest.mark.parametrize("bad", [4, 2])
async def test_p27_a_hold_that_is_not_open_stops_the_storing_of_one_signature(
    eth: Payouts, bad: int
) -> None:
    """P27: the others are stored and sent. Behind its number they wait for it, and a person is
    called: the signer has signed it."""
    rows = in_order(await funded(eth, 5))
    await killed(eth, "payout.planned")
    async with eth.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE ledger.holds SET state = 'released' WHERE id = :id", {"id": rows[bad].id}
        )

    states = await finish(eth, *rows)

    behind = ["sent"] * (4 - bad)
    assert states == ["completed"] * bad + ["planned"] + behind
    assert await eth.alarms() == ["sign_unstored"]
    async with eth.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE ledger.holds SET state = 'open' WHERE id = :id", {"id": rows[bad].id}
        )
    assert await finish(eth, *rows) == ["completed"] * 5
    assert await eth.alarms() == []


async def test_p27_a_planned_payout_without_its_request_is_held_and_stops_nobody(
    eth: Payouts,
) -> None:
    rows = await funded(eth, 5)
    await killed(eth, "payout.planned")
    await lose_request(eth, rows[1])

    states = await finish(eth, *rows)

    assert states == ["completed", "on_hold", "completed", "completed", "completed"]
    held = await eth.row(rows[1])
    assert (held.code, held.attempt_id, held.sign_requested_at) == ("request_lost", None, None)
    assert await eth.alarms() == ["request_lost"]


async def test_p27_of_a_batch_only_the_member_without_its_request_is_held(btc: Payouts) -> None:
    await btc.fund(btc.native, "1")
    await btc.fund(btc.native, "2", into="acme")
    rows = [await btc.request("0.1") for _ in range(3)]
    await killed(btc, "payout.planned")
    await lose_request(btc, rows[1])

    await btc.cycle(times=3)

    assert await btc.states(*rows) == ["sent", "on_hold", "sent"]


async def test_s21_what_was_asked_for_and_lost_its_request_keeps_its_number(eth: Payouts) -> None:
    """It may be signed: nothing is given back, a person is called, those below it are paid."""
    rows = in_order(await funded(eth, 5))
    await killed(eth, "payout.sign_requested")
    await lose_request(eth, rows[4])

    states = await finish(eth, *rows)

    assert states == ["completed"] * 4 + ["planned"]
    assert (await eth.row(rows[4])).sign_requested_at is not None
    assert await eth.alarms() == ["request_lost"]


@pytest.mark.parametrize("network", ["eth", "btc"])
async def test_p27_a_queued_payout_without_its_request_is_not_planned(
    network: str, house: BuildHouse
) -> None:
    here = await house(network)
    await here.fund(here.native, "1")
    await here.fund(here.native, "2", into="acme")
    rows = [await here.request("0.1", player_id=f"p-{number}") for number in range(3)]
    await lose_request(here, rows[1])

    await here.cycle(times=2)

    assert await here.states(*rows) == ["sent", "on_hold", "sent"]
    assert (await here.row(rows[1])).code == "request_lost"
    assert await here.history(rows[1]) == ["received", "reserved", "queued", "on_hold"]
    assert await here.alarms() == ["request_lost"]


async def test_p27_a_row_that_does_not_move_stops_no_other_that_nodes_show(eth: Payouts) -> None:
    rows = await funded(eth, 4)
    await stick(eth, rows[0], state="sent")
    await eth.cycle()
    assert await eth.states(*rows) == ["broadcasting", "sent", "sent", "sent"]


async def test_p27_a_row_that_does_not_move_stops_no_other_that_nodes_do_not_show(
    eth: Payouts,
) -> None:
    rows = await funded(eth, 4)
    await stick(eth, rows[0], state="uncertain")
    assert isinstance(eth.sim, SimAccount)
    await eth.cycle(eth.lane(chain=account_chain(eth.sim, writer=Lossy(eth.sim))))
    assert await eth.states(*rows) == ["broadcasting", "uncertain", "uncertain", "uncertain"]


@pytest.mark.parametrize("network", ["eth", "btc"])
async def test_p27_a_row_that_does_not_move_stops_no_plan_of_others(
    network: str, house: BuildHouse
) -> None:
    here = await house(network)
    await here.fund(here.native, "1")
    await here.fund(here.native, "2", into="acme")
    rows = [await here.request("0.1", player_id=f"p-{number}") for number in range(3)]
    await stick(here, rows[1], state="planned")

    await here.cycle(times=2)

    assert await here.states(*rows) == ["sent", "queued", "sent"]


async def test_p27_a_payout_that_is_built_otherwise_than_planned_is_held_alone(
    btc: Payouts,
) -> None:
    await btc.fund(btc.native, "1")
    await btc.fund(btc.native, "2", into="acme")
    rows = [await btc.request("0.1", address=to) for to in (FOREIGN_BTC, BAD, FOREIGN_BTC)]

    assert isinstance(btc.sim, SimUtxo)
    chain = utxo_chain(btc.sim, writer=Dearer(btc.sim))
    await btc.cycle(btc.lane(chain=chain), times=2)

    assert await btc.states(*rows) == ["sent", "on_hold", "sent"]
    assert (await btc.row(rows[1])).code == "payout_broken"
    assert await btc.alarms() == ["payout_broken"]


async def held_lane(house: Payouts) -> Lane:
    """A fresh process in books that nobody has compared with the signer's log."""
    await house.expire_lease()
    lane = house.lane()
    await hold(house.role, lane.lease)
    async with house.database.unit_of_work() as uow:
        await uow.execute("DELETE FROM gateway.signer_logs")
    return lane


async def test_p27_what_cannot_be_given_up_yet_stops_no_plan_of_others(eth: Payouts) -> None:
    rows = await with_one_expired(eth, is_planned=False)
    lane = await held_lane(eth)
    assert await Batcher(lane).plan() == 2
    assert await eth.states(*rows) == ["planned", "queued", "planned"]


async def test_p27_what_cannot_be_given_up_yet_stops_no_signature_of_others(eth: Payouts) -> None:
    rows = await with_one_expired(eth, is_planned=True)
    lane = await held_lane(eth)
    await SigningStep(lane).run()
    await Batcher(lane).plan()
    await SigningStep(lane).run()
    assert await eth.states(*rows) == ["signed", "queued", "signed"]
