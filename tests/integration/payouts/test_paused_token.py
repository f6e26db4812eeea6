"""A token whose issuer paused it: its payouts revert (D57), on anvil with a token like USDT."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from config.database import Database
from gateway.sandbox.nodes import Anvil
from ledger import accounts
from tests.conformance.conftest import anvil_world
from tests.integration.payouts.test_payout_road import balance
from tests.support.clock import ManualClock, SequentialIds
from tests.support.evm import call_data
from tests.support.payouts import Payouts
from tests.support.simchain import TOKEN_CONTRACT
from tests.support.worlds import AnvilWorld

pytestmark = [pytest.mark.postgres, pytest.mark.node]

USDT = "eth:USDT"


async def pause(world: AnvilWorld, value: bool) -> None:
    """The issuer's own call, in a block."""
    data = call_data("setPaused(bool)", value)
    await world._node.transact(to=world._contract, data=data)
    await world._node.mine()


async def settle(house: Payouts, rounds: int) -> None:
    """Whole cycles with a block between each."""
    lane = await house.cycle()
    for _ in range(rounds):
        await house.mine()
        await house.cycle(lane)


async def test_d57_a_payout_of_a_paused_token_fails_once_is_told_and_not_tried_again(
    node_programs: Mapping[str, Path],
    database: Database,
    payouts_role: Database,
    clock: ManualClock,
    ids: SequentialIds,
    session_folder: Path,
) -> None:
    """In flight -> clearing once, one tx and its gas, one alarm; the next order is paid."""
    folder = session_folder / "house-paused"
    folder.mkdir()
    async with (
        Anvil(node_programs["anvil"], session_folder / "anvil-paused") as node,
        anvil_world(node, is_agreed=False) as world,
    ):
        assert isinstance(world, AnvilWorld)
        assert world._contract.lower() == TOKEN_CONTRACT
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
        await house.fund(USDT, "100", into="acme")
        await pause(world, True)
        row = await house.request("25", asset=USDT)
        await settle(house, 6)

        assert await house.states(row) == ["failed"]
        assert (await house.history(row)).count("failed") == 1
        clearing = accounts.clearing("acme", USDT)
        assert await balance(house, clearing) == house.minor(USDT, "100")
        spent = await balance(house, accounts.network_fee("eth:ETH"))
        assert spent > 0
        assert await house.alarms() == ["payout_reverted"]

        await pause(world, False)
        await settle(house, 4)
        async with database.unit_of_work() as uow:
            sent = await uow.execute("SELECT state FROM chain.outgoing")
            assert sent.scalars().all() == ["reverted"]
        assert await house.states(row) == ["failed"]
        assert await balance(house, accounts.network_fee("eth:ETH")) == spent

        again = await house.request("25", asset=USDT)
        await settle(house, 6)
        assert await house.states(row, again) == ["failed", "completed"]
        assert await balance(house, clearing) == house.minor(USDT, "75")
        assert await house.alarms() == ["payout_reverted"]
        await house.assert_at_rest()
