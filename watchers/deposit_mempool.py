"""Deposits before any block: `replaced` when another tx takes what theirs needs, `dropped` when
nobody has had it for T blocks (CONTRACT 4).

Owns what is remembered of the mempool in memory, and these two steps. It calls no node: the
follower does, between `to_check` and `note_places`. Nothing here is money: a wrong word is mended
by the block that has the tx.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import TracebackType

from config import alarm_store
from config.database import Database, Uow, is_away
from config.logs import get_logger
from watchers import mempool_store as store
from watchers import store as chain_store
from watchers.chain import MempoolTx, Outpoint, TxPlace
from watchers.deposits import DepositTrigger, Step, from_row, step_many
from watchers.lineage import SpendsByTx, spends_by_tx
from watchers.network import Network

log = get_logger("watchers.deposits")

TXS_PER_LOOK = 2_000  # handled in one unit of work; a flood is worked off look by look (D29)
BACKLOG_MAX = 200_000  # txs that wait for that; beyond it the oldest are left to their blocks
REMEMBERED_MAX = 100_000  # txs whose inputs are remembered, for descendants to come (D13)
FAILURES_MAX = 3  # of one tx alone; then it is left to its block
STUCK_ALARM = "mempool_tx_failed"
CHECKS_PER_LOOK = 50  # node calls per look
CHECKS_PER_T = 24  # an unconfirmed tx is looked for this often while T passes


class MempoolMemory:
    """New unconfirmed txs that wait to be handled, each once, and what the last ones spend.

    A batch that fails is halved, so that one tx that can never be recorded holds up none but
    itself: alone it is tried FAILURES_MAX times and is `stuck` then.
    """

    def __init__(self) -> None:
        self._backlog: OrderedDict[str, MempoolTx] = OrderedDict()
        self._spends: OrderedDict[str, list[Outpoint]] = OrderedDict()
        self._size = TXS_PER_LOOK
        self._suspect: str | None = None
        self._failures = 0

    @property
    def spends(self) -> SpendsByTx:
        """What remembered txs spend, by txid."""
        return self._spends

    @property
    def waiting(self) -> int:
        """How many txs wait."""
        return len(self._backlog)

    @property
    def stuck(self) -> MempoolTx | None:
        """The tx that failed alone too often; it waits until `leave`."""
        if self._suspect is None or self._failures < FAILURES_MAX:
            return None
        return self._backlog.get(self._suspect)

    def add(self, txs: Sequence[MempoolTx]) -> None:
        """What a look at the mempool brought; a tx that waits already keeps its place."""
        if len(self._backlog) + len(txs) > BACKLOG_MAX:
            log.warning("mempool.flooded", waiting=len(self._backlog), new=len(txs))
        for tx in txs:
            self._backlog[tx.txid] = tx
            self._spends.update(spends_by_tx(tx.spends))
        while len(self._backlog) > BACKLOG_MAX:
            self._backlog.popitem(last=False)
        while len(self._spends) > REMEMBERED_MAX:
            self._spends.popitem(last=False)

    def batch(self) -> list[MempoolTx]:
        """The next ones to handle; `done` takes them off once that is committed."""
        return list(islice(self._backlog.values(), self._size))

    def done(self, txs: Sequence[MempoolTx]) -> None:
        """These are handled."""
        for tx in txs:
            self._backlog.pop(tx.txid, None)
        self._size = min(TXS_PER_LOOK, self._size * 2)

    def failed(self, txs: Sequence[MempoolTx]) -> None:
        """These could not be recorded together; they wait on."""
        if len(txs) == 1:
            self._failures = self._failures + 1 if txs[0].txid == self._suspect else 1
            self._suspect = txs[0].txid
        self._size = max(1, len(txs) // 2)

    def leave(self, tx: MempoolTx) -> None:
        """Its block will tell of it."""
        self._backlog.pop(tx.txid, None)

    def handling(self, txs: Sequence[MempoolTx]) -> "_Handling":
        """Around the unit of work that records a batch: `done` or `failed` by how it ends."""
        return _Handling(self, txs)


class _Handling:
    """See `MempoolMemory.handling`. A database that is away says nothing against the batch."""

    def __init__(self, memory: MempoolMemory, txs: Sequence[MempoolTx]) -> None:
        self._memory = memory
        self._txs = txs

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._memory.done(self._txs)
        elif isinstance(error, Exception) and not is_away(error):
            self._memory.failed(self._txs)


async def leave_stuck(
    database: Database, network: Network, memory: MempoolMemory, *, at: datetime
) -> None:
    """Give up a tx that can never be recorded, once that is told; its block brings it again."""
    tx = memory.stuck
    if tx is None:
        return
    log.error("mempool.tx_failed", network=network.name, txid=tx.txid)
    async with database.unit_of_work() as uow:
        await alarm_store.raise_alarm(
            uow,
            alarm_id=network.ids.new_id(),
            kind=STUCK_ALARM,
            network=network.name,
            detail=f"unconfirmed tx {tx.txid} failed {FAILURES_MAX} times; its block counts",
            at=at,
        )
    memory.leave(tx)


def check_interval(network: Network) -> int:
    """Blocks between two looks for one unconfirmed tx."""
    return max(1, network.spec.dropped_blocks // CHECKS_PER_T)


async def replace(uow: Uow, network: Network, txs: Sequence[MempoolTx], *, at: datetime) -> int:
    """Detected deposits that one of these newer txs excludes are `replaced` (D11-D13, D51).

    The rival is told by `conflict_txid`. Txs of one look that exclude each other are left as they
    are: which one lives is for the block to say.
    """
    spends = [
        (spend.outpoint.txid, spend.outpoint.vout, spend.txid) for tx in txs for spend in tx.spends
    ]
    sends = [
        (tx.sender_key, tx.nonce, tx.txid)
        for tx in txs
        if tx.sender_key is not None and tx.nonce is not None
    ]
    if not spends and not sends:
        return 0
    rows = await store.rivalled(uow, network=network.name, spends=spends, sends=sends)
    together = {tx.txid for tx in txs}
    steps = [
        Step(
            deposit=from_row(row),
            trigger=DepositTrigger.REPLACE,
            changes={"conflict_txid": row["rival"]},
        )
        for row in rows
        if row["txid"] not in together
    ]
    await step_many(uow, steps, ids=network.ids, at=at)
    return len(steps)


async def to_check(uow: Uow, network: Network, *, height: int) -> Sequence[str]:
    """Txids of detected deposits to look for now."""
    return await store.to_check(uow, network=network.name, height=height, limit=CHECKS_PER_LOOK)


async def note_places(
    uow: Uow, network: Network, places: Mapping[str, TxPlace], *, height: int, at: datetime
) -> int:
    """What the nodes said of txids at `height`; returns how many deposits are `dropped` by it."""
    unknown = [txid for txid, place in places.items() if place is TxPlace.UNKNOWN]
    present = [txid for txid, place in places.items() if place is not TxPlace.UNKNOWN]
    check_at = height + check_interval(network)
    if present:
        await store.note_present(uow, network=network.name, txids=present, check_at=check_at)
    if not unknown:
        return 0
    await store.note_absent(
        uow,
        network=network.name,
        txids=unknown,
        check_at=check_at,
        absent_at=height + network.spec.dropped_blocks,
    )
    rows = await store.gone(uow, network=network.name, txids=unknown, height=height)
    steps = [
        Step(
            deposit=from_row(row),
            trigger=DepositTrigger.DROP,
            changes={"absent_at_height": None},
        )
        for row in rows
    ]
    await step_many(uow, steps, ids=network.ids, at=at)
    return len(steps)


async def resume_count(uow: Uow, network: Network, *, height: int, degraded_at: int) -> None:
    """The network is healthy again at `height`: the blocks since `degraded_at` do not count."""
    if height > degraded_at:
        await store.shift_absence(uow, network=network.name, blocks=height - degraded_at)
    await chain_store.end_degraded(uow, network=network.name)
