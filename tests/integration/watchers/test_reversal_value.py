"""The value limit of reversals: more than it in one step waits for two people (CONTRACT 4)."""

from dataclasses import replace
from decimal import Decimal

import pytest

from config.credit_policy import ReversedValueMax
from tests.integration.watchers.conftest import UtxoBench
from tests.support.clock import ManualClock
from watchers import rates, switches
from watchers.deposits import DepositRow
from watchers.reversal_limit import VALUE_REASON, excess
from watchers.switches import Action, GrantKind

pytestmark = pytest.mark.postgres

HALF = 50_000_000
BTC = "btc:BTC"
DOLLARS_150 = 15_000  # in cents


def limit(utxo: UtxoBench, limits: ReversedValueMax) -> None:
    """Follow on with these limits, as after a restart with another policy file."""
    utxo.watch.network = replace(utxo.watch.network, reversed_value_max=limits)
    utxo.watch.follower = utxo.watch.new_follower("first")


async def double_spent(utxo: UtxoBench) -> None:
    """Two final deposits of half a coin each, whose tx is spent by another one for good."""
    anna = await utxo.watch.address("anna")
    txid = utxo.sim.pay([(anna.address, HALF), (anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    utxo.sim.rewind(3)
    utxo.sim.conflict(txid)
    utxo.sim.mine(7)
    await utxo.watch.follow()


async def rate(utxo: UtxoBench, dollars: str) -> None:
    """A rate of now that two people agreed on."""
    at = utxo.watch.clock.now()
    async with utxo.watch.as_owner.unit_of_work() as uow:
        await rates.record(
            uow,
            rate_id=utxo.watch.ids.new_id(),
            asset=BTC,
            rate=Decimal(dollars),
            source=rates.STAFF,
            as_of=at,
            entered_by="ann",
            approved_by="bob",
            reference=utxo.watch.network.reference,
            at=at,
        )


async def booked(utxo: UtxoBench) -> DepositRow:
    """A deposit that is final."""
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    return await utxo.watch.deposit()


async def stopped_by(utxo: UtxoBench) -> str | None:
    async with utxo.watch.as_api.unit_of_work() as uow:
        found = await switches.get(uow, scope="network:btc", action=Action.ALL)
    return None if found is None else found.reason


async def test_more_value_than_the_assets_own_limit_waits_for_two_people(
    utxo: UtxoBench,
) -> None:
    """One unit over: the breaker opens, a grant of too few is not used, one of enough is."""
    limit(utxo, ReversedValueMax(assets_minor={BTC: 2 * HALF - 1}))
    await double_spent(utxo)
    assert await utxo.watch.deposit_states() == {"orphaned"}
    assert await stopped_by(utxo) == VALUE_REASON
    for count, expected in ((1, "orphaned"), (2, "reversed")):
        await utxo.watch.grant(GrantKind.REVERSALS, count)
        await utxo.watch.follow()
        assert await utxo.watch.deposit_states() == {expected}
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()


async def test_as_much_value_as_the_limits_allow_is_reversed_at_once(utxo: UtxoBench) -> None:
    """One coin at 150 dollars, with both limits exactly that."""
    limit(utxo, ReversedValueMax(reference_minor=DOLLARS_150, assets_minor={BTC: 2 * HALF}))
    await rate(utxo, "150")
    await double_spent(utxo)
    assert await utxo.watch.deposit_states() == {"reversed"}
    assert await stopped_by(utxo) is None
    await utxo.watch.audit()


async def test_more_value_in_the_reference_currency_than_the_limit_waits(
    utxo: UtxoBench,
) -> None:
    limit(utxo, ReversedValueMax(reference_minor=DOLLARS_150))
    await rate(utxo, "150.01")
    await double_spent(utxo)
    assert await utxo.watch.deposit_states() == {"orphaned"}
    assert await stopped_by(utxo) == VALUE_REASON
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute(
            "SELECT detail FROM gateway.alarms WHERE kind = 'reversals_over_limit'"
        )
        assert "15001 of at most 15000 minor units of USD" in found.scalar_one()
    await utxo.watch.audit()


@pytest.mark.parametrize("is_stale", [False, True], ids=["none", "stale"])
async def test_without_a_fresh_rate_any_value_is_over_a_limit_in_the_reference_currency(
    utxo: UtxoBench, clock: ManualClock, is_stale: bool
) -> None:
    """A rate that is entered later counts at the next look; the breaker stays for two people."""
    limit(utxo, ReversedValueMax(reference_minor=10**12))
    if is_stale:
        await rate(utxo, "150")
        clock.advance(utxo.watch.network.reference.stale_seconds + 1)
    await double_spent(utxo)
    assert await utxo.watch.deposit_states() == {"orphaned"}
    assert await stopped_by(utxo) == VALUE_REASON
    await rate(utxo, "151")
    await utxo.watch.follow()
    assert await utxo.watch.deposit_states() == {"reversed"}
    assert await stopped_by(utxo) == VALUE_REASON
    await utxo.watch.audit()


async def test_d05_a_grant_of_a_value_waits_when_more_has_come_to_be_worth_more(
    utxo: UtxoBench,
) -> None:
    """Two people saw 150 dollars; the rate moves before the step; they look again."""
    limit(utxo, ReversedValueMax(assets_minor={BTC: 2 * HALF - 1}))
    await double_spent(utxo)
    for dollars, cents, expected in (
        (None, DOLLARS_150, "orphaned"),
        ("150.01", DOLLARS_150, "orphaned"),
        ("150.01", DOLLARS_150 + 1, "reversed"),
    ):
        if dollars is not None:
            await rate(utxo, dollars)
        await utxo.watch.grant(
            GrantKind.REVERSALS, 2, value=switches.Value(minor=cents, currency="USD")
        )
        await utxo.watch.follow()
        assert await utxo.watch.deposit_states() == {expected}
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()


async def test_a_token_in_no_books_has_no_value_here(utxo: UtxoBench) -> None:
    """Else whoever sends a worthless token that loses its block would stop the network."""
    deposit = replace(await booked(utxo), asset="btc:0xspam", amount_minor=2**255)
    async with utxo.watch.as_watcher.unit_of_work() as uow:
        network = replace(
            utxo.watch.network, reversed_value_max=ReversedValueMax(reference_minor=0)
        )
        at = utxo.watch.clock.now()
        spam = replace(deposit, credited_stage=None)
        assert await excess(uow, network, [spam], at=at) is None
        assert await excess(uow, network, [deposit], at=at) is not None
