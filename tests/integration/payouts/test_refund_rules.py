"""D12 beside the straight road: refunds that wait, the check of the books, a stolen role."""

import pytest
from sqlalchemy.exc import ProgrammingError

from tests.support.payouts import Payouts
from tests.support.refunding import (
    findings,
    finish,
    open_refunds,
    rejected,
    sign,
)
from watchers.deposit_commands import DepositRow

pytestmark = pytest.mark.postgres


async def test_l14_the_check_of_the_books_finds_nothing_about_what_was_paid(btc: Payouts) -> None:
    """Every completed withdrawal has its settlement, of whatever version."""
    await btc.fund("btc:BTC", "1")
    await btc.fund("btc:BTC", "2", into="acme")
    row = await btc.request("0.25")
    await finish(btc)
    assert await btc.states(row) == ["completed"]
    assert await findings(btc) == []


async def test_l14_the_check_of_the_books_knows_a_refund_that_is_not_told(btc: Payouts) -> None:
    """A deposit that says it is sent back without a refund, or one whose refund says otherwise."""
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    row = await sign(btc, deposit)
    assert await findings(btc) == []
    for planted, mended in (
        ("state = 'refunded'", "state = 'refunding'"),
        ("state = 'rejected'", "state = 'refunding'"),
        ("credited_stage = 'held'", "credited_stage = 'refund_held'"),
    ):
        await _plant(btc, deposit, planted)
        found = await findings(btc)
        assert {item.split()[0] for item in found} <= {"deposit_refund", "deposit_stage"}
        assert found != []
        await _plant(btc, deposit, mended)
    await finish(btc)
    assert await btc.states(row) == ["completed"]


async def _plant(built: Payouts, deposit: DepositRow, change: str) -> None:
    async with built.database.unit_of_work() as uow:
        await uow.execute(
            f"UPDATE chain.deposits SET {change}, version = version + 1 WHERE id = :id",
            {"id": deposit.id},
        )


async def test_a_stolen_payouts_role_makes_no_other_step_of_a_deposit(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "1")
    await open_refunds(btc)
    deposit = await rejected(btc)
    for state in ("final", "refunded", "refunding", "on_hold", "provisional"):
        with pytest.raises(ProgrammingError, match="does not make it"):
            async with btc.role.unit_of_work() as uow:
                await uow.execute(
                    "UPDATE chain.deposits SET state = :state WHERE id = :id",
                    {"id": deposit.id, "state": state},
                )
    for place in ("credited_stage = 'clearing'", "prior_state = 'final'"):
        with pytest.raises(ProgrammingError, match="moves its value only with its state"):
            async with btc.role.unit_of_work() as uow:
                await uow.execute(
                    f"UPDATE chain.deposits SET {place} WHERE id = :id", {"id": deposit.id}
                )
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with btc.role.unit_of_work() as uow:
            await uow.execute("DELETE FROM gateway.refund_requests")


async def test_d12_a_wallet_of_players_coins_alone_waits_for_hot_ones(btc: Payouts) -> None:
    """The signer takes no coin that a player paid; nothing goes back and forth meanwhile."""
    await open_refunds(btc)
    deposit = await rejected(btc)
    row = await sign(btc, deposit)
    await btc.cycle(times=2)
    waiting = await btc.row(row)
    assert (waiting.state, waiting.code) == ("waiting_liquidity", "hot_wallet")
    assert await btc.alarms() == ["refund_waits"]
    await btc.cycle(times=3)
    assert (await btc.row(row)).version == waiting.version
    assert btc.signer.asked == []

    await btc.fund("btc:BTC", "1")
    await finish(btc)
    assert await btc.states(row) == ["completed"]
    assert await btc.alarms() == []
    await btc.assert_at_rest()


async def test_s10_over_the_signers_day_a_refund_waits_and_is_tried_again(btc: Payouts) -> None:
    await btc.fund("btc:BTC", "3")
    await open_refunds(btc, units=1)
    rows = [
        await sign(btc, await rejected(btc, "0.6", player_id=player)) for player in ("anna", "bert")
    ]
    await finish(btc, blocks=3)
    assert sorted(await btc.states(*rows)) == ["completed", "waiting_liquidity"]
    [waiting] = [row for row in [await btc.row(row) for row in rows] if row.txid is None]
    assert waiting.code == "signer_cap"
    seconds = 25 * 3600
    btc.clock.advance(float(seconds))
    btc.signer.kit.clock.now += seconds
    await btc.sample_fees()
    await finish(btc)
    assert await btc.states(*rows) == ["completed", "completed"]
    assert "refund_waits" not in await btc.alarms()
    await btc.assert_at_rest()
