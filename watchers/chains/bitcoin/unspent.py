"""`UnspentReader` for Bitcoin-family networks: `scantxoutset` over raw scripts.

Bitcoin Core's and Litecoin Core's RPC documentation: one scan runs at a time per node, another one
is refused (-8); `height` and `bestblock` say what the set was of. The node's answer is a hint: who
asks has each coin looked for in its block.
"""

from collections.abc import Awaitable, Callable, Sequence

from watchers.chain import Outpoint
from watchers.chains.bitcoin import decode
from watchers.chains.bitcoin.node import BitcoinNode
from watchers.errors import NodeUnavailable
from watchers.unspent import UnspentCoin, UnspentSet


class BitcoinUnspent:
    """The set of whichever node answers first."""

    def __init__(self, node: BitcoinNode, *, close: Callable[[], Awaitable[None]]) -> None:
        self._node = node
        self._close = close

    async def unspent(self, keys: Sequence[str]) -> UnspentSet:
        wanted = frozenset(keys)
        scripts = [f"raw({key})" for key in sorted(wanted)]
        answer = await self._node.rpc.call("scantxoutset", "start", scripts)
        found = decode.mapping(answer, "scantxoutset")
        if found.get("success") is not True:
            raise NodeUnavailable("scantxoutset: it did not end")
        height = decode.integer(found.get("height"), "scantxoutset height")
        coins = [
            _coin(item, wanted, height)
            for item in decode.sequence(found.get("unspents"), "scantxoutset unspents")
        ]
        if len({coin.outpoint for coin in coins}) != len(coins):
            raise NodeUnavailable("scantxoutset: one output twice")
        return UnspentSet(
            height=height,
            block_hash=decode.hash_text(found.get("bestblock"), "scantxoutset bestblock"),
            # One of nothing is no coin: no block shows it either (D21), so that a miner's joke
            # would be missed for ever.
            coins=tuple(coin for coin in coins if coin.amount_minor),
        )

    async def close(self) -> None:
        await self._close()


def _coin(value: object, wanted: frozenset[str], tip: int) -> UnspentCoin:
    row = decode.mapping(value, "unspent output")
    key, height = row.get("scriptPubKey"), decode.integer(row.get("height"), "height")
    if not isinstance(key, str) or key not in wanted or height > tip:
        raise NodeUnavailable("scantxoutset: an output that was not asked for")
    return UnspentCoin(
        outpoint=Outpoint(
            txid=decode.hash_text(row.get("txid"), "txid"),
            vout=decode.integer(row.get("vout"), "vout"),
        ),
        key=key,
        amount_minor=decode.amount_minor(row.get("amount")),
        height=height,
    )
