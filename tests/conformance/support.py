"""Small steps that several conformance tests take."""

from tests.support.worlds import Wallet, World
from watchers.chain import (
    AccountPlan,
    Block,
    Coin,
    DerivedAddress,
    Outpoint,
    Pay,
    Transfer,
    Unsigned,
    UtxoPlan,
)

UNIT = {"bitcoin": 10**6, "evm": 10**16}  # 0.01 coin
PAYMENT_FEE_MINOR = 20_000
GWEI = 10**9


def unit(world: World) -> int:
    """A comfortable amount of the native coin, in minor units."""
    return UNIT[world.chain.family]


def native(world: World, to: DerivedAddress, amount_minor: int) -> Pay:
    """A payment in the native coin."""
    return Pay(asset=world.native, address=to.address, amount_minor=amount_minor)


def to_key(block: Block, key: str) -> list[Transfer]:
    """The transfers of a block to one match key."""
    return [item for item in block.transfers if item.to_key == key]


def is_utxo(world: World) -> bool:
    """Whether the chain under test has coins."""
    return world.chain.family == "bitcoin"


async def fund(world: World, target: DerivedAddress, amount_minor: int) -> Block:
    """Mine a payment from outside to an own address; the block."""
    await world.pay([native(world, target, amount_minor)])
    [block_hash] = await world.mine()
    return await world.chain.reader.block(block_hash)


def coin_of(block: Block, target: DerivedAddress) -> Coin:
    """The one coin that a block gave to an own address."""
    [transfer] = to_key(block, target.key)
    return Coin(
        outpoint=Outpoint(txid=transfer.txid, vout=int(transfer.position.removeprefix("out:"))),
        amount_minor=transfer.amount_minor,
        key=target.key,
        path=target.path,
        previous_tx=block.raw_txs[transfer.txid],
    )


async def build_payment(
    world: World, wallet: Wallet, payment: Pay, *, fee_minor: int = PAYMENT_FEE_MINOR
) -> Unsigned:
    """Fund the wallet's address 0 and build one payment from it at nonce 0 (or from one coin)."""
    source = wallet.address(0)
    block = await fund(world, source, 100 * unit(world))
    if not is_utxo(world):
        return world.chain.writer.build(await account_plan(world, source, payment))
    coin = coin_of(block, source)
    return world.chain.writer.build(
        UtxoPlan(
            coins=(coin,),
            payments=(payment,),
            change=wallet.address(0, chain=1),
            change_minor=coin.amount_minor - payment.amount_minor - fee_minor,
        )
    )


async def account_plan(world: World, source: DerivedAddress, payment: Pay) -> AccountPlan:
    """A plan at the sender's mined nonce with a comfortable fee."""
    quote = await world.chain.writer.fee_quote()
    return AccountPlan(
        sender=source,
        nonce=await world.chain.reader.account_nonce(source.key),
        payment=payment,
        gas_limit=world.chain.writer.gas_limit(payment.asset),
        max_fee_per_gas=2 * quote.base_fee + 2 * GWEI,
        max_priority_fee_per_gas=GWEI,
    )
