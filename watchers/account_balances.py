"""What each account of the operator holds on an account chain: hot, batch contract, warm, gas.

Owns `chain.account_balances`: moved by the evidence of each block in its own unit of work, taken
back with it. The books hold one custody account per wallet; this says which account of it can pay,
and nothing else is booked by it. What no evidence showed (a call on a node that does not trace) is
a drift, which the reconciliation finds and corrects (`reconcile_chain`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from config.chains import Family
from config.database import Uow
from watchers import account_balance_store as store
from watchers.addresses import AddressRole, AddressRow
from watchers.chain import AccountSend, Block
from watchers.network import Network

ROLES = (AddressRole.HOT, AddressRole.WARM, AddressRole.GAS)

Place = tuple[str, str]
"""Key and asset."""


async def connect(
    uow: Uow, network: Network, blocks: Sequence[Block], own: Mapping[str, AddressRow]
) -> None:
    """Move what a run of blocks moved; a block that was looked at before moves nothing."""
    if network.family is not Family.EVM:
        return
    keys = {key for key, row in own.items() if row.role in ROLES}
    moves = [
        (block.ref.hash, key, asset, delta)
        for block in (blocks if keys else ())
        for (key, asset), delta in sorted(moved_by(block, keys, network).items())
        if delta
    ]
    if moves:
        await store.add(uow, network=network.name, moves=moves)


async def disconnect(uow: Uow, network: Network, *, block_hash: str) -> None:
    """The block left the chain."""
    if network.family is Family.EVM:
        await store.remove(uow, network=network.name, block_hash=block_hash)


async def held(uow: Uow, *, network: str) -> dict[Place, int]:
    """What each account of the operator holds at the follower's block, minor units."""
    rows = await store.amounts(uow, network=network)
    return {(row["key"], row["asset"]): int(row["amount"]) for row in rows}


async def correct(
    uow: Uow, *, network: str, place: Place, amount_minor: int, chain_minor: int
) -> bool:
    """Take over what the chain says where the evidence missed something; False when the balance is
    no longer what the two were compared at."""
    key, asset = place
    return await store.correct(
        uow,
        network=network,
        key=key,
        asset=asset,
        amount=amount_minor,
        delta=chain_minor - amount_minor,
    )


def moved_by(block: Block, keys: set[str], network: Network) -> Counter[Place]:
    """By how much a block moved each of these accounts, by its effects. Pure."""
    total: Counter[Place] = Counter()
    for item in (*block.transfers, *block.gifts):
        if item.to_key in keys and network.asset(item.asset) is not None:
            total[item.to_key, item.asset] += item.amount_minor
    traced = {
        (item.txid, item.to_key) for item in block.transfers if item.position.startswith("trace:")
    }
    for send in block.sends:
        for payer, asset, to_key, amount in outs(send):
            if payer in keys:
                total[payer, asset] -= amount
            is_called = send.batch is not None and payer == send.batch.payer_key
            is_native = asset == network.spec.native_asset
            # The contract's coin moves by a call: where no node traces, its own log tells.
            if is_called and is_native and to_key in keys and (send.txid, to_key) not in traced:
                total[to_key, asset] += amount
        if send.sender_key in keys:
            total[send.sender_key, network.spec.native_asset] -= send.fee_minor
    return total


def outs(send: AccountSend) -> Iterator[tuple[str, str, str, int]]:
    """(payer, asset, to, amount) of all that left by a tx."""
    yield from ((send.sender_key, *item) for item in send.transfers_out)
    if send.batch is not None:
        yield from ((send.batch.payer_key, *item) for item in send.batch.moved)
