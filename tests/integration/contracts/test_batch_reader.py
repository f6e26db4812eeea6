"""A batch built by the writer, mined by anvil, and read leg by leg (P27, P28, P29)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from eth_account import Account

from config.assets import load_assets
from config.chains import load_chains
from config.settings import AssetSettings, NetworkSettings, Settings
from gateway.sandbox.nodes import Anvil
from tests.support import batch, evm
from tests.support.batch import fresh
from tests.support.sim_account import sign
from watchers.chain import (
    AccountSend,
    BatchEvidence,
    BatchLeg,
    BatchPlan,
    Block,
    Chain,
    DerivedAddress,
    Pay,
)
from watchers.chains.evm.batch import CODE_HASH
from watchers.errors import InvalidAddress
from watchers.registry import build_agreed_chain

pytestmark = pytest.mark.node

OWNER_KEY = b"\x22" * 32  # a public test vector, never a real key
OWNER = Account.from_key(OWNER_KEY).address
ONE = 10**6
ETHER = 10**18
GWEI = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A chain over anvil that knows our contract, which holds coins and tokens."""

    node: Anvil
    chain: Chain
    payer: str
    token: str

    async def pay(self, payments: Sequence[Pay], *, nonce: int = 0) -> tuple[AccountSend, Block]:
        """Build, sign, send and mine a batch; its send and its block as the reader gives them."""
        asset = payments[0].asset
        unsigned = self.chain.writer.build(
            BatchPlan(
                sender=DerivedAddress(address=OWNER, key=OWNER.lower(), path="m", scheme="eoa"),
                nonce=nonce,
                batch_id=nonce.to_bytes(32, "big"),
                payments=tuple(payments),
                gas_limit=self.chain.writer.gas_limit(asset, legs=len(payments)),
                max_fee_per_gas=10 * GWEI,
                max_priority_fee_per_gas=GWEI,
            )
        )
        assert unsigned.payment_outputs == tuple(range(len(payments)))
        await self.node.rpc("eth_sendRawTransaction", "0x" + sign(unsigned.data, OWNER_KEY).hex())
        await self.node.mine()
        block = await self.chain.reader.block((await self.chain.reader.tip()).hash)
        (send,) = block.sends
        return send, block


@asynccontextmanager
async def _desk(node: Anvil, *, token_name: str = "OddToken") -> AsyncIterator[Desk]:
    payer = await batch.deploy_for(node, OWNER)
    token = await evm.deploy(node, token_name)
    for address in (payer, OWNER):
        await node.send(address, 5 * ETHER)
    await node.transact(to=token, data=evm.call_data("mint(address,uint256)", payer, 1_000 * ONE))
    await node.mine()
    settings = Settings(
        networks={"eth": NetworkSettings(chain="dev", batch_contract=payer)},
        assets={"eth:USDT": AssetSettings(contract=token)},
    )
    chains = load_chains(settings)
    chain = build_agreed_chain(
        chains["eth"],
        [node.url, node.url],
        load_assets(settings, chains).values(),
        quorum=2,
        timeout_seconds=10.0,
    )
    try:
        yield Desk(node=node, chain=chain, payer=payer.lower(), token=token.lower())
    finally:
        await node.rpc("anvil_dropAllTransactions")
        await chain.close()


def _leg(index: int, asset: str, to: str, amount: int, *, is_paid: bool = True) -> BatchLeg:
    return BatchLeg(index=index, asset=asset, to_key=to, amount_minor=amount, is_paid=is_paid)


async def test_p28_native_legs_are_told_one_by_one(anvil: Anvil) -> None:
    async with _desk(anvil) as desk:
        refusing = await evm.deploy(anvil, "Reverter")
        payments = [
            Pay(asset="eth:ETH", address=to, amount_minor=100 + i)
            for i, to in enumerate((fresh(1), refusing, fresh(2)))
        ]

        send, block = await desk.pay(payments)

        assert send.is_success
        assert send.transfers_out == ()
        assert send.batch == BatchEvidence(
            payer_key=desk.payer,
            legs=(
                _leg(0, "eth:ETH", fresh(1), 100),
                _leg(1, "eth:ETH", refusing.lower(), 101, is_paid=False),
                _leg(2, "eth:ETH", fresh(2), 102),
            ),
            moved=(("eth:ETH", fresh(1), 100), ("eth:ETH", fresh(2), 102)),
        )
        assert not block.traces_incomplete
        assert [(item.position, item.to_key) for item in block.transfers] == [
            ("trace:0", fresh(1)),
            ("trace:2", fresh(2)),
        ]


