"""Where many txs are, asked at once under one time budget; the rest waits for the next look.

Owns the order in which txs are asked, so that one that nobody answers holds up no other, and the
answers of a pass that takes several looks. It decides nothing about deposits.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Sequence

from watchers.chain import ChainReader, TxPlace, TxStatus
from watchers.deposits import DepositRow
from watchers.errors import NodeError, NodeUnavailable

BUDGET_SECONDS = 1.5  # after it no tx is asked any more
REST_SECONDS = 2.5  # for those under way; two looks with both stay below the follower's lease
AT_ONCE = 25  # calls under way at each node
TRIES_KEPT = 10_000  # txs without an answer that are remembered
PASS_GAP_BLOCKS = 10  # answers from before such a gap are too old to reverse on


class TxLooks:
    """Asks a reader for the places of txs."""

    def __init__(self, reader: ChainReader) -> None:
        self._reader = reader
        self._tries: Counter[str] = Counter()
        self._answers: dict[str, TxStatus] = {}
        self._height = 0

    async def places(self, txids: Sequence[str]) -> dict[str, TxPlace]:
        """What was answered in time; a failed tx is nowhere (D33). NodeUnavailable for nothing."""
        found = await self._ask(txids)
        return {
            txid: TxPlace.UNKNOWN if status.is_success is False else status.place
            for txid, status in found.items()
        }

    async def absent(self, due: Sequence[DepositRow], *, height: int) -> list[DepositRow]:
        """Of these deposits those whose tx nobody has, once every one of them is answered: all
        are counted before any is reversed. Empty while a pass goes on. NodeUnavailable."""
        if height - self._height > PASS_GAP_BLOCKS:
            self._answers.clear()
        self._height = height
        wanted = {deposit.txid for deposit in due}
        if missing := sorted(wanted - self._answers.keys()):
            try:
                self._answers |= await self._ask(missing)
            except NodeError:
                self._answers.clear()
                raise
        if not wanted <= self._answers.keys():
            return []
        answers, self._answers = self._answers, {}
        return [item for item in due if answers[item.txid].place is TxPlace.UNKNOWN]

    async def _ask(self, txids: Collection[str]) -> dict[str, TxStatus]:
        """The least often tried first; NodeError only when not one answer came."""
        found: dict[str, TxStatus] = {}
        errors: list[NodeError] = []
        waiting = deque(sorted(txids, key=lambda txid: self._tries[txid]))

        async def work() -> None:
            while waiting:
                txid = waiting.popleft()
                self._tries[txid] += 1
                try:
                    found[txid] = await self._reader.tx_status(txid)
                    del self._tries[txid]
                except NodeError as error:
                    errors.append(error)

        if not txids:
            return {}
        tasks = [asyncio.create_task(work()) for _ in range(min(AT_ONCE, len(txids)))]
        try:
            done, late = await asyncio.wait(tasks, timeout=BUDGET_SECONDS)
            waiting.clear()
            if late:
                done |= (await asyncio.wait(late, timeout=REST_SECONDS))[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()
        if len(self._tries) > TRIES_KEPT:
            self._tries.clear()
        if not found:
            seconds = BUDGET_SECONDS + REST_SECONDS
            late_error = NodeUnavailable(f"no answer about {len(txids)} txs in {seconds:g} s")
            raise errors[0] if errors else late_error
        return found
