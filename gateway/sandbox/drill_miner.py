"""The miner of the drill's scenes: blocks with what waits, or blocks that pass a payout over.

Plays the outside world only. A scene of replacements is mined so that the payout misses its target,
gets a replacement, and then that one or the original is in a block (CASES P16, P20).
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from gateway.sandbox.drill_store import Fate
from gateway.sandbox.rpc import RpcError
from gateway.sandbox.story import BLOCKS_AT_ONCE
from gateway.sandbox.world import World

PASSED_OVER_MAX = 15  # blocks; a payout that has no replacement by then is mined as it is
CHEAP_WEI = 10**9  # per gas: any payout can be mined at it
OVER_PERMILLE = 1_050  # of what a tx can pay at most: blocks pass it over


class Kind(Protocol):
    """What the miner must know of a scene."""

    @property
    def network(self) -> str: ...

    @property
    def is_bumped(self) -> bool: ...


class Miner:
    """Mines one network for one set of withdrawals."""

    def __init__(self, world: World, kind: Kind, *, is_original_mined: bool) -> None:
        self._world = world
        self._kind = kind
        self._is_original_mined = is_original_mined
        self._passed_over = 0
        self._limit_wei = CHEAP_WEI

    async def mine(self, fates: Sequence[Fate]) -> None:
        """The next block or blocks, by where the withdrawals stand."""
        network = self._kind.network
        if self._kind.is_bumped:
            if all(len(fate.attempts) < 2 for fate in fates):
                if self._passed_over < PASSED_OVER_MAX:
                    self._passed_over += any(fate.attempts for fate in fates)
                    await self._pass_over(fates)
                    return
            elif self._is_original_mined:
                self._is_original_mined = False
                await self._mine_original(fates)
                return
            if network == "eth":
                await self._base_fee(CHEAP_WEI)
        await self._world.mine(network, BLOCKS_AT_ONCE[network])

    async def _pass_over(self, fates: Sequence[Fate]) -> None:
        """A block without the payout, which stays in the pool."""
        if self._kind.network != "eth":
            await self._world.utxo[self._kind.network].mine_exactly([])
            return
        for fate in fates:
            tx = await self._world.evm().rpc(
                "eth_getTransactionByHash", fate.txid or "0x" + "0" * 64
            )
            if tx is not None:
                self._limit_wei = max(self._limit_wei, int(tx["maxFeePerGas"], 16))
        await self._base_fee(self._limit_wei * OVER_PERMILLE // 1_000)
        await self._world.mine("eth")

    async def _mine_original(self, fates: Sequence[Fate]) -> None:
        """A block with what was sent first, as another miner's mempool may still have it."""
        originals = ["0x" + fate.attempts[0].hex() for fate in fates if fate.attempts]
        if self._kind.network != "eth":
            node = self._world.utxo[self._kind.network]
            with suppress(RpcError):  # one of the family is mined already
                await node.mine_exactly(sorted({raw[2:] for raw in originals}))
            return
        node_evm = self._world.evm()
        for fate in fates:
            if fate.txid is not None and len(fate.attempts) > 1:
                await node_evm.rpc("anvil_dropTransaction", fate.txid)
        await self._base_fee(CHEAP_WEI)
        for raw in originals:
            with suppress(RpcError):  # it has it, or something else at that nonce: that is mined
                await node_evm.rpc("eth_sendRawTransaction", raw)
        await self._world.mine("eth")

    async def _base_fee(self, wei: int) -> None:
        await self._world.evm().rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))
