"""anvil as the world of a walk. It forgets the txs of lost blocks; the arena keeps their bytes."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from config.settings import AssetSettings, TierSettings
from gateway.sandbox.nodes import Anvil
from gateway.sandbox.rpc import RpcError
from tests.simulation import lies
from tests.simulation.arena import Between, CannotBe, Paid
from tests.support import evm
from tests.support.proxy import LyingNode, null

COIN, TOKEN = "eth:ETH", "eth:USDT"
ETHER, DOLLAR = 10**18, 10**6
GWEI = 10**9
NODE_WALKS = 10  # one anvil forgets state after some forty walks of reorgs and reverts
SENDERS = 4
MINTED = 10**15
GAS = 400_000
REVIVED_MAX = 4
FIRST_BLOCKS = 6  # deeper than any reorg of a walk
TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"

COINS = (ETHER // 2000, ETHER // 100, ETHER // 2, 2 * ETHER)
DOLLARS = (DOLLAR // 2, 5 * DOLLAR, 300 * DOLLAR, 4000 * DOLLAR)
"""Minor units: the first is below the minimum, the last needs the longer tier."""
TIERS = {
    COIN: (TierSettings(up_to="1", min=1, full=3), TierSettings(min=2, full=4)),
    TOKEN: (TierSettings(up_to="1000", min=1, full=3), TierSettings(min=2, full=4)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tx:
    """A tx of a stranger with its bytes."""

    txid: str
    raw: str
    sender: str
    nonce: int
    offset: int = 0
    """The place of its block among the lost ones."""


class EvmArena:
    """One anvil; its first unlocked accounts play all strangers."""

    network = "eth"
    can_replace = True
    lies = lies.EVM

    def __init__(
        self, node: Anvil, *, token: str, router: str, senders: Sequence[str], outsider: str
    ) -> None:
        self._node = node
        self.url = node.url
        self._token = token
        self._router = router
        self._senders = senders
        self._outsider = outsider
        self._snapshot = ""
        self._lost: list[Tx] = []
        self._outbids = 0
        self._walks = 0
        self.assets: Mapping[str, AssetSettings] = {
            COIN: AssetSettings(tiers=TIERS[COIN]),
            TOKEN: AssetSettings(contract=token, tiers=TIERS[TOKEN]),
        }

    @classmethod
    async def on(cls, node: Anvil) -> "EvmArena":
        """Deploy what strangers use, and give each of them tokens."""
        accounts = await node.accounts()
        senders = accounts[:SENDERS]
        token, router = await _deploy(node, senders)
        return cls(node, token=token, router=router, senders=senders, outsider=accounts[-1])

    async def begin(self) -> None:
        self._lost.clear()
        self._outbids = 0
        self._walks += 1
        if self._walks % NODE_WALKS == 0:
            await self._renew()
        self._snapshot = await self._node.snapshot()
        await self._node.mine(FIRST_BLOCKS)  # anvil forgets a snapshot that a reorg goes below

    async def _renew(self) -> None:
        """A new chain behind the same URL, with the same contracts at the same addresses."""
        await self._node.stop()
        await self._node.start()
        if await _deploy(self._node, self._senders) != (self._token, self._router):
            raise AssertionError("the contracts have other addresses on the new chain")

    async def end(self) -> None:
        await self._node.rpc("anvil_dropAllTransactions")
        await self._node.revert(self._snapshot)

    async def height(self) -> int:
        return await self._node.height()

    async def pay(self, dice: Random, addresses: Collection[str]) -> None:
        targets = dice.sample(sorted(addresses), k=dice.randint(1, 3))
        sender = dice.choice(self._senders)
        if len(targets) > 1 and dice.random() < 0.4:
            await self._multisend(dice, sender, targets)
            return
        for target in targets:
            if dice.random() < 0.5:
                await self._send(sender, to=target, value=dice.choice(COINS))
            else:
                data = evm.call_data("transfer(address,uint256)", target, dice.choice(DOLLARS))
                await self._send(sender, to=self._token, data=data)

    async def _multisend(self, dice: Random, sender: str, targets: Sequence[str]) -> None:
        """One tx that pays several players from inside a contract."""
        amounts = [dice.choice(COINS) for _ in targets]
        data = evm.call_data("multisend(address[],uint256[])", list(targets), amounts)
        await self._send(sender, to=self._router, value=sum(amounts), data=data)

    async def _send(self, sender: str, **call: Any) -> str:
        fields = {name: hex(item) if isinstance(item, int) else item for name, item in call.items()}
        txid: str = await self._node.rpc(
            "eth_sendTransaction", {"from": sender, "gas": hex(GAS), **fields}
        )
        return txid

    async def mine(self, count: int = 1) -> None:
        await self._node.mine(count)

    async def mine_some(self, dice: Random) -> None:
        """Per sender the later txs are held back, since a nonce cannot wait for an earlier one."""
        kept = await self._held_back(dice, await self._waiting())
        for tx in kept:
            await self._node.rpc("anvil_dropTransaction", tx.txid)
        await self._node.mine()
        await self._resend(kept)

    async def reorg_remine(self, dice: Random, depth: int) -> None:
        txs = await self._in_blocks(depth)
        pairs = []
        offsets: dict[str, int] = {}
        for sender in dice.sample(self._senders, k=len(self._senders)):
            for tx in (item for item in txs if item.sender == sender):
                offsets[sender] = dice.randint(offsets.get(sender, 0), depth - 1)
                pairs.append((tx.raw, offsets[sender]))
        await self._reorg(depth, pairs)

    async def reorg_drop(self, dice: Random, depth: int) -> None:
        txs = await self._in_blocks(depth)
        gone = txs if dice.random() < 0.5 else await self._held_back(dice, txs)
        left = [(tx.raw, tx.offset) for tx in txs if tx not in gone]
        await self._reorg(depth, left)
        self._lost += gone

    async def reorg_conflict(self, dice: Random, depth: int) -> None:
        txs = await self._in_blocks(depth)
        if not txs:
            raise CannotBe("no payment is in these blocks")
        victim = dice.choice(txs)
        gone = [tx for tx in txs if tx.sender == victim.sender and tx.nonce >= victim.nonce]
        await self._reorg(depth, [(tx.raw, tx.offset) for tx in txs if tx not in gone])
        self._lost += gone
        await self._outbid(victim)
        await self._node.mine()

    async def there_and_back(self, dice: Random, depth: int, between: Between) -> None:
        txs = await self._in_blocks(depth)
        await self._reorg(depth, [])
        await between()
        await self._reorg(depth, [(tx.raw, tx.offset) for tx in txs])

    async def _reorg(self, depth: int, pairs: Sequence[tuple[str, int]]) -> None:
        await self._node.reorg(depth, txs=pairs)

    async def double_spend(self, dice: Random) -> None:
        await self._outbid(dice.choice(await self._some_waiting()))
        await self._node.mine()

    async def replace(self, dice: Random) -> None:
        victim = dice.choice(await self._some_waiting())
        await self._outbid(victim)

    async def _outbid(self, victim: Tx) -> None:
        """Another tx of the same account and nonce, to nobody of ours, for more than any before."""
        self._outbids += 1
        await self._send(
            victim.sender,
            to=self._outsider,
            value=1,
            nonce=victim.nonce,
            maxFeePerGas=(900 + self._outbids) * GWEI,
            maxPriorityFeePerGas=(90 + self._outbids) * GWEI,
        )

    async def revive(self, dice: Random) -> None:
        if not self._lost:
            raise CannotBe("no payment is lost")
        chosen = dice.sample(self._lost, k=min(len(self._lost), REVIVED_MAX))
        await self._resend(sorted(chosen, key=lambda tx: tx.nonce))

    async def _resend(self, txs: Sequence[Tx]) -> None:
        for tx in txs:
            with contextlib.suppress(RpcError):  # its nonce is used by now, or it waits already
                await self._node.rpc("eth_sendRawTransaction", tx.raw)

    async def clear(self) -> None:
        await self._node.mine()
        await self._node.rpc("anvil_dropAllTransactions")

    def hide_bodies(self, node: LyingNode) -> None:
        node.faults.append(null("eth_getBlockByHash", "eth_getBlockReceipts"))

    async def truth(self, addresses: Collection[str], *, above: int) -> list[Paid]:
        """Values of successful txs, logs of the token, value moved inside calls."""
        owners = {address.lower(): address for address in addresses}
        paid: list[Paid] = []
        for height in range(above + 1, await self._node.height() + 1):
            block = await self._node.rpc("eth_getBlockByNumber", hex(height), True)
            for tx in block["transactions"]:
                receipt = await self._node.rpc("eth_getTransactionReceipt", tx["hash"])
                if receipt["status"] == "0x1":
                    paid += self._of_logs(receipt, owners)
                    paid += await self._of_value(tx, owners)
        return paid

    def _of_logs(self, receipt: dict[str, Any], owners: Mapping[str, str]) -> list[Paid]:
        found = []
        for place, entry in enumerate(receipt["logs"]):
            is_transfer = entry["topics"] and entry["topics"][0] == TRANSFER_TOPIC
            if not is_transfer or entry["address"].lower() != self._token.lower():
                continue
            owner = owners.get("0x" + entry["topics"][2][-40:])
            if owner is not None:
                found.append(
                    Paid(
                        txid=receipt["transactionHash"],
                        position=f"log:{place}",
                        asset=TOKEN,
                        address=owner,
                        amount_minor=int(entry["data"], 16),
                    )
                )
        return found

    async def _of_value(self, tx: dict[str, Any], owners: Mapping[str, str]) -> list[Paid]:
        if (tx["to"] or "").lower() != self._router.lower():
            owner = owners.get((tx["to"] or "").lower())
            moved = [] if owner is None else [("value", owner, tx["value"])]
        else:
            tracer = {"tracer": "callTracer"}
            frame = await self._node.rpc("debug_traceTransaction", tx["hash"], tracer)
            moved = [
                (f"trace:{place}", owners[call["to"].lower()], call["value"])
                for place, call in enumerate(frame.get("calls", ()))
                if call["to"].lower() in owners
            ]
        return [
            Paid(
                txid=tx["hash"],
                position=position,
                asset=COIN,
                address=owner,
                amount_minor=int(value, 16),
            )
            for position, owner, value in moved
            if int(value, 16)
        ]

    async def holds(self, addresses: Collection[str]) -> Mapping[str, int]:
        coins = tokens = 0
        for address in addresses:
            coins += int(await self._node.rpc("eth_getBalance", address, "latest"), 16)
            call = {"to": self._token, "data": evm.call_data("balanceOf(address)", address)}
            tokens += int(await self._node.rpc("eth_call", call, "latest"), 16)
        return {COIN: coins, TOKEN: tokens}

    async def _waiting(self) -> list[Tx]:
        """What can be mined now, per sender in order of nonce."""
        pool = (await self._node.rpc("txpool_content"))["pending"]
        found = [
            await self._kept(tx["hash"], tx)
            for by_nonce in pool.values()
            for _, tx in sorted(by_nonce.items(), key=lambda item: int(item[0]))
        ]
        return found

    async def _some_waiting(self) -> list[Tx]:
        if not (found := await self._waiting()):
            raise CannotBe("no payment waits")
        return found

    async def _in_blocks(self, depth: int) -> list[Tx]:
        """The txs of the last `depth` blocks in order."""
        height = await self._node.height()
        found = []
        for offset, number in enumerate(range(height - depth + 1, height + 1)):
            block = await self._node.rpc("eth_getBlockByNumber", hex(number), True)
            for tx in block["transactions"]:
                found.append(await self._kept(tx["hash"], tx, offset=offset))
        return found

    async def _kept(self, txid: str, tx: dict[str, Any], *, offset: int = 0) -> Tx:
        raw = await self._node.rpc("eth_getRawTransactionByHash", txid)
        nonce = int(tx["nonce"], 16)
        sender = next(item for item in self._senders if item.lower() == tx["from"].lower())
        return Tx(txid=txid, raw=raw, sender=sender, nonce=nonce, offset=offset)

    async def _held_back(self, dice: Random, txs: Sequence[Tx]) -> list[Tx]:
        """Of each sender the txs from a random one on."""
        held: list[Tx] = []
        for sender in self._senders:
            own = [tx for tx in txs if tx.sender == sender]
            held += own[dice.randint(0, len(own)) :]
        return held


async def _deploy(node: Anvil, senders: Sequence[str]) -> tuple[str, str]:
    """Token and router, from a new chain's first account; each sender gets tokens."""
    token = await evm.deploy(node, "UsdtLike")
    router = await evm.deploy(node, "Router")
    for sender in senders:
        await evm.mint(node, token, sender, MINTED)
    return token, router
