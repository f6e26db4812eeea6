"""Deposits of account chains and what becomes of them, at the payout house."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.payouts import sweeps_store
from gateway.payouts.context import Lane
from gateway.payouts.sweeps_store import SweepRow
from ledger import accounts, balances
from signer.errors import RefusalCode
from signer.protocol import Refusal, SignedTx, SignRequest
from tests.support.contract_bench import Bench
from tests.support.payout_parts import VaultSigner
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from watchers import addresses, outgoing
from watchers.addresses import AddressRow
from watchers.chain import Pay
from watchers.outgoing import OutgoingRow, OutgoingState

USDT, ETH = "eth:USDT", "eth:ETH"
FINAL_BLOCKS = 4
RULE = {"asset": USDT, "threshold": "10", "fee_permille": 1_000, "forced_fee_permille": 1_000}
NATIVE_RULE = {**RULE, "asset": ETH, "threshold": "0.01"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeps:
    """The house, seen from its sweeps."""

    house: Payouts

    @classmethod
    async def open(
        cls,
        house: Payouts,
        *,
        rules: Sequence[dict[str, Any]] = (RULE, NATIVE_RULE),
        gas: Sequence[dict[str, Any]] = (),
        station: str = "1",
    ) -> "Sweeps":
        """With a policy in force, rates, capital, and a gas account that holds `station` ETH."""
        self = cls(house=house)
        await self.policy(rules=rules, gas=gas)
        await self.rates()
        await house.fund(ETH, "1")
        if station:
            await house.fund(ETH, station, at=(await self.own("gas")).address)
        return self

    async def rates(self) -> None:
        """What one ETH and one USDT are worth now."""
        await self.house.rate(ETH, "2000")
        await self.house.rate(USDT, "1")

    async def policy(
        self, *, rules: Sequence[dict[str, Any]], gas: Sequence[dict[str, Any]] = ()
    ) -> None:
        """Put a version in force."""
        async with self.house.database.unit_of_work() as uow:
            await uow.execute(
                "INSERT INTO gateway.sweep_policies (version, content, proposed_by, approved_by, "
                "created_at) SELECT coalesce(max(version), 0) + 1, CAST(:content AS jsonb), 'ada', "
                "'grace', :at FROM gateway.sweep_policies",
                {
                    "content": json.dumps({"rules": list(rules), "gas": list(gas)}),
                    "at": self.house.clock.now(),
                },
            )

    async def own(self, role: Any) -> AddressRow:
        """An account of the operator."""
        async with self.house.database.unit_of_work() as uow:
            return await addresses.own_address(uow, network="eth", role=role)

    async def address(self, player_id: str) -> AddressRow:
        """A player's deposit address."""
        async with self.house.database.unit_of_work() as uow:
            return await addresses.hand_out(
                uow, brand="acme", player_id=player_id, network="eth", at=self.house.clock.now()
            )

    async def deposit(self, player_id: str, asset: str, amount: str) -> AddressRow:
        """A player's deposit, final."""
        to = await self.address(player_id)
        minor = self.house.minor(asset, amount)
        await self.house.world.pay([Pay(asset=asset, address=to.address, amount_minor=minor)])
        await self.house.mine(FINAL_BLOCKS)
        return to

    async def rows(self, **only: Any) -> list[SweepRow]:
        """Every sweep, the oldest first."""
        wanted = {"network": None, "asset": None, "state": None, **only}
        async with self.house.database.unit_of_work() as uow:
            found = await sweeps_store.find(uow, before=None, limit=500, **wanted)
        return found[::-1]

    async def states(self) -> list[str]:
        """Their states."""
        return [row.state for row in await self.rows()]

    async def row(self) -> SweepRow:
        """The one that there is."""
        [row] = await self.rows()
        return row

    async def finish(self, lane: Lane | None = None, *, rounds: int = 8) -> Lane:
        """Plan, sign, send, mine and book until nothing is left to do."""
        lane = await self.house.cycle(lane)
        for _ in range(rounds):
            await self.house.mine()
            await self.house.cycle(lane)
        return lane

    async def txs(self, purpose: str) -> list[OutgoingRow]:
        """Own txs of a purpose, the oldest first."""
        async with self.house.database.unit_of_work() as uow:
            found = await outgoing.in_states(
                uow, network="eth", states=list(OutgoingState), limit=5_000
            )
        return [tx for tx in found if tx.purpose == purpose]

    async def custody(self, wallet: str, asset: str) -> int:
        """What the books hold in a wallet, minor units."""
        async with self.house.database.unit_of_work() as uow:
            role, _, brand = wallet.partition("/")
            return await balances.balance(
                uow, accounts.custody("eth", role, asset, brand=brand or None)
            )

    async def deposits(self) -> list[tuple[str, str]]:
        """(state, sweep_state) of every deposit, the oldest first."""
        async with self.house.database.unit_of_work() as uow:
            result = await uow.execute(
                "SELECT state, sweep_state FROM chain.deposits ORDER BY first_seen_at, id"
            )
            return [(row.state, row.sweep_state) for row in result]

    async def events(self) -> list[str]:
        """Types of the events of sweeps, in order."""
        async with self.house.database.unit_of_work() as uow:
            result = await uow.execute(
                "SELECT type FROM ledger.events WHERE object_kind = 'sweep' ORDER BY position"
            )
            return list(result.scalars())


async def killed_at(bench: Bench, point: str, *, rounds: int = 12) -> int:
    """How often a process died at the point, a fresh one for each block; the books are right at
    each."""
    deaths = 0
    for _ in range(rounds):
        try:
            await bench.house.cycle(bench.house.lane(crash=crash_at(point)))
        except SimulatedCrash:
            deaths += 1
        await bench.house.mine()
        await bench.assert_reconciled()
    return deaths


async def dear(bench: Bench, base_fee: int) -> None:
    """From the next block on gas costs this, and the watcher knows."""
    await bench.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(base_fee))
    await bench.house.mine()
    bench.house.clock.advance(60)
    await bench.house.sample_fees()


class RefusingSigner(VaultSigner):
    """The same vault, whose caps are full for so many questions."""

    def __init__(self, signer: VaultSigner, *, times: int) -> None:
        super().__init__(signer.kit)
        self.times = times

    async def sign_many(self, requests: Sequence[SignRequest]) -> list[SignedTx | Refusal]:
        if self.times == 0:
            return await super().sign_many(requests)
        self.times -= 1
        return [Refusal(code=RefusalCode.CAP_WINDOW.value, reason="its caps are full")]
