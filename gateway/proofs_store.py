"""SQL of proofs of reserves and of what casinos report of their players' balances."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from signer.protocol import Authorisation


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofRow:
    """One proof. The statement is there once it was assembled, the signature once it is done."""

    id: UUID
    state: str
    version: int
    probes: Mapping[str, str]
    statement: str | None
    key_id: str | None
    public_key: bytes | None
    signature: bytes | None
    reason: str | None
    attempts: int
    created_at: datetime
    state_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafRow:
    """Whose leaf stands at a place of an asset's tree; minor units."""

    asset: str
    place: int
    kind: str
    brand: str
    player_id: str
    amount_minor: int
    salt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressOfProof:
    """An address that holds something, and what its key signed. `path` None: no key of ours."""

    network: str
    address: str
    path: str | None
    signature: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedBalance:
    """What a player has by the casino's word, minor units."""

    brand: str
    player_id: str
    asset: str
    amount_minor: int
    as_of: datetime


_COLUMNS = (
    "id, state, version, probes, statement, key_id, public_key, signature, reason, attempts,"
    " created_at, state_at"
)


def _row(row: RowMapping) -> ProofRow:
    values = {name: row[name] for name in ProofRow.__slots__}
    probes = row["probes"]
    values["probes"] = json.loads(probes) if isinstance(probes, str) else probes
    for name in ("public_key", "signature"):
        values[name] = None if row[name] is None else bytes(row[name])
    return ProofRow(**values)


async def insert(
    uow: Uow, *, proof_id: UUID, probes: Mapping[str, UUID], requested_by: str, at: datetime
) -> None:
    """A proof whose networks were asked in the same unit of work."""
    await uow.execute(
        "INSERT INTO gateway.proofs (id, state, probes, requested_by, next_attempt_at, created_at,"
        " state_at) VALUES (:id, 'asked', CAST(:probes AS jsonb), :by, :at, :at, :at)",
        {
            "id": proof_id,
            "probes": json.dumps({name: str(value) for name, value in probes.items()}),
            "by": requested_by,
            "at": at,
        },
    )


async def get(uow: Uow, proof_id: UUID) -> ProofRow | None:
    """One proof."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.proofs WHERE id = :id", {"id": proof_id}
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def newest(uow: Uow, *, before: UUID | None, limit: int) -> list[ProofRow]:
    """Proofs, newest first, older than `before`."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.proofs"
        " WHERE (CAST(:before AS uuid) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit",
        {"before": before, "limit": limit},
    )
    return [_row(row) for row in result.mappings()]


