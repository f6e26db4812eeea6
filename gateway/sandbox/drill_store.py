"""SQL of the drill: what became of withdrawals in the books, and leases brought to their end."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from config.database import Database, Uow

LOCK_TIMEOUT = "2s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """One withdrawal as the books have it."""

    id: UUID
    request_id: str
    state: str
    code: str | None
    amount_minor: int
    hold_state: str | None
    is_asked: bool
    """Whether `sign_requested_at` is committed."""
    txid: str | None
    attempts: tuple[bytes, ...]
    """The signed transactions of it that were sent, oldest first."""
    void_state: str | None
    void_code: str | None


async def fates(database: Database, ids: Sequence[UUID]) -> list[Fate]:
    """The withdrawals in the order of their request ids."""
    async with database.unit_of_work() as uow:
        rows = await uow.execute(
            """
            SELECT w.id, w.request_id, w.state, w.code, w.amount, h.state AS hold_state,
                w.sign_requested_at IS NOT NULL AS is_asked, v.state AS void_state,
                v.code AS void_code,
                w.txid, ARRAY(
                    SELECT o.raw FROM gateway.attempt_members m
                    JOIN chain.outgoing o ON o.id = m.attempt_id
                    WHERE m.withdrawal_id = w.id AND o.state NOT IN ('built', 'signed', 'refused')
                    ORDER BY o.family_number) AS attempts
            FROM gateway.withdrawals w
            LEFT JOIN ledger.holds h ON h.id = w.id
            LEFT JOIN gateway.voids v ON v.withdrawal_id = w.id
            WHERE w.id = ANY(:ids) ORDER BY w.request_id
            """,
            {"ids": list(ids)},
        )
        return [
            Fate(
                id=row.id,
                request_id=row.request_id,
                state=row.state,
                code=row.code,
                amount_minor=int(row.amount),
                hold_state=row.hold_state,
                is_asked=row.is_asked,
                txid=row.txid,
                attempts=tuple(bytes(raw) for raw in row.attempts),
                void_state=row.void_state,
                void_code=row.void_code,
            )
            for row in rows
        ]


async def end_leases(database: Database) -> None:
    """What waiting does after a holder died: its leases are over. Raises DBAPIError where a
    process that stands still has a lock on one."""

    async def work(uow: Uow) -> None:
        await uow.execute(
            "SELECT set_config('lock_timeout', :limit, true)", {"limit": LOCK_TIMEOUT}
        )
        await uow.execute(
            "UPDATE gateway.leases SET expires_at = clock_timestamp() WHERE name LIKE 'payouts:%'"
        )

    await database.run(work)


async def open_alarms(database: Database) -> list[str]:
    """Alarms that nobody cleared, as `alarm kind: detail`."""
    async with database.unit_of_work() as uow:
        rows = await uow.execute(
            "SELECT kind, detail FROM gateway.alarms WHERE cleared_at IS NULL ORDER BY raised_at"
        )
        return [f"alarm {row.kind}: {row.detail}" for row in rows]
