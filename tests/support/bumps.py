"""What tests of bumps do to a house: fees that move, blocks that take nothing of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from gateway.leases import hold
from gateway.payouts.context import Lane
from gateway.withdrawals_store import WithdrawalRow
from tests.support.comparing import network_of as network_of
from tests.support.comparing import no_breaks as no_breaks
from tests.support.payouts import Payouts
from watchers import fees
from watchers.chain import FeeQuote

KVB = 1_000  # policy counts per vB, quotes per kvB


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """An own tx as the books have it."""

    id: UUID
    family_id: UUID
    purpose: str
    state: str
    txid: str | None
    fee_minor: int
    replaces_id: UUID | None
    pays_for_id: UUID | None
    nonce: int | None


async def quote(
    house: Payouts, rates: Mapping[int, int], *, floor: int = KVB, base_fee: int = 0
) -> None:
    """A new fee sample, as the watcher would write it; a second later than the last one."""
    house.clock.advance(1)
    async with house.database.unit_of_work() as uow:
        await fees.record(
            uow,
            network=house.network,
            quote=FeeQuote(rates=rates, floor=floor, base_fee=base_fee),
            at=house.clock.now(),
        )


async def fees_rise(house: Payouts) -> None:
    """Ten times what the house has paid so far."""
    kvb, gwei = 20_000, 20 * 10**9
    if house.is_account_based:
        await quote(house, {1: gwei, 5: gwei}, floor=0, base_fee=gwei)
    else:
        await quote(house, {2: kvb, 6: kvb, 36: kvb})


async def pass_blocks(house: Payouts, count: int = 1) -> None:
    """Blocks that take nothing from the pool."""
    for _ in range(count):
        house.sim.mine_exactly([])
    await house.follow()


async def mine_only(house: Payouts, *txids: str) -> None:
    """A block with these of the pool."""
    house.sim.mine_exactly(txids)
    await house.follow()


async def funded(house: Payouts, *, coins: int = 1) -> Payouts:
    """Capital for fees, and something to pay out of, in as many coins."""
    await house.fund(house.native, "1")
    for _ in range(coins):
        await house.fund(house.native, "2", into="acme")
    return house


async def sent(house: Payouts) -> list[Sent]:
    """Every own tx, in the order of its family."""
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT id, family_id, purpose, state, txid, fee_cap_minor, replaces_id, pays_for_id, "
            "nonce FROM chain.outgoing ORDER BY created_at, family_number, id"
        )
        return [
            Sent(
                id=row.id,
                family_id=row.family_id,
                purpose=row.purpose,
                state=row.state,
                txid=row.txid,
                fee_minor=int(row.fee_cap_minor),
                replaces_id=row.replaces_id,
                pays_for_id=row.pays_for_id,
                nonce=row.nonce,
            )
            for row in result
        ]


async def work(house: Payouts, lane: Lane | None = None, *, times: int = 1) -> Lane:
    """Whole cycles of a lane that keeps its lease, however slow the machine is."""
    lane = lane or house.lane()
    for _ in range(times):
        if lane.lease.is_held:
            await hold(house.role, lane.lease)
        await house.cycle(lane)
    return lane


async def run_to_rest(house: Payouts, lane: Lane | None = None, *, blocks: int = 8) -> Lane:
    """Mine what waits and work it off."""
    lane = await work(house, lane, times=2)
    for _ in range(blocks):
        await house.mine()
        await work(house, lane)
    return lane


async def txids_told(house: Payouts, row: WithdrawalRow) -> list[str]:
    """The txids that the events of a withdrawal named, in order, each once."""
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(
            "SELECT snapshot ->> 'txid' FROM ledger.events WHERE object_id = :id "
            "ORDER BY object_version",
            {"id": row.id},
        )
        return list(dict.fromkeys(txid for txid in result.scalars() if txid is not None))
