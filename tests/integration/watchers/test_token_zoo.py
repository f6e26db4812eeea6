"""CASES D33-D58 against anvil: compiled tokens and payers that misbehave, and what the books say.

Every token has 6 decimals and tiers of one and two blocks; amounts are whole tokens.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from eth_utils.address import to_checksum_address
from sqlalchemy import text

from config.assets import load_assets
from config.chains import load_chains
from config.clock import SystemClock
from config.settings import AssetSettings, NetworkSettings, Settings, TierSettings
from gateway.sandbox.nodes import Anvil
from tests.support import evm
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.watching import Watch, watching
from tests.support.worlds import Wallet
from watchers import reconcile_chain, searches, switches, token_checks, token_store
from watchers.addresses import AddressRow
from watchers.chain import AccountPlan, Pay
from watchers.registry import build_chain

pytestmark = [pytest.mark.postgres, pytest.mark.node]

ONE = 10**6
ETHER = 10**18
MAX = 2**256 - 1
MINTED = 1_000_000 * ONE
TOKENS = {
    "eth:USDT": "UsdtLike",
    "eth:FEE": "FeeToken",  # flagged as keeping a fee
    "eth:TAX": "FeeToken",  # not flagged
    "eth:REB": "RebasingToken",
    "eth:ISS": "IssuerToken",
    "eth:LIE": "LyingToken",
}
TIERS = (TierSettings(min=1, full=2),)


@dataclass(slots=True, kw_only=True)
class Zoo:
    """A watcher over anvil, the tokens that it lists, and the outside world's first account."""

    node: Anvil
    watch: Watch
    tokens: dict[str, str]
    world: str

    async def call(self, to: str, signature: str, *values: object, wei: int = 0) -> str:
        """Send a call of the world, not mined yet; the gas limit lets a failing one be mined."""
        call = {
            "from": self.world,
            "to": to,
            "data": evm.call_data(signature, *values),
            "value": hex(wei),
            "gas": hex(3_000_000),
        }
        txid: str = await self.node.rpc("eth_sendTransaction", call)
        return txid

    async def pay(self, asset: str, to: str, amount: int) -> str:
        """A plain `transfer` of a token."""
        return await self.call(self.tokens[asset], "transfer(address,uint256)", to, amount)

    async def mine(self, count: int = 6) -> None:
        """Mine (six blocks are final for every tier of one or two) and follow."""
        await self.node.mine(count)
        await self.watch.follow()

    async def reconcile(self) -> int:
        """One cycle; how many searches it opened."""
        held = await reconcile_chain.holdings_at(
            self.watch.as_watcher, self.watch.chain, self.watch.network
        )
        return await searches.book(
            self.watch.as_watcher, self.watch.network, held, at=self.watch.clock.now()
        )

    async def searches(self) -> list[tuple[str, str, int, int]]:
        """(kind, asset, claimed, moved) of what is open."""
        async with self.watch.as_watcher.unit_of_work() as uow:
            rows = await token_store.searches(uow, network="eth", limit=50)
        return [(r["kind"], r["asset"], int(r["claimed"]), int(r["moved"])) for r in rows]

    async def is_stopped(self, asset: str, action: switches.Action) -> bool:
        async with self.watch.as_watcher.unit_of_work() as uow:
            return await switches.is_stopped(uow, network="eth", asset=asset, action=action)

    async def alarms(self) -> set[str]:
        async with self.watch.as_owner.unit_of_work() as uow:
            rows = await uow.execute(text("SELECT DISTINCT kind FROM gateway.alarms"))
            return set(rows.scalars().all())


def _settings(tokens: dict[str, str], **network: Any) -> Settings:
    assets = {
        asset: AssetSettings(
            contract=contract,
            decimals=6,
            minimum_deposit="0",
            tiers=TIERS,
            fee_on_transfer=asset == "eth:FEE",
        )
        for asset, contract in tokens.items()
    }
    assets["eth:ETH"] = AssetSettings(tiers=TIERS)
    return Settings(
        networks={"eth": NetworkSettings(chain="dev", absence_blocks=20, **network)}, assets=assets
    )


@pytest.fixture
def network_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What differs in the network's settings; given by indirect parametrisation."""
    return dict(getattr(request, "param", {}))


@pytest.fixture
async def zoo(
    anvil: Anvil,
    test_database: TestDatabase,
    clock: ManualClock,
    ids: SequentialIds,
    network_settings: dict[str, Any],
) -> AsyncIterator[Zoo]:
    """Every token deployed, the world rich, the follower at the tip."""
    tokens = {asset: await evm.deploy(anvil, name) for asset, name in TOKENS.items()}
    world = (await anvil.accounts())[0]
    for token in tokens.values():
        await evm.mint(anvil, token, world, MINTED)
    settings = _settings(tokens, **network_settings)
    chains = load_chains(settings)
    assets = load_assets(settings, chains)
    chain = build_chain(chains["eth"], [anvil.url], assets.values(), timeout_seconds=10.0)
    try:
        async with watching(
            chain,
            test_database,
            clock=clock,
            ids=ids,
            assets=settings.assets,
            absence_blocks=20,
            **network_settings,
        ) as watch:
            watch.start_height = await anvil.height()
            watch.follower = watch.new_follower("zoo")
            await watch.follow()
            yield Zoo(node=anvil, watch=watch, tokens=tokens, world=world)
    finally:
        await anvil.rpc("anvil_dropAllTransactions")
        await chain.close()


