"""Aborts and reissues by two people on real nodes: what they relay, and what is mined counts."""

from collections.abc import Awaitable, Callable

import pytest

from gateway.payouts.approvals import Action
from gateway.sandbox.nodes import Anvil, UtxoNode
from gateway.withdrawals_store import WithdrawalRow
from ledger import accounts, balances
from ledger.accounts import Stage
from tests.integration.payouts.test_bumping_real_nodes import Open, open_house, raw_of
from tests.support.bumps import no_breaks, sent, work
from tests.support.payouts import Payouts
from tests.support.people import ask_abort, call_dead, employ
from watchers.chain import TxPlace

__all__ = ["open_house"]

pytestmark = [pytest.mark.postgres, pytest.mark.node]


async def on_its_way(house: Payouts) -> WithdrawalRow:
    """A payout in the node's mempool."""
    await employ(house)
    row = await house.request("0.25")
    await work(house)
    found = await house.row(row)
    assert found.state == "sent"
    return found


async def in_flight(house: Payouts, row: WithdrawalRow) -> int:
    """What of the player is in flight."""
    account = accounts.player(row.brand, row.player_id, Stage.IN_FLIGHT, row.asset)
    async with house.database.unit_of_work() as uow:
        return await balances.balance(uow, account)


async def finish(house: Payouts, mine: Callable[[], Awaitable[object]]) -> None:
    """To the network's full depth, the lane's work on the way and at the end."""
    depth = house.registry.chains[house.network].full_depth
    for number in range(depth + 2):
        await mine()
        if number in (0, depth + 1):
            await house.follow()
            await work(house, times=2)


@pytest.mark.parametrize("winner", ["abort", "payment"])
async def test_bitcoind_takes_an_abort_and_either_may_be_mined(
    winner: str, open_house: Open, request: pytest.FixtureRequest
) -> None:
    process: UtxoNode = request.getfixturevalue("bitcoind_process")
    async with open_house("btc") as house, process.connected() as node:
        row = await on_its_way(house)
        await ask_abort(house, row, str(row.txid))
        await work(house)
        abort = await house.row(row)
        assert (abort.state, abort.txid != row.txid) == ("cancelling", True)
        assert await node.rpc("getrawmempool") == [abort.txid]
        if winner == "payment":
            await node.mine_exactly([await raw_of(house, row.txid)])
            await house.follow()
        await finish(house, node.mine)
        found = await house.row(row)
        wanted = ("cancelled", abort.txid) if winner == "abort" else ("completed", row.txid)
        assert (found.state, found.txid) == wanted
        assert await in_flight(house, row) == 0
        await no_breaks(house)
        await house.assert_at_rest()


@pytest.mark.parametrize("winner", ["abort", "payment"])
async def test_anvil_takes_an_abort_and_either_may_be_mined(
    winner: str, open_house: Open, request: pytest.FixtureRequest
) -> None:
    process: Anvil = request.getfixturevalue("anvil_process")
    async with open_house("eth") as house, process.connected() as node:
        row = await on_its_way(house)
        await ask_abort(house, row, str(row.txid))
        await work(house)
        abort = await house.row(row)
        assert (abort.state, abort.txid != row.txid) == ("cancelling", True)
        status = await house.chain.reader.tx_status(str(abort.txid))
        assert status.place is TxPlace.MEMPOOL
        if winner == "payment":
            await node.rpc("anvil_dropTransaction", abort.txid)
            await node.rpc("eth_sendRawTransaction", "0x" + await raw_of(house, row.txid))
        await finish(house, node.mine)
        found = await house.row(row)
        wanted = ("cancelled", abort.txid) if winner == "abort" else ("completed", row.txid)
        assert (found.state, found.txid) == wanted
        assert await in_flight(house, row) == 0
        await no_breaks(house)
        await house.assert_at_rest()


async def reissued(
    house: Payouts, row: WithdrawalRow, mine: Callable[[], Awaitable[object]]
) -> None:
    """Its anchor is dead on chain: two people name it, and it is paid once more and only once."""
    found = await house.row(row)
    assert (found.state, found.code) == ("on_hold", "anchor_dead")
    assert await call_dead(house, row, Action.REISSUE, [str(row.txid)])
    await work(house, times=2)
    again = await house.row(row)
    assert (again.state, again.txid != row.txid) == ("sent", True)
    await finish(house, mine)
    assert await house.states(row) == ["completed"]
    assert {tx.txid: tx.state for tx in await sent(house)} == {
        row.txid: "replaced", again.txid: "final",
    }  # fmt: skip
    assert await in_flight(house, row) == 0
    assert await house.alarms() == []
    await house.assert_at_rest()


async def test_p06_bitcoind_mines_a_rival_and_the_reissue_is_paid_once(
    open_house: Open, request: pytest.FixtureRequest
) -> None:
    """Somebody with our key: its coin is gone, the books say so by the chain's evidence alone."""
    process: UtxoNode = request.getfixturevalue("bitcoind_process")
    async with open_house("btc") as house, process.connected() as node:
        row = await on_its_way(house)
        rival, _ = await house.theft_of(bytes.fromhex(await raw_of(house, row.txid)))
        await node.mine_exactly([rival.hex()])
        for _ in range(8):
            await node.mine_exactly([])
        await house.follow()
        await work(house)
        await house.fund("btc:BTC", "3")
        await reissued(house, row, node.mine)


async def test_p06_anvil_mines_a_rival_nonce_and_the_reissue_is_paid_once(
    open_house: Open, request: pytest.FixtureRequest
) -> None:
    """The account's nonce was spent by a tx that nobody here signed."""
    process: Anvil = request.getfixturevalue("anvil_process")
    async with open_house("eth") as house, process.connected() as node:
        row = await on_its_way(house)
        [own] = await sent(house)
        async with house.database.unit_of_work() as uow:
            result = await uow.execute("SELECT sender_key FROM chain.outgoing")
            hot = result.scalar_one()
        house.is_compared = False  # its gas is a break
        await node.rpc("anvil_dropTransaction", row.txid)
        await node.rpc("anvil_impersonateAccount", hot)
        await node.rpc(
            "eth_sendTransaction",
            {"from": hot, "to": hot, "value": "0x0", "nonce": hex(own.nonce or 0)},
        )
        await node.rpc("anvil_stopImpersonatingAccount", hot)
        await finish(house, node.mine)
        await house.fund("eth:ETH", "1")
        await reissued(house, row, node.mine)
