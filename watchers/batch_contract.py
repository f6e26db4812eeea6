"""Takes the network's batch contract into the own addresses, once the chain shows that it is ours.

Owns that one row of `chain.addresses`: role `hot`, branch 2 (no key has it), verified by its code
and its owner at a final block instead of by the signer. While there is none nothing is paid by it.
"""

from config.clock import Clock
from config.database import Database
from config.logs import get_logger
from watchers import addresses
from watchers.addresses import OPERATOR_ACCOUNT, AddressRole
from watchers.chain import Chain
from watchers.network import Network

OWNER_LANE = 0  # the hot lane that the contract obeys (signer/batches.py)
BRANCH = 2  # BIP 44 has 0 and 1
SCHEME = "contract"

log = get_logger("watchers.batch_contract")


async def register(database: Database, chain: Chain, network: Network, *, clock: Clock) -> bool:
    """True once the contract is known as ours. Raises NodeUnavailable."""
    contract = network.spec.batch_contract
    if contract is None:
        return False
    async with database.unit_of_work() as uow:
        if await addresses.by_text(uow, network=network.name, key=contract) is not None:
            return True
        hot = await addresses.by_role(uow, network=network.name, roles=(AddressRole.HOT,))
    lanes = [row for row in hot if row.address_index == OWNER_LANE and row.is_verified]
    height = await chain.reader.finalised_height()
    if height is None:
        height = (await chain.reader.tip()).height - network.spec.full_depth
    ref = await chain.reader.ref_at(max(height, 0))
    if not lanes or ref is None:
        return False
    owner = await chain.reader.batch_owner(block_hash=ref.hash)
    if owner != lanes[0].key:
        log.warning("batch_contract.not_ours", network=network.name, key=contract, owner=owner)
        return False
    await _insert(database, network, contract, clock=clock)
    log.info("batch_contract.registered", network=network.name, key=contract, height=ref.height)
    return True


async def _insert(database: Database, network: Network, contract: str, *, clock: Clock) -> None:
    address_id = network.ids.new_id()
    row = {
        "id": address_id,
        "network": network.name,
        "role": AddressRole.HOT.value,
        "brand": None,
        "account": OPERATOR_ACCOUNT,
        "branch": BRANCH,
        "address_index": 0,
        "path": f"contract of lane {OWNER_LANE}",
        "key": contract,
        "address": contract,
        "scheme": SCHEME,
    }
    async with database.unit_of_work() as uow:
        await addresses.add(uow, [row], at=clock.now())
        await addresses.mark_verified(uow, [address_id], at=clock.now())
