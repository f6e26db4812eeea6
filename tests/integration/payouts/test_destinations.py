"""Where a payout goes: contracts that a person looks at first, players who pay themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest

from config.database import Database
from gateway.payouts import limits
from gateway.payouts.destinations import CODE
from gateway.sandbox.nodes import Anvil
from ledger import accounts
from tests.conformance.conftest import anvil_world
from tests.integration.payouts.test_payout_road import balance
from tests.support.clock import ManualClock, SequentialIds
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts
from tests.support.people import approve, employ
from tests.support.simchain import SimAccount, SimAccountReader, account_chain

pytestmark = pytest.mark.postgres

CONTRACT = "0x00000000000000000000000000000000c0de0001"
TAKES_ALL = "0x00"  # STOP: takes coins and says nothing


class Contracts(SimAccountReader):
    """Every destination has code."""

    async def with_code(self, keys: Sequence[str], *, block_hash: str) -> frozenset[str]:
        return frozenset(keys)


@pytest.mark.node
@pytest.mark.parametrize("policy", ["pay", "approve"])
async def test_a22_a_contract_is_paid_or_waits_for_a_person_as_the_operator_says(
    policy: Literal["pay", "approve"],
    node_programs: Mapping[str, Path],
    database: Database,
    payouts_role: Database,
    clock: ManualClock,
    ids: SequentialIds,
    tmp_path: Path,
) -> None:
    """A22: the payment beside it does not wait."""
    async with (
        Anvil(node_programs["anvil"], tmp_path / "anvil") as node,
        anvil_world(node, is_agreed=False) as world,
    ):
        house = await Payouts.start(
            "eth", database=database, role=payouts_role, clock=clock, ids=ids, folder=tmp_path,
            world=world, overrides={"contract_destinations": policy},
        )  # fmt: skip
        await employ(house)
        await house.fund("eth:ETH", "1")
        await house.fund("eth:ETH", "2", into="acme")
        await node.rpc("anvil_setCode", CONTRACT, TAKES_ALL)
        there = await house.request("0.25", address=CONTRACT)
        beside = await house.request("0.3")

        lane = await house.cycle(times=2)

        if policy == "approve":
            held = await house.row(there)
            assert (held.state, held.code) == ("on_hold", CODE)
            assert await house.states(beside) == ["sent"]
            assert await house.alarms() == [CODE]
            await approve(house, held, "alice")
        for _ in range(4):
            await house.mine()
            await house.cycle(lane)
        assert await house.states(there, beside) == ["completed"] * 2
        assert int(await node.rpc("eth_getBalance", CONTRACT, "latest"), 16) == 25 * 10**16
        await house.assert_at_rest()


@pytest.mark.parametrize("policy", ["pay", "approve"])
async def test_a22_an_approval_over_a_limit_says_nothing_about_a_contract(
    policy: Literal["pay", "approve"],
    database: Database,
    payouts_role: Database,
    clock: ManualClock,
    ids: SequentialIds,
    tmp_path: Path,
) -> None:
    """A22: whoever agreed to the amount did not know that the destination is a contract."""
    house = await Payouts.start(
        "eth", database=database, role=payouts_role, clock=clock, ids=ids, folder=tmp_path,
        overrides={"contract_destinations": policy},
    )  # fmt: skip
    await employ(house)
    await house.rate("eth:ETH", "1000")
    async with house.database.unit_of_work() as uow:
        rule = {"scope": "transaction", "approval_above": "100"}
        assert await limits.VERSIONS.put(
            uow, version=1, content={"limits": [rule]}, proposed_by="ada", approved_by="grace",
            at=house.clock.now(),
        )  # fmt: skip
    await house.fund("eth:ETH", "1")
    await house.fund("eth:ETH", "2", into="acme")
    there = await house.request("0.25", address=CONTRACT)
    assert there.state == "pending_approval"
    await approve(house, there, "alice")

    assert isinstance(house.sim, SimAccount)
    chain = account_chain(house.sim, reader=Contracts(house.sim))
    lane = await house.cycle(house.lane(chain=chain))

    if policy == "approve":
        held = await house.row(there)
        assert (held.state, held.code) == ("on_hold", CODE)
        await approve(house, held, "alice")
        await house.cycle(lane)
    assert await house.states(there) == ["sent"]


async def test_a21_paying_oneself_makes_no_money_and_ends_at_the_limit(house: BuildHouse) -> None:
    """A21: each turn costs the player the fee; nobody's clearing gains, and the limit of a day is
    reached as by any other payment."""
    eth = await house("eth")
    await eth.rate("eth:ETH", "1000")
    async with eth.database.unit_of_work() as uow:
        rule = {"scope": "player", "window": "24h", "max": "1000"}
        assert await limits.VERSIONS.put(
            uow, version=1, content={"limits": [rule]}, proposed_by="ada", approved_by="grace",
            at=eth.clock.now(),
        )  # fmt: skip
    await eth.fund("eth:ETH", "1")
    await eth.fund("eth:ETH", "2", into="acme")
    await eth.deposit("looper", "0.5")
    async with eth.database.unit_of_work() as uow:
        found = await uow.execute("SELECT address FROM chain.addresses WHERE player_id = 'looper'")
        own = str(found.scalar_one())
    before = await balance(eth, accounts.clearing("acme", "eth:ETH"))
    charged = 0
    for _ in range(2):
        row = await eth.request(
            "0.5", player_id="looper", address=own, fee_mode="player", max_fee="0.01"
        )
        assert row.fee_charged_minor is not None
        charged += row.fee_charged_minor
        lane = await eth.cycle()
        for _ in range(4):
            await eth.mine()
            await eth.cycle(lane)
        assert await eth.states(row) == ["completed"]

    assert charged > 0
    assert await balance(eth, accounts.clearing("acme", "eth:ETH")) == before - charged
    refused = await eth.request("0.5", player_id="looper", address=own)
    assert (refused.state, refused.code) == ("rejected", "limit_player_24h")
    await eth.assert_at_rest()
