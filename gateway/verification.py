"""The whole check of the books, in bounded pages: `ledger.verify`, then deposits and withdrawals.

Owns the order of the parts and the place between two pages. It writes nothing and repairs nothing.
"""

from uuid import UUID

from config.database import Uow
from gateway import verification_store as store
from ledger import verify
from ledger.verify import Part, Replayed

OBJECTS_ROWS = 1_000
_OBJECTS = ("deposits", "withdrawals")
PARTS = (*(part.value for part in Part), *_OBJECTS)


async def check(uow: Uow, part: str, *, place: str | None) -> Replayed:
    """One page of a part; the unit of work sees all brands. Raises ValueError for a part or a
    place that does not exist."""
    if part not in _OBJECTS:
        return await verify.replay(uow, Part(part), place=place)
    await verify.read_only(uow)
    after = UUID(int=0) if place is None else UUID(place)
    rows = await store.page(uow, part, place=str(after), limit=OBJECTS_ROWS)
    return verify.paged(rows, limit=OBJECTS_ROWS)


def following(part: str, page: Replayed) -> tuple[str, str | None] | None:
    """The part and place after a page; None when all is checked."""
    if page.place is not None:
        return part, page.place
    later = PARTS[PARTS.index(part) + 1 :]
    return (later[0], None) if later else None
