"""What a blocked player pays is held: once, at its finality, through reorgs (CONTRACT 4)."""

import pytest

from tests.integration.watchers.conftest import AccountBench, UtxoBench
from tests.support.watching import Watch
from watchers import player_flags

pytestmark = pytest.mark.postgres

HALF = 50_000_000  # satoshi: min 1, full 3 confirmations
ETHER_HALF = 5 * 10**17  # wei: min 3, full 12 confirmations
PROVISIONAL = "player:acme:anna:provisional:btc:BTC"
HELD = "player:acme:anna:held:btc:BTC"
CLEARING = "brand:acme:clearing:btc:BTC"
UNALLOCATED = "unallocated:btc:BTC"
CUSTODY = "custody:btc/hot:btc:BTC"


async def block(watch: Watch, *reasons: str, player: str = "anna") -> None:
    """What the casino says of the player from now on."""
    async with watch.as_api.unit_of_work(brand="acme") as uow:
        await player_flags.put(
            uow,
            brand="acme",
            player_id=player,
            kyc_level=None,
            group=None,
            country=None,
            blocked_reasons=reasons,
            changed_by="acme-key",
            at=watch.clock.now(),
        )


async def test_a_blocked_players_deposit_is_held_and_booked_at_its_finality(
    utxo: UtxoBench,
) -> None:
    await block(utxo.watch, "fraud")
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert (deposit.state, deposit.substatus) == ("on_hold", "player_blocked")
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()

    utxo.sim.mine(2)
    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert await utxo.watch.states(deposit.id) == ["pending", "on_hold"]
    assert (deposit.credited_stage, deposit.final_at_height) == ("held", None)
    assert await utxo.watch.books() == {CUSTODY: HALF, HELD: HALF}
    await utxo.watch.audit()

    utxo.sim.mine(3)  # nothing of it is due any more
    await utxo.watch.follow()
    assert await utxo.watch.books() == {CUSTODY: HALF, HELD: HALF}


async def test_a_deposit_that_is_final_at_once_is_held_at_once(utxo: UtxoBench) -> None:
    await block(utxo.watch, "fraud")
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(4)
    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert (deposit.state, deposit.credited_stage) == ("on_hold", "held")
    assert await utxo.watch.books() == {CUSTODY: HALF, HELD: HALF}
    await utxo.watch.audit()


async def test_what_is_provisional_when_the_player_is_blocked_never_becomes_final(
    utxo: UtxoBench,
) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    assert await utxo.watch.books() == {CUSTODY: HALF, PROVISIONAL: HALF}

    await block(utxo.watch, "fraud")
    utxo.sim.mine(2)
    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert await utxo.watch.states(deposit.id) == ["pending", "provisional", "on_hold"]
    assert (deposit.credited_stage, deposit.final_at_height) == ("held", None)
    assert await utxo.watch.books() == {CUSTODY: HALF, HELD: HALF}
    await utxo.watch.audit()


async def test_only_the_blocked_players_deposits_are_held(utxo: UtxoBench) -> None:
    await block(utxo.watch, "fraud")
    await block(utxo.watch, player="ben")
    for index, player in enumerate(("anna", "ben")):
        address = await utxo.watch.address(player)
        utxo.sim.pay([(address.address, HALF + index)])
    theirs = await utxo.watch.address("anna", brand="zest")  # another person of the same name
    utxo.sim.pay([(theirs.address, HALF + 2)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert [item.state.value for item in await utxo.watch.deposits()] == [
        "on_hold",
        "final",
        "final",
    ]
    await utxo.watch.audit()


async def test_d04_a_held_deposit_whose_block_is_lost_comes_back_held(utxo: UtxoBench) -> None:
    await block(utxo.watch, "fraud")
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine(3)
    await utxo.watch.follow()

    utxo.sim.rewind(3)
    for _ in range(4):
        utxo.sim.mine_exactly([])
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "orphaned"
    assert await utxo.watch.books() == {CUSTODY: HALF, HELD: HALF}

    utxo.sim.mine()
    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert deposit.state == "on_hold"
    assert deposit.final_at_height is not None  # its new block is not final
    utxo.sim.mine(2)
    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert await utxo.watch.states(deposit.id) == ["pending", "on_hold", "orphaned", "on_hold"]
    assert deposit.final_at_height is None
    assert await utxo.watch.books() == {CUSTODY: HALF, HELD: HALF}
    await utxo.watch.audit()


@pytest.mark.parametrize("is_provisional", [False, True])
async def test_d04_a_held_deposit_that_is_reversed_leaves_nothing(
    utxo: UtxoBench, is_provisional: bool
) -> None:
    anna = await utxo.watch.address("anna")
    if not is_provisional:
        await block(utxo.watch, "fraud")
    txid = utxo.sim.pay([(anna.address, HALF)])
    utxo.sim.mine()
    await utxo.watch.follow()
    await block(utxo.watch, "fraud")
    utxo.sim.mine(2)
    await utxo.watch.follow()
    assert await utxo.watch.books() == {CUSTODY: HALF, HELD: HALF}

    utxo.sim.rewind(3)
    utxo.sim.conflict(txid)
    utxo.sim.mine(4)
    await utxo.watch.follow()
    assert (await utxo.watch.deposit()).state == "reversed"
    assert await utxo.watch.books() == {}
    await utxo.watch.audit()


async def test_d20_what_is_nobodys_and_comes_back_is_booked_once(utxo: UtxoBench) -> None:
    anna = await utxo.watch.address("anna")
    utxo.sim.pay([(anna.address, 9_999)])
    utxo.sim.mine(3)
    await utxo.watch.follow()
    assert await utxo.watch.books() == {CUSTODY: 9_999, UNALLOCATED: 9_999}

    utxo.sim.rewind(3)
    utxo.sim.mine(4)
    await utxo.watch.follow()
    deposit = await utxo.watch.deposit()
    assert (deposit.state, deposit.final_at_height) == ("below_minimum", None)
    assert await utxo.watch.books() == {CUSTODY: 9_999, UNALLOCATED: 9_999}
    await utxo.watch.audit()


async def test_a_held_deposit_of_an_account_chain_stands_at_its_address(
    account: AccountBench,
) -> None:
    await block(account.watch, "fraud")
    anna = await account.watch.address("anna")
    account.sim.pay("eth:ETH", anna.address, ETHER_HALF)
    account.sim.mine(13)
    await account.watch.follow()
    assert (await account.watch.deposit()).state == "on_hold"
    assert await account.watch.books() == {
        "custody:eth/deposit/acme:eth:ETH": ETHER_HALF,
        "player:acme:anna:held:eth:ETH": ETHER_HALF,
    }
    await account.watch.audit()
