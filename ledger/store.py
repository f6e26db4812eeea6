"""All SQL of the ledger package. Functions take `uow` first and never commit."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import DBAPIError

from config.database import Uow, sqlstate
from ledger.errors import (
    ForeignAccount,
    InsufficientFunds,
    ReferenceConflict,
    StaleState,
    UnbalancedPosting,
)

if TYPE_CHECKING:
    from ledger.holds import HoldRequest
    from ledger.journal import Posting

Row = RowMapping

_NAME = re.compile(r"[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)?")

_POST = text(
    """
    SELECT (p).posting_id, (p).is_new FROM (SELECT ledger.post(
        :id, :at, :reference, :kind, :reason, :reverses, :network, :block_hash, :height,
        CAST(:codes AS text[]), CAST(:kinds AS text[]), CAST(:assets AS text[]),
        CAST(:brands AS text[]), CAST(:players AS text[]), CAST(:wallets AS text[]),
        CAST(:sides AS text[]), CAST(:amounts AS numeric[]), CAST(:tags AS text[])) AS p) AS posted
    """
)

_PLACE_MANY = """
    SELECT ledger.place_many(
        :at, CAST(:hold_ids AS uuid[]), CAST(:posting_ids AS uuid[]),
        CAST(:references AS text[]), CAST(:brands AS text[]), CAST(:players AS text[]),
        CAST(:assets AS text[]), CAST(:amounts AS numeric[])) AS answers
"""
_MOVE_HOLDS = text(
    "SELECT ledger.move_hold(h.id, :to, false, h.reference, :at) FROM (SELECT * FROM unnest("
    "CAST(:ids AS uuid[]), CAST(:references AS text[])) WITH ORDINALITY AS w (id, reference, n) "
    "ORDER BY n OFFSET 0) AS h"
)
_MOVE_HOLD = text("SELECT ledger.move_hold(:id, :to, :reopens, :reference, :at)")


async def post(
    uow: Uow, posting: "Posting", *, posting_id: UUID, at: datetime
) -> tuple[UUID, bool]:
    """Call `ledger.post`; maps its SQLSTATEs to the package's errors."""
    accounts = [entry.account for entry in posting.entries]
    effect = posting.effect
    parameters = {
        "id": posting_id,
        "at": at,
        "reference": posting.reference,
        "kind": posting.kind,
        "reason": posting.reason,
        "reverses": posting.reverses,
        "network": effect.network if effect else None,
        "block_hash": effect.block_hash if effect else None,
        "height": effect.height if effect else None,
        "codes": [account.code for account in accounts],
        "kinds": [account.kind.value for account in accounts],
        "assets": [account.asset for account in accounts],
        "brands": [account.brand for account in accounts],
        "players": [account.player_id for account in accounts],
        "wallets": [account.wallet for account in accounts],
        "sides": [entry.side.value for entry in posting.entries],
        "amounts": [entry.amount_minor for entry in posting.entries],
        "tags": [entry.brand_tag for entry in posting.entries],
    }
    try:
        row = (await uow.execute(_POST, parameters)).one()
    except DBAPIError as error:
        refuse(error, posting.reference)
    return row.posting_id, row.is_new


def refuse(error: DBAPIError, subject: str) -> NoReturn:
    """Raise the house's error for a code of the ledger's functions; any other error as it is."""
    match sqlstate(error):
        case "CG002" | "CG003":
            raise UnbalancedPosting(f"{subject}: refused by the database") from error
        case "CG004":
            raise ReferenceConflict(f"{subject} was posted with other content") from error
        case "CG005":
            cause = getattr(error.orig, "__cause__", None)
            raise InsufficientFunds(str(getattr(cause, "detail", None) or subject)) from error
        case "CG007":
            raise StaleState(f"{subject}: the hold is not where this step starts") from error
        case "CG008":
            raise ForeignAccount(f"{subject}: an account of another owner") from error
        case _:
            raise error


