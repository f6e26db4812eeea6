"""P04, P05, P06, N27: whatever a node says to a broadcast, only the chain decides, and only the
same bytes are sent again."""

import pytest

from gateway.payouts.lane import PayoutLane
from tests.support.clock import ManualClock
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts
from tests.support.simchain import (
    SimAccount,
    SimAccountWriter,
    SimUtxo,
    SimUtxoWriter,
    account_chain,
    utxo_chain,
)
from watchers.chain import SendOutcome, SendResult
from watchers.errors import NodeUnavailable

pytestmark = pytest.mark.postgres


class Answering(SimUtxoWriter):
    """Gives a fixed answer; passes the bytes on or not, and remembers them."""

    def __init__(self, world: SimUtxo, outcome: SendOutcome, *, arrives: bool) -> None:
        super().__init__(world)
        self.outcome: SendOutcome | None = outcome
        self.arrives = arrives
        self.sent: list[bytes] = []

    async def send(self, raw: bytes) -> SendResult:
        self.sent.append(raw)
        honest = await super().send(raw) if self.arrives else None
        if self.outcome is None:
            return honest or await super().send(raw)
        return SendResult(outcome=self.outcome, detail="as the test says")


class NonceTooLow(SimAccountWriter):
    """anvil's answer to bytes that are already mined."""

    async def send(self, raw: bytes) -> SendResult:
        await super().send(raw)
        self.world.mine()
        return SendResult(outcome=SendOutcome.CONFLICT, detail="nonce too low")


class Unreachable(SimUtxoWriter):
    """Dies on the way: nobody knows whether the bytes arrived."""

    async def send(self, raw: bytes) -> SendResult:
        raise NodeUnavailable("connection reset")


@pytest.fixture
async def btc(house: BuildHouse) -> Payouts:
    """A funded UTXO network."""
    built = await house("btc")
    await built.fund("btc:BTC", "1")
    await built.fund("btc:BTC", "2", into="acme")
    return built


def utxo(built: Payouts) -> SimUtxo:
    if not isinstance(built.sim, SimUtxo):
        raise TypeError("a UTXO world is required")
    return built.sim


@pytest.mark.parametrize(
    "outcome",
    [
        SendOutcome.UNCLEAR,
        SendOutcome.CONFLICT,
        SendOutcome.ALREADY_MINED,
        SendOutcome.FEE_TOO_LOW,
        SendOutcome.CHAIN_FULL,
        SendOutcome.INVALID,
        SendOutcome.ACCEPTED,
    ],
)
async def test_p05_any_answer_with_our_tx_in_the_mempool_is_sent(
    btc: Payouts, outcome: SendOutcome
) -> None:
    writer = Answering(utxo(btc), outcome, arrives=True)
    row = await btc.request("0.25")

    await btc.cycle(btc.lane(chain=utxo_chain(utxo(btc), writer=writer)))

    assert await btc.states(row) == ["sent"]
    assert len(writer.sent) == 1


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (SendOutcome.UNCLEAR, "uncertain"),
        (SendOutcome.CONFLICT, "uncertain"),
        (SendOutcome.ALREADY_MINED, "uncertain"),
        (SendOutcome.INVALID, "uncertain"),
        (SendOutcome.ACCEPTED, "uncertain"),  # N27: says OK, but the tx is nowhere
        (SendOutcome.FEE_TOO_LOW, "broadcasting"),
        (SendOutcome.CHAIN_FULL, "broadcasting"),
    ],
)
async def test_p04_not_seen_is_sent_again_with_the_same_bytes(
    btc: Payouts, clock: ManualClock, outcome: SendOutcome, state: str
) -> None:
    writer = Answering(utxo(btc), outcome, arrives=False)
    row = await btc.request("0.25")
    lane = await btc.cycle(btc.lane(chain=utxo_chain(utxo(btc), writer=writer)))
    assert await btc.states(row) == [state]
    async with btc.database.unit_of_work() as uow:
        held = await uow.execute("SELECT state FROM ledger.holds")
        assert held.scalars().all() == ["captured"]  # the money stays in flight

    writer.outcome = None
    clock.advance(11)
    loop = PayoutLane(lane)
    await loop.cycle()

    assert await btc.states(row) == ["sent"]
    assert len(writer.sent) == 2
    assert len(set(writer.sent)) == 1
    assert len(btc.signer.asked) == 1


async def test_p04_node_that_dies_during_the_send_leaves_it_uncertain(btc: Payouts) -> None:
    row = await btc.request("0.25")

    await btc.cycle(btc.lane(chain=utxo_chain(utxo(btc), writer=Unreachable(utxo(btc)))))

    assert await btc.states(row) == ["uncertain"]
    await btc.cycle()
    assert await btc.states(row) == ["sent"]
    assert len(utxo(btc).pool) == 1


async def test_p05_fee_refusal_and_invalid_call_a_person(btc: Payouts) -> None:
    for outcome in (SendOutcome.FEE_TOO_LOW, SendOutcome.INVALID):
        writer = Answering(utxo(btc), outcome, arrives=False)
        await btc.request("0.1")
        await btc.cycle(btc.lane(chain=utxo_chain(utxo(btc), writer=writer)))

    assert {"payout_fee_too_low", "payout_invalid"} <= set(await btc.alarms())


async def test_p06_refused_for_hours_stays_in_flight_and_calls_a_person(
    btc: Payouts, clock: ManualClock
) -> None:
    writer = Answering(utxo(btc), SendOutcome.CONFLICT, arrives=False)
    row = await btc.request("0.25")
    lane = await btc.cycle(btc.lane(chain=utxo_chain(utxo(btc), writer=writer)))
    loop = PayoutLane(lane)

    for _ in range(5):
        clock.advance(3600)
        await btc.sample_fees()
        await loop.cycle()

    assert await btc.states(row) == ["uncertain"]
    assert {"payout_uncertain", "payout_conflict"} <= set(await btc.alarms())
    assert len(set(writer.sent)) == 1
    assert len(btc.signer.asked) == 1
    await btc.cycle()  # another process, whose node takes it
    assert await btc.states(row) == ["sent"]
    assert await btc.alarms() == []  # nobody is called for what is over


async def test_p05_nonce_too_low_for_a_mined_tx_is_resolved_by_our_txid(
    eth: Payouts,
) -> None:
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:ETH", "2", into="acme")
    if not isinstance(eth.sim, SimAccount):
        raise TypeError("an account world is required")
    row = await eth.request("0.25")

    lane = await eth.cycle(eth.lane(chain=account_chain(eth.sim, writer=NonceTooLow(eth.sim))))
    for _ in range(6):
        await eth.mine()
        await eth.cycle(lane)

    assert await eth.states(row) == ["completed"]
    assert eth.paid(row) == 1
    await eth.assert_at_rest()


async def test_p06_a_final_conflict_holds_the_payout_for_two_people(btc: Payouts) -> None:
    """Somebody with our key spent our coin: no automatic second attempt (anchor_dead)."""
    row = await btc.request("0.25")
    lane = await btc.cycle()
    world = utxo(btc)
    [ours] = list(world.pool)
    await btc.steal_inputs_of(ours)
    await btc.mine(8)

    await btc.cycle(lane)

    assert await btc.states(row) == ["on_hold"]
    assert (await btc.row(row)).code == "anchor_dead"
    assert "anchor_dead" in await btc.alarms()
    assert len(btc.signer.asked) == 1
