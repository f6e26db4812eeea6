"""The set of unspent outputs of a simulated UTXO chain, as a node would tell it."""

from collections.abc import Sequence

from tests.support.sim_utxo import SimUtxo
from watchers.unspent import UnspentCoin, UnspentSet


class SimUnspent:
    """Implements `UnspentReader`; `asked` are the keys of each call."""

    def __init__(self, world: SimUtxo) -> None:
        self.world = world
        self.asked: list[tuple[str, ...]] = []

    async def unspent(self, keys: Sequence[str]) -> UnspentSet:
        self.asked.append(tuple(keys))
        world, tip = self.world, self.world.tip
        height_of = {
            txid: world.blocks[name].ref.height
            for name in world.active
            for txid, _ in world.blocks[name].txs
        }
        wanted = frozenset(keys)
        return UnspentSet(
            height=tip.ref.height,
            block_hash=tip.ref.hash,
            coins=tuple(
                UnspentCoin(
                    outpoint=outpoint,
                    key=coin.key,
                    amount_minor=coin.amount_minor,
                    height=height_of.get(outpoint.txid, 0),
                )
                for outpoint, coin in tip.state.items()
                if coin.key in wanted
            ),
        )

    async def close(self) -> None:
        """Nothing is open."""
