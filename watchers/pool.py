"""Keeps the address pool of one network filled from public parent keys.

Owns the list of branches (docs/ARCHITECTURE.md, Paths) and the reading of the xpubs file. It holds
no secret: rows are unverified until the signer re-derived them.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from config.chains import Family
from config.clock import Clock
from config.database import Database
from config.errors import ConfigError
from config.logs import get_logger
from config.settings import Settings
from config.treasury_policy import has_warm
from watchers import addresses
from watchers.addresses import OPERATOR_ACCOUNT, AddressRole, PoolBranch
from watchers.chain import AddressCodec
from watchers.network import Network

log = get_logger("watchers.pool")

EVM_HOT_LANES = 4  # watched at least; `hot_lanes` of a network says how many of them pay
EVM_GAS_ACCOUNTS = 1
WARM_BRANCH = 5  # 2 to 4 are no branches of these keys (`batch_contract`, `cold`)
CHANGE_AHEAD = 100  # unused change addresses; one per payout transaction
ROWS_PER_WRITE = 200  # derived in one thread call and written in one unit of work


def load_xpubs(path: Path, network: str) -> dict[int, str]:
    """Account-level public keys of a network by account index; ConfigError names the file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"public keys file {path} cannot be read",
            hint="run `cage keys export-xpubs` on the signer's host",
        ) from error
    keys = raw.get("networks", {}).get(network) if isinstance(raw, dict) else None
    if not isinstance(keys, dict) or not keys:
        raise ConfigError(f"public keys file {path} has no keys for {network}")
    return {int(account): str(xpub) for account, xpub in keys.items()}


def branches(
    settings: Settings, network: Network, xpubs: Mapping[int, str]
) -> tuple[PoolBranch, ...]:
    """Every branch to keep filled; ConfigError when a brand has no key of its own."""
    operator = xpubs.get(OPERATOR_ACCOUNT)
    if operator is None:
        raise ConfigError(f"no public key of account 0 for {network.name}")
    is_utxo = network.family is Family.BITCOIN
    lanes = max(EVM_HOT_LANES, network.spec.hot_lanes)
    fixed: tuple[tuple[AddressRole, int, int], ...] = (
        ((AddressRole.HOT, 0, 1), (AddressRole.CHANGE, 1, CHANGE_AHEAD))
        if is_utxo
        else ((AddressRole.HOT, 0, lanes), (AddressRole.GAS, 1, EVM_GAS_ACCOUNTS))
    )
    if has_warm(settings.wallets, network.name):
        fixed = (*fixed, (AddressRole.WARM, WARM_BRANCH, 1))
    rows = [
        PoolBranch(
            network=network.name,
            role=role,
            brand=None,
            account=OPERATOR_ACCOUNT,
            branch=branch,
            xpub=operator,
            low=count,
            high=count,
        )
        for role, branch, count in fixed
    ]
    for brand, brand_settings in settings.brands.items():
        xpub = xpubs.get(brand_settings.account_index)
        if xpub is None:
            raise ConfigError(
                f"brands.{brand}: no public key of account {brand_settings.account_index} "
                f"for {network.name}",
                hint="export the keys again after adding a brand",
            )
        rows.append(
            PoolBranch(
                network=network.name,
                role=AddressRole.DEPOSIT,
                brand=brand,
                account=brand_settings.account_index,
                branch=0,
                xpub=xpub,
                low=settings.pool.low,
                high=settings.pool.high,
            )
        )
    return tuple(rows)


async def top_up(
    database: Database,
    codec: AddressCodec,
    network: Network,
    rows: tuple[PoolBranch, ...],
    *,
    clock: Clock,
) -> int:
    """Fill every branch that is low; returns how many rows were written.

    Safe with two instances: the same index gives the same row, and the second write is void.
    """
    written = 0
    for branch in rows:
        async with database.unit_of_work() as uow:
            free, following = await addresses.free_count(uow, branch)
        missing = branch.high - free if free < branch.low else 0
        while missing > 0:
            count = min(missing, ROWS_PER_WRITE)
            derived = await addresses.derive_rows(
                codec, branch, start=following, count=count, ids=network.ids
            )
            async with database.unit_of_work() as uow:
                await addresses.add(uow, derived, at=clock.now())
            missing, following, written = missing - count, following + count, written + count
    if written:
        log.info("pool.topped_up", network=network.name, rows=written)
    return written
