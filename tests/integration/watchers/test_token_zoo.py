"""CASES D33-D58 against anvil: compiled tokens that misbehave, and what the books say of them."""

import pytest
from eth_utils.address import to_checksum_address
from sqlalchemy import text

from tests.support import evm
from tests.support.worlds import Wallet
from tests.support.zoo import ETHER, MINTED, ONE, Zoo, amounts, custody
from watchers import switches, token_checks
from watchers.addresses import AddressRow
from watchers.chain import AccountPlan, Pay

pytestmark = [pytest.mark.postgres, pytest.mark.node]

MAX = 2**256 - 1


async def test_d33_value_counts_with_status_1_only(zoo: Zoo, anna: AddressRow) -> None:
    reverter = await evm.deploy(zoo.node, "Reverter")
    await zoo.call(reverter, "nothing()", wei=ETHER)
    await zoo.node.send(anna.address, ETHER)
    await zoo.mine()
    assert await amounts(zoo) == [("eth:ETH", "value", ETHER, "final")]
    await zoo.watch.audit()


async def test_d34_d35_d57_calls_that_move_nothing_credit_nothing(
    zoo: Zoo, anna: AddressRow
) -> None:
    """A transfer beyond the balance, one of a paused token, one that only returns false."""
    false_token = await evm.deploy(zoo.node, "FalseToken")
    await zoo.pay("eth:USDT", anna.address, MINTED + 1)
    await zoo.call(zoo.tokens["eth:ISS"], "setPaused(bool)", True)
    await zoo.pay("eth:ISS", anna.address, ONE)
    await evm.transfer(zoo.node, false_token, anna.address, ONE)
    await zoo.mine()
    assert await zoo.watch.deposits() == []
    assert await zoo.watch.books() == {}

    await zoo.call(zoo.tokens["eth:ISS"], "setPaused(bool)", False)
    await zoo.pay("eth:ISS", anna.address, ONE)
    await zoo.mine()
    assert await amounts(zoo) == [("eth:ISS", "log:0", ONE, "final")]
    await zoo.watch.audit()


async def test_d36_d73_a_look_alike_never_reaches_the_books(zoo: Zoo, anna: AddressRow) -> None:
    fake = await evm.deploy(zoo.node, "FakeToken")
    await evm.transfer(zoo.node, fake, anna.address, 500 * ONE)
    await zoo.mine()
    assert await amounts(zoo) == []
    assert await zoo.watch.books() == {}
    await zoo.watch.audit()


async def test_d38_other_decimals_than_the_registry_disable_the_asset(
    zoo: Zoo, anna: AddressRow
) -> None:
    look = token_checks.verify_decimals
    watch = zoo.watch
    reader = watch.chain.reader
    assert await look(watch.as_watcher, reader, watch.network, clock=watch.clock) == []
    assert not await zoo.is_stopped("eth:LIE", switches.Action.CREDIT)

    await zoo.call(zoo.tokens["eth:LIE"], "setDecimals(uint8)", 18)
    await zoo.pay("eth:LIE", anna.address, ONE)
    await zoo.pay("eth:ISS", anna.address, ONE)
    await zoo.mine()
    assert await look(watch.as_watcher, reader, watch.network, clock=watch.clock) == ["eth:LIE"]
    assert await zoo.is_stopped("eth:LIE", switches.Action.ACCEPT)
    assert not await zoo.is_stopped("eth:ISS", switches.Action.ACCEPT)
    assert await amounts(zoo) == [("eth:ISS", "log:0", ONE, "final")]
    assert (await watch.books())["suspense:eth:LIE"] == ONE
    assert {"asset_disabled", "token_contradiction"} <= await zoo.alarms()
    await watch.audit()


async def test_d39_of_a_token_with_a_fee_what_arrived_is_credited(
    zoo: Zoo, anna: AddressRow
) -> None:
    """Two transfers in one block: logs say 100 and 50 tokens, the balance rises by 148.5."""
    await zoo.pay("eth:FEE", anna.address, 100 * ONE)
    await zoo.pay("eth:FEE", anna.address, 50 * ONE)
    await zoo.mine()
    assert await amounts(zoo) == [
        ("eth:FEE", "log:0", 49_500_000, "final"),
        ("eth:FEE", "log:0", 99 * ONE, "final"),
    ]
    assert await zoo.watch.books() == {
        custody("eth:FEE"): 148_500_000,
        "brand:acme:clearing:eth:FEE": 148_500_000,
    }
    assert await zoo.searches() == []
    await zoo.watch.audit()


