"""Which addresses of an account chain are asked for their balances, and in what order.

Those that may hold value are compared in every cycle. Those that never received anything we know
of are looked at a page at a time, round and round: ten million of them take ten million /
SCAN_KEYS cycles, and no cycle asks for more. One that holds something is kept for every cycle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from config.database import Uow
from watchers import addresses
from watchers import scan_store as store
from watchers.addresses import AddressRow

SCAN_KEYS = 5_000  # never-used addresses per cycle, which is an hour: 25 calls per asset


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What one comparison asks for. `rest` is the page of addresses that never received anything;
    the scan stood at `before` and stands at `after` once it was compared."""

    used: tuple[AddressRow, ...]
    rest: tuple[AddressRow, ...]
    before: int
    after: int

    @property
    def asked(self) -> tuple[AddressRow, ...]:
        """Every address once."""
        return (*self.used, *self.rest)

    def finds(self, balances: Mapping[str, int]) -> tuple[UUID, ...]:
        """Those of `rest` that hold something, by balances of their keys."""
        return tuple(item.id for item in self.rest if balances.get(item.key, 0))


async def read(uow: Uow, network: str, *, keys_max: int = SCAN_KEYS) -> Scan:
    """The addresses of one comparison; changes nothing."""
    used = [addresses.from_row(row) for row in await store.used(uow, network=network)]
    before = await store.position(uow, network=network)
    page = list(await store.page(uow, network=network, after=before, up_to=None, limit=keys_max))
    if len(page) < keys_max and before > 0:  # from the start again, never one twice
        page += await store.page(
            uow, network=network, after=0, up_to=before, limit=keys_max - len(page)
        )
    known = {item.id for item in used}
    return Scan(
        used=tuple(used),
        rest=tuple(_address(row) for row in page if row["id"] not in known),
        before=before,
        after=page[-1]["number"] if page else before,
    )


async def keep(uow: Uow, network: str, address_ids: tuple[UUID, ...], *, at: datetime) -> None:
    """Remember addresses that hold something, before anything is booked of it."""
    if address_ids:
        await store.keep(uow, network=network, address_ids=address_ids, at=at)


async def move(uow: Uow, network: str, *, before: int, after: int, at: datetime) -> None:
    """A cycle compared its page: the next one takes the next."""
    await store.move(uow, network=network, before=before, number=after, at=at)


def _address(row: RowMapping) -> AddressRow:
    return addresses.from_row({name: row[name] for name in row if name != "number"})
