"""Versions of the policy on the road of a deposit: groups, kept versions, caps end to end."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.watchers.conftest import UtxoBench
from tests.support.watching import Watch
from watchers import exposure, player_flags, policies, rates

pytestmark = pytest.mark.postgres

HALF = 50_000_000  # satoshi: the configuration says min 1, full 3


async def put_policy(watch: Watch, **content: list[Mapping[str, Any]]) -> None:
    """The next version, as two people would."""
    async with watch.as_api.unit_of_work() as uow:
        version = (await policies.VERSIONS.latest(uow)).version + 1
        await policies.VERSIONS.put(
            uow,
            version=version,
            content={"tiers": [], "caps": [], **content},
            proposed_by="ada",
            approved_by="grace",
            at=watch.clock.now(),
        )


def steps(group: str | None, minimum: int, full: int) -> dict[str, Any]:
    """A rule about bitcoin."""
    rule: dict[str, Any] = {"asset": "btc:BTC", "steps": [{"min": minimum, "full": full}]}
    return rule if group is None else {**rule, "group": group}


async def put_rate(watch: Watch, text: str) -> None:
    """A rate of now that two people agreed on."""
    async with watch.as_api.unit_of_work() as uow:
        await rates.record(
            uow,
            rate_id=watch.ids.new_id(),
            asset="btc:BTC",
            rate=Decimal(text),
            source=rates.STAFF,
            as_of=watch.clock.now(),
            entered_by="ada",
            approved_by="grace",
            reference=watch.network.reference,
            at=watch.clock.now(),
        )


async def differences(watch: Watch) -> list[exposure.Difference]:
    """What the usage rows and the deposits disagree about."""
    async with watch.as_watcher.unit_of_work() as uow:
        return await exposure.check(uow)


async def test_the_group_of_the_player_chooses_the_tier(utxo: UtxoBench) -> None:
    watch = utxo.watch
    await put_policy(watch, tiers=[steps("new", 4, 8), steps(None, 2, 5)])
    async with watch.as_api.unit_of_work(brand="acme") as uow:
        await player_flags.put(
            uow,
            brand="acme",
            player_id="anna",
            kyc_level=None,
            group="new",
            country=None,
            blocked_reasons=[],
            changed_by="crm",
            at=watch.clock.now(),
        )
    anna, bert = await watch.address("anna"), await watch.address("bert")
    utxo.sim.pay([(anna.address, HALF), (bert.address, HALF + 1)])
    utxo.sim.mine(1)
    await watch.follow()
    found = [(row.min_depth, row.full_depth, row.policy_version) for row in await watch.deposits()]
    assert found == [(4, 8, 1), (2, 5, 1)]


async def test_a_deposit_keeps_the_version_that_it_was_judged_by(utxo: UtxoBench) -> None:
    watch = utxo.watch
    await put_policy(watch, tiers=[steps(None, 4, 8)])
    anna = await watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(1)
    await watch.follow()
    await put_policy(watch, tiers=[steps(None, 1, 1)])  # looser: nothing booked moves
    utxo.sim.mine(2)
    await watch.follow()
    row = await watch.deposit()
    assert (row.state, row.min_depth, row.full_depth, row.policy_version) == ("pending", 4, 8, 1)
    utxo.sim.pay([(anna.address, HALF + 1)])
    utxo.sim.mine(1)
    await watch.follow()
    old, new = await watch.deposits()
    assert (old.state, old.policy_version) == ("provisional", 1)
    assert (new.state, new.policy_version) == ("final", 2)
    await watch.audit()


async def test_a_stricter_version_meets_what_no_block_has_yet(utxo: UtxoBench) -> None:
    watch = utxo.watch
    anna = await watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    await watch.follow()
    await put_policy(watch, tiers=[steps(None, 5, 9)])
    utxo.sim.mine(1)
    await watch.follow()
    row = await watch.deposit()
    assert (row.state, row.min_depth, row.full_depth, row.policy_version) == ("pending", 5, 9, 1)


async def test_n2_a_capped_deposit_becomes_final_without_having_been_provisional(
    utxo: UtxoBench,
) -> None:
    watch = utxo.watch
    await put_rate(watch, "1000")
    await put_policy(watch, caps=[{"per_player": "500.00"}])
    anna = await watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(1)
    utxo.sim.pay([(anna.address, HALF + 1)])  # in a block of its own: a tier is of a block's sum
    utxo.sim.mine(1)
    await watch.follow()
    first, second = await watch.deposits()
    assert (first.state, second.state, second.substatus) == (
        "provisional",
        "pending",
        "exposure_cap",
    )
    assert await differences(watch) == []
    utxo.sim.mine(2)
    await watch.follow()
    assert await watch.states(second.id) == ["pending", "final"]
    assert (await watch.deposits())[1].substatus is None
    assert await differences(watch) == []
    await watch.audit()


async def test_n2_room_that_a_final_deposit_leaves_goes_to_the_one_that_waits(
    utxo: UtxoBench,
) -> None:
    watch = utxo.watch
    await put_rate(watch, "1000")
    await put_policy(watch, caps=[{"per_brand": "500.00"}])
    anna, bert = await watch.address("anna"), await watch.address("bert")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(2)
    await watch.follow()
    utxo.sim.pay([(bert.address, HALF - 1)])
    utxo.sim.mine(1)  # Anna's is final in the block that Bert's is in
    await watch.follow()
    await watch.follow()
    assert {row.player_id: row.state.value for row in await watch.deposits()} == {
        "anna": "final",
        "bert": "provisional",
    }
    assert await differences(watch) == []
    await watch.audit()


async def test_reorgs_keep_the_count_equal_to_the_deposits(utxo: UtxoBench) -> None:
    watch = utxo.watch
    await put_rate(watch, "1000")
    await put_policy(watch, caps=[{"per_player": "700.00"}])
    anna = await watch.address("anna")
    for number in range(2):
        utxo.sim.pay([(anna.address, HALF + number)])
        utxo.sim.mine(1)
        await watch.follow()
        assert await differences(watch) == []
    for depth in (1, 2, 3):
        utxo.sim.mine(2)
        await watch.follow()
        utxo.sim.rewind(depth)
        for _ in range(depth + 1):
            utxo.sim.mine_exactly([])
        await watch.follow()
        assert await differences(watch) == []
    utxo.sim.mine(6)
    await watch.follow()
    assert await differences(watch) == []
    await watch.audit()
