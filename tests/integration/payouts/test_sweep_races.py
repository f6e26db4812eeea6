"""Sweeps while the world goes on: a block between two reads, a reorg, another instance."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from config.database import Uow
from gateway.payouts import gas_station, sweep_terms
from gateway.payouts.context import Lane
from gateway.payouts.lane import PayoutLane
from signer.protocol import Refusal, SignedTx, SignRequest
from tests.support.contract_bench import BuildBench
from tests.support.payout_parts import VaultSigner
from tests.support.payouts import Payouts
from tests.support.sweeping import ETH, USDT, Sweeps
from tests.support.waiting import until_it_waits
from watchers import sweepable
from watchers.chain import Chain, ChainWriter, SendResult
from watchers.outgoing import OutgoingState

pytestmark = [pytest.mark.postgres, pytest.mark.node]

GWEI = 10**9


class UowWithABlock(Uow):
    """Between the first read of balances and the next statement, something happens."""

    __slots__ = ("_meanwhile",)

    def __init__(self, uow: Uow, meanwhile: Callable[[], Awaitable[None]]) -> None:
        super().__init__(uow.connection)
        self._meanwhile: Callable[[], Awaitable[None]] | None = meanwhile

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        found = await super().execute(statement, parameters)
        if self._meanwhile is not None and "account_balances" in str(statement):
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return found


async def test_t3_a_block_between_two_reads_does_not_make_the_gas_account_richer(
    build_bench: BuildBench,
) -> None:
    """A top-up that a block takes is in what the account holds, or in what is on its way."""
    bench = await build_bench(has_contract=False)
    house = bench.house
    sweeps = await Sweeps.open(house)
    await sweeps.deposit("anna", USDT, "50")
    lane = await house.cycle()
    [gas] = await sweeps.txs("gas_top_up")
    assert gas.height is None

    async def block() -> None:
        await house.world.mine()
        await house.follow()

    async with house.role.unit_of_work() as uow:
        terms = await sweep_terms.load(lane, uow)
        raced = UowWithABlock(uow, block)
        station = await gas_station.open_station(lane, raced, terms)
    [gas] = await sweeps.txs("gas_top_up")
    assert gas.height is not None
    async with house.database.unit_of_work() as uow:
        left = await sweepable.free(uow, network="eth", key=gas.sender_key or "", asset=ETH)
    assert left == 10**18 - gas.payments[0].amount_minor - (gas.fee_minor or 0)
    fee = gas_station.top_up_fee(terms)
    assert not station.take(left - fee.cap_minor + 1, fee)


async def test_t2_a_deposit_orphaned_during_the_plan_is_planned_or_let_go_never_both(
    eth: Payouts,
) -> None:
    """Else it would be called swept, and lie at its address for ever once it came back."""
    sweeps = await Sweeps.open(eth)
    await sweeps.deposit("anna", ETH, "0.5")
    lane = eth.lane()
    await eth.cycle(lane)
    row = await sweeps.row()
    await eth.world.lose(8)
    async with eth.role.unit_of_work() as uow:
        await sweepable.release(uow, [row.id])
        following = asyncio.create_task(eth.follow())
        await until_it_waits(eth.database)
        held = await sweepable.held(uow, [row.id])
        found = await uow.execute(
            "SELECT coalesce(sum(amount), 0) FROM chain.deposits WHERE sweep_id = :id",
            {"id": row.id},
        )
        assert held == {row.id: (int(found.scalar_one()), 1)}
    await following
    assert [state for state, _ in await sweeps.deposits()] == ["orphaned"]


class Held:
    """A step of one instance that stands still until the other one has gone on."""

    def __init__(self, *, is_after: bool) -> None:
        self.is_after = is_after
        self.is_reached = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def stand(self, *, is_after: bool) -> None:
        if is_after is self.is_after and not self.is_reached.is_set():
            self.is_reached.set()
            await self.may_go_on.wait()


class HeldSigner(VaultSigner):
    """The same vault; the first message of sweeps stands still."""

    def __init__(self, signer: VaultSigner, held: Held) -> None:
        super().__init__(signer.kit)
        self._held = held

    async def sign_many(self, requests: Sequence[SignRequest]) -> list[SignedTx | Refusal]:
        await self._held.stand(is_after=False)
        answers = await super().sign_many(requests)
        await self._held.stand(is_after=True)
        return answers


class HeldWriter:
    """The same node; the first message of sweeps stands still."""

    def __init__(self, writer: ChainWriter, held: Held) -> None:
        self._writer = writer
        self._held = held

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    async def send_many(self, raws: Sequence[bytes]) -> Sequence[SendResult]:
        await self._held.stand(is_after=False)
        results = await self._writer.send_many(raws)
        await self._held.stand(is_after=True)
        return results


class HeldChain:
    """A chain with that writer."""

    def __init__(self, chain: Chain, held: Held) -> None:
        self._chain = chain
        self.writer = HeldWriter(chain.writer, held)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)


def stalled(house: Payouts, where: str, held: Held) -> Lane:
    """An instance that will stand still there."""
    if where == "signer":
        return house.lane(signer=HeldSigner(house.signer, held))
    return house.lane(chain=HeldChain(house.chain, held))


@pytest.mark.parametrize("where", ["signer", "node"])
@pytest.mark.parametrize("is_after", [False, True])
async def test_p13_an_instance_that_wakes_late_sweeps_nothing_twice(
    build_bench: BuildBench, where: str, is_after: bool
) -> None:
    """Two live instances: the first one stands still until its lease is over and the second has
    swept everything, and then goes on where it was."""
    bench = await build_bench(has_contract=False)
    house = bench.house
    sweeps = await Sweeps.open(house)
    await sweeps.deposit("anna", USDT, "50")
    await sweeps.deposit("bert", ETH, "0.5")
    held = Held(is_after=is_after)
    first = stalled(house, where, held)
    working = asyncio.create_task(house.cycle(first))
    async with asyncio.timeout(60):
        await held.is_reached.wait()
    second = await sweeps.finish()
    assert await sweeps.states() == ["swept", "swept"]
    before = {tx.id: (tx.state, tx.txid) for tx in await bench.own_txs()}
    held.may_go_on.set()
    await working
    await PayoutLane(first).cycle()  # without a lease it changes nothing
    assert not first.lease.is_held
    await sweeps.finish(second, rounds=2)
    assert {tx.id: (tx.state, tx.txid) for tx in await bench.own_txs()} == before
    assert await sweeps.states() == ["swept", "swept"]
    sent = await sweeps.txs("sweep")
    assert [tx.state for tx in sent if tx.txid is not None] == [OutgoingState.FINAL] * 2
    await bench.assert_reconciled()
    await house.assert_at_rest()
