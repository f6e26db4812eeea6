"""CASES D50, D51 against anvil: txs that are mined twice, with other effects, or replaced."""

import pytest

from tests.support import evm
from tests.support.zoo import ETHER, ONE, Zoo, amounts, custody
from watchers import switches
from watchers.addresses import AddressRow

pytestmark = [pytest.mark.postgres, pytest.mark.node]


async def test_d50_a_tx_mined_again_behind_others_is_the_same_deposit(
    zoo: Zoo, anna: AddressRow
) -> None:
    txid = await zoo.pay("eth:ISS", anna.address, ONE)
    await zoo.mine(2)
    before = await zoo.node.rpc("eth_getTransactionReceipt", txid)
    raw = await zoo.node.rpc("eth_getRawTransactionByHash", txid)
    other = (await zoo.node.accounts())[1]
    spam = await zoo.node.rpc(
        "eth_sendTransaction",
        {
            "from": other,
            "to": zoo.tokens["eth:LIE"],
            "data": evm.call_data("claim(address,address,uint256)", other, other, 1),
            "maxPriorityFeePerGas": hex(10**11),
            "maxFeePerGas": hex(10**12),
        },
    )
    spam_raw = await zoo.node.rpc("eth_getRawTransactionByHash", spam)
    await zoo.node.rpc("anvil_dropAllTransactions")
    await zoo.node.reorg(2, txs=[(spam_raw, 0), (raw, 0)])
    await zoo.mine()
    after = await zoo.node.rpc("eth_getTransactionReceipt", txid)
    assert before["logs"][0]["logIndex"] != after["logs"][0]["logIndex"]
    assert await amounts(zoo) == [("eth:ISS", "log:0", ONE, "final")]
    assert (await zoo.watch.books())["brand:acme:clearing:eth:ISS"] == ONE
    await zoo.watch.audit()


async def test_d51_a_payment_replaced_in_the_mempool_credits_nothing(
    zoo: Zoo, anna: AddressRow
) -> None:
    nonce = await zoo.node.rpc("eth_getTransactionCount", zoo.world, "pending")
    fee = {"maxFeePerGas": hex(10**11), "maxPriorityFeePerGas": hex(10**9)}
    call = {"from": zoo.world, "nonce": nonce, "value": hex(ETHER)}
    await zoo.node.rpc("eth_sendTransaction", {**call, **fee, "to": anna.address})
    await zoo.watch.follow()
    assert await zoo.watch.books() == {}
    higher = {"maxFeePerGas": hex(10**12), "maxPriorityFeePerGas": hex(10**11)}
    await zoo.node.rpc("eth_sendTransaction", {**call, **higher, "to": zoo.world})
    await zoo.mine()
    assert await zoo.watch.books() == {}
    assert [item for item in await amounts(zoo) if item[3] in ("provisional", "final")] == []
    await zoo.watch.audit()


async def _mined_again(zoo: Zoo, raw: str, *, depth: int, empty: int) -> None:
    """Replace the last blocks: `raw` comes `empty` blocks later than it was, and is final."""
    await zoo.node.reorg(depth)
    await zoo.node.rpc("anvil_dropAllTransactions")
    await zoo.node.mine(empty)
    await zoo.node.rpc("eth_sendRawTransaction", raw)
    await zoo.mine()


@pytest.mark.parametrize("confirmations", [1, 4], ids=["provisional", "final"])
async def test_d50_a_credited_tx_that_pays_another_sum_when_mined_again_is_reversed(
    zoo: Zoo, anna: AddressRow, confirmations: int
) -> None:
    """The same txid and position, other effects: the old credit goes, the new sum is suspense."""
    await zoo.node.mine(4)
    txid = await zoo.call(zoo.tokens["eth:LIE"], "drift(address,bool)", anna.address, False)
    await zoo.mine(confirmations)
    (deposit,) = await zoo.watch.deposits()
    assert deposit.height is not None
    first = deposit.height * ONE
    assert (deposit.amount_minor, deposit.credited_stage is not None) == (first, True)
    raw = await zoo.node.rpc("eth_getRawTransactionByHash", txid)
    await _mined_again(zoo, raw, depth=confirmations, empty=confirmations + 2)

    (deposit,) = await zoo.watch.deposits()
    assert (deposit.state, deposit.amount_minor) == ("reversed", first)
    assert deposit.conflict_txid == txid
    receipt = await zoo.node.rpc("eth_getTransactionReceipt", txid)
    second = int(receipt["logs"][0]["data"], 16)
    assert second != first
    assert await zoo.watch.books() == {
        custody("eth:LIE"): second,
        "suspense:eth:LIE": second,
    }
    assert "effect_changed" in await zoo.alarms()
    assert ("changed", "eth:LIE", first, second) in await zoo.searches()
    await zoo.watch.audit()


async def test_d50_a_credited_tx_that_pays_nothing_when_mined_again_is_reversed(
    zoo: Zoo, anna: AddressRow
) -> None:
    if (await zoo.node.height()) % 2:
        await zoo.node.mine()
    await zoo.node.mine(5)  # the tx is in an even block, then in an odd one
    txid = await zoo.call(zoo.tokens["eth:LIE"], "drift(address,bool)", anna.address, True)
    await zoo.mine(1)
    (deposit,) = await zoo.watch.deposits()
    assert deposit.state == "provisional"
    raw = await zoo.node.rpc("eth_getRawTransactionByHash", txid)
    await _mined_again(zoo, raw, depth=1, empty=2)
    receipt = await zoo.node.rpc("eth_getTransactionReceipt", txid)
    assert (receipt["status"], receipt["logs"]) == ("0x1", [])
    (deposit,) = await zoo.watch.deposits()
    assert deposit.state == "reversed"
    assert await zoo.watch.books() == {}
    await zoo.watch.audit()


async def test_d50_an_uncredited_tx_that_pays_another_sum_is_credited_with_that(
    zoo: Zoo, anna: AddressRow
) -> None:
    """Nothing stands in the books: the deposit takes the sum of the block that counts."""
    await zoo.node.mine(4)
    async with zoo.watch.as_watcher.unit_of_work() as uow:
        await switches.open_breaker(
            uow,
            scope="asset:eth:LIE",
            action=switches.Action.CREDIT,
            reason="keeps the deposit pending",
            actor="test",
            ids=zoo.watch.ids,
            at=zoo.watch.clock.now(),
        )
    txid = await zoo.call(zoo.tokens["eth:LIE"], "drift(address,bool)", anna.address, False)
    await zoo.mine(2)
    (deposit,) = await zoo.watch.deposits()
    assert deposit.state == "pending"
    raw = await zoo.node.rpc("eth_getRawTransactionByHash", txid)
    await _mined_again(zoo, raw, depth=2, empty=4)
    (again,) = await zoo.watch.deposits()
    receipt = await zoo.node.rpc("eth_getTransactionReceipt", txid)
    second = int(receipt["logs"][0]["data"], 16)
    assert (again.id, again.state, again.amount_minor) == (deposit.id, "pending", second)
    assert second != deposit.amount_minor
    await zoo.watch.audit()
