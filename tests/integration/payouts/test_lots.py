"""Payouts of account chains go in lots: as safe as one by one, in fewer statements."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from config.database import Database
from gateway.payouts import withdrawals
from gateway.payouts.errors import RequestTooLarge, SignerUnavailable
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Refusal, SignedTx, SignRequest
from tests.support.batch import fresh
from tests.support.payout_parts import VaultSigner
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from watchers import outgoing
from watchers.outgoing import OutgoingRow, OutgoingState

pytestmark = pytest.mark.postgres


async def funded(house: Payouts, count: int) -> list[WithdrawalRow]:
    """As many orders of 0.001, each to an address and of a player of its own."""
    await house.fund(house.native, "1")
    await house.fund(house.native, "5", into="acme")
    return [
        await house.request("0.001", address=fresh(number), player_id=f"p-{number}")
        for number in range(count)
    ]


async def own_txs(house: Payouts) -> list[OutgoingRow]:
    async with house.database.unit_of_work() as uow:
        return await outgoing.in_states(
            uow, network=house.network, states=list(OutgoingState), limit=1_000
        )


async def finish(house: Payouts, *rows: WithdrawalRow) -> list[str]:
    lane = await house.cycle(times=3)
    for _ in range(3):
        await house.mine(13)
        await house.cycle(lane, times=2)
    return await house.states(*rows)


async def make_refused(house: Payouts, row: WithdrawalRow) -> None:
    """What a thief with the database does: the signer will not sign it."""
    async with house.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE gateway.withdrawals SET address = :address, address_key = :key WHERE id = :id",
            {"address": fresh(999), "key": fresh(999).lower(), "id": row.id},
        )


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The statements that a role sends meanwhile."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


class Counting(VaultSigner):
    """Counts the lots that it was asked for."""

    lots: list[int]

    async def sign_many(self, requests: Any) -> list[SignedTx | Refusal]:
        self.lots = [*getattr(self, "lots", []), len(requests)]
        return await super().sign_many(requests)


class Deaf(VaultSigner):
    """Signs a lot and loses the answer; single questions it answers."""

    async def sign_many(self, requests: Any) -> list[SignedTx | Refusal]:
        await super().sign_many(requests)
        raise SignerUnavailable("the answer was lost")


class SickOnce(VaultSigner):
    """Remembers a lot and gives nothing away, as when the anchor cannot be written; once."""

    is_sick = True

    async def sign_many(self, requests: Any) -> list[SignedTx | Refusal]:
        answers = await super().sign_many(requests)
        if not self.is_sick:
            return answers
        self.is_sick = False
        return [Refusal(code="store_unwritable", reason="nothing is signed now")]


class Narrow(VaultSigner):
    """Takes no lots."""

    async def sign_many(self, requests: Any) -> list[SignedTx | Refusal]:
        raise RequestTooLarge("no lots here")


class RefusesOne(VaultSigner):
    """Refuses one attempt, in a lot or alone."""

    refused_id = ""

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        if request.attempt_id == self.refused_id:
            return Refusal(code="payment_mismatch", reason="not what the client signed")
        return await super().sign(request)


async def attempt_at(house: Payouts, nonce: int) -> str:
    """The planned attempt of a number."""
    (found,) = [tx.id for tx in await own_txs(house) if tx.nonce == nonce and tx.raw is None]
    return str(found)


class SilentOnce(VaultSigner):
    """Does not answer for one attempt, in a lot or alone."""

    silent_id = ""

    async def sign(self, request: SignRequest) -> SignedTx | Refusal:
        if request.attempt_id == self.silent_id:
            raise SignerUnavailable("no answer")
        return await super().sign(request)

    async def lookup(self, attempt_id: str) -> SignedTx | Refusal | None:
        if attempt_id == self.silent_id:
            raise SignerUnavailable("no answer")
        return await super().lookup(attempt_id)


async def test_a_lot_is_one_question_and_costs_no_more_statements_when_it_is_larger(
    eth: Payouts,
) -> None:
    """Five payouts and then thirty, from queued to sent."""
    signer = Counting(eth.signer.kit)
    lane = await eth.cycle(eth.lane(signer=signer))
    used: list[int] = []
    for count in (5, 30):
        rows = await funded(eth, count)
        with statements(eth.role) as seen:
            await eth.cycle(lane)
        used.append(len(seen))
        assert set(await eth.states(*rows)) == {"sent"}
        for _ in range(2):
            await eth.mine(13)
            await eth.cycle(lane)
    assert used[1] <= used[0] + 20, (used, signer.lots)
    assert signer.lots == [5, 30]


async def test_w6_a_refused_payout_in_a_lot_leaves_no_gap_below_the_others(eth: Payouts) -> None:
    """The third of six is refused: those behind it were asked for, never asked, and go again."""
    rows = await funded(eth, 6)
    await make_refused(eth, rows[2])

    states = await finish(eth, *rows)

    assert states == ["completed"] * 2 + ["on_hold"] + ["completed"] * 3
    paid = [tx for tx in await own_txs(eth) if tx.raw is not None]
    assert sorted(tx.nonce or 0 for tx in paid) == [0, 1, 2, 3, 4]
    assert [eth.paid(row) for row in rows] == [1, 1, 0, 1, 1, 1]


async def test_w6_behind_a_refusal_nothing_is_signed_in_the_same_pass(eth: Payouts) -> None:
    rows = await funded(eth, 5)
    signer = RefusesOne(eth.signer.kit)
    with pytest.raises(SimulatedCrash):
        await eth.cycle(eth.lane(crash=crash_at("payout.planned")))
    signer.refused_id = await attempt_at(eth, 1)

    await eth.cycle(eth.lane(signer=signer))

    assert sorted(await eth.states(*rows)) == ["on_hold", "planned", "planned", "planned", "sent"]
    signed = [tx for tx in await own_txs(eth) if tx.raw is not None]
    assert [tx.nonce for tx in signed] == [0]


async def test_s21_a_lost_answer_to_a_lot_pays_each_once(eth: Payouts) -> None:
    """What the signer signed meanwhile is asked again with the same bytes."""
    rows = await funded(eth, 5)

    await eth.cycle(eth.lane(signer=Deaf(eth.signer.kit)), times=2)

    assert await finish(eth, *rows) == ["completed"] * 5
    assert [eth.paid(row) for row in rows] == [1] * 5
    assert len(await own_txs(eth)) == 5


async def test_s21_what_a_sick_signer_remembered_is_not_planned_anew(eth: Payouts) -> None:
    """However late it is when the signer is well again: the same attempts are asked again."""
    rows = await funded(eth, 4)
    lane = await eth.cycle(eth.lane(signer=SickOnce(eth.signer.kit)))
    assert await eth.states(*rows) == ["planned"] * 4
    eth.clock.advance(3_600)
    await eth.cycle(lane, times=2)
    assert await finish(eth, *rows) == ["completed"] * 4
    assert len(await own_txs(eth)) == 4
    assert "signer_knows_more" not in await eth.alarms()


async def test_a_signer_that_takes_no_lots_is_asked_one_by_one(eth: Payouts) -> None:
    rows = await funded(eth, 4)
    await eth.cycle(eth.lane(signer=Narrow(eth.signer.kit)))
    assert await eth.states(*rows) == ["sent"] * 4


async def test_w6_an_unanswered_one_holds_its_account_and_is_not_overtaken(eth: Payouts) -> None:
    """Nothing above it is signed while nobody knows whether it is."""
    rows = await funded(eth, 4)
    signer = SilentOnce(eth.signer.kit)
    lane = eth.lane(signer=signer)
    with pytest.raises(SimulatedCrash):
        await eth.cycle(eth.lane(signer=signer, crash=crash_at("payout.sign_requested")))
    planned = {tx.nonce: tx.id for tx in await own_txs(eth)}
    signer.silent_id = str(planned[1])

    await eth.cycle(lane, times=2)

    signed = [tx.nonce for tx in await own_txs(eth) if tx.raw is not None]
    assert signed == [0]
    assert "sign_unanswered" in await eth.alarms()
    signer.silent_id = ""
    assert await finish(eth, *rows) == ["completed"] * 4
    assert [eth.paid(row) for row in rows] == [1] * 4


async def test_p27_a_row_that_moved_meanwhile_stops_only_itself(eth: Payouts) -> None:
    """Cancelled between planning and the gate: the others of its lot are paid, without a gap."""
    rows = await funded(eth, 5)
    with pytest.raises(SimulatedCrash):
        await eth.cycle(eth.lane(crash=crash_at("payout.planned")))
    async with eth.database.unit_of_work() as uow:
        await withdrawals.cancel(uow, rows[1].id, ids=eth.ids, at=eth.clock.now())

    states = await finish(eth, *rows)

    assert states == ["completed", "cancelled", "completed", "completed", "completed"]
    paid = [tx.nonce for tx in await own_txs(eth) if tx.raw is not None]
    assert sorted(nonce or 0 for nonce in paid) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "point",
    [
        "payout.planned",
        "payout.sign_requested",
        "payout.signer_answered",
        "payout.signed",
        "payout.broadcasting",
        "payout.sent_to_node",
        "payout.recorded",
    ],
)
async def test_p02_a_lot_survives_a_kill_and_pays_each_once(eth: Payouts, point: str) -> None:
    rows = await funded(eth, 5)
    with pytest.raises(SimulatedCrash):
        await eth.cycle(eth.lane(crash=crash_at(point)))
    assert await finish(eth, *rows) == ["completed"] * 5
    assert [eth.paid(row) for row in rows] == [1] * 5
    await eth.assert_at_rest()


async def test_p02_a_kill_with_a_refusal_behind_it_pays_each_other_once(eth: Payouts) -> None:
    """The next process cannot know what was asked: it asks again, in order."""
    rows = await funded(eth, 5)
    with pytest.raises(SimulatedCrash):
        await eth.cycle(eth.lane(crash=crash_at("payout.sign_requested")))
    signer = RefusesOne(eth.signer.kit)
    signer.refused_id = await attempt_at(eth, 1)

    await eth.cycle(eth.lane(signer=signer), times=3)
    states = await finish(eth, *rows)

    assert sorted(states) == ["completed"] * 4 + ["on_hold"]
    assert sum(eth.paid(row) for row in rows) == 4
    paid = [tx.nonce for tx in await own_txs(eth) if tx.raw is not None]
    assert sorted(nonce or 0 for nonce in paid) == [0, 1, 2, 3]
