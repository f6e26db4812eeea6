"""SQL of comparisons, their wallets and the breaks that they found (chain.reconciliation_*)."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow

_RUN = "id, network, trigger, state, height, block_hash, error, breaks, started_at, finished_at"
_BREAK = (
    "id, network, kind, subject, asset, state, difference, details, first_run_id, last_run_id, "
    "version, opened_at, changed_at, closed_at, explanation, proposed_by, approved_by"
)


async def lock(uow: Uow, network: str) -> None:
    """One comparison of a network is judged at a time, until the commit."""
    await uow.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('reconciliation of ' || :network, 0))",
        {"network": network},
    )


async def moment(uow: Uow) -> datetime:
    """When this unit of work began, by the one clock that all watchers share."""
    result = await uow.execute("SELECT transaction_timestamp()")
    found: datetime = result.scalar_one()
    return found


async def insert_run(uow: Uow, values: Mapping[str, Any], *, read_at: datetime | None) -> bool:
    """Keep a run that read the books at a moment, None when it could not; False when another
    watcher's cycle of the same block is there."""
    result = await uow.execute(
        f"INSERT INTO chain.reconciliation_runs ({_RUN}, read_at) VALUES (:id, :network, "
        ":trigger, :state, :height, :block_hash, :error, CAST(:breaks AS jsonb), :started_at, "
        ":finished_at, :read_at) ON CONFLICT DO NOTHING",
        {**values, "breaks": json.dumps(values["breaks"]), "read_at": read_at},
    )
    return result.rowcount == 1


async def insert_wallets(uow: Uow, run_id: UUID, lines: Sequence[Mapping[str, Any]]) -> None:
    """What each account of a run was."""
    if not lines:
        return
    await uow.execute(
        "INSERT INTO chain.reconciliation_wallets (run_id, account, chain, books, unposted, "
        "unsettled, difference) SELECT :run_id, account, chain, books, unposted, unsettled, "
        "chain - books - unposted + unsettled FROM unnest(CAST(:accounts AS text[]), "
        "CAST(:chain AS numeric[]), CAST(:books AS numeric[]), CAST(:unposted AS numeric[]), "
        "CAST(:unsettled AS numeric[])) AS l (account, chain, books, unposted, unsettled)",
        {
            "run_id": run_id,
            "accounts": [line["account"] for line in lines],
            **{
                name: [line[name] for line in lines]
                for name in ("chain", "books", "unposted", "unsettled")
            },
        },
    )


async def is_overtaken(uow: Uow, *, network: str, read_at: datetime) -> bool:
    """Whether a run that read the books later was judged before this one."""
    result = await uow.execute(
        "SELECT EXISTS (SELECT 1 FROM chain.reconciliation_runs "
        "WHERE network = :network AND read_at > :read_at)",
        {"network": network, "read_at": read_at},
    )
    return bool(result.scalar_one())


async def open_breaks(
    uow: Uow,
    *,
    network: str | None = None,
    asset: str | None = None,
    is_locked: bool = False,
) -> Sequence[RowMapping]:
    """Open breaks, the oldest first; locked until the commit when asked."""
    lock = " FOR UPDATE" if is_locked else ""
    result = await uow.execute(
        f"SELECT {_BREAK} FROM chain.reconciliation_breaks WHERE state = 'open' "
        "AND network = coalesce(CAST(:network AS text), network) "
        f"AND asset = coalesce(CAST(:asset AS text), asset) ORDER BY id{lock}",
        {"network": network, "asset": asset},
    )
    return result.mappings().all()


async def insert_break(uow: Uow, values: Mapping[str, Any]) -> RowMapping:
    """A break that no earlier run had."""
    result = await uow.execute(
        "INSERT INTO chain.reconciliation_breaks (id, network, kind, subject, asset, state, "
        "difference, details, first_run_id, last_run_id, opened_at, changed_at) VALUES (:id, "
        ":network, :kind, :subject, :asset, 'open', :difference, CAST(:details AS jsonb), "
        f":run_id, :run_id, :at, :at) RETURNING {_BREAK}",
        {**values, "details": json.dumps(values["details"])},
    )
    return result.mappings().one()


async def change_break(uow: Uow, values: Mapping[str, Any]) -> RowMapping:
    """An open break whose amount is another now."""
    result = await uow.execute(
        "UPDATE chain.reconciliation_breaks SET difference = :difference, "
        "details = CAST(:details AS jsonb), last_run_id = :run_id, version = version + 1, "
        "changed_at = :at, explanation = NULL, proposed_by = NULL, approved_by = NULL "
        f"WHERE id = :id AND state = 'open' RETURNING {_BREAK}",
        {
            "id": values["id"],
            "difference": values["difference"],
            "details": json.dumps(values["details"]),
            "run_id": values["run_id"],
            "at": values["at"],
        },
    )
    return result.mappings().one()


