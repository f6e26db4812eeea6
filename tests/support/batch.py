"""The batch contract of `contracts/`, deployed and called on a dev node, and read by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import decode
from eth_utils.crypto import keccak

from gateway.sandbox.nodes import Anvil
from tests.support import evm

NATIVE = "0x" + "00" * 20
PAY = "pay(bytes32,address,bytes32[])"
LEG_TOPIC = "0x" + keccak(text="Leg(bytes32,uint256,address,uint256,bool)").hex()
GAS_MAX = 15_000_000


@dataclass(frozen=True, slots=True)
class Leg:
    """One `Leg` event as a stranger decodes it."""

    index: int
    to: str
    amount: int
    is_ok: bool


def leg(to: str, amount: int) -> bytes:
    """A leg as the contract takes it: 20 bytes of receiver, 12 of amount."""
    return bytes.fromhex(to[2:]) + amount.to_bytes(12, "big")


def fresh(number: int) -> str:
    """An address that nobody uses."""
    return "0x" + keccak(text=f"receiver {number}")[-20:].hex()


async def deploy_for(node: Anvil, owner: str) -> str:
    """A `BatchPayer` of `owner`, deployed by the node's first account and mined."""
    data = evm.load_build("BatchPayer").bytecode + owner[2:].lower().rjust(64, "0")
    txid = await node.transact(to=None, data=data)
    await node.mine()
    receipt = await node.rpc("eth_getTransactionReceipt", txid)
    address: str = receipt["contractAddress"]
    return address


async def call(
    node: Anvil, to: str, data: str, *, sender: str | None = None, gas: int = GAS_MAX
) -> dict[str, Any]:
    """Send and mine a call with a gas limit of its own, so that a failing one is mined too."""
    source = sender or (await node.accounts())[0]
    txid = await node.rpc(
        "eth_sendTransaction", {"from": source, "to": to, "data": data, "gas": hex(gas)}
    )
    await node.mine()
    receipt: dict[str, Any] = await node.rpc("eth_getTransactionReceipt", txid)
    return receipt


async def pay(
    node: Anvil,
    payer: str,
    legs: Sequence[bytes],
    *,
    token: str = NATIVE,
    batch_id: int = 1,
    sender: str | None = None,
    gas: int = GAS_MAX,
) -> dict[str, Any]:
    """The receipt of a batch."""
    data = evm.call_data(PAY, batch_id.to_bytes(32, "big"), token, list(legs))
    return await call(node, payer, data, sender=sender, gas=gas)


def legs_of(receipt: dict[str, Any]) -> list[Leg]:
    """The `Leg` events of a receipt, in order."""
    found = []
    for log in receipt["logs"]:
        if log["topics"][0] == LEG_TOPIC:
            data = bytes.fromhex(log["data"][2:])
            found.append(Leg(*decode(["uint256", "address", "uint256", "bool"], data)))
    return found


async def balance(node: Anvil, holder: str, *, token: str = NATIVE) -> int:
    """Native or token balance at the tip."""
    if token == NATIVE:
        return int(await node.rpc("eth_getBalance", holder, "latest"), 16)
    data = evm.call_data("balanceOf(address)", holder)
    return int(await node.rpc("eth_call", {"to": token, "data": data}, "latest"), 16)


def code_hash() -> str:
    """Keccak of the runtime code of the committed build."""
    code = evm.load_build("BatchPayer").deployed_bytecode
    return "0x" + keccak(bytes.fromhex(code[2:])).hex()


async def place(node: Anvil, name: str, address: str, *, owner: str | None = None) -> None:
    """Put a contract's code at an address; of a `BatchPayer` with this owner in its slot 0."""
    await node.rpc("anvil_setCode", address, evm.load_build(name).deployed_bytecode)
    if owner is not None:
        slot = "0x" + owner[2:].lower().rjust(64, "0")
        await node.rpc("anvil_setStorageAt", address, "0x" + "00" * 32, slot)
    await node.mine()
