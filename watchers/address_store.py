"""SQL of the address pool. Contains no rule beyond what a statement needs to be atomic."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

_COLUMNS = (
    "id, network, role, brand, player_id, account, branch, address_index, path, key, address, "
    "scheme, is_verified, issued_at, retired_at, version"
)


async def lock_player_network(uow: Uow, *, brand: str, player_id: str, network: str) -> None:
    """Serialise hand-outs of one (brand, player, network): a missing row locks nothing."""
    await uow.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))",
        {"name": f"chain.addresses/{network}/{brand}/{player_id}"},
    )


async def active(uow: Uow, *, brand: str, player_id: str, network: str) -> RowMapping | None:
    """The address in use by a player on a network."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses WHERE brand = :brand AND player_id = :player_id "
        "AND network = :network AND retired_at IS NULL",
        {"brand": brand, "player_id": player_id, "network": network},
    )
    return result.mappings().one_or_none()


async def issue_next(
    uow: Uow, *, brand: str, player_id: str, network: str, at: datetime
) -> RowMapping | None:
    """Give the lowest free verified deposit address to a player; None when the pool is empty."""
    result = await uow.execute(
        "UPDATE chain.addresses SET player_id = :player_id, issued_at = :at, version = version + 1 "
        "WHERE id = (SELECT id FROM chain.addresses WHERE network = :network AND role = 'deposit' "
        "AND brand = :brand AND issued_at IS NULL AND is_verified ORDER BY address_index LIMIT 1 "
        f"FOR UPDATE SKIP LOCKED) RETURNING {_COLUMNS}",
        {"brand": brand, "player_id": player_id, "network": network, "at": at},
    )
    return result.mappings().one_or_none()


async def retire(uow: Uow, *, address_id: UUID, brand: str, at: datetime) -> RowMapping | None:
    """Retire an active address of a brand; None when there is no such one."""
    result = await uow.execute(
        "UPDATE chain.addresses SET retired_at = :at, version = version + 1 WHERE id = :id "
        "AND brand = :brand AND player_id IS NOT NULL AND retired_at IS NULL "
        f"RETURNING {_COLUMNS}",
        {"id": address_id, "brand": brand, "at": at},
    )
    return result.mappings().one_or_none()


async def by_id(uow: Uow, address_id: UUID) -> RowMapping | None:
    """One address, as far as row-level security shows it."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses WHERE id = :id", {"id": address_id}
    )
    return result.mappings().one_or_none()


async def by_ids(uow: Uow, ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """The addresses among `ids`."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses WHERE id = ANY(CAST(:ids AS uuid[]))",
        {"ids": list(ids)},
    )
    return result.mappings().all()


async def next_version(uow: Uow, ids: Sequence[UUID]) -> Sequence[RowMapping]:
    """Count one change of each address."""
    result = await uow.execute(
        "UPDATE chain.addresses SET version = version + 1 "
        f"WHERE id = ANY(CAST(:ids AS uuid[])) RETURNING {_COLUMNS}",
        {"ids": list(ids)},
    )
    return result.mappings().all()


async def withdraw(uow: Uow, address_id: UUID, *, at: datetime) -> RowMapping | None:
    """Retire an address whoever has it; None when it is retired already, or nobody's."""
    result = await uow.execute(
        "UPDATE chain.addresses SET retired_at = :at, version = version + 1 WHERE id = :id "
        f"AND player_id IS NOT NULL AND retired_at IS NULL RETURNING {_COLUMNS}",
        {"id": address_id, "at": at},
    )
    return result.mappings().one_or_none()


async def reserves(uow: Uow, *, network: str, brands: Sequence[str], limit: int) -> dict[str, int]:
    """Verified free deposit addresses by brand, each counted up to `limit`."""
    result = await uow.execute(
        "SELECT b.brand, (SELECT count(*) FROM (SELECT 1 FROM chain.addresses a "
        "WHERE a.network = :network AND a.role = 'deposit' AND a.brand = b.brand "
        "AND a.issued_at IS NULL AND a.is_verified LIMIT :limit) f) AS free "
        "FROM unnest(CAST(:brands AS text[])) AS b (brand)",
        {"network": network, "brands": list(brands), "limit": limit},
    )
    return {row.brand: int(row.free) for row in result}


