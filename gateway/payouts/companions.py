"""Who may share one tx, and how a batch that was too much comes apart.

Pure. Classes that are due share a tx where that costs less than one each: all of it pays the rate
of the most urgent. What is not due yet rides along where that costs it nothing. A batch that was
refused for its size, or that does not fit into one message, is cut: its members carry a code that
says how many may ride together next time, always of one brand, so that one brand's caps stop nobody
else. Every cut is to fewer, so it ends with single payments.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from config.settings import PayoutSettings
from gateway.withdrawals_store import WithdrawalRow

SIGN_ALONE = "sign_alone"
"""Code of a queued withdrawal whose batch was refused: next time it rides alone."""

BY_URGENCY = ("urgent", "normal", "economy")
TX_VB = 142  # of a tx beside its payments: head, one P2WPKH input, change
PAYMENT_VB = 32  # of one more payment, whatever its script

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
    rates: Mapping[str, int] | None = None,
) -> list[list[UUID]]:
    """Who may share a tx of one asset: one each where nothing is shared (`is_alone`), the due
    classes as `rates` (by class, sat per kvB) make it cheapest and together where none are known,
    and members of a batch that was cut with few of their own brand. The most urgent tx is first.
    `queued` in order of promises."""
    if is_alone:
        return [[row.id] for row in queued]
    by_asset: dict[str, list[WithdrawalRow]] = {}
    for row in queued:
        by_asset.setdefault(row.asset, []).append(row)
    return [
        ids
        for rows in by_asset.values()
        for ids in _of_one_asset(rows, settings=settings, now=now, rates=rates)
    ]


def _of_one_asset(
    queued: Sequence[WithdrawalRow],
    *,
    settings: PayoutSettings,
    now: datetime,
    rates: Mapping[str, int] | None,
) -> list[list[UUID]]:
    rows = {
        name: [row for row in queued if row.fee_class == name and at_most(row.code) is None]
        for name in BY_URGENCY
    }
    due = []
    for name, found in rows.items():
        batch = settings.batch(name)
        oldest = min((row.accepted_at for row in found), default=now)
        is_due = oldest + timedelta(seconds=batch.window_seconds) <= now
        if found and (is_due or len(found) >= batch.max_payments):
            due.append(name)
    later = [name for name in BY_URGENCY if name not in due]
    groups_found: list[list[UUID]] = []
    for names in _txs(due, {name: len(found) for name, found in rows.items()}, rates):
        size = max(settings.batch(name).max_payments for name in names)
        ids = [row.id for name in names for row in rows[name]]
        if rates is not None:
            rate = max(rates[name] for name in names)
            along = [name for name in later if rate <= rates[name]]
            later = [name for name in later if name not in along]
            # Into the last tx of these: one more would not be for nothing.
            ids += [row.id for name in along for row in rows[name]][: -len(ids) % size]
        groups_found += _chunks(ids, size)
    cut: dict[tuple[int, str], list[UUID]] = {}
    for row in queued:
        few = at_most(row.code)
        if few is not None:
            cut.setdefault((few, row.brand), []).append(row.id)
    for (few, _), ids in cut.items():
        groups_found += _chunks(ids, few)
    return groups_found


def _txs(
    due: Sequence[str], counts: Mapping[str, int], rates: Mapping[str, int] | None
) -> list[list[str]]:
    """The due classes by tx, neighbours together, so that all of them cost least."""
    if not due or rates is None:
        return [list(due)] if due else []

    def cost(txs: Sequence[Sequence[str]]) -> int:
        return sum(
            max(rates[name] for name in names)
            * (TX_VB + PAYMENT_VB * sum(counts[name] for name in names))
            for names in txs
        )

    ways = [[list(due)], [[name] for name in due]]
    ways += [[list(due[:cut]), list(due[cut:])] for cut in range(1, len(due))]
    return min(ways, key=cost)


def _chunks(ids: Sequence[UUID], size: int) -> list[list[UUID]]:
    return [list(ids[i : i + size]) for i in range(0, len(ids), size)]
