"""What tests of merges and splits do to a house: a policy of a few coins, weeks of fees, coins,
and what a person asks for."""

from dataclasses import replace

from config.policy import CoinPolicy
from gateway.payouts import consolidations
from gateway.payouts.consolidations_store import ConsolidationRow
from signer.protocol import Purpose
from tests.support.bumps import KVB, quote
from tests.support.payouts import Payouts
from watchers import addresses, coins, fees
from watchers.chain import FeeQuote, Pay
from watchers.fees import CHEAP_HOURS_MIN

CHEAP = {2: 4 * KVB, 6: 3 * KVB, 36: 2 * KVB}
DEAR = {2: 40 * KVB, 6: 30 * KVB, 36: 20 * KVB}
PLENTY = 10_000_000  # satoshi: more than any of these moves costs
POLICY = CoinPolicy(
    keep_coins=6, part_min_minor=10_000_000, merge_above=14, rate_max=10, pause_seconds=3_600
)


async def ask(
    house: Payouts, purpose: Purpose = Purpose.CONSOLIDATE, *, fee_max: int | None = PLENTY
) -> ConsolidationRow:
    """A person's request, as the API stores it."""
    async with house.database.unit_of_work() as uow:
        return await consolidations.ask(
            uow,
            network=house.network,
            asset=house.native,
            purpose=purpose,
            fee_max_minor=fee_max,
            person="ada",
            ids=house.ids,
            at=house.clock.now(),
        )


async def cheap_hour(house: Payouts, *, policy: CoinPolicy = POLICY) -> Payouts:
    """A policy for small wallets; two days with all kinds of rates, and then a cheap hour."""
    network = house.network
    rules = replace(house.registry.policy, coins={network: policy})
    house.registry = replace(house.registry, policy=rules)
    async with house.database.unit_of_work() as uow:
        for hour in range(CHEAP_HOURS_MIN):
            house.clock.advance(3_600)
            rates = CHEAP if hour % 3 == 0 else DEAR
            sample = FeeQuote(rates=rates, floor=KVB, base_fee=0)
            await fees.record(uow, network=network, quote=sample, at=house.clock.now())
    house.signer.kit.clock.now = int(house.clock.now().timestamp())
    await quote(house, CHEAP)
    return house


async def rain(house: Payouts, *, count: int, minor: int) -> None:
    """Many small coins for the hot wallet, which nobody has assigned yet."""
    async with house.database.unit_of_work() as uow:
        hot = await addresses.own_address(uow, network=house.network, role="hot")
    pay = Pay(asset=house.native, address=hot.address, amount_minor=minor)
    for _ in range(count):
        await house.world.pay([pay])
    await house.mine(2)


async def coins_of(house: Payouts) -> tuple[list[int], list[int]]:
    """What may be spent now: amounts of (mined, unmined) coins, the largest first."""
    async with house.database.unit_of_work() as uow:
        rows = await coins.spendable(uow, network=house.network, limit=1_000)
    mined = [row.amount_minor for row in rows if row.height is not None]
    return mined, [row.amount_minor for row in rows if row.height is None]
