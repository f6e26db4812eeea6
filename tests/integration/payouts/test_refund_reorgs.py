"""A refund and reorgs of either end: the books are those of the chain, nothing is paid twice."""

from contextlib import suppress
from random import Random

import pytest

from gateway.payouts import crash
from gateway.payouts.approvals import Action
from gateway.payouts.context import Lane
from gateway.payouts.errors import DecisionRefused
from signer.protocol import Purpose
from tests.support.auditor import audit
from tests.support.payout_fixtures import BuildHouse
from tests.support.payout_parts import DEPTH
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.people import ask_abort, call_dead, employ
from tests.support.refunding import (
    books,
    deposit_now,
    deposit_states,
    findings,
    finish,
    open_refunds,
    rejected,
    sign,
)
from tests.support.simchain import SimUtxo
from watchers import switches
from watchers.deposit_commands import DepositRow

pytestmark = pytest.mark.postgres

HELD = "player:acme:anna:held:ltc:LTC"
RESERVED = "player:acme:anna:reserved:ltc:LTC"
OWED = "receivable:acme:ltc:LTC"


@pytest.fixture
async def desk(ltc: Payouts) -> Payouts:
    """A house with a coin of its own, which refunds are paid out of: each keeps its change."""
    await ltc.fund("ltc:LTC", "3")
    await open_refunds(ltc)
    return ltc


async def lose(built: Payouts, deposit: DepositRow, *, is_dead: bool) -> None:
    """Its block leaves the chain; dead: another tx of its sender's coins is mined instead."""
    sim = built.sim
    assert isinstance(sim, SimUtxo)
    assert deposit.height is not None
    depth = sim.tip.ref.height - deposit.height + 1
    sim.rewind(depth)
    waiting = dict(sim.pool)
    rival = sim.conflict(deposit.txid) if is_dead else None
    for _ in range(depth + 1):
        sim.mine_exactly([] if rival is None else [rival])
        rival = None
    if not is_dead:
        assert deposit.txid in waiting
    await built.follow()


async def test_d04_a_deposit_that_is_lost_before_it_is_signed_waits_and_goes_on(
    desk: Payouts,
) -> None:
    deposit = await rejected(desk)
    row = await sign(desk, deposit)
    await lose(desk, deposit, is_dead=False)
    lost = await deposit_now(desk, deposit)
    assert (lost.state, lost.height, lost.credited_stage) == ("refunding", None, "refund_held")
    assert "refund_orphaned" in await desk.alarms()
    await desk.cycle(times=2)
    row = await desk.row(row)
    assert (row.state, row.code) == ("on_hold", "deposit_orphaned")
    assert desk.signer.asked == []

    await desk.mine()  # it is in a block again, and not final
    await desk.cycle(times=2)
    assert await desk.states(row) == ["on_hold"]
    await desk.mine(DEPTH)
    await finish(desk)
    assert await desk.states(row) == ["completed"]
    assert (await deposit_states(desk, deposit))[-2:] == ["refunding", "refunded"]
    assert HELD not in await books(desk)
    await desk.assert_at_rest()


async def test_d04_a_deposit_that_never_comes_back_is_not_sent_back(desk: Payouts) -> None:
    before = await books(desk)
    deposit = await rejected(desk)
    row = await sign(desk, deposit)
    await lose(desk, deposit, is_dead=True)
    await desk.cycle(times=2)
    row = await desk.row(row)
    assert (row.state, row.code) == ("declined", "deposit_orphaned")
    assert desk.signer.asked == []
    await desk.mine(DEPTH)
    await desk.cycle(times=2)
    states = await deposit_states(desk, deposit)
    assert states[-4:] == ["refunding", "rejected", "orphaned", "reversed"]
    assert await books(desk) == before
    await desk.assert_at_rest()


@pytest.mark.parametrize("is_dead", [False, True])
async def test_d04_a_deposit_that_is_lost_after_it_was_signed_is_paid_all_the_same(
    is_dead: bool, desk: Payouts
) -> None:
    deposit = await rejected(desk)
    row = await sign(desk, deposit)
    with pytest.raises(SimulatedCrash):
        await desk.cycle(desk.lane(crash=crash_at("payout.signed")))
    await lose(desk, deposit, is_dead=is_dead)
    await finish(desk, blocks=6)
    assert await desk.states(row) == ["completed"]
    after = await deposit_now(desk, deposit)
    if is_dead:  # its brand decided to send what never came
        assert (await deposit_states(desk, deposit))[-3:] == ["refunded", "orphaned", "reversed"]
        assert (await books(desk))[OWED] == deposit.amount_minor
        assert (after.state, after.credited_stage, after.substatus) == (
            "reversed", None, "sent_back",
        )  # fmt: skip
    else:
        assert after.state == "refunded"
        assert OWED not in await books(desk)
    assert not {HELD, RESERVED} & set(await books(desk))
    assert desk.paid(await desk.row(row)) == 1
    await desk.assert_at_rest()


