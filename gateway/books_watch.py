"""The books against themselves, every minute in short and every hour in whole (T9).

Owns what a contradiction stops: policy `[breakers] books`, of the asset that it is about. It books
nothing. What is short of its liabilities and yet adds up is told and stops nothing: that is a loss
which people booked, not a book that is wrong.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from config import alarm_store
from config.breaker_policy import BreakerPolicy
from config.database import Uow
from config.ids import Ids
from config.logs import get_logger
from ledger import reconcile
from ledger.reconcile import Break, BreakKind
from watchers import switches
from watchers.switches import Action

ACTOR: Final = "scheduler.books"
BROKEN: Final = "books_broken"
UNDERCOVERED: Final = "undercovered"

log = get_logger(__name__)


async def look(uow: Uow, *, policy: BreakerPolicy, is_whole: bool, ids: Ids, at: datetime) -> int:
    """One check, by the cached balances or by every entry; how many contradictions it found."""
    found = await (reconcile.check_books(uow) if is_whole else reconcile.check_totals(uow))
    for asset, items in sorted(_by_asset(found).items()):
        short = [item for item in items if item.kind is BreakKind.UNDERCOVERED]
        broken = [item for item in items if item.kind is not BreakKind.UNDERCOVERED]
        if short:
            await _alarm(uow, UNDERCOVERED, asset, short, ids=ids, at=at)
        if broken:
            log.error("books.broken", asset=asset, kinds=sorted({item.kind for item in broken}))
            await _alarm(uow, BROKEN, asset, broken, ids=ids, at=at)
            await _stop(uow, policy, asset, ids=ids, at=at)
    return len(found)


async def _stop(uow: Uow, policy: BreakerPolicy, asset: str, *, ids: Ids, at: datetime) -> None:
    for action in policy.books:
        await switches.open_breaker(
            uow,
            scope=f"asset:{asset}",
            action=Action(action),
            reason="its books contradict themselves",
            actor=ACTOR,
            ids=ids,
            at=at,
        )


async def _alarm(
    uow: Uow, kind: str, asset: str, items: Sequence[Break], *, ids: Ids, at: datetime
) -> None:
    first = items[0]
    await alarm_store.raise_alarm(
        uow,
        alarm_id=ids.new_id(),
        kind=kind,
        network=asset.partition(":")[0],
        object_id=uuid5(NAMESPACE_URL, asset),  # one alarm per asset, not one per network
        detail=f"{asset}: {first.kind.value} of {first.subject} {first.difference_minor}, "
        f"{len(items)} in all",
        at=at,
    )


def _by_asset(found: Sequence[Break]) -> Mapping[str, list[Break]]:
    assets: dict[str, list[Break]] = {}
    for item in found:
        assets.setdefault(item.asset, []).append(item)
    return assets
