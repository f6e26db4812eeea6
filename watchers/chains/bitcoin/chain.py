"""`BitcoinChain` puts the parts of this package together as a `watchers.chain.Chain`.

Facts, sources and quirks: docs/chains/bitcoin.md.
"""

from collections.abc import Awaitable, Callable, Sequence

from config.clock import Clock
from watchers.chain import AddressCodec, ChainReader, ChainWriter, NodeDescriber
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.chains.bitcoin.node import BitcoinNode
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.chains.bitcoin.reader import BitcoinReader
from watchers.chains.bitcoin.writer import BitcoinWriter
from watchers.chains.jsonrpc import Post
from watchers.chains.verifier import Verify, in_thread


class BitcoinChain:
    """One Bitcoin-family network through an ordered list of nodes."""

    def __init__(
        self,
        params: BitcoinParams,
        urls: Sequence[str],
        *,
        post: Post,
        clock: Clock,
        close: Callable[[], Awaitable[None]],
        verify: Verify = in_thread,
    ) -> None:
        node = BitcoinNode(
            urls, post, clock=clock, genesis_hash=params.genesis_hash, network=params.network
        )
        codec = BitcoinAddressCodec(params)
        self._params = params
        self._node = node
        self._codec = codec
        self._reader = BitcoinReader(node, params, verify=verify)
        self._writer = BitcoinWriter(node, params, codec)
        self._close = close

    @property
    def network(self) -> str:
        return self._params.network

    @property
    def family(self) -> str:
        return "bitcoin"

    @property
    def codec(self) -> AddressCodec:
        return self._codec

    @property
    def reader(self) -> ChainReader:
        return self._reader

    @property
    def writer(self) -> ChainWriter:
        return self._writer

    @property
    def describer(self) -> NodeDescriber:
        """The node's word about itself; for a chain over one node."""
        return self._node

    async def close(self) -> None:
        await self._close()
