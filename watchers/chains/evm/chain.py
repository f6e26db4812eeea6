"""`EvmChain` puts the parts of this package together as a `watchers.chain.Chain`.

Facts, sources and quirks: docs/chains/evm.md.
"""

from collections.abc import Awaitable, Callable, Sequence

from config.clock import Clock
from watchers.chain_parts import NodeChain
from watchers.chains.evm.address import EvmAddressCodec
from watchers.chains.evm.node import EvmNode
from watchers.chains.evm.params import EvmParams
from watchers.chains.evm.reader import EvmReader
from watchers.chains.evm.writer import EvmWriter
from watchers.chains.jsonrpc import Post
from watchers.chains.verifier import Verify, in_thread


class EvmChain(NodeChain):
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
        super().__init__(
            network=params.network,
            family="evm",
            codec=codec,
            reader=EvmReader(node, params, verify=verify),
            writer=EvmWriter(node, params, codec),
            describer=node,
            close=close,
        )
