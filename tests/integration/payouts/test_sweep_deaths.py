"""Deaths where a sweep does not go straight on: put off, refused, too cheap (P02)."""

import pytest

from gateway.payouts.sweep_sending import SWEEP_REFUSED
from signer.errors import RefusalCode
from tests.support.contract_bench import Bench, BuildBench
from tests.support.payout_parts import VaultSigner
from tests.support.payouts import SimulatedCrash, crash_at
from tests.support.sweeping import ETH, USDT, RefusingSigner, Sweeps, dear
from watchers.outgoing import OutgoingState

pytestmark = [pytest.mark.postgres, pytest.mark.node]

ONE = 10**6


async def die(bench: Bench, point: str, *, times: int, signer: VaultSigner | None = None) -> int:
    """As many processes, one after the other; how many died at the point."""
    deaths = 0
    for _ in range(times):
        try:
            await bench.house.cycle(bench.house.lane(crash=crash_at(point), signer=signer))
        except SimulatedCrash:
            deaths += 1
    return deaths


async def test_p02_killed_after_it_was_put_off_a_sweep_goes_on_when_it_grows(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    await sweeps.deposit("anna", USDT, "5")  # below its threshold
    assert await die(bench, "payout.sweeps_judged", times=2) == 1
    row = await sweeps.row()
    assert (row.state, row.code) == ("waiting", "below_threshold")
    await sweeps.deposit("anna", USDT, "45")
    assert await die(bench, "payout.sweeps_judged", times=1) == 0
    await sweeps.finish()
    row = await sweeps.row()
    assert (row.state, row.moved_minor, row.deposits) == ("swept", 50 * ONE, 2)
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


async def test_p02_killed_after_a_refusal_the_number_is_free_and_it_is_swept_once(
    build_bench: BuildBench,
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    await sweeps.deposit("anna", USDT, "50")
    signer = RefusingSigner(bench.house.signer, times=2)
    for asked in (1, 2):
        assert await die(bench, "payout.sweeps_refused", times=2, signer=signer) == 1
        row = await sweeps.row()
        assert (row.state, row.code) == ("waiting", f"signer_{RefusalCode.CAP_WINDOW}")
        assert SWEEP_REFUSED in await bench.house.alarms()
        refused = await sweeps.txs("gas_top_up")
        assert [tx.state for tx in refused] == [OutgoingState.REFUSED] * asked
        bench.house.clock.advance(16 * 60)
        await bench.house.sample_fees()
        await sweeps.rates()
    await sweeps.finish()
    assert await sweeps.states() == ["swept"]
    [*_, won] = await sweeps.txs("gas_top_up")
    assert {tx.nonce for tx in await sweeps.txs("gas_top_up")} == {won.nonce}
    assert SWEEP_REFUSED not in await bench.house.alarms()
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()


@pytest.mark.parametrize("asset", [USDT, ETH])
async def test_p02_killed_after_a_bump_was_stored_it_is_sent_and_swept_once(
    build_bench: BuildBench, asset: str
) -> None:
    bench = await build_bench(has_contract=False)
    sweeps = await Sweeps.open(bench.house)
    await sweeps.deposit("anna", asset, "50" if asset == USDT else "0.5")
    await dear(bench, 10**9)
    await bench.house.cycle()
    [first] = [*await sweeps.txs("gas_top_up"), *await sweeps.txs("sweep")]
    await dear(bench, 5 * first.fee_cap_minor // 21_000)
    assert await die(bench, "payout.sweeps_bumped", times=3) == 3
    family = [*await sweeps.txs("gas_top_up"), *await sweeps.txs("sweep")]
    assert [tx.nonce for tx in family] == [first.nonce] * 2
    assert family[1].replaces_id == first.id
    await bench.assert_reconciled()
    await sweeps.finish(rounds=12)
    row = await sweeps.row()
    assert (row.state, row.tries) == ("swept", 0)
    won = [tx for tx in await sweeps.txs("sweep") if tx.state is OutgoingState.FINAL]
    assert [tx.txid for tx in won] == [row.txid]
    await bench.assert_reconciled()
    await bench.house.assert_at_rest()
