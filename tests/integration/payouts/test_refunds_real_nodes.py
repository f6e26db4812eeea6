"""D12 on bitcoind and anvil, with the signer asked over its own Unix socket."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from config.database import Database
from gateway.payouts.errors import DecisionRefused
from gateway.sandbox.nodes import Anvil
from ledger import accounts, balances
from tests.conformance.conftest import anvil_world
from tests.integration.payouts.test_paused_token import pause
from tests.support.clock import ManualClock, SequentialIds
from tests.support.payout_fixtures import OnNode
from tests.support.payouts import Payouts, SimulatedCrash, crash_at
from tests.support.people import employ
from tests.support.refunding import books, deposit_now, open_refunds, rejected, sign
from tests.support.signing import socket_signer
from tests.support.worlds import AnvilWorld

pytestmark = [pytest.mark.postgres, pytest.mark.node]

USDT = "eth:USDT"


@pytest.mark.parametrize(
    ("network", "asset", "amount"),
    [("btc", "btc:BTC", "0.5"), ("eth", "eth:ETH", "0.5"), ("eth", USDT, "7.5")],
)
async def test_d12_a_deposit_is_sent_back_by_a_real_node(
    network: str, asset: str, amount: str, on_node: OnNode, session_folder: Path
) -> None:
    """Killed after the signature, with a reorg of its block, and the books are the chain's."""
    folder = session_folder / f"back-{asset.replace(':', '')}"
    async with on_node(network, folder) as house:
        await house.fund(house.native, "1")
        if asset == USDT:
            await house.fund(USDT, "20")
        await open_refunds(house)
        deposit = await rejected(house, amount, asset=asset)
        row = await sign(house, deposit)
        async with socket_signer(house) as (_, signer):
            with pytest.raises(SimulatedCrash):
                await house.cycle(house.lane(crash=crash_at("payout.signed"), signer=signer))
            lane = await house.cycle(house.lane(signer=signer), times=2)
            await house.mine()
            await house.cycle(lane)
            await house.world.lose(1)
            await house.follow()
            await house.cycle(lane)
            for _ in range(5):
                await house.mine()
                await house.cycle(lane)

        row = await house.row(row)
        assert row.state == "completed"
        assert (await deposit_now(house, deposit)).state == "refunded"
        assert row.txid is not None
        assert (await house.chain.reader.tx_status(row.txid)).block is not None
        charged = row.fee_charged_minor or 0
        assert (charged == 0) is (asset == USDT)
        async with house.database.unit_of_work() as uow:
            assert await balances.balance(uow, accounts.fee_recovery(asset)) == charged
        await house.assert_at_rest()


async def test_d12_d57_a_refund_that_reverts_is_given_back_and_never_signed_again(
    node_programs: Mapping[str, Path],
    database: Database,
    payouts_role: Database,
    clock: ManualClock,
    ids: SequentialIds,
    session_folder: Path,
) -> None:
    """A paused token: its value is held again, its gas is gone, and PostgreSQL takes no other."""
    folder = session_folder / "back-paused"
    folder.mkdir()
    async with (
        Anvil(node_programs["anvil"], session_folder / "anvil-back") as node,
        anvil_world(node, is_agreed=False) as world,
    ):
        assert isinstance(world, AnvilWorld)
        house = await Payouts.start(
            "eth",
            database=database,
            role=payouts_role,
            clock=clock,
            ids=ids,
            folder=folder,
            world=world,
        )
        await house.fund("eth:ETH", "1")
        await house.fund(USDT, "20")
        await open_refunds(house)
        deposit = await rejected(house, "7.5", asset=USDT)
        row = await sign(house, deposit)
        await pause(world, True)
        lane = await house.cycle()
        for _ in range(6):
            await house.mine()
            await house.cycle(lane)
        assert await house.states(row) == ["failed"]
        after = await deposit_now(house, deposit)
        assert (after.state, after.credited_stage) == ("rejected", "held")
        assert (await books(house))[f"player:acme:anna:held:{USDT}"] == deposit.amount_minor
        assert await house.alarms() == ["payout_reverted"]
        await pause(world, False)
        await employ(house, "carol")
        with pytest.raises(DecisionRefused, match="failed"):
            await sign(house, deposit, "carol")
        await house.assert_at_rest()
