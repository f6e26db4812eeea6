"""Fee quotes over weeks: what stays of them, and from which rate on inclusion is cheap (F3)."""

from datetime import timedelta

import pytest

from tests.integration.watchers.conftest import UtxoBench
from tests.support.clock import ManualClock
from watchers import fees
from watchers.chain import FeeQuote
from watchers.fees import CHEAP_HOURS_MIN, KEEP_HOURLY

pytestmark = pytest.mark.postgres

HOUR = timedelta(hours=1)


async def _record(bench: UtxoBench, clock: ManualClock, *rates: int, every: timedelta) -> None:
    watch = bench.watch
    for rate in rates:
        quote = FeeQuote(rates={2: rate * 2, 36: rate}, floor=1_000, base_fee=0)
        async with watch.as_watcher.unit_of_work() as uow:
            await fees.record(uow, network="btc", quote=quote, at=clock.now())
        clock.advance(every.total_seconds())


async def _kept(bench: UtxoBench) -> int:
    async with bench.watch.as_watcher.unit_of_work() as uow:
        found = await uow.execute("SELECT count(*) FROM chain.fee_samples")
        return int(found.scalar_one())


async def _cheap(bench: UtxoBench) -> int:
    async with bench.watch.as_payouts.unit_of_work() as uow:
        return await fees.cheap_rate(uow, network="btc")


async def test_f3_of_a_day_that_is_over_one_quote_per_hour_stays(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    await _record(utxo, clock, *[5_000] * 12, every=timedelta(minutes=20))
    clock.advance(timedelta(hours=21).total_seconds())
    await _record(utxo, clock, *[5_000] * 6, every=HOUR)

    assert await _kept(utxo) == 4 + 6


async def test_f3_quotes_of_last_season_are_gone(utxo: UtxoBench, clock: ManualClock) -> None:
    await _record(utxo, clock, 5_000, every=KEEP_HOURLY + HOUR)
    await _record(utxo, clock, 5_000, every=HOUR)

    assert await _kept(utxo) == 1


async def test_f3_cheap_is_what_a_fifth_of_the_hours_did_not_exceed(
    utxo: UtxoBench, clock: ManualClock
) -> None:
    rising = [1_000 * (number + 1) for number in range(CHEAP_HOURS_MIN - 1)]
    await _record(utxo, clock, *rising, every=HOUR)
    assert await _cheap(utxo) == 0, "nobody knows yet"

    await _record(utxo, clock, 60_000, 900, every=HOUR)

    assert await _cheap(utxo) == 9_000