async def read_postings(uow: Uow, references: Sequence[str]) -> dict[str, list[Row]]:
    """Postings by reference: one row per line, the posting's own fields in each."""
    result = await uow.execute(
        """
        SELECT p.reference, p.id, p.kind, p.network, p.block_hash, p.block_height,
            a.code, a.kind AS account_kind, a.asset, a.brand, a.player_id, a.wallet,
            e.side, e.amount, e.brand_tag
        FROM ledger.postings p
        JOIN ledger.entries e ON e.posting_id = p.id AND e.booked_at = p.booked_at
        JOIN ledger.accounts a ON a.id = e.account_id
        WHERE p.reference = ANY(CAST(:references AS text[])) ORDER BY e.line
        """,
        {"references": list(references)},
    )
    found: dict[str, list[Row]] = {}
    for row in result.mappings():
        found.setdefault(row["reference"], []).append(row)
    return found


async def place_many(
    uow: Uow, requests: Sequence["HoldRequest"], *, posting_ids: Sequence[UUID], at: datetime
) -> list[bool]:
    """Call `ledger.place_many`: one answer each, in order."""
    parameters = {
        "at": at,
        "hold_ids": [request.hold_id for request in requests],
        "posting_ids": list(posting_ids),
        "references": [request.reference for request in requests],
        "brands": [request.brand for request in requests],
        "players": [request.player_id for request in requests],
        "assets": [request.asset for request in requests],
        "amounts": [request.amount for request in requests],
    }
    try:
        [found] = await uow.rows(_PLACE_MANY, parameters)
    except DBAPIError as error:
        refuse(error, "place_many")
    return list(found["answers"])


async def place_aside(uow: Uow, request: "HoldRequest", *, source: str, at: datetime) -> None:
    """Call `ledger.place_aside`."""
    parameters = {
        "id": request.hold_id,
        "source": source,
        "brand": request.brand,
        "player": request.player_id,
        "asset": request.asset,
        "amount": request.amount,
        "reference": request.reference,
        "at": at,
    }
    try:
        await uow.execute(
            "SELECT ledger.place_aside(:id, :source, :brand, :player, :asset, "
            "CAST(:amount AS numeric), :reference, :at)",
            parameters,
        )
    except DBAPIError as error:
        refuse(error, request.reference)


async def move_hold(
    uow: Uow,
    hold_id: UUID,
    *,
    to: str,
    reopens: bool = False,
    reference: str | None = None,
    at: datetime | None,
) -> None:
    """Call `ledger.move_hold`: the compare-and-set and, with a reference, its posting."""
    parameters = {
        "id": hold_id,
        "to": to,
        "reopens": reopens,
        "reference": reference,
        "at": at,
    }
    try:
        await uow.execute(_MOVE_HOLD, parameters)
    except DBAPIError as error:
        refuse(error, f"hold {hold_id} to {to}")


async def move_holds(uow: Uow, holds: Sequence[tuple[UUID, str]], *, to: str, at: datetime) -> None:
    """`move_hold` of many in one statement, in the order of their ids: (hold, reference)."""
    ordered = sorted(holds)
    try:
        await uow.execute(
            _MOVE_HOLDS,
            {
                "ids": [hold_id for hold_id, _ in ordered],
                "references": [reference for _, reference in ordered],
                "to": to,
                "at": at,
            },
        )
    except DBAPIError as error:
        refuse(error, f"{len(ordered)} holds to {to}")


async def read_hold(uow: Uow, hold_id: UUID) -> Row | None:
    """A hold by id."""
    result = await uow.execute(
        "SELECT id, brand, player_id, asset, amount, state, cycle, source FROM ledger.holds "
        "WHERE id = :id",
        {"id": hold_id},
    )
    return result.mappings().one_or_none()


async def repaid_first(uow: Uow, *, brand: str, asset: str, amount: int) -> int:
    """Call `ledger.repaid_first`: what of a credit to clearing repays the receivable."""
    result = await uow.execute(
        "SELECT ledger.repaid_first(:brand, :asset, :amount)",
        {"brand": brand, "asset": asset, "amount": amount},
    )
    return int(result.scalar_one())


