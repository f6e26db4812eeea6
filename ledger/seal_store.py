"""SQL of the journal's seals. The digest of a posting is written here once, for both directions."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from config.database import Uow
from ledger.store import Row

# Of the heads in `head`: everything that a posting says, its accounts by what they mean. JSON keeps
# neighbouring texts apart; moments are whole microseconds, as PostgreSQL keeps them.
_DIGESTS = """
digest AS (
    SELECT h.id, h.booked_at, sha256(convert_to(jsonb_build_array(
        h.id, h.reference::text, trunc(extract(epoch FROM h.booked_at) * 1000000), h.kind, h.reason,
        h.reverses, h.network, h.block_hash, h.block_height,
        (SELECT jsonb_agg(jsonb_build_array(e.line::integer, a.code, e.asset, e.side::text,
                    e.amount::numeric, e.brand_tag) ORDER BY e.line)
         FROM ledger.entries e LEFT JOIN ledger.accounts a ON a.id = e.account_id
         WHERE e.posting_id = h.id AND e.booked_at = h.booked_at))::text, 'UTF8')) AS digest
    FROM head h
)
"""

# Set operations, not anti-joins: they cost the same whatever the planner thinks of the numbers.
_UNSEALED = f"""
WITH late AS (
    SELECT p.booked_at, p.id FROM ledger.postings p
    WHERE p.booked_at >= CAST(:since AS timestamptz)
        AND p.booked_at <= CAST(:sealed_until AS timestamptz)
    EXCEPT
    SELECT u.at, u.id FROM ledger.seals s, unnest(s.moments, s.postings) AS u (at, id)
    WHERE s.last_at >= CAST(:since AS timestamptz)
), young AS (
    SELECT p.booked_at, p.id FROM ledger.postings p
    WHERE p.booked_at > coalesce(CAST(:sealed_until AS timestamptz), '-infinity')
        AND p.booked_at < :until
    ORDER BY p.booked_at, p.id LIMIT :limit
), chosen AS MATERIALIZED (
    SELECT booked_at, id FROM late UNION ALL SELECT booked_at, id FROM young
    ORDER BY booked_at, id LIMIT :limit
), head AS (
    SELECT p.* FROM chosen c JOIN ledger.postings p ON (p.booked_at, p.id) = (c.booked_at, c.id)
), {_DIGESTS}
SELECT d.id, d.booked_at, d.digest FROM digest d ORDER BY d.booked_at, d.id
"""

_CHANGED = f"""
WITH item AS MATERIALIZED (
    SELECT u.id, u.at, substring(s.digests FROM ((u.n - 1) * 32 + 1)::integer FOR 32) AS digest
    FROM ledger.seals s, unnest(s.postings, s.moments) WITH ORDINALITY AS u (id, at, n)
    WHERE s.sequence = :sequence
), head AS (
    SELECT p.* FROM item i JOIN ledger.postings p ON (p.booked_at, p.id) = (i.at, i.id)
), {_DIGESTS}
SELECT CASE WHEN d.id IS NULL THEN 'sealed_posting_missing' ELSE 'sealed_posting_changed' END
    AS kind, i.id
FROM item i LEFT JOIN digest d ON d.id = i.id
WHERE d.digest IS DISTINCT FROM i.digest ORDER BY i.id
"""


async def last(uow: Uow) -> Row | None:
    """The newest seal."""
    result = await uow.execute("SELECT * FROM ledger.seals ORDER BY sequence DESC LIMIT 1")
    return result.mappings().one_or_none()


async def get(uow: Uow, sequence: int) -> Row | None:
    """One seal."""
    result = await uow.execute(
        "SELECT * FROM ledger.seals WHERE sequence = :sequence", {"sequence": sequence}
    )
    return result.mappings().one_or_none()


async def after(uow: Uow, sequence: int) -> Sequence[Row]:
    """The seal that follows a sequence, if any, with what stands before it."""
    result = await uow.execute(
        """
        SELECT s.*, b.sequence AS before_sequence, b.hash AS before_hash
        FROM (SELECT * FROM ledger.seals WHERE sequence > :sequence ORDER BY sequence LIMIT 1) AS s
        LEFT JOIN LATERAL (SELECT b.sequence, b.hash FROM ledger.seals b
            WHERE b.sequence < s.sequence ORDER BY b.sequence DESC LIMIT 1) AS b ON true
        """,
        {"sequence": sequence},
    )
    return result.mappings().all()


async def unsealed(
    uow: Uow,
    *,
    since: datetime | None,
    sealed_until: datetime | None,
    until: datetime,
    limit: int,
) -> Sequence[Row]:
    """Postings without a seal, oldest first, each with its digest."""
    result = await uow.execute(
        _UNSEALED, {"since": since, "sealed_until": sealed_until, "until": until, "limit": limit}
    )
    return result.mappings().all()


async def changed_postings(uow: Uow, sequence: int) -> Sequence[Row]:
    """Which postings of a seal are gone or are not what was sealed."""
    return (await uow.execute(_CHANGED, {"sequence": sequence})).mappings().all()


async def insert(
    uow: Uow,
    *,
    sequence: int,
    postings: Sequence[UUID],
    moments: Sequence[datetime],
    digests: bytes,
    until: datetime,
    previous_hash: str,
    hash: str,
    at: datetime,
) -> None:
    """Write a seal. A sequence that stands is an error of the caller's lease."""
    await uow.execute(
        """
        INSERT INTO ledger.seals (sequence, postings, moments, digests, first_at, last_at,
                                  until, previous_hash, hash, sealed_at)
        VALUES (:sequence, CAST(:postings AS uuid[]), CAST(:moments AS timestamptz[]), :digests,
                :first_at, :last_at, :until, :previous_hash, :hash, :at)
        """,
        {
            "sequence": sequence,
            "postings": list(postings),
            "digests": digests,
            "moments": list(moments),
            "first_at": min(moments),
            "last_at": max(moments),
            "until": until,
            "previous_hash": previous_hash,
            "hash": hash,
            "at": at,
        },
    )
