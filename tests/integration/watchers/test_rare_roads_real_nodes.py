"""What a deposit meets seldom, on the real programs: dust, a rotated address, the chain's own
finality, and a final deposit whose block leaves after its money was moved on."""

import pytest

from config.settings import AssetSettings, TierSettings
from gateway.sandbox.nodes import Bitcoind
from ledger import holds
from tests.integration.watchers.conftest import RealBench
from tests.integration.watchers.test_real_nodes import AMOUNTS, pay_players
from tests.support.watching import Watch
from tests.support.worlds import World
from watchers import addresses
from watchers.addresses import AddressRow
from watchers.chain import Pay

pytestmark = [pytest.mark.postgres, pytest.mark.node]


async def pay(world: World, row: AddressRow, amount: int) -> None:
    await world.pay([Pay(asset=world.native, address=row.address, amount_minor=amount)])


async def settled(world: World, watch: Watch, amount: int) -> None:
    """Blocks until the full tier of what came in one block (D75), and two more for the chain's own
    finality."""
    tier = watch.registry.assets[world.native].tier(amount)
    await world.mine(tier.full_depth + 2)
    await watch.follow()


async def test_d20_less_than_the_minimum_is_in_the_books_and_nobodys_credit(
    real: RealBench,
) -> None:
    world, watch = real.world, real.watch
    amount = watch.registry.assets[world.native].minimum_deposit_minor - 1
    await pay(world, await watch.address("anna"), amount)
    await world.mine(1)
    await watch.follow()
    assert (await watch.deposit()).state == "below_minimum"
    assert await watch.books() == {}
    await settled(world, watch, amount)
    books = await watch.books()
    assert books.pop(f"unallocated:{world.native}") == amount
    assert list(books.values()) == [amount]
    assert next(iter(books)).startswith("custody:")
    await watch.audit()


async def test_d22_d23_a_rotated_address_is_credited_to_its_owner_and_flagged_late(
    real: RealBench,
) -> None:
    world, watch = real.world, real.watch
    amount = AMOUNTS[world.native]
    old = await watch.address("anna")
    async with watch.as_api.unit_of_work(brand="acme") as uow:
        new = await addresses.rotate(uow, address_id=old.id, brand="acme", at=watch.clock.now())
    assert new.address != old.address
    await pay(world, old, amount)
    await pay(world, new, amount + 1)
    await settled(world, watch, 2 * amount + 1)
    found = await watch.deposits()
    assert [(item.player_id, item.state, item.is_late) for item in found] == [
        ("anna", "final", True),
        ("anna", "final", False),
    ]
    assert (await watch.books())[f"brand:acme:clearing:{world.native}"] == 2 * amount + 1
    await watch.audit()


@pytest.mark.parametrize("real", ["anvil"], indirect=True)
@pytest.mark.parametrize(
    "network_settings",
    [{"assets": {"eth:ETH": AssetSettings(tiers=(TierSettings(min=1, full=1),))}}],
    indirect=True,
    ids=["full=1"],
)
async def test_d59_r9_anvils_own_finality_is_waited_for_after_the_full_tier(
    real: RealBench,
) -> None:
    """One confirmation is the full tier here; anvil calls final what is two blocks deep."""
    world, watch = real.world, real.watch
    await pay_players(world, watch, ["anna"])
    for state in ("provisional", "provisional", "final"):
        await world.mine(1)
        await watch.follow()
        assert (await watch.deposit()).state == state
    await watch.audit()


async def test_d05_d77_a_final_deposit_that_was_moved_on_is_a_receivable_on_bitcoind(
    bitcoind: Bitcoind, bitcoin_watch: Watch
) -> None:
    watch = bitcoin_watch
    amount = AMOUNTS["btc:BTC"]
    full_depth = watch.registry.assets["btc:BTC"].tier(amount).full_depth
    anna = await watch.address("anna")
    txid = await bitcoind.send(anna.address, "0.5")
    await bitcoind.mine(full_depth)
    await watch.follow()
    assert (await watch.deposit()).state == "final"
    async with watch.as_api.unit_of_work() as uow:
        assert await holds.place(
            uow,
            hold_id=watch.ids.new_id(),
            brand="acme",
            player_id="anna",
            asset="btc:BTC",
            amount=amount,
            reference="hold:1",
            at=watch.clock.now(),
        )

    await bitcoind.double_spend(txid, depth=full_depth)
    await bitcoind.mine(full_depth)
    await watch.follow()
    assert (await watch.deposit()).state == "reversed"
    assert (await watch.books())["receivable:acme:btc:BTC"] == amount
    await watch.audit()