async def lock_clearing(uow: Uow, *, brand: str, asset: str) -> int:
    """Call `ledger.lock_clearing`: what is free, with the row held."""
    result = await uow.execute(
        "SELECT ledger.lock_clearing(:brand, :asset)", {"brand": brand, "asset": asset}
    )
    return int(result.scalar_one())


async def balance(uow: Uow, code: str) -> int:
    """The cached row plus pending rows; 0 for an unknown account."""
    value = (
        await uow.execute(
            """
            SELECT b.balance + coalesce(
                (SELECT sum(p.delta) FROM ledger.pending_credits p WHERE p.account_id = a.id), 0)
            FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
            WHERE a.code = :code
            """,
            {"code": code},
        )
    ).scalar_one_or_none()
    return int(value or 0)


async def account_balances(
    uow: Uow,
    *,
    kind: str | None = None,
    brand: str | None = None,
    player_id: str | None = None,
    asset: str | None = None,
) -> Sequence[Row]:
    """Accounts with their balances, by code."""
    result = await uow.execute(
        """
        SELECT a.code, a.kind, a.asset, a.brand, a.player_id, a.wallet, a.normal_side,
            b.balance + coalesce(p.delta, 0) AS balance
        FROM ledger.accounts a
        JOIN ledger.balances b ON b.account_id = a.id
        LEFT JOIN (SELECT account_id, sum(delta) AS delta FROM ledger.pending_credits
                   GROUP BY account_id) p ON p.account_id = a.id
        WHERE (CAST(:kind AS text) IS NULL OR a.kind = :kind)
            AND (CAST(:brand AS text) IS NULL OR a.brand = :brand)
            AND (CAST(:player_id AS text) IS NULL OR a.player_id = :player_id)
            AND (CAST(:asset AS text) IS NULL OR a.asset = :asset)
        ORDER BY a.code
        """,
        {"kind": kind, "brand": brand, "player_id": player_id, "asset": asset},
    )
    return result.mappings().all()


async def open_holds(uow: Uow) -> Sequence[Row]:
    """What stands reserved, by asset."""
    result = await uow.execute(
        "SELECT asset, sum(amount) AS amount FROM ledger.holds WHERE state = 'open' GROUP BY asset"
    )
    return result.mappings().all()


async def balances_at(uow: Uow, at: datetime) -> Sequence[Row]:
    """Accounts with their balances as of a moment, summed from the entries (L17)."""
    result = await uow.execute(
        """
        SELECT a.code, a.kind, a.asset, a.brand, a.player_id, a.wallet, a.normal_side,
            sum(CASE WHEN e.side = a.normal_side THEN e.amount ELSE -e.amount END) AS balance
        FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id
        WHERE e.booked_at <= :at GROUP BY a.id ORDER BY a.code
        """,
        {"at": at},
    )
    return result.mappings().all()


async def fee_capital(uow: Uow, asset: str) -> int:
    """capital + income - expense - loss of an asset."""
    value = (
        await uow.execute(
            """
            SELECT coalesce(sum(CASE WHEN a.normal_side = 'credit' THEN 1 ELSE -1 END * (
                b.balance + coalesce((SELECT sum(p.delta) FROM ledger.pending_credits p
                                      WHERE p.account_id = a.id), 0))), 0)
            FROM ledger.accounts a JOIN ledger.balances b ON b.account_id = a.id
            WHERE a.asset = :asset AND a.kind IN
                ('capital', 'fee_recovery', 'service', 'network_fee', 'reorg_loss', 'write_off')
            """,
            {"asset": asset},
        )
    ).scalar_one()
    return int(value)


async def lock_capital(uow: Uow, asset: str) -> None:
    """A lock of the server: the account's rows are never held by who only adds to them."""
    await uow.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('capital:' || :asset, 0))", {"asset": asset}
    )