@pytest.mark.parametrize("is_dead", [False, True])
async def test_d04_a_refunded_deposit_whose_block_is_lost(is_dead: bool, desk: Payouts) -> None:
    """Its refund stays in the chain: it was paid out of other coins."""
    deposit = await rejected(desk)
    row = await sign(desk, deposit)
    await finish(desk)
    assert (await deposit_now(desk, deposit)).state == "refunded"
    txid = (await desk.row(row)).txid
    assert txid is not None
    await lose(desk, deposit, is_dead=is_dead)
    assert txid in desk.sim.pool  # the payment lies above it, and waits again
    for _ in range(DEPTH + 2):
        await desk.mine()
        await desk.cycle(times=2)
    await finish(desk)
    assert await desk.states(row) == ["completed"]
    states = await deposit_states(desk, deposit)
    assert states[-1] == ("reversed" if is_dead else "refunded")
    assert "orphaned" in states
    assert (await books(desk)).get(OWED, 0) == (deposit.amount_minor if is_dead else 0)
    assert await findings(desk) == []
    assert desk.paid(await desk.row(row)) == 1
    await desk.assert_at_rest()


async def test_p24_a_refund_whose_block_is_lost_is_settled_again(desk: Payouts) -> None:
    deposit = await rejected(desk)
    row = await sign(desk, deposit)
    await finish(desk)
    settled = await books(desk)
    await desk.world.lose(5)  # above the deposit
    await desk.follow()
    await desk.cycle()
    assert (await deposit_now(desk, deposit)).state == "refunding"
    assert "withdrawal.reopened" in await _told(desk)
    await finish(desk)
    assert await desk.states(row) == ["completed"]
    assert (await deposit_states(desk, deposit))[-3:] == ["refunded", "refunding", "refunded"]
    assert await books(desk) == settled
    assert await findings(desk) == []
    assert desk.paid(await desk.row(row)) == 1
    await desk.assert_at_rest()


async def _until_it_dies(built: Payouts, dying: Lane) -> None:
    for _ in range(8):
        await built.mine()
        await built.cycle(dying)


async def _told(built: Payouts) -> list[str]:
    async with built.database.unit_of_work() as uow:
        result = await uow.execute("SELECT type FROM ledger.events ORDER BY position")
        return list(result.scalars())


async def test_p06_a_refund_whose_coin_is_stolen_ends_by_two_people(btc: Payouts) -> None:
    """Nothing was paid: the value is back, and the signer sends it back no more."""
    await btc.fund("btc:BTC", "3")
    await open_refunds(btc)
    deposit = await rejected(btc)
    held = (await books(btc))["player:acme:anna:held:btc:BTC"]
    row = await sign(btc, deposit)
    await btc.cycle(times=2)
    txid = (await btc.row(row)).txid
    assert txid is not None
    assert deposit.txid not in str(btc.signer.asked[-1].unsigned)  # hot coins, never a player's
    await btc.steal_inputs_of(txid)
    await btc.mine(8)
    await btc.cycle(times=2)
    row = await btc.row(row)
    assert (row.state, row.code) == ("on_hold", "anchor_dead")
    with pytest.raises(DecisionRefused, match="once"):
        await call_dead(btc, row, Action.REISSUE, [txid])
    with pytest.raises(DecisionRefused, match="aborted"):
        await ask_abort(btc, row, txid)
    assert await call_dead(btc, row, Action.DECLINE_DEAD, [txid])
    with pytest.raises(SimulatedCrash):
        await btc.cycle(btc.lane(crash=crash_at("payout.exit")))
    await btc.cycle()
    assert await btc.states(row) == ["declined"]
    assert (await deposit_states(btc, deposit))[-2:] == ["refunding", "rejected"]
    assert (await books(btc))["player:acme:anna:held:btc:BTC"] == held
    await employ(btc, "carol")
    with pytest.raises(DecisionRefused, match="declined"):
        await sign(btc, deposit, "carol")
    await btc.assert_at_rest()