async def by_keys(uow: Uow, *, network: str, keys: Sequence[str]) -> Sequence[RowMapping]:
    """The own addresses among `keys`: one indexed statement however many keys a block has."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses WHERE network = :network "
        "AND key = ANY(CAST(:keys AS text[]))",
        {"network": network, "keys": list(keys)},
    )
    return result.mappings().all()


async def by_paths(uow: Uow, *, network: str, paths: Sequence[str]) -> Sequence[RowMapping]:
    """The own addresses at derivation paths; for a few, on rare occasions."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses WHERE network = :network "
        "AND path = ANY(CAST(:paths AS text[]))",
        {"network": network, "paths": list(paths)},
    )
    return result.mappings().all()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tails:
    """A page of key ends. `total` counts at least all addresses; `anchor` is the address that
    the page comes after, as it stands now."""

    count: int
    total: int
    anchor: UUID | None
    last: int
    last_id: UUID | None
    tails: bytes


async def tails(uow: Uow, *, network: str, after: int, digits: int, limit: int) -> Tails:
    """The last hex digits of the keys numbered after `after`, 8 bytes each, unsigned, in network
    byte order: in the order of commits (0010_deposits.sql)."""
    result = await uow.execute(
        "SELECT count(*) AS count, coalesce(max(p.number), 0) AS last, "
        "(array_agg(p.id ORDER BY p.number DESC))[1] AS last_id, "
        "coalesce(string_agg(int8send(p.tail), ''), '') AS tails, "
        "(SELECT coalesce(max(number), 0) FROM chain.addresses WHERE network = :network) "
        "AS total, (SELECT id FROM chain.addresses WHERE network = :network "
        "AND number = :after) AS anchor FROM ("
        "SELECT number, id, CAST(CAST('x' || right(repeat('0', :digits) || key, :digits) "
        "AS bit(64)) AS bigint) AS tail FROM chain.addresses "
        "WHERE network = :network AND number > :after ORDER BY number LIMIT :limit) AS p",
        {"network": network, "after": after, "digits": digits, "limit": limit},
    )
    row = result.mappings().one()
    return Tails(**row)


async def issued_keys(uow: Uow, *, network: str, limit: int) -> Sequence[str]:
    """Keys of the first issued addresses, in derivation order."""
    result = await uow.execute(
        "SELECT key FROM chain.addresses WHERE network = :network AND player_id IS NOT NULL "
        "ORDER BY account, branch, address_index LIMIT :limit",
        {"network": network, "limit": limit},
    )
    return list(result.scalars())


async def unverified(
    uow: Uow, *, network: str, after: tuple[int, int, int], limit: int
) -> Sequence[RowMapping]:
    """Rows that the signer has not re-derived yet, in derivation order, after one of them."""
    account, branch, index = after
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses WHERE network = :network AND NOT is_verified "
        "AND (account, branch, address_index) > (:account, :branch, :index) "
        "ORDER BY account, branch, address_index LIMIT :limit",
        {"network": network, "account": account, "branch": branch, "index": index, "limit": limit},
    )
    return result.mappings().all()


async def mark_verified(uow: Uow, ids: Sequence[UUID], *, at: datetime) -> int:
    """Mark rows as re-derived by the signer; returns how many were new."""
    result = await uow.execute(
        "UPDATE chain.addresses SET is_verified = true, verified_at = :at, version = version + 1 "
        "WHERE id = ANY(CAST(:ids AS uuid[])) AND NOT is_verified",
        {"ids": list(ids), "at": at},
    )
    return result.rowcount


async def own_at(uow: Uow, *, network: str, role: str, index: int) -> RowMapping | None:
    """A verified own address by role and index; branch 2 is the batch contract, hot as well."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses WHERE network = :network AND role = :role "
        "AND address_index = :index AND account = 0 AND branch <> 2 AND is_verified",
        {"network": network, "role": role, "index": index},
    )
    return result.mappings().one_or_none()


async def contract(uow: Uow, *, network: str) -> RowMapping | None:
    """The verified batch contract of a network."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses WHERE network = :network AND role = 'hot' "
        "AND account = 0 AND branch = 2 AND is_verified",
        {"network": network},
    )
    return result.mappings().one_or_none()


