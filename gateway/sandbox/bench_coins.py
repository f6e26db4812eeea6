"""Blocks of a bitcoind that a benchmark fills: txs of a common size and shape, by thousands.

A wallet signs some hundred txs a second and slows down as it grows. These coins are locked by a
script that anyone can meet (P2WSH of `OP_DROP OP_TRUE`), and their witness holds as many bytes as
a signature and a key would. Regtest only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from gateway.sandbox.nodes import Bitcoind

WITNESS_SCRIPT = bytes.fromhex("7551")  # OP_DROP OP_TRUE
SCRIPT = b"\x00\x20" + sha256(WITNESS_SCRIPT).digest()
WITNESS_BYTES = 105  # a DER signature of 72 bytes and a key of 33
FAN_OUT = 2_000  # outputs of one tx, some 86 kB
BRANCHES_PER_BLOCK = 8  # below the size of a block
VALUE = 1_010_000  # satoshi of one coin: a payment, a little change and the fee
PAYMENT = 1_000_000  # 0.01 BTC: playable at one confirmation
FEE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeCoin:
    """An output that anyone can spend."""

    txid: str
    vout: int
    value: int


Output = tuple[int, bytes]
"""Satoshi, scriptPubKey."""


def spend(coin: FreeCoin, outputs: Sequence[Output]) -> tuple[str, str]:
    """A tx of one input: its txid and its bytes in hex (BIP 144)."""
    outpoint = bytes.fromhex(coin.txid)[::-1] + coin.vout.to_bytes(4, "little")
    body = b"\x01" + outpoint + b"\x00" + b"\xfd\xff\xff\xff" + _count(len(outputs))
    for value, script in outputs:
        body += value.to_bytes(8, "little") + _count(len(script)) + script
    version, locktime = (2).to_bytes(4, "little"), bytes(4)
    witness = b"\x02" + _count(WITNESS_BYTES) + bytes(WITNESS_BYTES)
    witness += _count(len(WITNESS_SCRIPT)) + WITNESS_SCRIPT
    stripped = version + body + locktime
    txid = sha256(sha256(stripped).digest()).digest()[::-1].hex()
    return txid, (version + b"\x00\x01" + body + witness + locktime).hex()


def payment(coin: FreeCoin, script: bytes, change: bytes) -> str:
    """A tx that pays `script` and returns the rest, as most do."""
    return spend(coin, [(PAYMENT, script), (coin.value - PAYMENT - FEE, change)])[1]


async def free_coin(node: Bitcoind, value: int) -> FreeCoin:
    """Mine one coin of `value` satoshi that anyone can spend; the node's wallet pays for it."""
    address = (await node.rpc("decodescript", WITNESS_SCRIPT.hex()))["segwit"]["address"]
    txid = await node.send(address, f"{value // 10**8}.{value % 10**8:08d}")
    await node.mine()
    found = await node.rpc("getrawtransaction", txid, True)
    vout = next(out["n"] for out in found["vout"] if out["scriptPubKey"]["hex"] == SCRIPT.hex())
    return FreeCoin(txid=txid, vout=vout, value=value)


async def free_coins(node: Bitcoind, count: int) -> list[FreeCoin]:
    """Mine `count` coins that anyone can spend; the node's wallet pays for them."""
    branches = -(-count // FAN_OUT)
    branch_value = FAN_OUT * VALUE + FAN_OUT * FEE
    trunk = await free_coin(node, branches * branch_value + FEE * FAN_OUT)
    trunk_txid, trunk_hex = spend(trunk, [(branch_value, SCRIPT)] * branches)
    await node.mine_exactly([trunk_hex])
    txs: list[str] = []
    coins: list[FreeCoin] = []
    for branch in range(branches):
        coin = FreeCoin(txid=trunk_txid, vout=branch, value=branch_value)
        branch_txid, branch_hex = spend(coin, [(VALUE, SCRIPT)] * FAN_OUT)
        txs.append(branch_hex)
        coins += [FreeCoin(txid=branch_txid, vout=n, value=VALUE) for n in range(FAN_OUT)]
    for start in range(0, len(txs), BRANCHES_PER_BLOCK):
        await node.mine_exactly(txs[start : start + BRANCHES_PER_BLOCK])
    return coins[:count]


def _count(number: int) -> bytes:
    """A compact size."""
    if number < 0xFD:
        return bytes((number,))
    return b"\xfd" + number.to_bytes(2, "little")
