"""The collector of `contracts/` on a dev node, and deposit accounts that delegate to it.

Keys here are hashes of public words, and txs are signed by eth-account: nothing of the signer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from gateway.sandbox.nodes import Anvil
from tests.support import evm

FACTORY = "0x4e59b44847b379578588920cA78FbF26c0B4956C"
COLLECT = "collect(address,bytes32[])"
GIVE = "give(address,uint256)"
GAS_MAX = 15_000_000
MAX_FEE = 10**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A collector with its two accounts: `sender` alone may call it, `hot` alone is paid."""

    node: Anvil
    address: str
    hot: str
    sender: LocalAccount
    chain_id: int


def account(name: str) -> LocalAccount:
    """An account whose key everybody knows."""
    made: LocalAccount = Account.from_key(keccak(text=f"public test account {name}"))
    return made


def leg(deposit: str, amount: int) -> bytes:
    """20 bytes of deposit address, 12 of amount."""
    return bytes.fromhex(deposit[2:]) + amount.to_bytes(12, "big")


async def open_desk(node: Anvil, *, hot: str | None = None) -> Desk:
    """Deploy by the public factory, as anybody may."""
    sender = account("gas")
    hot = hot or account("hot").address
    await node.set_balance(sender.address, 10**20)
    creation = bytes.fromhex(evm.load_build("Collector").bytecode[2:])
    creation += encode(["address", "address"], [hot, sender.address])
    data = "0x" + (bytes(32) + creation).hex()
    await node.transact(to=FACTORY, data=data)
    await node.mine()
    made = keccak(b"\xff" + bytes.fromhex(FACTORY[2:]) + bytes(32) + keccak(creation))[-20:].hex()
    assert await node.rpc("eth_getCode", "0x" + made, "latest") != "0x"
    chain_id = int(await node.rpc("eth_chainId"), 16)
    return Desk(
        node=node,
        address=to_checksum_address("0x" + made),
        hot=hot,
        sender=sender,
        chain_id=chain_id,
    )


async def nonce_of(node: Anvil, address: str) -> int:
    """The next number of an account."""
    return int(await node.rpc("eth_getTransactionCount", address, "latest"), 16)


def authorise(desk: Desk, deposit: LocalAccount, nonce: int, **changes: Any) -> Any:
    """A signed authorisation (EIP-7702)."""
    fields = {"chainId": desk.chain_id, "address": desk.address, "nonce": nonce, **changes}
    return deposit.sign_authorization(fields)


async def send(
    node: Anvil, sender: LocalAccount, to: str, *, chain_id: int, **fields: Any
) -> dict[str, Any]:
    """Sign, send and mine; the receipt."""
    tx: dict[str, Any] = {
        "to": to_checksum_address(to),
        "value": 0,
        "gas": GAS_MAX,
        "maxFeePerGas": MAX_FEE,
        "maxPriorityFeePerGas": 1,
        "chainId": chain_id,
        "nonce": await nonce_of(node, sender.address),
        **fields,
    }
    raw = sender.sign_transaction(tx).raw_transaction
    txid = await node.rpc("eth_sendRawTransaction", "0x" + bytes(raw).hex())
    await node.mine()
    receipt: dict[str, Any] = await node.rpc("eth_getTransactionReceipt", txid)
    return receipt


async def collect(
    desk: Desk,
    token: str,
    legs: Sequence[bytes],
    *,
    authorisations: Sequence[Any] = (),
    sender: LocalAccount | None = None,
    gas: int = GAS_MAX,
) -> dict[str, Any]:
    """The receipt of a collect."""
    fields: dict[str, Any] = {"data": evm.call_data(COLLECT, token, list(legs)), "gas": gas}
    if authorisations:
        fields["authorizationList"] = list(authorisations)
    return await send(
        desk.node, sender or desk.sender, desk.address, chain_id=desk.chain_id, **fields
    )
