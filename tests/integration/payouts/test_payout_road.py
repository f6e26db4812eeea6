"""A withdrawal's road from `queued` to its end, with its postings, on simulated chains."""

from collections import Counter

import pytest

from ledger import accounts, balances
from ledger.accounts import Account, Stage
from tests.support.payout_parts import DEPTH
from tests.support.payouts import Payouts
from tests.support.simchain import SimAccount, SimUtxo

pytestmark = pytest.mark.postgres


async def balance(house: Payouts, account: Account) -> int:
    async with house.database.unit_of_work() as uow:
        return await balances.balance(uow, account)


async def finish(house: Payouts, blocks: int = 6) -> None:
    lane = await house.cycle()
    for _ in range(blocks):
        await house.mine()
        await house.cycle(lane)


async def test_utxo_withdrawal_goes_through_every_state(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")

    await finish(btc)

    assert await btc.history(row) == [
        "received", "reserved", "queued", "planned", "signed", "broadcasting", "sent",
        "confirming", "completed",
    ]  # fmt: skip
    assert btc.paid(row) == 1
    await btc.assert_at_rest()


async def test_completion_posts_output_and_the_real_fee(btc: Payouts) -> None:
    """CONTRACT 1, Fees: Dr in flight / Cr custody; Dr expense / Cr custody."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")

    await finish(btc)

    async with btc.database.unit_of_work() as uow:
        fee = (await uow.execute("SELECT fee_minor FROM chain.outgoing")).scalar_one()
    assert fee > 0
    asset = "btc:BTC"
    assert await balance(btc, accounts.clearing("acme", asset)) == 150_000_000
    assert await balance(btc, accounts.network_fee(asset)) == fee
    assert await balance(btc, accounts.custody("btc", "hot", asset)) == 250_000_000 - fee
    in_flight = accounts.player("acme", row.player_id, Stage.IN_FLIGHT, asset)
    assert await balance(btc, in_flight) == 0


async def test_batch_pays_many_brands_in_one_tx_and_shares_its_fee(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    await btc.fund("btc:BTC", "2", into="bravo")
    rows = [
        await btc.request(f"0.0{index + 1}", brand=brand, player_id=f"p-{index}")
        for index, brand in enumerate(["acme", "bravo", "acme", "bravo", "acme"])
    ]

    await finish(btc)

    assert Counter(await btc.states(*rows)) == {"completed": 5}
    assert len({(await btc.row(row)).txid for row in rows}) == 1
    assert [btc.paid(row) for row in rows] == [1] * 5
    async with btc.database.unit_of_work() as uow:
        fee = (await uow.execute("SELECT fee_minor FROM chain.outgoing")).scalar_one()
        shares = await uow.execute(
            "SELECT e.brand_tag, sum(e.amount) AS total FROM ledger.entries e "
            "JOIN ledger.accounts a ON a.id = e.account_id WHERE a.code = :code GROUP BY 1",
            {"code": accounts.network_fee("btc:BTC").code},
        )
        by_brand = {share.brand_tag: int(share.total) for share in shares}
    assert sum(by_brand.values()) == fee
    assert abs(by_brand["acme"] - fee * 3 / 5) < 3
    await btc.assert_at_rest()


@pytest.mark.parametrize(("asset", "amount"), [("eth:ETH", "0.5"), ("eth:USDT", "12.5")])
async def test_account_withdrawal_is_paid_by_evidence(
    eth: Payouts, asset: str, amount: str
) -> None:
    await eth.fund("eth:ETH", "1")
    await eth.fund(asset, "100", into="acme")
    row = await eth.request(amount, asset=asset)

    await finish(eth, 8)

    assert await eth.states(row) == ["completed"]
    assert eth.paid(row) == 1
    custody = accounts.custody("eth", "hot", asset)
    left = eth.minor(asset, "100") + (eth.minor(asset, "1") if asset == "eth:ETH" else 0)
    fee = await balance(eth, accounts.network_fee("eth:ETH"))
    assert fee > 0
    paid_fee = fee if asset == "eth:ETH" else 0
    assert await balance(eth, custody) == left - row.amount_minor - paid_fee
    await eth.assert_at_rest()


async def test_p18_many_account_payouts_get_consecutive_nonces(eth: Payouts) -> None:
    await eth.fund("eth:ETH", "5")
    await eth.fund("eth:ETH", "20", into="acme")
    rows = [await eth.request("0.01", player_id=f"p-{index}") for index in range(20)]

    await finish(eth, 8)

    assert Counter(await eth.states(*rows)) == {"completed": 20}
    async with eth.database.unit_of_work() as uow:
        found = await uow.execute("SELECT nonce FROM chain.outgoing ORDER BY nonce")
        assert found.scalars().all() == list(range(20))
    await eth.assert_at_rest()


async def test_reverted_payout_fails_and_the_money_goes_back(eth: Payouts) -> None:
    """The receiver's contract refuses: in flight -> clearing, the fee is the house's expense."""
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:ETH", "2", into="acme")
    row = await eth.request("0.5")
    if not isinstance(eth.sim, SimAccount):
        raise TypeError("an account world is required")
    eth.sim.rejecting.add(row.address_key)

    await finish(eth, 8)

    assert await eth.states(row) == ["failed"]
    assert eth.paid(row) == 0
    assert await balance(eth, accounts.clearing("acme", "eth:ETH")) == eth.minor("eth:ETH", "2")
    assert await balance(eth, accounts.network_fee("eth:ETH")) > 0
    await eth.assert_at_rest()


async def test_p24_payout_reorged_out_is_sent_again_and_debited_once(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")
    lane = await btc.cycle()
    await btc.mine()
    await btc.cycle(lane)
    assert await btc.states(row) == ["confirming"]
    txid = (await btc.row(row)).txid

    btc.sim.rewind(1)
    btc.sim.mine_exactly([])
    btc.sim.mine_exactly([])
    await btc.follow()
    await btc.cycle(lane)

    assert await btc.states(row) == ["sent"]
    await finish(btc)
    assert await btc.states(row) == ["completed"]
    assert (await btc.row(row)).txid == txid
    assert btc.paid(row) == 1
    await btc.assert_at_rest()


async def test_completed_payout_whose_block_is_orphaned_is_reopened(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")
    await finish(btc, 3)
    assert await btc.states(row) == ["completed"]

    btc.sim.rewind(3)
    for _ in range(4):
        btc.sim.mine_exactly([])
    await btc.follow()
    await btc.cycle()

    assert await btc.states(row) == ["sent"]
    assert "withdrawal_reopened" in await btc.alarms()
    async with btc.database.unit_of_work() as uow:
        types = await uow.execute(
            "SELECT type FROM ledger.events WHERE object_id = :id ORDER BY object_version",
            {"id": row.id},
        )
        assert types.scalars().all()[-1] == "withdrawal.reopened"
    await finish(btc)
    assert await btc.states(row) == ["completed"]
    assert btc.paid(row) == 1
    fee = await balance(btc, accounts.network_fee("btc:BTC"))
    custody = accounts.custody("btc", "hot", "btc:BTC")
    assert await balance(btc, custody) == 250_000_000 - fee
    await btc.assert_at_rest()


async def test_settlement_follows_its_tx_into_another_block_between_two_looks(
    btc: Payouts,
) -> None:
    """Orphaned and final again while nobody looked: the old posting is reversed, a new one names
    the block that counts."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")
    await finish(btc, 3)
    old = [await _settled_block(btc)]

    btc.sim.rewind(3)
    btc.sim.mine_exactly([])
    btc.sim.mine(4)
    await btc.follow()
    await btc.cycle()

    assert await btc.states(row) == ["completed"]
    assert "withdrawal_reopened" in await btc.alarms()
    assert await _settled_block(btc) in btc.sim.active
    assert old[0] not in btc.sim.active
    await btc.assert_at_rest()


