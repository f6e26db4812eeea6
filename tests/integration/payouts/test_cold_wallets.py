"""Which addresses of a cold wallet are watched, when its configuration changes."""

import pytest

from config.settings import ColdSettings
from tests.support.bumps import network_of
from tests.support.cold import ALONE, TWO_OF_THREE, ColdPeople
from tests.support.payouts import Payouts
from watchers import addresses, cold
from watchers.addresses import AddressRole
from watchers.registry import bitcoin_params

pytestmark = pytest.mark.postgres


async def registered(house: Payouts, people: ColdPeople, *, count: int) -> int:
    """How many addresses became new with this wallet and so many of each branch."""
    params = bitcoin_params(house.registry.chains[house.network])
    first = people.wallet(params).derive(branch=0, index=0).address
    settings = ColdSettings(address=first, descriptor=people.text(), addresses=count)
    return await cold.register(house.database, network_of(house), settings, clock=house.clock)


async def test_a_second_wallet_grows_beside_the_addresses_of_the_first(btc: Payouts) -> None:
    assert await registered(btc, ALONE, count=4) == 8
    assert await registered(btc, TWO_OF_THREE, count=4) == 8
    assert await registered(btc, TWO_OF_THREE, count=8) == 8  # its change addresses ran out
    assert await registered(btc, TWO_OF_THREE, count=8) == 0
    assert await registered(btc, ALONE, count=4) == 0
    async with btc.database.unit_of_work() as uow:
        rows = await addresses.by_role(uow, network="btc", roles=(AddressRole.COLD,))
    assert [row.account for row in rows].count(1) == 16