async def test_d04_a_refund_that_dies_after_its_deposit_was_reversed_is_owed_by_nobody(
    desk: Payouts,
) -> None:
    """One reorg takes the deposit for ever, and the refund with the coins that it spent."""
    before = await books(desk)
    deposit = await rejected(desk)
    row = await sign(desk, deposit)
    await finish(desk)
    spent = before["custody:ltc/hot:ltc:LTC"] - (await books(desk))["custody:ltc/hot:ltc:LTC"]
    assert spent == 0  # what came in went out, its fee with it
    txid = (await desk.row(row)).txid
    assert txid is not None
    await employ(desk, "carol")
    await lose(desk, deposit, is_dead=True)
    for _ in range(DEPTH + 2):  # nobody mines the refund meanwhile
        desk.sim.mine_exactly([])
        await desk.follow()
        await desk.cycle(times=2)
    assert (await deposit_now(desk, deposit)).state == "reversed"
    assert (await books(desk))[OWED] == deposit.amount_minor
    assert await desk.states(row) == ["sent"]
    await desk.steal_inputs_of(txid)
    for _ in range(4):
        await desk.mine(2)
        await desk.cycle(times=2)
    assert await desk.states(row) == ["on_hold"]
    assert await call_dead(desk, await desk.row(row), Action.DECLINE_DEAD, [txid])
    await desk.cycle(times=2)
    assert await desk.states(row) == ["declined"]
    after = await books(desk)
    assert not {OWED, HELD, RESERVED} & set(after)
    assert after == before
    await desk.assert_at_rest()


@pytest.mark.parametrize("point", [*crash.POINTS_OF_REFUNDS[1:], "payout.settled"])
async def test_p02_a_kill_beside_a_lost_deposit_loses_nothing(
    point: str, house: BuildHouse
) -> None:
    built = await house("ltc")
    await built.fund("ltc:LTC", "3")
    await open_refunds(built)
    deposit = await rejected(built)
    row = await sign(built, deposit)
    await lose(built, deposit, is_dead=False)
    await built.cycle(times=2)
    assert await built.states(row) == ["on_hold"]
    dying = built.lane(crash=crash_at(point))
    with pytest.raises(SimulatedCrash):
        await _until_it_dies(built, dying)
    await finish(built)
    assert await built.states(row) == ["completed"]
    assert (await deposit_now(built, deposit)).state == "refunded"
    assert built.paid(await built.row(row)) == 1
    await built.assert_at_rest()


async def _start_again(built: Payouts) -> None:
    """Two people start whatever stopped by itself."""
    async with built.database.unit_of_work() as uow:
        for item in await switches.every(uow):
            if item.is_stopped:
                await switches.close_breaker(
                    uow,
                    scope=item.scope,
                    action=item.action,
                    version=item.version,
                    reason="looked at",
                    proposed_by="ada",
                    approved_by="grace",
                    ids=built.ids,
                    at=built.clock.now(),
                )


async def _one_thing(built: Payouts, random: Random, deposit: DepositRow) -> None:
    """A block, a pass of a fresh process, its death at any point, or a reorg of any depth down to
    the deposit's own block."""
    chosen = random.choice(["block", "pass", "death", "death", "reorg"])
    if chosen == "block":
        await built.mine()
    elif chosen == "pass":
        await built.cycle()
    elif chosen == "death":
        point = random.choice([*crash.POINTS, *crash.POINTS_OF_REFUNDS])
        with suppress(SimulatedCrash):
            await built.cycle(built.lane(crash=crash_at(point)), times=2)
    else:
        assert deposit.height is not None
        most = built.sim.tip.ref.height - deposit.height + 1
        await built.world.lose(random.randint(1, most))
        await built.follow()
        await _start_again(built)


@pytest.mark.parametrize("seed", range(4))
async def test_p40_reorgs_and_deaths_in_any_order_end_with_the_books_of_the_chain(
    seed: int, desk: Payouts
) -> None:
    """The deposit's tx always comes back: it is refunded once, and every comparison of books and
    chain (one with each block mined) and the auditor agree."""
    random = Random(seed)
    before = await books(desk)
    deposit = await rejected(desk)
    row = await sign(desk, deposit)
    for _ in range(14):
        await _one_thing(desk, random, deposit)
        assert await audit(desk.database.engine, at_rest=False) == []
    await _start_again(desk)
    for _ in range(8):
        await desk.mine()
        await desk.cycle(times=2)
        await _start_again(desk)
    assert await desk.states(row) == ["completed"], f"seed {seed}"
    assert (await deposit_now(desk, deposit)).state == "refunded"
    assert desk.paid(await desk.row(row)) == 1
    refunds = {ask.attempt_id for ask in desk.signer.asked if ask.purpose is Purpose.REFUND}
    assert len(refunds) == 1
    after, custody = await books(desk), "custody:ltc/hot:ltc:LTC"
    earned = after["income:fee_recovery:ltc:LTC"]
    spent = after["expense:fee:network:ltc:LTC"]  # a child that paid for it, too
    assert after[custody] == before[custody] + earned - spent
    assert await findings(desk) == []
    await desk.assert_at_rest()