async def issue_change(uow: Uow, *, network: str) -> RowMapping | None:
    """Take the next unused verified change address."""
    result = await uow.execute(
        "UPDATE chain.addresses SET issued_at = now(), version = version + 1 "
        "WHERE id = (SELECT id FROM chain.addresses WHERE network = :network AND role = 'change' "
        "AND issued_at IS NULL AND is_verified ORDER BY address_index LIMIT 1 "
        f"FOR UPDATE SKIP LOCKED) RETURNING {_COLUMNS}",
        {"network": network},
    )
    return result.mappings().one_or_none()


async def issue_cold_change(uow: Uow, *, network: str, like: UUID) -> RowMapping | None:
    """Take the next unused change address of the cold wallet that an address belongs to."""
    result = await uow.execute(
        "UPDATE chain.addresses SET issued_at = now(), version = version + 1 "
        "WHERE id = (SELECT a.id FROM chain.addresses a JOIN chain.addresses l "
        "ON l.network = a.network AND l.account = a.account AND l.role = a.role "
        "WHERE l.id = :like AND a.network = :network AND a.role = 'cold' "
        "AND a.branch = l.branch + 1 AND a.issued_at IS NULL AND a.is_verified "
        "ORDER BY a.address_index LIMIT 1 FOR UPDATE OF a SKIP LOCKED) "
        f"RETURNING {_COLUMNS}",
        {"network": network, "like": like},
    )
    return result.mappings().one_or_none()


async def by_role(uow: Uow, *, network: str, roles: Sequence[str]) -> Sequence[RowMapping]:
    """Every address of some roles, issued deposit addresses only; for holdings by address."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM chain.addresses WHERE network = :network "
        "AND role = ANY(CAST(:roles AS text[])) AND (role <> 'deposit' OR issued_at IS NOT NULL "
        "OR id IN (SELECT address_id FROM chain.inflows WHERE network = :network)) "
        "ORDER BY account, branch, address_index",
        {"network": network, "roles": list(roles)},
    )
    return result.mappings().all()


# Both sides run on an index and read at most `limit` rows, however many addresses were issued.
POOL_COUNTS = """
SELECT (SELECT count(*) FROM (SELECT 1 FROM chain.addresses WHERE network = :network
            AND account = :account AND branch = :branch AND issued_at IS NULL LIMIT :limit) f),
    coalesce((SELECT address_index + 1 FROM chain.addresses WHERE network = :network
        AND account = :account AND branch = :branch ORDER BY address_index DESC LIMIT 1), 0)
"""


async def pool_counts(
    uow: Uow, *, network: str, account: int, branch: int, limit: int
) -> tuple[int, int]:
    """(free rows, at most `limit`; next index) of one derivation branch."""
    result = await uow.execute(
        POOL_COUNTS, {"network": network, "account": account, "branch": branch, "limit": limit}
    )
    row = tuple(result.one())
    return int(row[0]), int(row[1])


async def insert(uow: Uow, rows: Sequence[Mapping[str, Any]], *, at: datetime) -> None:
    """Insert derived rows, unverified; a row that another instance wrote first stays."""
    await uow.execute(
        "INSERT INTO chain.addresses (id, network, role, brand, account, branch, address_index, "
        "path, key, address, scheme, created_at) VALUES (:id, :network, :role, :brand, :account, "
        ":branch, :address_index, :path, :key, :address, :scheme, :at) "
        "ON CONFLICT (network, account, branch, address_index) DO NOTHING",
        [{**row, "at": at} for row in rows],
    )


async def of_the_house(
    uow: Uow, *, networks: Sequence[str], keys: Sequence[str]
) -> set[tuple[str, str]]:
    """Which (network, key) of two columns are own addresses of no player."""
    rows = await uow.rows(
        "SELECT network, key FROM unnest(CAST(:networks AS text[]), CAST(:keys AS text[]))"
        " AS a (network, key) WHERE chain.is_of_the_house(network, key)",
        {"networks": list(networks), "keys": list(keys)},
    )
    return {(row["network"], row["key"]) for row in rows}
