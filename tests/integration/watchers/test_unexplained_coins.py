"""CASES D45-D48 against anvil: coins that no tx of a block names, and addresses that hold code."""

import pytest

from config.clock import SystemClock
from tests.support import evm
from tests.support.zoo import ETHER, ONE, Zoo, amounts, custody
from watchers import reconcile_chain, searches, token_store
from watchers.addresses import AddressRow

pytestmark = [pytest.mark.postgres, pytest.mark.node]


async def test_d45_coins_of_a_contract_call_are_credited_once(zoo: Zoo, anna: AddressRow) -> None:
    ben = await zoo.watch.address("ben")
    router = await evm.deploy(zoo.node, "Router")
    await zoo.call(
        router,
        "multisend(address[],uint256[])",
        [anna.address, ben.address, anna.address],
        [ETHER, 2 * ETHER, 3 * ETHER],
        wei=6 * ETHER,
    )
    await zoo.mine()
    assert await amounts(zoo) == [
        ("eth:ETH", "trace:0", ETHER, "final"),
        ("eth:ETH", "trace:1", 2 * ETHER, "final"),
        ("eth:ETH", "trace:2", 3 * ETHER, "final"),
    ]
    assert await zoo.reconcile() == 0
    assert "traces_incomplete" not in await zoo.alarms()
    await zoo.watch.audit()


async def test_d45_calls_as_deep_as_a_stranger_likes_are_read(zoo: Zoo, anna: AddressRow) -> None:
    router = await evm.deploy(zoo.node, "Router")
    await zoo.call(router, "deep(uint256,address)", 60, anna.address, wei=ETHER)
    await zoo.mine()
    ((_, position, amount, state),) = await amounts(zoo)
    assert (position, amount, state) == ("trace:" + ".".join(["0"] * 61), ETHER, "final")


@pytest.mark.parametrize("network_settings", [{"traces": "off"}], indirect=True)
async def test_d45_d47_without_traces_the_difference_is_suspense_once(
    zoo: Zoo, anna: AddressRow
) -> None:
    router = await evm.deploy(zoo.node, "Router")
    signature = "multisend(address[],uint256[])"
    await zoo.call(router, signature, [anna.address], [ETHER], wei=ETHER)
    await zoo.mine(1)
    assert await zoo.reconcile() == 1
    assert await zoo.reconcile() == 0
    await zoo.mine()
    assert await zoo.reconcile() == 0
    assert await amounts(zoo) == []
    assert await zoo.watch.books() == {
        custody("eth:ETH"): ETHER,
        "suspense:eth:ETH": ETHER,
    }
    assert await zoo.searches() == [("unexplained", "eth:ETH", 0, ETHER)]
    await zoo.watch.audit()


async def test_d46_coins_in_a_call_that_failed_are_nothing(zoo: Zoo, anna: AddressRow) -> None:
    """The outer tx succeeds (try/catch), then one that fails as a whole."""
    router = await evm.deploy(zoo.node, "Router")
    caught = await zoo.call(router, "attempt(address)", anna.address, wei=ETHER)
    failed = await zoo.call(router, "payAndRevert(address)", anna.address, wei=ETHER)
    await zoo.mine()
    receipts = [await zoo.node.rpc("eth_getTransactionReceipt", txid) for txid in (caught, failed)]
    assert [receipt["status"] for receipt in receipts] == ["0x1", "0x0"]
    tracer = {"tracer": "callTracer"}
    frame = await zoo.node.rpc("debug_traceTransaction", caught, tracer)
    inner = frame["calls"][0]["calls"][0]
    assert (int(inner["value"], 16), "error" in inner) == (ETHER, False)  # as measured
    assert await zoo.watch.deposits() == []
    assert await zoo.reconcile() == 0
    await zoo.watch.audit()


async def test_d47_a_selfdestruct_is_suspense_and_no_deposit(zoo: Zoo, anna: AddressRow) -> None:
    gift = await evm.deploy(zoo.node, "Gift")
    await zoo.node.send(gift, ETHER)
    await zoo.mine(1)
    await zoo.call(gift, "give(address)", anna.address)
    await zoo.mine()
    assert await amounts(zoo) == []
    assert await zoo.watch.books() == {
        custody("eth:ETH"): ETHER,
        "suspense:eth:ETH": ETHER,
    }
    assert "unexplained_inflow" in await zoo.alarms()
    assert await zoo.reconcile() == 0
    await zoo.watch.audit()


