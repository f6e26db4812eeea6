"""The committed Solidity builds, and how tests deploy and call them on a dev node."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from gateway.sandbox.nodes import Anvil

CONTRACTS = Path(__file__).resolve().parents[2] / "contracts"


@dataclass(frozen=True, slots=True)
class Build:
    """One compiled contract."""

    name: str
    abi: Sequence[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str
    source: Path
    source_sha256: str

    def is_fresh(self) -> bool:
        """Whether the source still has the hash that was compiled."""
        return hashlib.sha256(self.source.read_bytes()).hexdigest() == self.source_sha256


def load_build(name: str) -> Build:
    """A build by contract name, e.g. `UsdtLike`."""
    raw = json.loads((CONTRACTS / "build" / f"{name}.json").read_text(encoding="utf-8"))
    return Build(
        name=raw["contract"],
        abi=raw["abi"],
        bytecode=raw["bytecode"],
        deployed_bytecode=raw["deployed_bytecode"],
        source=CONTRACTS / raw["source"],
        source_sha256=raw["source_sha256"],
    )


def call_data(signature: str, *values: object) -> str:
    """Calldata of `name(type,...)` with these values, 0x hex."""
    types = signature[signature.index("(") + 1 : -1]
    arguments = encode(types.split(","), values) if types else b""
    return "0x" + (keccak(text=signature)[:4] + arguments).hex()


async def deploy(node: Anvil, name: str) -> str:
    """Deploy a contract from the node's first account and mine it; its address."""
    txid = await node.transact(to=None, data=load_build(name).bytecode)
    await node.mine()
    receipt = await node.rpc("eth_getTransactionReceipt", txid)
    address: str = receipt["contractAddress"]
    return address


async def mint(node: Anvil, token: str, to: str, amount_minor: int) -> None:
    """Mint a `UsdtLike` to an account and mine it."""
    await node.transact(to=token, data=call_data("mint(address,uint256)", to, amount_minor))
    await node.mine()


async def transfer(node: Anvil, token: str, to: str, amount_minor: int) -> str:
    """Send tokens of the node's first account; the txid, not mined yet."""
    return await node.transact(
        to=token, data=call_data("transfer(address,uint256)", to, amount_minor)
    )