async def test_d39_an_undeclared_fee_is_suspense_and_stops_the_asset(
    zoo: Zoo, anna: AddressRow
) -> None:
    await zoo.pay("eth:TAX", anna.address, 100 * ONE)
    await zoo.mine()
    assert await amounts(zoo) == []
    assert await zoo.watch.books() == {
        custody("eth:TAX"): 99 * ONE,
        "suspense:eth:TAX": 99 * ONE,
    }
    assert await zoo.searches() == [("short", "eth:TAX", 100 * ONE, 99 * ONE)]
    assert await zoo.is_stopped("eth:TAX", switches.Action.CREDIT)
    assert not await zoo.is_stopped("eth:FEE", switches.Action.CREDIT)
    await zoo.watch.audit()


async def test_d39_suspense_leaves_with_its_block(zoo: Zoo, anna: AddressRow) -> None:
    await zoo.node.mine(3)
    await zoo.pay("eth:TAX", anna.address, 100 * ONE)
    await zoo.mine(3)
    assert (await zoo.watch.books())["suspense:eth:TAX"] == 99 * ONE
    await zoo.node.reorg(3)
    await zoo.mine(1)
    assert await zoo.watch.books() == {}
    await zoo.watch.audit()


async def test_d39_what_the_account_sent_itself_in_the_block_is_left_out(
    zoo: Zoo, anna: AddressRow
) -> None:
    """It receives five tokens and sends two of them on: five were claimed and five arrived."""
    await zoo.pay("eth:ISS", anna.address, 2 * ONE)
    await zoo.mine(1)
    await zoo.node.rpc("anvil_setBalance", anna.address, hex(ETHER))
    await zoo.pay("eth:ISS", anna.address, 5 * ONE)
    plan = AccountPlan(
        sender=anna.derived(),
        nonce=0,
        payment=Pay(asset="eth:ISS", address=to_checksum_address(zoo.world), amount_minor=2 * ONE),
        gas_limit=100_000,
        max_fee_per_gas=10**11,
        max_priority_fee_per_gas=10**9,
    )
    chain = zoo.watch.chain
    raw = Wallet.of(chain).sign(chain.writer.build(plan))
    await zoo.node.rpc("eth_sendRawTransaction", "0x" + raw.hex())
    await zoo.mine()
    assert [item[2] for item in await amounts(zoo)] == [2 * ONE, 5 * ONE]
    assert await zoo.searches() == []


async def test_d40_a_rebase_is_a_shortfall_and_payouts_pause(zoo: Zoo, anna: AddressRow) -> None:
    await zoo.pay("eth:REB", anna.address, 100 * ONE)
    await zoo.mine()
    await zoo.watch.audit()
    await zoo.call(zoo.tokens["eth:REB"], "rebase(uint256)", 90)
    await zoo.mine(1)
    assert await zoo.reconcile() == 1
    assert await zoo.searches() == [("shortfall", "eth:REB", 0, -10 * ONE)]
    assert "shortfall" in await zoo.alarms()
    assert await zoo.is_stopped("eth:REB", switches.Action.BUILD)


async def test_d40_a_rebase_upwards_is_suspense_and_no_deposit(zoo: Zoo, anna: AddressRow) -> None:
    await zoo.pay("eth:REB", anna.address, 100 * ONE)
    await zoo.mine()
    await zoo.call(zoo.tokens["eth:REB"], "rebase(uint256)", 110)
    await zoo.mine(1)
    assert await zoo.reconcile() == 1
    await zoo.mine()
    assert (await zoo.watch.books())["suspense:eth:REB"] == 10 * ONE
    assert [item[2] for item in await amounts(zoo)] == [100 * ONE]
    await zoo.watch.audit()


