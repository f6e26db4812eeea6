"""Real nodes behind proxies, and the chain that asks k of them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from config.clock import Clock
from tests.conformance.conftest import registry
from tests.support.proxy import LyingNode, lying
from watchers.agreed_chain import AgreedChain
from watchers.errors import NodeUnavailable
from watchers.judge import NodeState
from watchers.registry import build_agreed_chain

HEALTHY = NodeState.HEALTHY
TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxied:
    """Proxies in front of one real node, and the chain that asks k of them."""

    chain: AgreedChain
    proxies: Sequence[LyingNode]

    async def look(self, times: int = 1) -> list[NodeState]:
        """Rounds of looks; the states after them."""
        for _ in range(times):
            await self.chain.pool.look_all()
            try:
                await self.chain.reader.tip()
            except NodeUnavailable:
                continue
        return [item.state for item in self.chain.pool.records]


@asynccontextmanager
async def proxied(
    network: str, url: str, *, count: int, quorum: int, clock: Clock | None = None
) -> AsyncIterator[Proxied]:
    """`count` proxies before one node."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(lying(url)) for _ in range(count)]
        chain = agreed(network, [item.url for item in proxies], quorum=quorum, clock=clock)
        try:
            yield Proxied(chain=chain, proxies=proxies)
        finally:
            await chain.close()


def agreed(
    network: str, urls: Sequence[str], *, quorum: int, clock: Clock | None = None
) -> AgreedChain:
    """The chain as the role builds it."""
    return build_agreed_chain(
        registry()[network], urls, [], quorum=quorum, timeout_seconds=TIMEOUT_SECONDS, clock=clock
    )


@asynccontextmanager
async def agreeing(urls: Sequence[str], *, quorum: int) -> AsyncIterator[AgreedChain]:
    """The chain over these bitcoinds, closed at the end."""
    chain = agreed("btc", urls, quorum=quorum)
    try:
        yield chain
    finally:
        await chain.close()