async def test_d47_fees_of_a_block_producer_are_suspense_in_one_cycle(
    zoo: Zoo, anna: AddressRow
) -> None:
    """No tx, log or frame names the receiver: only its balance moves."""
    old = (await zoo.node.rpc("eth_getBlockByNumber", "latest", False))["miner"]
    await zoo.node.rpc("anvil_setCoinbase", anna.address)
    await zoo.node.send(zoo.world, 1)
    await zoo.mine(1)
    await zoo.node.rpc("anvil_setCoinbase", old)
    earned = int(await zoo.node.rpc("eth_getBalance", anna.address, "latest"), 16)
    assert earned > 0
    assert await zoo.reconcile() == 1
    await zoo.mine()
    assert await zoo.watch.books() == {
        custody("eth:ETH"): earned,
        "suspense:eth:ETH": earned,
    }
    assert await amounts(zoo) == []
    await zoo.watch.audit()


async def test_d47_a_balance_that_moved_further_than_its_logs_is_suspense(
    zoo: Zoo, anna: AddressRow
) -> None:
    await zoo.pay("eth:LIE", anna.address, 5 * ONE)
    await zoo.call(zoo.tokens["eth:LIE"], "slip(address,uint256)", anna.address, 3 * ONE)
    await zoo.mine()
    assert await amounts(zoo) == [("eth:LIE", "log:0", 5 * ONE, "final")]
    books = await zoo.watch.books()
    assert (books[custody("eth:LIE")], books["suspense:eth:LIE"]) == (8 * ONE, 3 * ONE)
    assert await zoo.searches() == [("surplus", "eth:LIE", 5 * ONE, 8 * ONE)]
    await zoo.watch.audit()


async def test_d48_code_at_a_deposit_address_is_told_and_remembered(
    zoo: Zoo, anna: AddressRow
) -> None:
    await zoo.watch.address("ben")
    await zoo.node.rpc("anvil_setCode", anna.address, "0xef0100" + "ab" * 20)
    await zoo.pay("eth:ISS", anna.address, ONE)
    await zoo.mine()
    assert "code_at_address" in await zoo.alarms()
    async with zoo.watch.as_watcher.unit_of_work() as uow:
        keys = sorted([anna.key, "0x" + "00" * 20])
        assert await token_store.with_code(uow, network="eth", keys=keys) == {anna.key}
    assert await amounts(zoo) == [("eth:ISS", "log:0", ONE, "final")]
    await zoo.node.rpc("anvil_setCode", anna.address, "0x")


@pytest.mark.parametrize("network_settings", [{"traces": "off"}], indirect=True)
async def test_d47_two_watchers_that_compare_one_block_book_it_once(
    zoo: Zoo, anna: AddressRow
) -> None:
    """And a comparison that the follower has overtaken books nothing."""
    router = await evm.deploy(zoo.node, "Router")
    signature = "multisend(address[],uint256[])"
    await zoo.call(router, signature, [anna.address], [ETHER], wei=ETHER)
    await zoo.mine(1)
    watch = zoo.watch
    held = await reconcile_chain.holdings_at(watch.as_watcher, watch.chain, watch.network)
    at = watch.clock.now()
    assert held.breaks == {custody("eth:ETH"): ETHER}
    await zoo.mine(1)
    assert await searches.book(watch.as_watcher, watch.network, held, at=at) == 0
    held = await reconcile_chain.holdings_at(watch.as_watcher, watch.chain, watch.network)
    both = [await searches.book(watch.as_watcher, watch.network, held, at=at) for _ in range(2)]
    assert both == [1, 0]
    await zoo.mine()
    assert (await watch.books())["suspense:eth:ETH"] == ETHER
    await watch.audit()


@pytest.mark.parametrize("network_settings", [{"traces": "off"}], indirect=True)
async def test_d47_the_loop_finds_it_in_one_cycle_and_a_reorg_takes_it_back(
    zoo: Zoo, anna: AddressRow
) -> None:
    router = await evm.deploy(zoo.node, "Router")
    await zoo.mine(2)
    signature = "multisend(address[],uint256[])"
    await zoo.call(router, signature, [anna.address], [ETHER], wei=ETHER)
    await zoo.mine(1)
    watch = zoo.watch
    loop = searches.SearchLoop(
        chain=watch.chain,
        network=watch.network,
        database=watch.as_watcher,
        clock=SystemClock(),
    )
    assert await loop.look()
    await zoo.mine(2)
    assert (await watch.books())["suspense:eth:ETH"] == ETHER
    await zoo.node.reorg(3)
    await zoo.mine(1)
    assert await watch.books() == {}
    assert await zoo.reconcile() == 0
    await watch.audit()