async def test_d41_a_transfer_of_zero_leaves_no_trace(zoo: Zoo, anna: AddressRow) -> None:
    await zoo.pay("eth:USDT", anna.address, 0)
    await zoo.call(zoo.tokens["eth:LIE"], "claim(address,address,uint256)", zoo.world, anna.key, 0)
    await zoo.mine()
    assert await zoo.watch.deposits() == []
    async with zoo.watch.as_owner.unit_of_work() as uow:
        count = await uow.execute(
            text("SELECT count(*) FROM ledger.events WHERE type LIKE 'deposit.%'")
        )
        assert count.scalar_one() == 0


async def test_d42_d43_a_router_that_takes_from_a_third_party_credits_the_receiver(
    zoo: Zoo, anna: AddressRow
) -> None:
    router = await evm.deploy(zoo.node, "Router")
    token = zoo.tokens["eth:ISS"]
    await zoo.call(token, "approve(address,uint256)", router, 7 * ONE)
    await zoo.call(router, "route(address,address,uint256)", token, anna.address, 7 * ONE)
    await zoo.mine()
    (deposit,) = await zoo.watch.deposits()
    assert (deposit.player_id, deposit.amount_minor, deposit.state) == ("anna", 7 * ONE, "final")
    assert "refund_address" not in type(deposit).__dataclass_fields__  # nobody is paid back by it
    await zoo.watch.audit()


async def test_d44_five_logs_to_one_address_are_five_deposits(zoo: Zoo, anna: AddressRow) -> None:
    signature = "transferMany(address[],uint256[])"
    parts = [(n + 1) * ONE for n in range(5)]
    await zoo.call(zoo.tokens["eth:USDT"], signature, [anna.address] * 5, parts)
    await zoo.mine()
    assert await amounts(zoo) == [
        ("eth:USDT", f"log:{n}", (n + 1) * ONE, "final") for n in range(5)
    ]
    await zoo.watch.audit()


@pytest.mark.parametrize("amount", [MAX, MINTED + 1], ids=["2^256-1", "above the supply"])
async def test_d53_a_claim_above_the_supply_is_kept_exactly_and_stops_the_asset(
    zoo: Zoo, anna: AddressRow, amount: int
) -> None:
    await zoo.call(
        zoo.tokens["eth:LIE"], "claim(address,address,uint256)", zoo.world, anna.key, amount
    )
    await zoo.mine()
    assert await amounts(zoo) == []
    assert await zoo.watch.books() == {}
    assert await zoo.searches() == [("impossible", "eth:LIE", amount, 0)]
    assert await zoo.is_stopped("eth:LIE", switches.Action.CREDIT)
    await zoo.watch.audit()


async def test_d54_logs_of_other_shapes_are_ignored(zoo: Zoo, anna: AddressRow) -> None:
    for signature in ("nft(address,address,uint256)", "dirty(address,address,uint256)"):
        await zoo.call(zoo.tokens["eth:LIE"], signature, zoo.world, anna.key, ONE)
    await zoo.mine()
    assert await zoo.watch.deposits() == []
    assert await zoo.searches() == []


async def test_d56_funds_destroyed_by_the_issuer_are_a_shortfall(
    zoo: Zoo, anna: AddressRow
) -> None:
    await zoo.pay("eth:ISS", anna.address, 50 * ONE)
    await zoo.mine()
    await zoo.call(zoo.tokens["eth:ISS"], "destroyBlackFunds(address)", anna.address)
    await zoo.mine(1)
    assert await zoo.reconcile() == 1
    assert await zoo.reconcile() == 0  # it is known
    assert await zoo.searches() == [("shortfall", "eth:ISS", 0, -50 * ONE)]
    assert await zoo.is_stopped("eth:ISS", switches.Action.BUILD)
    assert not await zoo.is_stopped("eth:ISS", switches.Action.CREDIT)


async def test_d58_a_deposit_smaller_than_the_gas_to_sweep_it_is_credited_and_left(
    zoo: Zoo, anna: AddressRow
) -> None:
    await zoo.pay("eth:ISS", anna.address, 1)  # a millionth of a token
    await zoo.mine()
    (deposit,) = await zoo.watch.deposits()
    assert (deposit.state, deposit.sweep_state) == ("final", "none")
    async with zoo.watch.as_owner.unit_of_work() as uow:
        count = await uow.execute(text("SELECT count(*) FROM chain.outgoing"))
        assert count.scalar_one() == 0
    await zoo.watch.audit()
