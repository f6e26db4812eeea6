"""Takes the cold wallet of a network into the own addresses, so that it is watched.

Owns the rows of role `cold`: of UTXO networks the first addresses of the configured descriptor, of
account chains one account or contract. Nobody online has their keys, so no signer verifies them:
the configured address must be one that the descriptor derives, and hot value goes there alone. A
changed configuration adds rows and takes none away.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from config.chains import Family
from config.clock import Clock
from config.database import Database
from config.logs import get_logger
from config.settings import ColdSettings
from watchers import addresses
from watchers.addresses import AddressRole, AddressRow
from watchers.network import Network
from watchers.registry import ColdAddress, cold_addresses

FIRST_BRANCH = 3  # BIP 44 has 0 and 1, the batch contract 2 (`batch_contract`)
ROWS_PER_WRITE = 200

log = get_logger("watchers.cold")


async def register(
    database: Database, network: Network, cold: ColdSettings | None, *, clock: Clock
) -> int:
    """How many addresses are new. Raises ConfigError for a wallet that is not what it says."""
    if cold is None:
        return 0
    async with database.unit_of_work() as uow:
        known = await addresses.by_role(uow, network=network.name, roles=(AddressRole.COLD,))
    count = 1 if network.family is not Family.BITCOIN else 2 * cold.addresses
    keys = {row.key for row in known}
    here = next((row for row in known if row.address.lower() == cold.address.lower()), None)
    if here is not None and sum(row.account == here.account for row in known) >= count:
        return 0  # those of an older wallet are no part of this one
    listed = list(network.assets.values())
    found = await asyncio.to_thread(cold_addresses, network.spec, listed, cold)
    missing = [item for item in found if item.derived.key not in keys]
    account = _generation(known, found)
    for start in range(0, len(missing), ROWS_PER_WRITE):
        rows = [_row(network, item, account) for item in missing[start : start + ROWS_PER_WRITE]]
        async with database.unit_of_work() as uow:
            await addresses.add(uow, rows, at=clock.now())
            await addresses.mark_verified(uow, [row["id"] for row in rows], at=clock.now())
    if missing:
        log.info("cold.registered", network=network.name, rows=len(missing), address=cold.address)
    return len(missing)


def _generation(known: tuple[AddressRow, ...], found: list[ColdAddress]) -> int:
    """Each descriptor has an `account` of its own: one that is known goes on where it was."""
    by_key: Mapping[str, AddressRow] = {row.key: row for row in known}
    for item in found:
        row = by_key.get(item.derived.key)
        if row is not None:
            return row.account
    return max((row.account for row in known), default=-1) + 1


def _row(network: Network, item: ColdAddress, account: int) -> dict[str, Any]:
    return {
        "id": network.ids.new_id(),
        "network": network.name,
        "role": AddressRole.COLD.value,
        "brand": None,
        "account": account,
        "branch": FIRST_BRANCH + item.branch,
        "address_index": item.index,
        "path": item.derived.path,
        "key": item.derived.key,
        "address": item.derived.address,
        "scheme": item.derived.scheme,
    }
