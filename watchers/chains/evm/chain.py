"""`EvmChain` puts the parts of this package together as a `watchers.chain.Chain`.

Facts, sources and quirks: docs/chains/evm.md.
"""

from collections.abc import Awaitable, Callable, Sequence

from config.clock import Clock
from watchers.chain import AddressCodec, ChainReader, ChainWriter, NodeDescriber
from watchers.chains.evm.address import EvmAddressCodec
from watchers.chains.evm.node import EvmNode
from watchers.chains.evm.params import EvmParams
from watchers.chains.evm.reader import EvmReader
from watchers.chains.evm.writer import EvmWriter
from watchers.chains.jsonrpc import Post
from watchers.chains.verifier import Verify, in_thread


class EvmChain:
    """One EVM network through an ordered list of nodes."""

    def __init__(
        self,
        params: EvmParams,
        urls: Sequence[str],
        *,
        post: Post,
        clock: Clock,
        close: Callable[[], Awaitable[None]],
        verify: Verify = in_thread,
    ) -> None:
        node = EvmNode(urls, post, clock=clock, chain_id=params.chain_id, network=params.network)
        codec = EvmAddressCodec(params)
        self._params = params
        self._node = node
        self._codec = codec
        self._reader = EvmReader(node, params, verify=verify)
        self._writer = EvmWriter(node, params, codec)
        self._close = close

    @property
    def network(self) -> str:
        return self._params.network

    @property
    def family(self) -> str:
        return "evm"

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
