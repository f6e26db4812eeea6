"""The node's side of the doctor: what a network's nodes say of one txid (FEATURES N10).

Answers `chain.probes` of kind `tx`. It moves nothing and its answer is evidence for nobody: it is
for people to read. What an asker may not see is left out here, not later: the answer to a brand
names only that brand's own addresses, so that a tx which pays another brand reads like one that
pays a stranger (A29).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping

from config.clock import Clock
from config.database import ALL_BRANDS, Database, Uow
from config.logs import get_logger, redact_text
from watchers import doctor_store, other_scripts, store
from watchers.addresses import AddressRole
from watchers.chain import Chain, Transfer, TxPlace, TxStatus
from watchers.errors import NodeError, NodeUnavailable
from watchers.network import Network

log = get_logger("watchers.doctor")

POLL_SECONDS = 0.25  # a person waits
QUESTIONS_PER_ROUND = 20
PLACE_SECONDS = 3.0  # a node that does not say where a tx is within this time counts as down
EFFECT_SECONDS = 30.0  # a full block from a busy node; whoever asked polls meanwhile
ERROR_LENGTH_MAX = 300  # characters
KEPT = timedelta(days=1)
FORGOTTEN_PER_ROUND = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the nodes say of a tx. `is_effect`: the transfers happened, in this block."""

    status: TxStatus
    transfers: tuple[Transfer, ...]
    is_effect: bool
    fee_rate: int | None
    is_untraced: bool


class DoctorLoop:
    """Answers questions about txids, several at once. Needs no lease: an answer is given once."""

    def __init__(self, *, chain: Chain, network: Network, database: Database, clock: Clock) -> None:
        self._chain = chain
        self._network = network
        self._database = database
        self._clock = clock

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await answer_all(self._database, self._chain, self._network, clock=self._clock)
            await self._clock.sleep(POLL_SECONDS)


async def answer_all(database: Database, chain: Chain, network: Network, *, clock: Clock) -> int:
    """Answer what is open, QUESTIONS_PER_ROUND at once; returns how many."""
    async with database.unit_of_work() as uow:
        rows = await doctor_store.open_probes(uow, network=network.name, limit=QUESTIONS_PER_ROUND)
    if not rows:
        return 0
    async with asyncio.TaskGroup() as tasks:
        for row in rows:
            tasks.create_task(_answer_one(database, chain, network, row, clock=clock))
    async with database.unit_of_work() as uow:
        await doctor_store.forget(
            uow, network=network.name, before=clock.now() - KEPT, limit=FORGOTTEN_PER_ROUND
        )
    return len(rows)


async def _answer_one(
    database: Database, chain: Chain, network: Network, row: RowMapping, *, clock: Clock
) -> None:
    txid = row["subject"]
    state, answer = "answered", {}
    try:
        seen = await _look(chain, txid)
        async with database.unit_of_work() as uow:
            answer = await _answer(uow, network, seen, txid=txid, brand=row["brand"])
    except (NodeError, TimeoutError) as error:
        text = str(error) or "no answer in time"
        state, answer = "failed", {"error": redact_text(text)[:ERROR_LENGTH_MAX]}
        log.warning("doctor.unanswered", network=network.name, txid=txid, error=answer["error"])
    async with database.unit_of_work() as uow:
        await store.answer_probe(
            uow, probe_id=row["id"], state=state, answer=answer, at=clock.now()
        )


async def _look(chain: Chain, txid: str) -> Seen:
    """Ask the nodes. Raises NodeError, TimeoutError."""
    reader = chain.reader
    async with asyncio.timeout(PLACE_SECONDS):
        status = await reader.tx_status(txid)
    if status.place is TxPlace.UNKNOWN:
        return Seen(status=status, transfers=(), is_effect=False, fee_rate=None, is_untraced=False)
    async with asyncio.timeout(EFFECT_SECONDS):
        if status.place is TxPlace.MINED and status.is_success is not False:
            if status.block is None:
                raise NodeUnavailable("mined, but in no block")
            block = await reader.block(status.block.hash)
            return Seen(
                status=status,
                transfers=tuple(item for item in block.transfers if item.txid == txid),
                is_effect=True,
                fee_rate=None,
                is_untraced=block.traces_incomplete,
            )
        outline = await reader.outline(txid)
    return Seen(
        status=status,
        transfers=() if outline is None else outline.transfers,
        is_effect=False,
        fee_rate=None if outline is None else outline.fee_rate,
        is_untraced=False,
    )


async def _answer(
    uow: Uow, network: Network, seen: Seen, *, txid: str, brand: str
) -> dict[str, Any]:
    """The answer as this asker may see it; integers of any size as text."""
    block = seen.status.block
    issued = dict(other_scripts.siblings(network, seen.transfers))
    keys = sorted({*(item.to_key for item in seen.transfers), *issued.values()})
    owners = await doctor_store.owners(uow, keys=keys) if keys else []
    own = [row for row in owners if _is_visible(row, brand)]
    stands = await doctor_store.recorded(uow, network=network.name, txid=txid)
    searched: Mapping[str, str] = {}
    if block is not None:
        searched = await doctor_store.searched(
            uow, network=network.name, txid=txid, block_hash=block.hash
        )
    span = await doctor_store.span(uow, network=network.name)
    return {
        "place": seen.status.place.value,
        "is_success": seen.status.is_success,
        "height": None if block is None else block.height,
        "block_hash": None if block is None else block.hash,
        "followed_height": None if span is None else span["height"],
        "first_height": None if span is None else span["first_height"],
        "fee_rate": None if seen.fee_rate is None else str(seen.fee_rate),
        "is_untraced": seen.is_untraced,
        "pays": [
            _pay(network, item, owner, stands=stands.get(item.position), search=searched)
            for item in seen.transfers
            if (owner := _owner(network, own, item.to_key, issued.get(item))) is not None
        ],
    }


def _is_visible(row: RowMapping, brand: str) -> bool:
    """All to the operator; to a brand its own deposit addresses, handed out or not."""
    if brand == ALL_BRANDS:
        return True
    return bool(row["role"] == AddressRole.DEPOSIT and row["brand"] == brand)


def _owner(
    network: Network, own: Sequence[RowMapping], key: str, issued: str | None
) -> RowMapping | None:
    """Whose a key is: a player's here, else a player's elsewhere, else whatever it is here. A key
    that is nobody's is his who has the address that was `issued` for the same public key."""
    rows = [row for row in own if row["key"] == key]
    rows = rows or [row for row in own if row["key"] == issued]
    here = [row for row in rows if row["network"] == network.name]
    of_players = [row for row in rows if row["player_id"] is not None]
    if here and here[0]["player_id"] is not None:
        return here[0]
    return next(iter(of_players), None) or next(iter(here), None)


def _pay(
    network: Network,
    transfer: Transfer,
    owner: RowMapping,
    *,
    stands: str | None,
    search: Mapping[str, str],
) -> dict[str, Any]:
    return {
        "position": transfer.position,
        "asset": transfer.asset,
        "is_listed": network.asset(transfer.asset) is not None,
        "amount": str(transfer.amount_minor),
        "address": owner["address"],
        "address_network": owner["network"],
        "role": owner["role"],
        "brand": owner["brand"],
        "player_id": owner["player_id"],
        "stands": stands,
        "search": search.get(transfer.position),
        "is_other_script": transfer.to_key != owner["key"],
    }
