"""The daily search of a node's whole set of unspent outputs for coins of ours that no block showed
us (HOUSE 7). UTXO chains.

Owns `chain.coin_searches` and `chain.missed_coins`. A coin that the follower does not know, in a
block that it followed or one below its first, is a finding: a break of the next comparison
(`breaks`), and a rescan of its block, on whose verified content alone anything is credited. It asks
one node and believes it nothing else; it needs no lease, since two of them find the same.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from config.clock import Clock
from config.database import Database, Uow
from config.logs import get_logger
from watchers import coin_search_store as store
from watchers import rescans
from watchers import store as chain_store
from watchers.errors import NodeError
from watchers.network import Network
from watchers.unspent import UnspentReader, UnspentSet

log = get_logger("watchers.coin_search")

KEYS_PER_SCAN: Final = 20_000  # of one call, about 1 MB; a scan takes as long for one as for all
ROUND_SECONDS: Final = 86_400  # every address once a day
POLL_SECONDS: Final = 60.0
REST_SECONDS: Final = 900.0  # between two scans: each reads the node's whole set
KNOWN_TRIES, KNOWN_SECONDS = 20, 3.0  # the follower reaches the node's tip within its poll interval
RESCANS_MAX: Final = 5  # running ones that this asked for; the others are asked for after them
ACTOR: Final = "watchers.coin_search"
REASON: Final = "an unspent output that the books do not know"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Own addresses that are looked for together: `keys` by address, numbered after `after` and up
    to `number`."""

    after: int
    number: int
    keys: dict[UUID, str]


class CoinSearchLoop:
    """Searches for one network, round after round. Where it stands is in rows."""

    def __init__(
        self,
        *,
        reader: UnspentReader,
        network: Network,
        database: Database,
        clock: Clock,
        keys_per_scan: int = KEYS_PER_SCAN,
    ) -> None:
        self._reader = reader
        self._network = network
        self._database = database
        self._clock = clock
        self._keys_per_scan = keys_per_scan

    async def run(self) -> None:
        """Search until cancelled."""
        while True:
            try:
                has_looked = await self.look()
            except NodeError as error:
                log.warning("coin_search.no_answer", network=self._network.name, error=str(error))
                has_looked = True
            await self._clock.sleep(REST_SECONDS if has_looked else POLL_SECONDS)

    async def look(self) -> bool:
        """One page where a round is due; says whether a node was asked. Raises NodeError."""
        await self._database.run(self._ask)
        page = await self._database.run(self._page)
        if page is None:
            return False
        found = await self._reader.unspent(list(page.keys.values()))
        if not await self._is_known(found.block_hash):
            log.info("coin_search.other_chain", network=self._network.name, hash=found.block_hash)
            return True  # the page is asked for again
        await self._database.run(partial(self._keep, page=page, found=found))
        await self._database.run(self._ask)
        return True

    async def _is_known(self, block_hash: str) -> bool:
        """Whether the follower comes to the block that the answer is of."""
        for _ in range(KNOWN_TRIES):
            async with self._database.unit_of_work() as uow:
                if await chain_store.is_canonical(
                    uow, network=self._network.name, block_hash=block_hash
                ):
                    return True
            await self._clock.sleep(KNOWN_SECONDS)
        return False

    async def _page(self, uow: Uow) -> Page | None:
        """The next addresses of the round, of a new one when the last is a day old."""
        name, now = self._network.name, self._clock.now()
        standing = await store.standing(uow, network=name)
        after = 0
        if standing is not None and standing["ended_at"] is None:
            after = int(standing["number"])
        elif standing is not None:
            if (now - standing["began_at"]).total_seconds() < ROUND_SECONDS:
                return None
        if after == 0:
            await store.begin(uow, network=name, at=now)
        rows = await store.page(uow, network=name, after=after, limit=self._keys_per_scan)
        if not rows:
            await store.end(uow, network=name, at=now)
            return None
        return Page(
            after=after,
            number=int(rows[-1]["number"]),
            keys={row["id"]: row["key"] for row in rows},
        )

    async def _keep(self, uow: Uow, *, page: Page, found: UnspentSet) -> None:
        """What is new, what is gone, and how far the round is; all or none."""
        name, now = self._network.name, self._clock.now()
        if not await chain_store.is_canonical(uow, network=name, block_hash=found.block_hash):
            return  # it left the chain meanwhile: the page is asked for again
        by_key = {key: address_id for address_id, key in page.keys.items()}
        new = await store.unknown(
            uow,
            network=name,
            block_hash=found.block_hash,
            coins=[
                (coin.outpoint.txid, coin.outpoint.vout, coin.amount_minor, coin.height)
                for coin in found.coins
            ],
        )
        address_of = {coin.outpoint: by_key[coin.key] for coin in found.coins}
        added = await store.add(
            uow,
            network=name,
            rows=[(item, address_of[item.outpoint]) for item in new],
            at=now,
        )
        gone = await store.drop_gone(
            uow,
            network=name,
            block_hash=found.block_hash,
            address_ids=list(page.keys),
            there=[coin.outpoint for coin in found.coins],
        )
        await store.move(uow, network=name, before=page.after, number=page.number)
        for row in added:
            log.error(
                "coin_search.missed",
                network=name,
                txid=row["txid"],
                vout=row["vout"],
                height=row["height"],
                amount_minor=str(row["amount"]),
            )
        for row in gone:
            log.error("coin_search.gone", network=name, txid=row["txid"], vout=row["vout"])

    async def _ask(self, uow: Uow) -> None:
        """A rescan of each block that holds one, once, a few at a time."""
        name, now = self._network.name, self._clock.now()
        running = await store.running(uow, network=name, asked_by=ACTOR)
        heights = await store.unasked(uow, network=name, limit=max(RESCANS_MAX - running, 0))
        for height in heights:
            row = await rescans.ask(
                uow,
                network=name,
                from_height=height,
                to_height=height,
                asked_by=ACTOR,
                reason=REASON,
                ids=self._network.ids,
                at=now,
            )
            await store.asked(uow, network=name, height=height, rescan_id=row.id)
