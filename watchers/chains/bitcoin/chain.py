"""`BitcoinChain` puts the parts of this package together as a `watchers.chain.Chain`.

Facts, sources and quirks: docs/chains/bitcoin.md.
"""

from collections.abc import Awaitable, Callable, Sequence

from config.clock import Clock
from watchers.chain_parts import NodeChain
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.chains.bitcoin.node import BitcoinNode
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.chains.bitcoin.reader import BitcoinReader
from watchers.chains.bitcoin.writer import BitcoinWriter
from watchers.chains.jsonrpc import Post
from watchers.chains.verifier import Verify, in_thread


class BitcoinChain(NodeChain):
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
        super().__init__(
            network=params.network,
            family="bitcoin",
            codec=codec,
            reader=BitcoinReader(node, params, verify=verify),
            writer=BitcoinWriter(node, params, codec),
            describer=node,
            close=close,
        )