async def test_p27_p29_token_legs_are_paid_by_their_logs(anvil: Anvil) -> None:
    async with _desk(anvil) as desk:
        blocked = fresh(3)
        await anvil.transact(
            to=desk.token, data=evm.call_data("setBlocked(address,bool)", blocked, True)
        )
        await anvil.mine()
        payments = [
            Pay(asset="eth:USDT", address=to, amount_minor=ONE)
            for to in (fresh(4), blocked, fresh(4))
        ]

        send, _ = await desk.pay(payments)

        assert send.batch is not None
        assert [leg.is_paid for leg in send.batch.legs] == [True, False, True]
        assert send.batch.moved == (("eth:USDT", fresh(4), ONE),) * 2


async def test_p29_a_token_that_says_false_paid_nobody(anvil: Anvil) -> None:
    async with _desk(anvil) as desk:
        await anvil.transact(
            to=desk.token, data=evm.call_data("setAnswer(bytes)", (0).to_bytes(32, "big"))
        )
        await anvil.mine()
        payments = [Pay(asset="eth:USDT", address=fresh(i), amount_minor=ONE) for i in (5, 6)]

        send, _ = await desk.pay(payments)

        # This token moved all the same: the legs are not paid, and what moved is told.
        assert send.batch is not None
        assert [leg.is_paid for leg in send.batch.legs] == [False, False]
        assert len(send.batch.moved) == 2


async def test_a_batch_twice_is_reverted_and_moves_nothing(anvil: Anvil) -> None:
    async with _desk(anvil) as desk:
        payments = [Pay(asset="eth:ETH", address=fresh(i), amount_minor=9) for i in (7, 8)]
        await desk.pay(payments)
        unsigned = desk.chain.writer.build(
            BatchPlan(
                sender=DerivedAddress(address=OWNER, key=OWNER.lower(), path="m", scheme="eoa"),
                nonce=1,
                batch_id=(0).to_bytes(32, "big"),
                payments=tuple(payments),
                gas_limit=300_000,
                max_fee_per_gas=10 * GWEI,
                max_priority_fee_per_gas=GWEI,
            )
        )

        raw = sign(unsigned.data, OWNER_KEY)
        await anvil.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        await anvil.mine()
        block = await desk.chain.reader.block((await desk.chain.reader.tip()).hash)

        assert [send.is_success for send in block.sends] == [False]
        assert block.sends[0].batch is None
        assert block.transfers == ()


async def test_the_gas_limit_covers_the_worst_batch(anvil: Anvil) -> None:
    """A hundred burners use up their caps, and the limit of the plan is still enough."""
    async with _desk(anvil) as desk:
        burner = await evm.deploy(anvil, "GasBurner")
        payments = [Pay(asset="eth:ETH", address=burner, amount_minor=1) for _ in range(99)]
        payments.append(Pay(asset="eth:ETH", address=fresh(9), amount_minor=1))

        send, _ = await desk.pay(payments)

        assert send.is_success
        assert send.batch is not None
        assert [leg.is_paid for leg in send.batch.legs] == [False] * 99 + [True]


async def test_the_gas_limit_covers_a_hundred_new_accounts(anvil: Anvil) -> None:
    async with _desk(anvil) as desk:
        payments = [
            Pay(asset="eth:ETH", address=fresh(1_000 + i), amount_minor=1) for i in range(100)
        ]

        send, _ = await desk.pay(payments)

        assert send.batch is not None
        assert all(leg.is_paid for leg in send.batch.legs)


async def test_the_owner_is_told_for_our_code_only(anvil: Anvil) -> None:
    async with _desk(anvil) as desk:
        tip = await desk.chain.reader.tip()
        genesis = await desk.chain.reader.ref_at(0)
        assert genesis is not None

        assert await desk.chain.reader.batch_owner(block_hash=tip.hash) == OWNER.lower()
        assert await desk.chain.reader.batch_owner(block_hash=genesis.hash) is None

        await anvil.rpc("anvil_setCode", desk.payer, "0x6001600055")
        await anvil.mine()
        tip = await desk.chain.reader.tip()
        assert await desk.chain.reader.batch_owner(block_hash=tip.hash) is None


async def test_a18_our_own_contract_is_no_destination(anvil: Anvil) -> None:
    async with _desk(anvil) as desk:
        with pytest.raises(InvalidAddress, match="contract of ours"):
            desk.chain.codec.parse(desk.payer)


def test_the_pinned_hash_is_that_of_the_committed_build() -> None:
    assert batch.code_hash() == CODE_HASH
