"""Deposits on an account chain: native coin and token, capped by the chain's own finality."""

import pytest

from tests.integration.watchers.conftest import AccountBench
from tests.support.simchain import SimAccountReader, account_chain
from watchers import addresses

pytestmark = pytest.mark.postgres

HALF = 5 * 10**17  # wei: min 3, full 12 confirmations
TOKENS = 250_000_000  # 250 of a token with 6 decimals: min 3, full 12
CUSTODY = "custody:eth/deposit/acme:eth:ETH"
TOKEN_CUSTODY = "custody:eth/deposit/acme:eth:USDT"


class StuckFinality(SimAccountReader):
    """The network builds blocks and finalises none."""

    async def finalised_height(self) -> int | None:
        return 0


async def test_native_coin_and_token_are_credited_and_settled(account: AccountBench) -> None:
    anna = await account.watch.address("anna")
    account.sim.pay("eth:ETH", anna.address, HALF)
    account.sim.pay("eth:USDT", anna.address, TOKENS)
    account.sim.mine(3)
    await account.watch.follow()
    assert await account.watch.books() == {
        CUSTODY: HALF,
        TOKEN_CUSTODY: TOKENS,
        "player:acme:anna:provisional:eth:ETH": HALF,
        "player:acme:anna:provisional:eth:USDT": TOKENS,
    }
    await account.watch.audit()

    account.sim.mine(9)
    await account.watch.follow()
    assert await account.watch.books() == {
        CUSTODY: HALF,
        TOKEN_CUSTODY: TOKENS,
        "brand:acme:clearing:eth:ETH": HALF,
        "brand:acme:clearing:eth:USDT": TOKENS,
    }
    await account.watch.audit()


async def test_positions_are_the_value_and_the_ordinal_of_the_log(account: AccountBench) -> None:
    anna = await account.watch.address("anna")
    account.sim.pay("eth:USDT", anna.address, TOKENS)
    account.sim.pay("eth:ETH", anna.address, HALF)
    account.sim.mine()
    await account.watch.follow()
    assert [item.position for item in await account.watch.deposits()] == ["log:0", "value"]


async def test_d04_the_senders_nonce_used_by_another_tx_reverses(account: AccountBench) -> None:
    """The world sends anna's money, loses the block, and uses the nonce to pay somebody else."""
    anna = await account.watch.address("anna")
    txid = account.sim.pay("eth:ETH", anna.address, HALF)
    account.sim.mine(3)
    await account.watch.follow()
    assert (await account.watch.deposit()).state == "provisional"

    account.sim.rewind(3)
    account.sim.drop(txid)
    account.sim.pay("eth:ETH", "0x00000000000000000000000000000000000000aa", HALF)
    account.sim.mine(12)
    await account.watch.follow()

    deposit = await account.watch.deposit()
    assert deposit.state == "reversed"
    assert await account.watch.books() == {}
    await account.watch.audit()


async def test_two_brands_have_their_own_custody_and_clearing(account: AccountBench) -> None:
    anna = await account.watch.address("anna", brand="acme")
    zoe = await account.watch.address("zoe", brand="zest")
    account.sim.pay("eth:ETH", anna.address, HALF)
    account.sim.pay("eth:ETH", zoe.address, HALF)
    account.sim.mine(12)
    await account.watch.follow()
    assert await account.watch.books() == {
        CUSTODY: HALF,
        "custody:eth/deposit/zest:eth:ETH": HALF,
        "brand:acme:clearing:eth:ETH": HALF,
        "brand:zest:clearing:eth:ETH": HALF,
    }
    await account.watch.audit()


async def test_value_to_a_gas_account_is_an_inflow_of_the_gas_wallet(
    account: AccountBench,
) -> None:
    async with account.watch.as_payouts.unit_of_work() as uow:
        gas = await addresses.own_address(uow, network="eth", role="gas")
    account.sim.pay("eth:ETH", gas.address, HALF)
    account.sim.mine(12)
    await account.watch.follow()
    assert await account.watch.books() == {
        "custody:eth/gas:eth:ETH": HALF,
        "suspense:eth:ETH": HALF,
    }
    await account.watch.audit()


async def test_a_deposit_is_not_final_before_the_chain_calls_it_so(
    account: AccountBench,
) -> None:
    """Full depth is reached, but the node's finalized block lies below the deposit's."""

    anna = await account.watch.address("anna")
    account.sim.pay("eth:ETH", anna.address, HALF)
    account.sim.mine(20)
    stuck = account_chain(account.sim, reader=StuckFinality(account.sim))
    await account.watch.follow(account.watch.new_follower("first", chain=stuck))
    assert (await account.watch.deposit()).state == "provisional"

    await account.watch.follow()
    assert (await account.watch.deposit()).state == "final"


async def test_d04_a_conflict_reverses_only_once_its_block_is_final_to_the_chain_itself(
    account: AccountBench,
) -> None:
    """The full tier is deep, yet the network's finality stands still: nothing is taken back."""
    anna = await account.watch.address("anna")
    txid = account.sim.pay("eth:ETH", anna.address, HALF)
    account.sim.mine(3)
    await account.watch.follow()
    account.sim.rewind(3)
    account.sim.drop(txid)
    account.sim.pay("eth:ETH", "0x00000000000000000000000000000000000000aa", HALF)
    account.sim.mine(14)
    stuck = account.watch.new_follower(
        "first", chain=account_chain(account.sim, reader=StuckFinality(account.sim))
    )
    await account.watch.follow(stuck)
    assert (await account.watch.deposit()).state == "orphaned"

    await account.watch.follow()
    assert (await account.watch.deposit()).state == "reversed"
    await account.watch.audit()
