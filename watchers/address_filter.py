"""Which keys of a block may be ours: a filter in memory in front of the exact lookup.

Owns two bits per own address; it never says no to a key of ours, and yes to one in some hundred
others, which the exact lookup then sorts out. So a block costs by its own size, whether there are a
thousand addresses or ten million. It is extended inside the unit of work of each block: an address
that was committed a millisecond before is in it.
"""

from array import array
from collections.abc import Iterable
from sys import byteorder
from uuid import UUID

from config.database import Database, Uow
from watchers import address_store as store

PAGE_ROWS = 50_000  # keys read at once, about 25 ms of work
BITS_PER_KEY = 32  # two are set: below 0.4 % false yes when a layer is full
KEYS_MIN = 1 << 16
KEYS_MAX = 1 << 27  # of one layer: 512 MiB; more addresses take further layers
TAIL_DIGITS = 16  # 64 bits of a key's end, which is a hash in every format we issue

_MASK = (1 << 64) - 1
_FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F  # odd 64-bit multipliers, well mixed


class _Layer:
    """A Bloom filter of one size; the next layer is opened when it is full."""

    def __init__(self, keys: int) -> None:
        self.capacity = keys
        self.count = 0
        self.shift = 64 - (keys * BITS_PER_KEY).bit_length() + 1
        self.bits = bytearray((keys * BITS_PER_KEY) // 8)

    def add(self, tails: Iterable[int]) -> None:
        bits, shift = self.bits, self.shift
        for tail in tails:
            first = (tail * _FIRST & _MASK) >> shift
            second = (tail * _SECOND & _MASK) >> shift
            bits[first >> 3] |= 1 << (first & 7)
            bits[second >> 3] |= 1 << (second & 7)
            self.count += 1


class AddressFilter:
    """The own addresses of one network, as far as they were committed when it was last extended."""

    def __init__(self, network: str) -> None:
        self._network = network
        self._forget()

    @property
    def count(self) -> int:
        """How many addresses are in it."""
        return sum(layer.count for layer in self._layers)

    async def load(self, database: Database) -> None:
        """Read what is new, each page in a unit of work of its own."""
        is_more = True
        while is_more:
            async with database.unit_of_work() as uow:
                is_more = await self._read_page(uow)

    async def extend(self, uow: Uow) -> None:
        """Read what is new, all of it, inside the caller's unit of work."""
        while await self._read_page(uow):
            pass

    def candidates(self, keys: Iterable[str]) -> list[str]:
        """The keys that may be ours, sorted; every key of ours is among them."""
        # Written out: a full block has ten thousand keys, and a call for each costs as much again.
        layers = [(layer.bits, layer.shift) for layer in self._layers]
        found = []
        for key in keys:
            tail = int(key[-TAIL_DIGITS:] or "0", 16)  # an empty script is a script
            for bits, shift in layers:
                first = (tail * _FIRST & _MASK) >> shift
                if bits[first >> 3] >> (first & 7) & 1:
                    second = (tail * _SECOND & _MASK) >> shift
                    if bits[second >> 3] >> (second & 7) & 1:
                        found.append(key)
                        break
        return sorted(found)

    def _forget(self) -> None:
        self._layers: list[_Layer] = []
        self._last = 0
        self._last_id: UUID | None = None

    async def _read_page(self, uow: Uow) -> bool:
        """One page; whether there may be more. A database that no longer has the last address
        that was read went back in time: then all is read anew (P09)."""
        page = await store.tails(
            uow, network=self._network, after=self._last, digits=TAIL_DIGITS, limit=PAGE_ROWS
        )
        if page.anchor != self._last_id:
            self._forget()
            return True
        if not page.count:
            return False
        tails = array("Q")
        tails.frombytes(page.tails)
        if byteorder == "little":
            tails.byteswap()  # the server sends network byte order
        self._room(page.count, total=page.total).add(tails)
        self._last, self._last_id = page.last, page.last_id
        return page.count == PAGE_ROWS

    def _room(self, count: int, *, total: int) -> _Layer:
        """The layer that takes `count` more; a new one is sized for all that exists."""
        if not self._layers or self._layers[-1].count + count > self._layers[-1].capacity:
            wanted = max(total - self.count, count, KEYS_MIN)
            self._layers.append(_Layer(min(1 << (wanted - 1).bit_length(), KEYS_MAX)))
        return self._layers[-1]