async def seen_again(uow: Uow, *, break_id: UUID, run_id: UUID) -> None:
    """An open break as it was."""
    await uow.execute(
        "UPDATE chain.reconciliation_breaks SET last_run_id = :run_id WHERE id = :id",
        {"id": break_id, "run_id": run_id},
    )


async def close_break(uow: Uow, *, break_id: UUID, run_id: UUID, at: datetime) -> RowMapping:
    """A break that this run did not find any more."""
    result = await uow.execute(
        "UPDATE chain.reconciliation_breaks SET state = 'closed', last_run_id = :run_id, "
        "version = version + 1, changed_at = :at, closed_at = :at WHERE id = :id "
        f"AND state = 'open' RETURNING {_BREAK}",
        {"id": break_id, "run_id": run_id, "at": at},
    )
    return result.mappings().one()


async def lock_break(uow: Uow, break_id: UUID) -> RowMapping | None:
    """One break, locked until the commit."""
    result = await uow.execute(
        f"SELECT {_BREAK} FROM chain.reconciliation_breaks WHERE id = :id FOR UPDATE",
        {"id": break_id},
    )
    return result.mappings().one_or_none()


async def explain_break(
    uow: Uow,
    *,
    break_id: UUID,
    version: int,
    explanation: str,
    proposed_by: str,
    approved_by: str,
    at: datetime,
) -> RowMapping | None:
    """What two people know of an open break at a version; None when it has changed since."""
    result = await uow.execute(
        "UPDATE chain.reconciliation_breaks SET explanation = :explanation, "
        "proposed_by = :proposed_by, approved_by = :approved_by, version = version + 1, "
        "changed_at = :at WHERE id = :id AND version = :version AND state = 'open' "
        f"RETURNING {_BREAK}",
        {
            "id": break_id,
            "version": version,
            "explanation": explanation,
            "proposed_by": proposed_by,
            "approved_by": approved_by,
            "at": at,
        },
    )
    return result.mappings().one_or_none()


async def has_just_failed(uow: Uow, network: str) -> bool:
    """Whether the newest run of a network could not compare."""
    result = await uow.execute(
        "SELECT state = 'failed' FROM chain.reconciliation_runs WHERE network = :network "
        "ORDER BY number DESC LIMIT 1",
        {"network": network},
    )
    return bool(result.scalar_one_or_none())


async def get_run(uow: Uow, run_id: UUID) -> RowMapping | None:
    """One run."""
    result = await uow.execute(
        f"SELECT {_RUN} FROM chain.reconciliation_runs WHERE id = :id", {"id": run_id}
    )
    return result.mappings().one_or_none()


async def find_runs(
    uow: Uow, *, network: str | None, state: str | None, before: UUID | None, limit: int
) -> Sequence[RowMapping]:
    """Runs, newest first."""
    result = await uow.execute(
        f"SELECT {_RUN} FROM chain.reconciliation_runs "
        "WHERE network = coalesce(CAST(:network AS text), network) "
        "AND state = coalesce(CAST(:state AS text), state) "
        "AND (CAST(:before AS uuid) IS NULL OR id < :before) ORDER BY id DESC LIMIT :limit",
        {"network": network, "state": state, "before": before, "limit": limit},
    )
    return result.mappings().all()


async def newest(uow: Uow, network: str) -> RowMapping | None:
    """The newest run that compared."""
    result = await uow.execute(
        f"SELECT {_RUN} FROM chain.reconciliation_runs WHERE network = :network "
        "AND height IS NOT NULL ORDER BY number DESC LIMIT 1",
        {"network": network},
    )
    return result.mappings().one_or_none()


async def newest_before(uow: Uow, network: str, until: datetime) -> RowMapping | None:
    """The newest run that was over before a moment."""
    result = await uow.execute(
        f"SELECT {_RUN} FROM chain.reconciliation_runs WHERE network = :network "
        "AND finished_at < :until ORDER BY number DESC LIMIT 1",
        {"network": network, "until": until},
    )
    return result.mappings().one_or_none()


async def wallets(uow: Uow, run_id: UUID) -> Sequence[RowMapping]:
    """The accounts of a run."""
    result = await uow.execute(
        "SELECT account, chain, books, unposted, unsettled, difference "
        "FROM chain.reconciliation_wallets WHERE run_id = :id ORDER BY account",
        {"id": run_id},
    )
    return result.mappings().all()
