"""Who may share one tx, and how a batch that was too much comes apart.

Pure. A batch that was refused for its size, or that does not fit into one message, is cut: its
members carry a code that says how many may ride together next time, always of one brand, so that
one brand's caps stop nobody else. Every cut is to fewer, so it ends with single payments.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from config.settings import PayoutSettings
from gateway.withdrawals_store import WithdrawalRow

SIGN_ALONE = "sign_alone"
"""Code of a queued withdrawal whose batch was refused: next time it rides alone."""

_SPLIT = "split_"
_SIZES = tuple(2**power for power in range(1, 9))  # a batch has at most 500 payments
_AT_MOST = {SIGN_ALONE: 1, **{f"{_SPLIT}{size}": size for size in _SIZES}}


def split_code(count: int) -> str:
    """The code of members of a batch of `count` that was too much: the next lower power of two."""
    lower = [size for size in _SIZES if size < count]
    return f"{_SPLIT}{max(lower)}" if lower else SIGN_ALONE


def at_most(code: str | None) -> int | None:
    """How many a row with this code rides with, itself included; None: the class decides."""
    return None if code is None else _AT_MOST.get(code)


def never_signed(rows: Sequence[WithdrawalRow]) -> list[WithdrawalRow]:
    """Those that may share a call of the batch contract: a reissue rides alone, for what the signer
    says of it must stop nobody else's payment."""
    return [row for row in rows if row.txid is None]


def groups(
    queued: Sequence[WithdrawalRow],
    *,
    is_alone: bool,
    settings: PayoutSettings,
    now: datetime,
) -> list[list[UUID]]:
    """Who may share a tx of one asset: one each where nothing is shared (`is_alone`), the due
    classes together elsewhere, and members of a batch that was cut with few of their own brand.
    `queued` in order of promises."""
    if is_alone:
        return [[row.id] for row in queued]
    by_asset: dict[str, list[WithdrawalRow]] = {}
    for row in queued:
        by_asset.setdefault(row.asset, []).append(row)
    return [
        ids for rows in by_asset.values() for ids in _of_one_asset(rows, settings=settings, now=now)
    ]


def _of_one_asset(
    queued: Sequence[WithdrawalRow], *, settings: PayoutSettings, now: datetime
) -> list[list[UUID]]:
    together: list[UUID] = []
    size = 1
    for fee_class in ("urgent", "normal", "economy"):
        rows = [r for r in queued if r.fee_class == fee_class and at_most(r.code) is None]
        batch = settings.batch(fee_class)
        oldest = min((row.accepted_at for row in rows), default=now)
        is_due = oldest + timedelta(seconds=batch.window_seconds) <= now
        if rows and (is_due or len(rows) >= batch.max_payments):
            together += [row.id for row in rows]
            size = max(size, batch.max_payments)
    cut: dict[tuple[int, str], list[UUID]] = {}
    for row in queued:
        few = at_most(row.code)
        if few is not None:
            cut.setdefault((few, row.brand), []).append(row.id)
    found = _chunks(together, size)
    for (few, _), ids in cut.items():
        found += _chunks(ids, few)
    return found


def _chunks(ids: Sequence[UUID], size: int) -> list[list[UUID]]:
    return [list(ids[i : i + size]) for i in range(0, len(ids), size)]
