"""Gas per collected deposit, by each way that docs/adr compares."""

import pytest

from gateway.sandbox.nodes import Anvil
from tests.support.collecting import open_desk
from tests.support.collecting_gas import WAYS, delegation, open_token, two_txs

pytestmark = pytest.mark.node

COUNTS = (1, 10)


async def test_one_tx_by_delegation_is_cheaper_than_a_top_up_and_a_transfer(anvil: Anvil) -> None:
    """From ten deposits on at least a fifth the first time, and three fifths from then on."""
    desk = await open_desk(anvil)
    token = await open_token(desk)
    floor = await two_txs(desk, token, 10, "floor ")
    used = await delegation(desk, token, 10, "ten ")
    assert used.first * 5 < floor.first * 4
    assert used.later * 5 < floor.later * 2


@pytest.mark.parametrize("count", COUNTS)
async def test_no_counterfactual_contract_is_cheaper_than_delegation(
    anvil: Anvil, count: int
) -> None:
    desk = await open_desk(anvil)
    token = await open_token(desk)
    ours = await delegation(desk, token, count, f"{count} ")
    for way in WAYS[2:]:
        other = await way(desk, token, count, f"{count} ")
        assert ours.first < other.first
        assert ours.later < other.later
