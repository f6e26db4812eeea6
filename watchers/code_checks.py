"""Whether own accounts have code (D48), asked so that no block ever waits for the answer.

A block may name thousands of own accounts. They are asked about in parts, each with the reader's
own time-out; what is not answered waits here and is asked about at a later one, and an alarm
says so. What waits is lost with the process: an account's next payment asks again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from config.logs import get_logger
from watchers.chain import Block, ChainReader
from watchers.errors import NodeError, StateUnavailable

log = get_logger("watchers.code_checks")

KEYS_PER_CALL = 200
CALLS_PER_RUN = 10
BACKLOG_KEYS_MAX = 20_000
PAUSE_BLOCKS = 20  # without a call after one failed: a time-out per block would be a standstill


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """Own keys that have code, as far as is known, and how many could not be asked about."""

    keys: frozenset[str] = frozenset()
    unasked: int = 0


NONE_CODED = Coded()


class CodeChecks:
    """What is still to be asked of one network."""

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        self._found: set[str] = set()  # told with every block: the one that told them may fail
        self._pause_blocks = 0

    async def ask(self, reader: ChainReader, run: Sequence[Block], keys: Iterable[str]) -> Coded:
        """Ask about these and about what waits, at the last block of a run. No node's failure is
        raised."""
        for key in sorted(keys):
            if len(self._waiting) < BACKLOG_KEYS_MAX:
                self._waiting.setdefault(key)
        if self._pause_blocks:
            self._pause_blocks = max(0, self._pause_blocks - len(run))
            return self._told(is_late=True)
        is_late = False
        for _ in range(CALLS_PER_RUN):
            part = list(self._waiting)[:KEYS_PER_CALL]
            if not part:
                break
            try:
                self._found |= await reader.with_code(part, block_hash=run[-1].ref.hash)
            except StateUnavailable:
                break  # of an old block; the next ones tell
            except NodeError as error:
                log.warning("code.unasked", keys=len(self._waiting), error=str(error))
                self._pause_blocks, is_late = PAUSE_BLOCKS, True
                break
            for key in part:
                del self._waiting[key]
        return self._told(is_late=is_late)

    def _told(self, *, is_late: bool) -> Coded:
        return Coded(keys=frozenset(self._found), unasked=len(self._waiting) if is_late else 0)