async def newest_done(uow: Uow) -> ProofRow | None:
    """The last one that is signed."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.proofs WHERE state = 'done' ORDER BY id DESC LIMIT 1"
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def lock(uow: Uow) -> None:
    """One new proof at a time, until the commit."""
    await uow.execute("SELECT pg_advisory_xact_lock(hashtextextended('gateway.proofs', 0))")


async def open_one(uow: Uow) -> UUID | None:
    """A proof that is being made."""
    result = await uow.execute(
        "SELECT id FROM gateway.proofs WHERE state IN ('asked', 'assembled') LIMIT 1"
    )
    found: UUID | None = result.scalar_one_or_none()
    return found


async def due(uow: Uow, *, at: datetime) -> ProofRow | None:
    """The next proof that something can be done about."""
    result = await uow.execute(
        f"SELECT {_COLUMNS} FROM gateway.proofs WHERE state IN ('asked', 'assembled')"
        " AND next_attempt_at <= :at ORDER BY next_attempt_at LIMIT 1",
        {"at": at},
    )
    row = result.mappings().one_or_none()
    return None if row is None else _row(row)


async def postpone(uow: Uow, proof_id: UUID, *, until: datetime, attempts: int) -> None:
    """Look at it again later."""
    await uow.execute(
        "UPDATE gateway.proofs SET next_attempt_at = :until, attempts = :attempts"
        " WHERE id = :id AND state IN ('asked', 'assembled')",
        {"id": proof_id, "until": until, "attempts": attempts},
    )


async def move(
    uow: Uow, proof_id: UUID, *, current: str, target: str, at: datetime, **changes: Any
) -> bool:
    """Move it from one state to the next; False when another process was quicker."""
    columns = "".join(f", {name} = :{name}" for name in changes)
    result = await uow.execute(
        f"UPDATE gateway.proofs SET state = :target, version = version + 1, state_at = :at,"
        f" attempts = 0, next_attempt_at = :at{columns} WHERE id = :id AND state = :current",
        {"id": proof_id, "current": current, "target": target, "at": at, **changes},
    )
    return bool(result.rowcount)


async def add_part(uow: Uow, proof_id: UUID, *, kind: str, subject: str, content: str) -> None:
    """A part that the statement commits to."""
    await uow.execute(
        "INSERT INTO gateway.proof_parts (proof_id, kind, subject, content)"
        " VALUES (:id, :kind, :subject, :content)",
        {"id": proof_id, "kind": kind, "subject": subject, "content": content},
    )


async def part(uow: Uow, proof_id: UUID, *, kind: str, subject: str) -> str | None:
    """The content of one part."""
    result = await uow.execute(
        "SELECT content FROM gateway.proof_parts"
        " WHERE proof_id = :id AND kind = :kind AND subject = :subject",
        {"id": proof_id, "kind": kind, "subject": subject},
    )
    found: str | None = result.scalar_one_or_none()
    return found


async def parts(uow: Uow, proof_id: UUID, *, kind: str) -> dict[str, str]:
    """Every part of a kind, by subject."""
    result = await uow.execute(
        "SELECT subject, content FROM gateway.proof_parts"
        " WHERE proof_id = :id AND kind = :kind ORDER BY subject",
        {"id": proof_id, "kind": kind},
    )
    return {row.subject: row.content for row in result}


async def add_leaves(uow: Uow, proof_id: UUID, leaves: Sequence[LeafRow]) -> None:
    """Whose leaf is which."""
    await uow.execute(
        """
        INSERT INTO gateway.proof_leaves
            (proof_id, asset, place, kind, brand, player_id, amount, salt)
        SELECT :id, batch.* FROM unnest(CAST(:assets AS text[]), CAST(:places AS integer[]),
            CAST(:kinds AS text[]), CAST(:brands AS text[]), CAST(:players AS text[]),
            CAST(:amounts AS numeric[]), CAST(:salts AS bytea[])) AS batch
        """,
        {
            "id": proof_id,
            "assets": [leaf.asset for leaf in leaves],
            "places": [leaf.place for leaf in leaves],
            "kinds": [leaf.kind for leaf in leaves],
            "brands": [leaf.brand for leaf in leaves],
            "players": [leaf.player_id for leaf in leaves],
            "amounts": [leaf.amount_minor for leaf in leaves],
            "salts": [leaf.salt for leaf in leaves],
        },
    )


async def leaves_of(uow: Uow, proof_id: UUID, *, brand: str, player_id: str) -> list[LeafRow]:
    """The leaves of one player, or with an empty player of the brand itself."""
    result = await uow.execute(
        "SELECT asset, place, kind, brand, player_id, amount, salt FROM gateway.proof_leaves"
        " WHERE proof_id = :id AND brand = :brand AND player_id = :player ORDER BY asset, place",
        {"id": proof_id, "brand": brand, "player": player_id},
    )
    return [
        LeafRow(
            asset=row.asset,
            place=row.place,
            kind=row.kind,
            brand=row.brand,
            player_id=row.player_id,
            amount_minor=int(row.amount),
            salt=bytes(row.salt),
        )
        for row in result
    ]


async def add_addresses(uow: Uow, proof_id: UUID, rows: Sequence[AddressOfProof]) -> None:
    """The addresses whose keys are to sign."""
    await uow.execute(
        """
        INSERT INTO gateway.proof_addresses (proof_id, network, address, path, code)
        SELECT :id, batch.* FROM unnest(CAST(:networks AS text[]), CAST(:addresses AS text[]),
            CAST(:paths AS text[]), CAST(:codes AS text[])) AS batch
        """,
        {
            "id": proof_id,
            "networks": [row.network for row in rows],
            "addresses": [row.address for row in rows],
            "paths": [row.path for row in rows],
            "codes": [row.code for row in rows],
        },
    )


async def unsigned(uow: Uow, proof_id: UUID, *, limit: int) -> list[AddressOfProof]:
    """Addresses of one network that no key has signed for yet."""
    result = await uow.execute(
        """
        SELECT network, address, path, signature, code FROM gateway.proof_addresses
        WHERE proof_id = :id AND signature IS NULL AND code IS NULL AND network = (
            SELECT min(network) FROM gateway.proof_addresses
            WHERE proof_id = :id AND signature IS NULL AND code IS NULL)
        ORDER BY address LIMIT :limit
        """,
        {"id": proof_id, "limit": limit},
    )
    return [AddressOfProof(**row) for row in result.mappings()]


async def keep_signatures(uow: Uow, proof_id: UUID, rows: Sequence[AddressOfProof]) -> None:
    """What the keys of these addresses signed, or why one did not. What stands stays."""
    await uow.execute(
        """
        UPDATE gateway.proof_addresses a SET signature = f.signature, code = f.code
        FROM unnest(CAST(:networks AS text[]), CAST(:addresses AS text[]),
            CAST(:signatures AS text[]), CAST(:codes AS text[]))
            AS f (network, address, signature, code)
        WHERE a.proof_id = :id AND a.network = f.network AND a.address = f.address
            AND a.signature IS NULL AND a.code IS NULL
        """,
        {
            "id": proof_id,
            "networks": [row.network for row in rows],
            "addresses": [row.address for row in rows],
            "signatures": [row.signature for row in rows],
            "codes": [row.code for row in rows],
        },
    )


async def addresses_of(uow: Uow, proof_id: UUID) -> list[AddressOfProof]:
    """Every address of a proof."""
    result = await uow.execute(
        "SELECT network, address, path, signature, code FROM gateway.proof_addresses"
        " WHERE proof_id = :id ORDER BY network, address",
        {"id": proof_id},
    )
    return [AddressOfProof(**row) for row in result.mappings()]


async def add_report(
    uow: Uow,
    *,
    report_id: UUID,
    brand: str,
    key_id: str,
    signed: Authorisation,
    rows: Sequence[ReportedBalance],
    at: datetime,
) -> int:
    """Keep a report as it was signed and what it says; returns how many balances it changed: one
    that is known as of a later moment stays."""
    await uow.execute(
        """
        INSERT INTO gateway.balance_reports (id, brand, key_id, as_of, items, method, authority,
            path, query, headers, body, signature_input, signature, created_at)
        VALUES (:id, :brand, :key_id, :as_of, :items, :method, :authority, :path, :query,
            CAST(:headers AS jsonb), :body, :signature_input, :signature, :at)
        """,
        {
            "id": report_id,
            "brand": brand,
            "key_id": key_id,
            "as_of": rows[0].as_of,
            "items": len(rows),
            "method": signed.method,
            "authority": signed.authority,
            "path": signed.path,
            "query": signed.query,
            "headers": json.dumps(dict(signed.headers)),
            "body": signed.body,
            "signature_input": signed.signature_input,
            "signature": signed.signature,
            "at": at,
        },
    )
    result = await uow.execute(
        """
        INSERT INTO gateway.player_balances AS known
            (brand, player_id, asset, amount, as_of, report_id)
        SELECT :brand, batch.*, :as_of, :report_id FROM unnest(CAST(:players AS text[]),
            CAST(:assets AS text[]), CAST(:amounts AS numeric[])) AS batch (player, asset, amount)
        ORDER BY player, asset
        ON CONFLICT (brand, player_id, asset) DO UPDATE SET amount = excluded.amount,
            as_of = excluded.as_of, report_id = excluded.report_id
            WHERE known.as_of <= excluded.as_of
        """,
        {
            "brand": brand,
            "players": [row.player_id for row in rows],
            "assets": [row.asset for row in rows],
            "amounts": [row.amount_minor for row in rows],
            "as_of": rows[0].as_of,
            "report_id": report_id,
        },
    )
    return result.rowcount


async def reported(uow: Uow) -> list[ReportedBalance]:
    """What every casino last said of each of its players, zero included."""
    result = await uow.execute(
        "SELECT brand, player_id, asset, amount AS amount_minor, as_of FROM gateway.player_balances"
        " ORDER BY brand, player_id, asset"
    )
    return [
        ReportedBalance(**{**row, "amount_minor": int(row["amount_minor"])})
        for row in result.mappings()
    ]
