"""The books against themselves, every minute in short and every hour in whole (T9).

Owns what a contradiction stops: policy `[breakers] books`, of the asset that it is about. It books
nothing. What is short of its liabilities and yet adds up is told and stops nothing: that is a loss
which people booked, not a book that is wrong. An alarm tells what is now and ends once a look that
could see its cause does not; what was stopped stays so until two people start it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

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
    short = _by_asset(item for item in found if item.kind is BreakKind.UNDERCOVERED)
    broken = _by_asset(item for item in found if item.kind is not BreakKind.UNDERCOVERED)
    for asset, items in sorted(short.items()):
        await _alarm(uow, UNDERCOVERED, asset, items, is_news=True, ids=ids, at=at)
    for asset, items in sorted(broken.items()):
        log.error("books.broken", asset=asset, kinds=sorted({item.kind for item in items}))
        await _alarm(uow, BROKEN, asset, items, is_news=is_whole, ids=ids, at=at)
        await _stop(uow, policy, asset, ids=ids, at=at)
    await _end(uow, UNDERCOVERED, short, at=at)
    if is_whole:  # the short look sees no entry: what it does not find may still stand
        await _end(uow, BROKEN, broken, at=at)
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
    uow: Uow,
    kind: str,
    asset: str,
    items: Sequence[Break],
    *,
    is_news: bool,
    ids: Ids,
    at: datetime,
) -> None:
    """`is_news`: this look saw all that there is, so that an open alarm tells what it found."""
    first = items[0]
    tell = alarm_store.retell if is_news else alarm_store.raise_alarm
    await tell(
        uow,
        alarm_id=ids.new_id(),
        kind=kind,
        network=asset.partition(":")[0],
        object_id=_object_of(asset),
        detail=f"{asset}: {first.kind.value} of {first.subject} {first.difference_minor}, "
        f"{len(items)} in all",
        at=at,
    )


async def _end(uow: Uow, kind: str, assets: Iterable[str], *, at: datetime) -> None:
    objects = [_object_of(asset) for asset in assets]
    await alarm_store.clear_all_but(uow, kind=kind, objects=objects, at=at)


def _object_of(asset: str) -> UUID:
    """One alarm per asset, not one per network."""
    return uuid5(NAMESPACE_URL, asset)


def _by_asset(found: Iterable[Break]) -> Mapping[str, list[Break]]:
    assets: dict[str, list[Break]] = {}
    for item in found:
        assets.setdefault(item.asset, []).append(item)
    return assets