async def _settled_block(house: Payouts) -> str:
    async with house.database.unit_of_work() as uow:
        result = await uow.execute("SELECT settled_block_hash FROM chain.outgoing")
        return str(result.scalar_one())


async def test_every_change_has_one_history_row_and_one_event(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.5")

    await finish(btc)

    async with btc.database.unit_of_work() as uow:
        history = await uow.execute(
            "SELECT version, actor FROM ledger.state_history WHERE object_id = :id "
            "ORDER BY version",
            {"id": row.id},
        )
        events = await uow.execute(
            "SELECT object_version FROM ledger.events WHERE object_id = :id ORDER BY 1",
            {"id": row.id},
        )
        found = history.all()
        assert [item.version for item in found] == events.scalars().all()
        assert {item.actor for item in found[3:]} == {"payouts"}


async def test_ltc_payout_keeps_change_for_a_child(ltc: Payouts) -> None:
    """Litecoin does not replace: CPFP is the only bump, so its reserve stays (CONTRACT 5)."""
    await ltc.fund("ltc:LTC", "0.5")
    await ltc.fund("ltc:LTC", "1", into="acme")
    row = await ltc.request("0.9995")  # with one coin nothing would be left for a child

    await finish(ltc)

    assert await ltc.states(row) == ["completed"]
    async with ltc.database.unit_of_work() as uow:
        change = (await uow.execute("SELECT amount FROM chain.outgoing_change")).scalar_one()
    assert change >= ltc.registry.policy.fees["ltc"].cpfp_reserve_minor
    await ltc.assert_at_rest()


async def test_p29_token_that_moves_nothing_is_not_settled(eth: Payouts) -> None:
    """Status 1 without a Transfer of the amount is no payment: success is evidence."""
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:USDT", "50", into="acme")
    row = await eth.request("20", asset="eth:USDT")
    if not isinstance(eth.sim, SimAccount):
        raise TypeError("an account world is required")
    async with eth.database.unit_of_work() as uow:
        hot = (await uow.execute("SELECT key FROM chain.addresses WHERE role = 'hot'")).scalar_one()
    eth.sim.tip.state.balances["eth:USDT", hot] = 0  # the token contract answers false
    eth.is_compared = False  # and the wallet holds less than the books: a break indeed

    await finish(eth, 8)

    assert await eth.states(row) == ["failed"]
    assert eth.paid(row) == 0
    assert await balance(eth, accounts.clearing("acme", "eth:USDT")) == 50_000_000


async def test_p29_a_token_that_moves_another_amount_is_held_and_never_credited_back(
    eth: Payouts,
) -> None:
    """A fee-on-transfer token: the player has most of it, so crediting back would pay twice."""
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:USDT", "50", into="acme")
    row = await eth.request("20", asset="eth:USDT")
    if not isinstance(eth.sim, SimAccount):
        raise TypeError("an account world is required")
    eth.sim.token_tax_minor = 1

    await finish(eth, 8)

    assert await eth.states(row) == ["confirming"]
    assert await eth.alarms() == ["paid_differently"]
    assert await balance(eth, accounts.clearing("acme", "eth:USDT")) == 30_000_000
    in_flight = accounts.player("acme", row.player_id, Stage.IN_FLIGHT, "eth:USDT")
    assert await balance(eth, in_flight) == row.amount_minor
    assert await balance(eth, accounts.network_fee("eth:ETH")) == 0
    await finish(eth, 3)
    assert await eth.states(row) == ["confirming"]
    assert await eth.alarms() == ["paid_differently"]


@pytest.mark.parametrize("is_confirming", [False, True])
async def test_payouts_that_descend_from_a_dead_deposit_are_held_as_anchor_dead(
    btc: Payouts, is_confirming: bool
) -> None:
    """A rival of a deposit that we spent is final: nothing of ours below it can ever be mined."""
    await btc.fund("btc:BTC", "0.01")
    deposit_txid = await btc.deposit("player-9", "2")
    first = await btc.request("0.5")
    lane = await btc.cycle()
    second = await btc.request("0.6")
    await btc.cycle(lane)
    if is_confirming:
        await btc.mine()
        await btc.cycle(lane)
    state = "confirming" if is_confirming else "sent"
    assert await btc.states(first, second) == [state, state]

    btc.sim.rewind(DEPTH + is_confirming)
    if not isinstance(btc.sim, SimUtxo):
        raise TypeError("a UTXO world is required")
    rival = btc.sim.conflict(deposit_txid)
    await btc.mine(DEPTH + 3)
    await btc.cycle(lane, times=2)

    assert await btc.states(first, second) == ["on_hold", "on_hold"]
    assert {(await btc.row(row)).code for row in (first, second)} == {"anchor_dead"}
    async with btc.database.unit_of_work() as uow:
        found = await uow.execute("SELECT detail FROM gateway.alarms WHERE kind = 'anchor_dead'")
        assert all(detail.endswith(rival) for detail in found.scalars())


async def test_a_later_rival_does_not_put_off_the_end_of_a_dead_payout(btc: Payouts) -> None:
    """Both deposits that it spends die, in two blocks: the earlier block decides."""
    await btc.fund("btc:BTC", "0.01")
    deposits = [await btc.deposit("player-9", "0.3") for _ in range(2)]
    row = await btc.request("0.5")
    lane = await btc.cycle()
    assert await btc.states(row) == ["sent"]

    btc.sim.rewind(2 * DEPTH)
    if not isinstance(btc.sim, SimUtxo):
        raise TypeError("a UTXO world is required")
    for _ in range(DEPTH):
        btc.sim.mine_exactly([])
    earlier, later = (btc.sim.conflict(txid) for txid in deposits)
    for rivals in ([earlier], [later]):
        btc.sim.mine_exactly(rivals)
    await btc.follow()

    async with btc.database.unit_of_work() as uow:
        found = (
            await uow.execute(
                "SELECT state, conflict_txid, conflict_final_at_height - b.height + 1 AS depth "
                "FROM chain.outgoing o JOIN chain.blocks b ON b.hash = o.conflict_hash"
            )
        ).one()
    assert (found.conflict_txid, found.depth) == (earlier, DEPTH)
    assert found.state == "replaced"
    await btc.cycle(lane, times=2)
    assert (await btc.row(row)).code == "anchor_dead"


async def test_own_change_is_spent_again_before_it_is_mined(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "2", into="acme")
    await btc.fund("btc:BTC", "0.01")
    first = await btc.request("0.5")
    lane = await btc.cycle()
    second = await btc.request("0.6")
    await btc.cycle(lane)

    assert await btc.states(first, second) == ["sent", "sent"]
    for _ in range(3):
        await btc.mine()
        await btc.cycle(lane)
    assert await btc.states(first, second) == ["completed", "completed"]
    await btc.assert_at_rest()