@pytest.fixture
async def anna(zoo: Zoo) -> AddressRow:
    """A player's deposit address."""
    return await zoo.watch.address("anna")


async def _amounts(zoo: Zoo) -> list[tuple[str, str, int, str]]:
    """(asset, position, amount, state) of deposits that count."""
    return [
        (item.asset, item.position, item.amount_minor, item.state.value)
        for item in await zoo.watch.deposits()
        if item.state != "unsupported"
    ]


def _custody(asset: str) -> str:
    return f"custody:eth/deposit/acme:{asset}"


async def test_d33_value_counts_with_status_1_only(zoo: Zoo, anna: AddressRow) -> None:
    reverter = await evm.deploy(zoo.node, "Reverter")
    await zoo.call(reverter, "nothing()", wei=ETHER)
    await zoo.node.send(anna.address, ETHER)
    await zoo.mine()
    assert await _amounts(zoo) == [("eth:ETH", "value", ETHER, "final")]
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
    assert await _amounts(zoo) == [("eth:ISS", "log:0", ONE, "final")]
    await zoo.watch.audit()


async def test_d36_d73_a_look_alike_never_reaches_the_books(zoo: Zoo, anna: AddressRow) -> None:
    fake = await evm.deploy(zoo.node, "FakeToken")
    await evm.transfer(zoo.node, fake, anna.address, 500 * ONE)
    await zoo.mine()
    assert await _amounts(zoo) == []
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
    assert await _amounts(zoo) == [("eth:ISS", "log:0", ONE, "final")]
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
    assert await _amounts(zoo) == [
        ("eth:FEE", "log:0", 49_500_000, "final"),
        ("eth:FEE", "log:0", 99 * ONE, "final"),
    ]
    assert await zoo.watch.books() == {
        _custody("eth:FEE"): 148_500_000,
        "brand:acme:clearing:eth:FEE": 148_500_000,
    }
    assert await zoo.searches() == []
    await zoo.watch.audit()


async def test_d39_an_undeclared_fee_is_suspense_and_stops_the_asset(
    zoo: Zoo, anna: AddressRow
) -> None:
    await zoo.pay("eth:TAX", anna.address, 100 * ONE)
    await zoo.mine()
    assert await _amounts(zoo) == []
    assert await zoo.watch.books() == {
        _custody("eth:TAX"): 99 * ONE,
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
    assert [item[2] for item in await _amounts(zoo)] == [100 * ONE]
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
    assert await _amounts(zoo) == [
        ("eth:USDT", f"log:{n}", (n + 1) * ONE, "final") for n in range(5)
    ]
    await zoo.watch.audit()


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
    assert await _amounts(zoo) == [
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
    ((_, position, amount, state),) = await _amounts(zoo)
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
    assert await _amounts(zoo) == []
    assert await zoo.watch.books() == {
        _custody("eth:ETH"): ETHER,
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
    assert await _amounts(zoo) == []
    assert await zoo.watch.books() == {
        _custody("eth:ETH"): ETHER,
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
        _custody("eth:ETH"): earned,
        "suspense:eth:ETH": earned,
    }
    assert await _amounts(zoo) == []
    await zoo.watch.audit()


async def test_d47_a_balance_that_moved_further_than_its_logs_is_suspense(
    zoo: Zoo, anna: AddressRow
) -> None:
    await zoo.pay("eth:LIE", anna.address, 5 * ONE)
    await zoo.call(zoo.tokens["eth:LIE"], "slip(address,uint256)", anna.address, 3 * ONE)
    await zoo.mine()
    assert await _amounts(zoo) == [("eth:LIE", "log:0", 5 * ONE, "final")]
    books = await zoo.watch.books()
    assert (books[_custody("eth:LIE")], books["suspense:eth:LIE"]) == (8 * ONE, 3 * ONE)
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
    assert await _amounts(zoo) == [("eth:ISS", "log:0", ONE, "final")]
    await zoo.node.rpc("anvil_setCode", anna.address, "0x")


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
    assert await _amounts(zoo) == [("eth:ISS", "log:0", ONE, "final")]
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
    assert [item for item in await _amounts(zoo) if item[3] in ("provisional", "final")] == []
    await zoo.watch.audit()


@pytest.mark.parametrize("amount", [MAX, MINTED + 1], ids=["2^256-1", "above the supply"])
async def test_d53_a_claim_above_the_supply_is_kept_exactly_and_stops_the_asset(
    zoo: Zoo, anna: AddressRow, amount: int
) -> None:
    await zoo.call(
        zoo.tokens["eth:LIE"], "claim(address,address,uint256)", zoo.world, anna.key, amount
    )
    await zoo.mine()
    assert await _amounts(zoo) == []
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
    assert [item[2] for item in await _amounts(zoo)] == [2 * ONE, 5 * ONE]
    assert await zoo.searches() == []


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
    assert held.breaks == {_custody("eth:ETH"): ETHER}
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
        _custody("eth:LIE"): second,
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
