"""A stolen key: txs of our own addresses that the house did not make (L12, L13).

Keys are those of the public test vector under which `watching` derives every address.
"""

from collections.abc import Sequence

from tests.support.watching import Watch
from tests.support.worlds import UtxoNodeWorld, Wallet, World
from watchers import addresses, coins
from watchers.chain import AccountPlan, DerivedAddress, Pay, UtxoPlan
from watchers.coins import CoinRow

GAS_LIMIT = 100_000
GWEI = 10**9


def wallet(watch: Watch) -> Wallet:
    """Signs for any path of the vector."""
    return Wallet.of(watch.chain)


async def coins_of(watch: Watch) -> list[CoinRow]:
    """What could be taken: the spendable coins, largest first."""
    async with watch.as_payouts.unit_of_work() as uow:
        return await coins.spendable(uow, network=watch.network.name, limit=100)


async def own_address(watch: Watch, role: str = "hot", lane: int = 0) -> DerivedAddress:
    """An address of the operator as a plan takes it."""
    async with watch.as_payouts.unit_of_work() as uow:
        row = await addresses.own_address(
            uow, network=watch.network.name, role="hot" if role == "hot" else "gas", lane=lane
        )
    return DerivedAddress(address=row.address, key=row.key, path=row.path, scheme=row.scheme)


def spend(watch: Watch, taken: Sequence[CoinRow], address: str, *, fee_minor: int) -> bytes:
    """Signed bytes that send whole coins to an address."""
    total = sum(coin.amount_minor for coin in taken)
    native = watch.network.spec.native_asset
    plan = UtxoPlan(
        coins=tuple(coin.coin() for coin in taken),
        payments=(Pay(asset=native, address=address, amount_minor=total - fee_minor),),
        change=None,
        change_minor=0,
    )
    return wallet(watch).sign(watch.chain.writer.build(plan))


async def take_unit_of_coin(world: World, watch: Watch) -> str:
    """One satoshi to the miner, the rest of the coin back to our hot address, in a block that no
    mempool announced; the txid."""
    if not isinstance(world, UtxoNodeWorld):
        raise TypeError("coins are of UTXO chains")
    [coin, *_] = await coins_of(watch)
    hot = await own_address(watch)
    return await world.include(spend(watch, [coin], hot.address, fee_minor=1))


async def send_from(
    watch: Watch, sender: DerivedAddress, pay: Pay, *, nonce: int | None = None
) -> str:
    """A raw payment of an account of ours, not mined yet; the txid."""
    if nonce is None:
        nonce = await watch.chain.reader.account_nonce(sender.key)
    plan = AccountPlan(
        sender=sender,
        nonce=nonce,
        payment=pay,
        gas_limit=GAS_LIMIT,
        max_fee_per_gas=10 * GWEI,
        max_priority_fee_per_gas=GWEI,
    )
    raw = wallet(watch).sign(watch.chain.writer.build(plan))
    result = await watch.chain.writer.send(raw)
    found = [tx.txid for tx in await watch.chain.reader.mempool() if tx.sender_key == sender.key]
    if not found:
        raise AssertionError(f"the node did not take it: {result}")
    return found[-1]
