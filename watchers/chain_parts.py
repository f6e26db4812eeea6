"""The parts of a chain, held together: what every implementation of `watchers.chain.Chain` is."""

from collections.abc import Awaitable, Callable

from watchers.chain import AddressCodec, ChainReader, ChainWriter, NodeDescriber


class ChainParts:
    """One network; whoever derives from it says how its connections are closed."""

    def __init__(
        self,
        *,
        network: str,
        family: str,
        codec: AddressCodec,
        reader: ChainReader,
        writer: ChainWriter,
    ) -> None:
        self.network = network
        self.family = family
        self.codec = codec
        self.reader = reader
        self.writer = writer


class NodeChain(ChainParts):
    """A network through an ordered list of nodes, of which one is asked at a time.

    `describer` is the node's word about itself; for a chain over one node.
    """

    def __init__(
        self,
        *,
        network: str,
        family: str,
        codec: AddressCodec,
        reader: ChainReader,
        writer: ChainWriter,
        describer: NodeDescriber,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(network=network, family=family, codec=codec, reader=reader, writer=writer)
        self.describer = describer
        self._close = close

    async def close(self) -> None:
        """Close the connections."""
        await self._close()