async def lock_players(uow: Uow, pairs: Sequence[tuple[str, str]]) -> None:
    """Insert the zero rows, then lock them in order (a missing row locks nothing)."""
    parameters = {"brands": [p[0] for p in pairs], "players": [p[1] for p in pairs]}
    await uow.execute(
        """
        INSERT INTO ledger.players (brand, player_id)
        SELECT * FROM unnest(CAST(:brands AS text[]), CAST(:players AS text[]))
        ORDER BY 1, 2 ON CONFLICT DO NOTHING
        """,
        parameters,
    )
    await uow.execute(
        """
        SELECT 1 FROM ledger.players
        WHERE (brand, player_id) IN
            (SELECT * FROM unnest(CAST(:brands AS text[]), CAST(:players AS text[])))
        ORDER BY brand, player_id FOR UPDATE
        """,
        parameters,
    )


async def try_lock_players(uow: Uow, *, brand: str, players: Sequence[str]) -> list[str]:
    """Lock a brand's players that nobody else holds; a row that is added here is locked by that.

    Who is being added by somebody else is waited for, and is then not among the answers.
    """
    found = await uow.rows(
        """
        WITH added AS (
            INSERT INTO ledger.players (brand, player_id)
            SELECT :brand, a.player_id FROM unnest(CAST(:players AS text[])) AS a (player_id)
            ORDER BY a.player_id ON CONFLICT DO NOTHING RETURNING player_id
        ), held AS (
            SELECT player_id FROM ledger.players
            WHERE brand = :brand AND player_id = ANY(CAST(:players AS text[]))
            ORDER BY player_id FOR UPDATE SKIP LOCKED
        )
        SELECT player_id FROM added UNION ALL SELECT player_id FROM held
        """,
        {"brand": brand, "players": list(players)},
    )
    return [row["player_id"] for row in found]


async def advance(
    uow: Uow,
    table: str,
    *,
    object_id: UUID,
    current: str,
    target: str,
    changes: Mapping[str, Any],
    at: datetime,
) -> Row | None:
    """`UPDATE ... WHERE state = current RETURNING *`; None when the row moved meanwhile.

    Table and column names come from the lifecycle's owner, never from a request; checked anyway.
    """
    for name in (table, *changes):
        if _NAME.fullmatch(name) is None:
            raise ValueError(f"not a column or table name: {name!r}")
    columns = "".join(f", {name} = :set_{name}" for name in changes)
    statement = (
        f"UPDATE {table} SET state = :target, version = version + 1, state_at = :at{columns} "
        "WHERE id = :id AND state = :current RETURNING *"
    )
    parameters = {f"set_{name}": value for name, value in changes.items()} | {
        "id": object_id,
        "current": current,
        "target": target,
        "at": at,
    }
    return (await uow.execute(statement, parameters)).mappings().one_or_none()


def acting(*, actor: str, reason: str) -> dict[str, str]:
    """Session settings, local to the unit of work, that the history trigger reads."""
    return {"cage.actor": actor, "cage.reason": reason}


async def set_actor(uow: Uow, *, actor: str, reason: str) -> None:
    """`acting`, in a unit of work that has begun."""
    await uow.rows(
        "SELECT set_config('cage.actor', :actor, true), set_config('cage.reason', :reason, true)",
        {"actor": actor, "reason": reason},
    )


async def history(uow: Uow, kind: str, object_id: UUID) -> Sequence[Row]:
    """State changes of an object, oldest first."""
    result = await uow.execute(
        """
        SELECT version, from_state, to_state, at, actor, reason FROM ledger.state_history
        WHERE object_kind = :kind AND object_id = :id ORDER BY version
        """,
        {"kind": kind, "id": object_id},
    )
    return result.mappings().all()


async def append_event(uow: Uow, row: Mapping[str, Any], *, channel: str) -> None:
    """Insert an event and send the hint, which PostgreSQL delivers at commit."""
    await uow.execute(
        """
        WITH added AS (
            INSERT INTO ledger.events (id, brand, type, object_kind, object_id, object_version,
                previous_state, snapshot, created_at)
            VALUES (:id, :brand, :type, :object_kind, :object_id, :object_version,
                :previous_state, CAST(:snapshot AS jsonb), :created_at)
        )
        SELECT pg_notify(:channel, '')
        """,
        dict(row) | {"channel": channel},
    )
