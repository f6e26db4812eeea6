"""A budget of calls per second for one node URL (N08): the house is no flood to its own nodes.

Owns when a request may leave. A batch counts as many calls as it holds. One second of the budget
may leave at once; after that calls wait in line, and one that would wait too long is not sent.
"""

from collections.abc import Awaitable, Callable

from config.clock import Clock
from watchers.chains.errors import NotSent
from watchers.chains.jsonrpc import Endpoint, HttpAnswer, Post

CALLS_PER_SECOND = 1000  # own nodes answer more; a metered provider wants less
BURST_SECONDS = 1.0
WAIT_SECONDS_MAX = 10.0  # below the time-out of a call, so that a full line is told as such

# `jsonrpc.py` writes every call like this; inside a JSON string the quotes would be escaped.
CALL = b'{"jsonrpc":"2.0","id":'


class PacedPost:
    """A `Post` that keeps within the budget of its node; one per URL and process."""

    def __init__(
        self,
        post: Post,
        *,
        calls_per_second: int,
        clock: Clock,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        if calls_per_second < 1:
            raise ValueError("a budget of less than one call per second answers nothing")
        self._post = post
        self._call_seconds = 1.0 / calls_per_second
        self._clock = clock
        self._close = close
        self._used_until_seconds: dict[str, float] = {}

    async def __call__(self, endpoint: Endpoint, body: bytes) -> HttpAnswer:
        """As the wrapped one. NotSent when the line is too long: the request never left."""
        wait_seconds = self._turn_seconds(endpoint, max(1, body.count(CALL)))
        if wait_seconds > 0:
            await self._clock.sleep(wait_seconds)
        return await self._post(endpoint, body)

    def _turn_seconds(self, endpoint: Endpoint, calls: int) -> float:
        """Take a place in line; how many seconds until its turn."""
        now = self._clock.monotonic_seconds()
        used_until = max(self._used_until_seconds.get(endpoint.url, now), now)
        wait_seconds = used_until - now - BURST_SECONDS
        if wait_seconds > WAIT_SECONDS_MAX:
            raise NotSent(f"node {endpoint.label}: the budget of calls is used up")
        self._used_until_seconds[endpoint.url] = used_until + calls * self._call_seconds
        return max(0.0, wait_seconds)

    async def close(self) -> None:
        """Close the connections below."""
        await self._close()
