"""`fee_mode: player` on the road: what is paid, what is booked, and what a failure gives back."""

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import sqlstate
from ledger import accounts, balances
from ledger.accounts import Account, Stage
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts
from tests.support.simchain import SimAccount

pytestmark = pytest.mark.postgres


async def balance(house: Payouts, account: Account) -> int:
    async with house.database.unit_of_work() as uow:
        return await balances.balance(uow, account)


async def finish(house: Payouts, blocks: int = 8) -> None:
    lane = await house.cycle()
    for _ in range(blocks):
        await house.mine()
        await house.cycle(lane)


async def real_fee(house: Payouts) -> int:
    async with house.database.unit_of_work() as uow:
        return int((await uow.execute("SELECT fee_minor FROM chain.outgoing")).scalar_one())


@pytest.mark.parametrize("network", ["btc", "ltc"])
async def test_utxo_player_pays_what_was_fixed_and_receives_the_rest(
    network: str, house: BuildHouse
) -> None:
    """CONTRACT 1: Dr in flight amount / Cr custody output, Cr fee recovery fee_charged."""
    there = await house(network)
    asset = there.native
    await there.fund(asset, "1")
    await there.fund(asset, "2", into="acme")
    row = await there.request("0.5", fee_mode="player", max_fee="0.001")
    assert row.fee_charged_minor is not None
    assert 0 < row.fee_charged_minor <= 100_000
    assert row.state == "queued"

    await finish(there)

    assert await there.states(row) == ["completed"]
    assert there.paid(row) == 1
    fee, charged = await real_fee(there), row.fee_charged_minor
    hot = accounts.custody(network, "hot", asset)
    assert await balance(there, hot) == 300_000_000 - row.output_minor - fee
    assert await balance(there, accounts.fee_recovery(asset)) == charged
    assert await balance(there, accounts.network_fee(asset)) == fee
    assert await balance(there, accounts.clearing("acme", asset)) == 150_000_000
    in_flight = accounts.player("acme", row.player_id, Stage.IN_FLIGHT, asset)
    assert await balance(there, in_flight) == 0
    await there.assert_at_rest()


async def test_token_player_pays_by_the_rate_table(eth: Payouts) -> None:
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:USDT", "100", into="acme")
    await eth.rate("eth:ETH", "2500")
    await eth.rate("eth:USDT", "1")
    row = await eth.request("50", asset="eth:USDT", fee_mode="player", max_fee="5")
    assert row.state == "queued"
    assert row.fee_charged_minor

    await finish(eth)

    assert await eth.states(row) == ["completed"]
    assert eth.paid(row) == 1
    custody = accounts.custody("eth", "hot", "eth:USDT")
    assert await balance(eth, custody) == 100_000_000 - row.output_minor
    assert await balance(eth, accounts.fee_recovery("eth:USDT")) == row.fee_charged_minor
    await eth.assert_at_rest()


async def test_native_coin_of_an_account_chain_pays_its_gas(eth: Payouts) -> None:
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:ETH", "2", into="acme")
    row = await eth.request("0.5", fee_mode="player", max_fee="0.01")

    await finish(eth)

    assert await eth.states(row) == ["completed"]
    assert eth.paid(row) == 1
    assert await balance(eth, accounts.fee_recovery("eth:ETH")) == row.fee_charged_minor
    await eth.assert_at_rest()


async def test_a_batch_mixes_who_pays(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    rows = [
        await btc.request("0.1", fee_mode="player", max_fee="0.001", player_id="p-1"),
        await btc.request("0.2", player_id="p-2"),
        await btc.request("0.3", fee_mode="player", max_fee="0.002", player_id="p-3"),
    ]

    await finish(btc)

    assert await btc.states(*rows) == ["completed"] * 3
    assert len({(await btc.row(row)).txid for row in rows}) == 1
    assert [btc.paid(row) for row in rows] == [1, 1, 1]
    charged = sum(row.fee_charged_minor or 0 for row in rows)
    assert await balance(btc, accounts.fee_recovery("btc:BTC")) == charged > 0
    await btc.assert_at_rest()


async def test_a_reverted_one_gives_the_whole_amount_back(eth: Payouts) -> None:
    """The player paid nothing, since nothing reached anybody."""
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:ETH", "2", into="acme")
    row = await eth.request("0.5", fee_mode="player", max_fee="0.01")
    if not isinstance(eth.sim, SimAccount):
        raise TypeError("an account world is required")
    eth.sim.rejecting.add(row.address_key)

    await finish(eth)

    assert await eth.states(row) == ["failed"]
    assert await balance(eth, accounts.clearing("acme", "eth:ETH")) == eth.minor("eth:ETH", "2")
    assert await balance(eth, accounts.fee_recovery("eth:ETH")) == 0
    await eth.assert_at_rest()


async def test_a_completed_one_that_loses_its_block_takes_the_income_back(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5", fee_mode="player", max_fee="0.001")
    await finish(btc, 3)
    assert await btc.states(row) == ["completed"]
    earned = accounts.fee_recovery("btc:BTC")
    assert await balance(btc, earned) == row.fee_charged_minor

    btc.sim.rewind(3)
    for _ in range(4):
        btc.sim.mine_exactly([])
    await btc.follow()
    await btc.cycle()
    assert await btc.states(row) == ["sent"]
    assert await balance(btc, earned) == 0

    await finish(btc)
    assert await btc.states(row) == ["completed"]
    assert await balance(btc, earned) == row.fee_charged_minor
    await btc.assert_at_rest()


async def test_the_fee_of_an_accepted_order_cannot_be_changed(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5", fee_mode="player", max_fee="0.001")
    for change in ("fee_charged = fee_charged - 1", "max_fee = 0, fee_charged = 0"):
        with pytest.raises(DBAPIError) as caught:
            async with btc.role.unit_of_work() as uow:
                await uow.execute(f"UPDATE gateway.withdrawals SET {change}")
        assert sqlstate(caught.value) == "CG001"
    assert (await btc.row(row)).fee_charged_minor == row.fee_charged_minor
