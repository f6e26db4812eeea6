"""Tokens that no list has: told and kept for recovery, never booked."""

from dataclasses import replace

import pytest

from tests.integration.watchers.conftest import AccountBench
from tests.support.simchain import SimAccount, SimAccountReader, account_chain
from watchers.addresses import AddressRow
from watchers.chain import Block, Transfer
from watchers.deposit_blocks import UNLISTED_PER_BLOCK

pytestmark = pytest.mark.postgres

STRANGE = "eth:0x" + "ab" * 20


class SpamReader(SimAccountReader):
    """A node whose newest block also holds logs of a token that no list has."""

    def __init__(self, world: SimAccount, payee: AddressRow, amounts: list[int]) -> None:
        super().__init__(world)
        self._payee, self._amounts = payee, amounts

    async def block(self, block_hash: str) -> Block:
        found = await super().block(block_hash)
        if found.ref.height == 0:
            return found
        txid = "0x" + f"{found.ref.height:064x}"
        logs = [
            Transfer(
                txid=txid,
                position=f"log:{number}",
                asset=STRANGE,
                to_key=self._payee.key,
                amount_minor=amount,
            )
            for number, amount in enumerate(self._amounts)
        ]
        return replace(found, transfers=(*found.transfers, *logs), txids=(*found.txids, txid))


async def follow(account: AccountBench, payee: AddressRow, amounts: list[int]) -> None:
    """Follow a node that tells of these amounts of the strange token in each block."""
    reader = SpamReader(account.sim, payee, amounts)
    chain = account_chain(account.sim, reader=reader)
    await account.watch.follow(account.watch.new_follower("first", chain=chain))


async def alarms(account: AccountBench) -> list[str]:
    async with account.watch.as_watcher.unit_of_work() as uow:
        return list((await uow.execute("SELECT kind FROM gateway.alarms")).scalars())


async def test_d73_a_token_that_no_list_has_is_recorded_and_not_booked(
    account: AccountBench,
) -> None:
    """A value of zero is none; the largest there is keeps every digit; no tier credits it."""
    anna = await account.watch.address("anna")
    account.sim.mine(1)
    await follow(account, anna, [2**256 - 1, 0])
    (deposit,) = await account.watch.deposits()
    assert (deposit.state, deposit.asset) == ("unsupported", STRANGE)
    assert deposit.amount_minor == 2**256 - 1
    assert deposit.substatus == "unlisted_token"
    assert await account.watch.states(deposit.id) == ["pending", "unsupported"]
    account.sim.mine(40)
    await follow(account, anna, [])
    assert (await account.watch.deposit()).state == "unsupported"
    assert await account.watch.books() == {}
    await account.watch.audit()


async def test_d37_a_contract_that_is_listed_on_another_network_is_told_as_that(
    account: AccountBench,
) -> None:
    watch = account.watch
    usdt = watch.network.assets["eth:USDT"]
    twin = replace(usdt, id="side:USDT", network="side", contract=STRANGE.partition(":")[2])
    watch.network = replace(watch.network, assets={**watch.network.assets, twin.id: twin})
    anna = await watch.address("anna")
    account.sim.mine(1)
    await follow(account, anna, [5])
    deposit = await watch.deposit()
    assert (deposit.state, deposit.substatus) == ("unsupported", "wrong_network")
    assert await watch.books() == {}
    account.sim.rewind(1)
    account.sim.mine(2)
    await follow(account, anna, [5])
    account.sim.mine(40)
    await follow(account, anna, [])
    again = await watch.deposits()
    assert [(row.state, row.substatus) for row in again] == 2 * [("unsupported", "wrong_network")]
    await watch.audit()


async def test_d73_an_unlisted_token_whose_block_is_lost_is_reversed_without_a_posting(
    account: AccountBench,
) -> None:
    anna = await account.watch.address("anna")
    account.sim.mine(1)
    await follow(account, anna, [5])
    account.sim.rewind(1)
    account.sim.mine(25)
    await follow(account, anna, [])
    (deposit,) = await account.watch.deposits()
    assert await account.watch.states(deposit.id) == [
        "pending",
        "unsupported",
        "orphaned",
        "reversed",
    ]
    assert await account.watch.books() == {}


async def test_a_flood_of_worthless_tokens_is_some_rows_and_one_alarm(
    account: AccountBench,
) -> None:
    anna = await account.watch.address("anna")
    account.sim.mine(2)
    await follow(account, anna, [1] * (UNLISTED_PER_BLOCK + 1))
    found = await account.watch.deposits()
    assert len(found) == 2 * UNLISTED_PER_BLOCK
    assert await alarms(account) == ["unsupported_flood"]
