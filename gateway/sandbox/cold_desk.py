"""The owner of the sandbox's cold wallet: a node's wallet on a machine that knows no chain.

It stands for Sparrow, Electrum or a hardware device: keys are made and stay here, files go in and
out. Nothing of Cage is used, and nothing of it reaches this wallet.
"""

from dataclasses import dataclass
from typing import Any

from gateway.sandbox.nodes import NodeFailed, UtxoNode

BRANCHES = "/0/*"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdWallet:
    """What the operator is told of a cold wallet. `descriptor`: BIP 380 and 389, with checksum; an
    account has none."""

    network: str
    address: str
    descriptor: str | None = None


class ColdDesk:
    """A wallet of `node`, which has no peers."""

    def __init__(self, node: UtxoNode, network: str) -> None:
        self._node = node
        self._network = network

    async def wallet(self) -> ColdWallet:
        """Its first address, and the recipe of all of them. Raises NodeFailed."""
        listed: dict[str, Any] = await self._node.rpc("listdescriptors")
        receive = next(
            (
                item["desc"].partition("#")[0]
                for item in listed["descriptors"]
                if item["active"] and not item["internal"] and item["desc"].startswith("wpkh(")
            ),
            None,
        )
        if receive is None or BRANCHES not in receive:
            raise NodeFailed(f"{self._node.name}: a wallet without a P2WPKH descriptor")
        both = receive.replace(BRANCHES, "/<0;1>/*")
        checksum = (await self._node.rpc("getdescriptorinfo", both))["checksum"]
        [address] = await self._node.rpc(
            "deriveaddresses", (await self._node.rpc("getdescriptorinfo", receive))["descriptor"],
            [0, 0],
        )  # fmt: skip
        return ColdWallet(network=self._network, address=address, descriptor=f"{both}#{checksum}")

    async def sign(self, psbt: str) -> str:
        """A PSBT (base64), signed by this wallet. Raises NodeFailed when that is not all."""
        answer = await self._node.rpc("walletprocesspsbt", psbt)
        if not answer["complete"]:
            raise NodeFailed(f"{self._node.name}: the wallet could not sign all of it")
        signed: str = answer["psbt"]
        return signed
