"""A break in the way of payouts: of its asset, of no other, until it is booked (L12, L13)."""

import pytest

from config.clock import SystemClock
from ledger import accounts, journal
from ledger.journal import ChainEffect, Posting, credit, debit
from tests.integration.payouts.test_breakers import start
from tests.support.comparing import network_of
from tests.support.payouts import Payouts
from tests.support.simchain import SimAccount
from watchers import reconciliations, switches
from watchers.breaks import BreakKind
from watchers.reconciliations import Run, Trigger
from watchers.switches import Action

pytestmark = pytest.mark.postgres

COIN, TOKEN = "eth:ETH", "eth:USDT"


async def compare(house: Payouts) -> Run:
    """One cycle of the watcher."""
    run, _ = await reconciliations.compare(
        house.database,
        house.chain,
        network_of(house),
        clock=SystemClock(),
        trigger=Trigger.CYCLE,
    )
    return run


async def take_token(house: Payouts) -> None:
    """One base unit of the token leaves the hot lane, and no tx of any block shows it."""
    if not isinstance(house.sim, SimAccount):
        raise TypeError("an account world is required")
    house.is_compared = False
    async with house.database.unit_of_work() as uow:
        found = await uow.execute("SELECT key FROM chain.addresses WHERE role = 'hot' LIMIT 1")
        hot = found.scalar_one()
    house.sim.tip.state.balances[TOKEN, hot] -= 1


async def rich(eth: Payouts) -> None:
    await eth.fund(COIN, "1")
    await eth.fund(COIN, "1", into="acme")
    await eth.fund(TOKEN, "50", into="acme")


async def book(house: Payouts, posting: Posting) -> None:
    async with house.database.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=house.ids.new_id(), at=house.clock.now())


async def test_l13_payouts_of_the_asset_wait_and_those_of_the_other_go_on(eth: Payouts) -> None:
    await rich(eth)
    assert (await compare(eth)).breaks == ()
    await take_token(eth)
    await eth.mine()
    [found] = (await compare(eth)).breaks
    assert (found.kind, found.asset, found.difference_minor) == (
        BreakKind.UNKNOWN_OUTGOING,
        TOKEN,
        -1,
    )
    token, coin = await eth.request("5", asset=TOKEN), await eth.request("0.1", asset=COIN)
    lane = await eth.cycle(times=2)
    assert await eth.states(token, coin) == ["queued", "sent"]

    loss = Posting(
        reference="write-off:1",
        kind="test",
        entries=(
            debit(accounts.reorg_loss(TOKEN), 1),
            credit(accounts.custody("eth", "hot", TOKEN), 1),
        ),
    )
    await book(eth, loss)
    await eth.mine()
    assert (await compare(eth)).breaks == ()
    await eth.cycle(lane)
    assert await eth.states(token) == ["queued"]  # nothing starts by itself
    for action in (Action.BUILD, Action.SIGN):
        await start(eth, action, scope=f"asset:{TOKEN}")
    await eth.sample_fees()
    await eth.cycle(lane, times=2)
    assert await eth.states(token) == ["sent"]


async def test_l12_what_was_signed_before_the_stop_keeps_the_other_assets_moving(
    eth: Payouts,
) -> None:
    """A token payout holds nonce 0, a coin payout nonce 1: a stop of the token's sending would
    leave the coin's payout waiting in every node."""
    await rich(eth)
    await compare(eth)
    token = await eth.request("5", asset=TOKEN)
    coin = await eth.request("0.1", asset=COIN)
    await take_token(eth)
    lane = await eth.cycle()
    await eth.mine()
    await compare(eth)
    for _ in range(8):
        await eth.cycle(lane)
        await eth.mine()
    assert set(await eth.states(token, coin)) <= {"completed", "queued"}
    assert await eth.states(coin) == ["completed"]


async def forget_a_fee(btc: Payouts) -> int:
    """A payout is settled, and its fee is taken out of the books again; minor units."""
    await btc.fund(btc.native, "1")
    await btc.fund(btc.native, "2", into="acme")
    row = await btc.request("0.25")
    lane = await btc.cycle(times=2)
    for _ in range(6):
        await btc.mine()
        await btc.cycle(lane)
    assert await btc.states(row) == ["completed"]
    async with btc.database.unit_of_work() as uow:
        rows = await uow.execute(
            "SELECT block_hash, height, fee_minor FROM chain.outgoing WHERE state = 'final'"
        )
        tx = rows.mappings().one()
    fee = int(tx["fee_minor"])
    effect = ChainEffect(network="btc", block_hash=tx["block_hash"], height=tx["height"])
    wrong = Posting(
        reference="wrong:fee",
        kind="test",
        entries=(
            debit(accounts.custody("btc", "hot", btc.native), fee),
            credit(accounts.network_fee(btc.native), fee),
        ),
        effect=effect,
    )
    await book(btc, wrong)
    btc.is_compared = False
    await btc.mine()
    return fee


async def test_l13_what_a_strangers_tx_took_is_never_called_a_fee(btc: Payouts) -> None:
    """The books lack a fee, and something else that they lack hides it, until a coin goes."""
    fee = await forget_a_fee(btc)
    hidden = Posting(
        reference="hidden:fee",
        kind="test",
        entries=(
            debit(accounts.reorg_loss(btc.native), fee),
            credit(accounts.custody("btc", "hot", btc.native), fee),
        ),
    )
    await book(btc, hidden)
    assert (await compare(btc)).breaks == ()
    await btc.mine()
    async with btc.database.unit_of_work() as uow:
        taken = await uow.execute(
            "UPDATE chain.coins c SET spent_by = :txid, spent_hash = b.hash, "
            "spent_height = b.height FROM chain.cursors b WHERE b.network = c.network "
            "AND (c.txid, c.vout) IN (SELECT txid, vout FROM chain.coins "
            "WHERE spent_by IS NULL AND height IS NOT NULL LIMIT 1) "
            "RETURNING c.amount",
            {"txid": "ab" * 32},
        )
        amount = int(taken.scalar_one())
    [found] = (await compare(btc)).breaks
    assert (found.kind, found.difference_minor) == (BreakKind.UNKNOWN_OUTGOING, -amount)
    assert found.details["places"][0]["txid"] == "ab" * 32


async def test_l12_a_fee_that_the_books_lack_is_named_and_stops_nothing(btc: Payouts) -> None:
    fee = await forget_a_fee(btc)
    [found] = (await compare(btc)).breaks
    assert (found.kind, found.difference_minor) == (BreakKind.UNPOSTED_FEE, -fee)
    assert found.details["places"][0]["amount_minor"] == str(fee)
    async with btc.database.unit_of_work() as uow:
        assert not await switches.is_stopped(
            uow, network="btc", asset=btc.native, action=Action.BUILD
        )


@pytest.mark.parametrize(
    ("surplus", "kind"), [(300, BreakKind.DUST), (100_000, BreakKind.UNKNOWN_INCOMING)]
)
async def test_l12_more_than_the_books_say_is_told_by_its_size(
    btc: Payouts, surplus: int, kind: BreakKind
) -> None:
    await btc.fund(btc.native, "1")
    less = Posting(
        reference="less:1",
        kind="test",
        entries=(
            debit(accounts.reorg_loss(btc.native), surplus),
            credit(accounts.custody("btc", "hot", btc.native), surplus),
        ),
    )
    await book(btc, less)
    [found] = (await compare(btc)).breaks
    assert (found.kind, found.difference_minor) == (kind, surplus)
