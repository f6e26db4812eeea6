"""bitcoind or litecoind as the world of a walk."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any

from config.settings import AssetSettings, TierSettings
from gateway.sandbox.nodes import UtxoNode
from gateway.sandbox.rpc import RpcError
from tests.simulation import lies
from tests.simulation.arena import Between, CannotBe, Paid
from tests.support.proxy import LyingNode, refuse

SATOSHI = 10**8
REST_BLOCKS = 6  # deeper than any reorg of a walk
REVIVED_MAX = 4
LISTED_MAX = 500  # outputs of the wallet's latest txs; far above those of one walk

AMOUNTS = {
    "btc": ("0.00005", "0.0007", "0.02", "0.03", "0.2"),
    "ltc": ("0.005", "0.05", "0.3", "0.7", "2"),
}
"""Coins: the first is below the minimum, the last needs the longer tier."""

TIERS = (TierSettings(up_to="0.1", min=1, full=2), TierSettings(min=2, full=4))
LTC_TIERS = (TierSettings(up_to="1", min=1, full=2), TierSettings(min=2, full=4))


class UtxoArena:
    """One node on regtest; its wallet plays all strangers."""

    lies = lies.UTXO

    def __init__(self, node: UtxoNode, network: str, *, can_replace: bool) -> None:
        self._node = node
        self.network = network
        self.url = node.url
        self.can_replace = can_replace
        self.asset = f"{network}:{network.upper()}"
        tiers = TIERS if network == "btc" else LTC_TIERS
        self.assets: Mapping[str, AssetSettings] = {self.asset: AssetSettings(tiers=tiers)}
        self._raws: dict[str, str] = {}
        """Every payment of this walk, txid to raw tx."""

    async def begin(self) -> None:
        self._raws.clear()
        await self._node.ensure_funds()

    async def end(self) -> None:
        await self._node.mine(REST_BLOCKS)
        await self._forget_lost()

    async def _forget_lost(self) -> None:
        """What of the wallet is in no block now will never be: its coins are free for later walks,
        which would run out of them after a hundred or so."""
        for row in await self._node.rpc("listtransactions", "*", LISTED_MAX):
            if row["confirmations"] == 0 and not row.get("abandoned"):
                with contextlib.suppress(RpcError):  # one row per output: done already
                    await self._node.rpc("abandontransaction", row["txid"])

    async def height(self) -> int:
        return await self._node.height()

    async def pay(self, dice: Random, addresses: Collection[str]) -> None:
        targets = dice.sample(sorted(addresses), k=dice.randint(1, 3))
        amounts = {address: dice.choice(AMOUNTS[self.network]) for address in targets}
        txid = await self._node.send_many(amounts)
        self._raws[txid] = await self._node.rpc("getrawtransaction", txid)

    async def mine(self, count: int = 1) -> None:
        await self._node.mine(count)

    async def mine_some(self, dice: Random) -> None:
        await self._node.mine_exactly(await self._some_waiting(dice))

    async def reorg_remine(self, dice: Random, depth: int) -> None:
        await self._node.invalidate(depth)
        await self._build(dice, depth, is_full=True)

    async def reorg_drop(self, dice: Random, depth: int) -> None:
        await self._node.invalidate(depth)
        await self._build(dice, depth, is_full=False)

    async def _build(self, dice: Random, depth: int, *, is_full: bool) -> None:
        """A branch to the same height or one higher; each block takes some of what waits."""
        is_longer = dice.random() < 0.5
        for _ in range(depth - 1 + is_longer):
            txs = await self._some_waiting(dice) if is_full or dice.random() < 0.3 else ()
            await self._node.mine_exactly(txs)
        if is_full:
            await self._node.mine()
        else:
            await self._node.mine_exactly(())

    async def reorg_conflict(self, dice: Random, depth: int) -> None:
        txid = dice.choice(await self._mined_payments(depth))
        await self._node.double_spend(txid, depth=depth)

    async def there_and_back(self, dice: Random, depth: int, between: Between) -> None:
        branch_a = await self._node.invalidate(depth)
        await self._build(dice, depth, is_full=dice.random() < 0.5)
        await between()
        lowest = await self._node.rpc("getblockheader", branch_a)
        branch_b = await self._node.rpc("getblockhash", lowest["height"])
        await self._node.rpc("invalidateblock", branch_b)
        await self._node.reconsider(branch_a)

    async def double_spend(self, dice: Random) -> None:
        await self._node.double_spend(dice.choice(await self._waiting_payments()))

    async def replace(self, dice: Random) -> None:
        txid = dice.choice(await self._waiting_payments())
        if dice.random() < 0.5:  # the same payments for a higher fee (BIP 125)
            with contextlib.suppress(RpcError):  # the wallet refuses what has descendants
                bumped: str = (await self._node.rpc("bumpfee", txid))["txid"]
                self._raws[bumped] = await self._node.rpc("getrawtransaction", bumped)
                return
        conflict = await self._node.conflict(txid, fee="0.002")
        await self._node.rpc("sendrawtransaction", conflict, 0)

    async def revive(self, dice: Random) -> None:
        lost = []
        for txid in list(self._raws):
            found = await self._known(txid)
            if found is None:
                lost.append(txid)
        if not lost:
            raise CannotBe("no payment is lost")
        for txid in dice.sample(lost, k=min(len(lost), REVIVED_MAX)):
            with contextlib.suppress(RpcError):  # its inputs are spent by now
                await self._node.rpc("sendrawtransaction", self._raws[txid], 0)

    async def clear(self) -> None:
        """A UTXO mempool holds nothing that cannot be mined."""

    def hide_bodies(self, node: LyingNode) -> None:
        node.faults.append(refuse(-1, "Block not available (pruned data)", "getblock"))

    async def truth(self, addresses: Collection[str], *, above: int) -> list[Paid]:
        """By scriptPubKey, which the node itself gives for each address."""
        owners = await self._scripts(addresses)
        paid = []
        for height in range(above + 1, await self._node.height() + 1):
            block_hash = await self._node.rpc("getblockhash", height)
            block = await self._node.rpc("getblock", block_hash, 2)
            for tx in block["tx"]:
                for output in tx["vout"]:
                    owner = owners.get(output["scriptPubKey"]["hex"])
                    if owner is not None and output["value"]:
                        paid.append(
                            Paid(
                                txid=tx["txid"],
                                position=f"out:{output['n']}",
                                asset=self.asset,
                                address=owner,
                                amount_minor=_minor(output["value"]),
                            )
                        )
        return paid

    async def holds(self, addresses: Collection[str]) -> Mapping[str, int]:
        scripts = [f"raw({script})" for script in await self._scripts(addresses)]
        found = await self._node.rpc("scantxoutset", "start", scripts)
        return {self.asset: _minor(found["total_amount"])}

    async def _scripts(self, addresses: Collection[str]) -> dict[str, str]:
        found = {}
        for address in addresses:
            told = await self._node.rpc("validateaddress", address)
            found[str(told["scriptPubKey"])] = address
        return found

    async def _known(self, txid: str) -> Any:
        try:
            return await self._node.rpc("getrawtransaction", txid, True)
        except RpcError:
            return None

    async def _waiting_payments(self) -> list[str]:
        """Payments of the mempool that neither spend a waiting tx nor are spent by one."""
        pool = await self._node.rpc("getrawmempool", True)
        found = [
            txid
            for txid, entry in pool.items()
            if txid in self._raws and not entry["spentby"] and not entry["depends"]
        ]
        if not found:
            raise CannotBe("no payment waits")
        return sorted(found)

    async def _mined_payments(self, depth: int) -> list[str]:
        """Payments of the last `depth` blocks whose inputs are older than these."""
        height = await self._node.height()
        found: list[str] = []
        for number in range(height - depth + 1, height + 1):
            block = await self._node.rpc(
                "getblock", await self._node.rpc("getblockhash", number), 1
            )
            for txid in block["tx"]:
                if txid in self._raws and await self._is_rooted(txid, depth):
                    found.append(txid)
        if not found:
            raise CannotBe("no payment is in these blocks")
        return sorted(found)

    async def _is_rooted(self, txid: str, depth: int) -> bool:
        """Whether every tx that it spends stays mined when `depth` blocks are lost."""
        tx = await self._node.rpc("getrawtransaction", txid, True)
        parents = [await self._node.rpc("getrawtransaction", i["txid"], True) for i in tx["vin"]]
        return all(parent.get("confirmations", 0) > depth for parent in parents)

    async def _some_waiting(self, dice: Random) -> Sequence[str]:
        """A random part of the mempool, each after those that it spends."""
        pool = await self._node.rpc("getrawmempool", True)
        waiting = sorted(pool, key=lambda txid: (pool[txid]["ancestorcount"], dice.random()))
        chosen: list[str] = []
        for txid in waiting:
            if dice.random() < 0.5 and all(parent in chosen for parent in pool[txid]["depends"]):
                chosen.append(txid)
        return chosen


def _minor(value: Decimal | int) -> int:
    return int(Decimal(value) * SATOSHI)
