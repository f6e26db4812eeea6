"""How often to look for the next block: by the time that the network's blocks really take.

Owns one moving average and the pause between looks at a mempool, in memory. It decides nothing
about money; a wrong pace costs calls or seconds, never a block, because every round follows by
parent hash.
"""

POLL_SECONDS_MIN = 0.25  # faster only loads the node: its own propagation takes as long
LOOKS_PER_BLOCK = 8  # an eighth of a block's time is the latency that polling adds at most
PAUSE_PER_LOOK = 9  # a mempool is looked at for a tenth of the time
MEMPOOL_PAUSE_SECONDS_MAX = 5.0  # an unconfirmed deposit is shown this much later at most
WEIGHT = 4  # each new interval counts a quarter: one late block changes little


class PollPace:
    """The wait between two rounds; never longer than the configured one, which mempools need."""

    def __init__(self, *, poll_seconds: float) -> None:
        self._poll_seconds = poll_seconds
        self._interval_seconds: float | None = None
        self._last_block_at_seconds: float | None = None

    @property
    def wait_seconds(self) -> float:
        """Seconds to the next round."""
        if self._interval_seconds is None:
            return self._poll_seconds
        wanted_seconds = max(POLL_SECONDS_MIN, self._interval_seconds / LOOKS_PER_BLOCK)
        return min(self._poll_seconds, wanted_seconds)

    def blocks_came(self, count: int, *, at_seconds: float) -> None:
        """A round connected `count` blocks (monotonic time); catching up teaches nothing."""
        last_seconds, self._last_block_at_seconds = self._last_block_at_seconds, at_seconds
        if count != 1 or last_seconds is None:
            return
        took_seconds = at_seconds - last_seconds
        known_seconds = self._interval_seconds
        self._interval_seconds = (
            took_seconds
            if known_seconds is None
            else known_seconds + (took_seconds - known_seconds) / WEIGHT
        )


class MempoolPace:
    """A look at a mempool may cost a node much (the pending block is made for each): what took
    long is asked for less often. Blocks, which decide, are not slowed down."""

    def __init__(self) -> None:
        self._next_at_seconds: float | None = None

    def is_due(self, *, at_seconds: float) -> bool:
        """Whether to look now (monotonic time)."""
        return self._next_at_seconds is None or at_seconds >= self._next_at_seconds

    def looked(self, *, from_seconds: float, to_seconds: float) -> None:
        """A look began and ended at these monotonic times."""
        pause_seconds = (to_seconds - from_seconds) * PAUSE_PER_LOOK
        self._next_at_seconds = to_seconds + min(pause_seconds, MEMPOOL_PAUSE_SECONDS_MAX)
