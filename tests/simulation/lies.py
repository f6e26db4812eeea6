"""What one node of three may say without being believed."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.support.proxy import Fault, LyingNode, Refuse

Lie = Callable[[LyingNode, int], None]
"""Makes a node lie; the height is that of the tip when it begins."""


def _by(fault: Fault) -> Lie:
    def tell(node: LyingNode, height: int) -> None:
        node.faults.append(fault)

    return tell


def _down(node: LyingNode, height: int) -> None:
    node.status = 503


def _nonsense(node: LyingNode, height: int) -> None:
    node.body = b"<html>502</html>"


def _cut(node: LyingNode, height: int) -> None:
    node.cut_after = 0


def _other_ids(node: LyingNode, height: int) -> None:
    node.shift_ids = 1


def _no_last_output(method: str, params: list[Any], result: Any) -> Any:
    """The last output of every tx is left out; the raw bytes stay."""
    if method != "getblock" or not isinstance(result, dict):
        return result
    txs = [tx | {"vout": tx["vout"][:-1]} if isinstance(tx, dict) else tx for tx in result["tx"]]
    return result | {"tx": txs}


def _no_last_tx(method: str, params: list[Any], result: Any) -> Any:
    if method == "getblock" and isinstance(result, dict):
        return result | {"tx": result["tx"][:-1], "nTx": result["nTx"] - 1}
    return result


def _no_mempool(method: str, params: list[Any], result: Any) -> Any:
    return [] if method == "getrawmempool" else result


def _unknown_txs(method: str, params: list[Any], result: Any) -> Any:
    """No tx was ever seen here."""
    if method == "getrawtransaction":
        raise Refuse(-5, "No such mempool or blockchain transaction")
    return result


def _other_genesis(method: str, params: list[Any], result: Any) -> Any:
    return "ab" * 32 if method == "getblockhash" and params[0] == 0 else result


def _stops(node: LyingNode, height: int) -> None:
    """Stays at its tip; what it says of older blocks is true."""

    def fault(method: str, params: list[Any], result: Any) -> Any:
        if method == "getblockhash" and params[0] > height:
            raise Refuse(-8, "Block height out of range")
        return result

    node.faults.append(fault)


DECEITS = frozenset(
    {"no_last_output", "no_last_tx", "flipped", "no_receipts", "no_logs", "more_value"}
)
"""Lies about what a block holds: whoever is asked for the block is caught."""

EVERYWHERE: Mapping[str, Lie] = {
    "down": _down,
    "nonsense": _nonsense,
    "cut": _cut,
    "other_ids": _other_ids,
}
UTXO: Mapping[str, Lie] = {
    **EVERYWHERE,
    "no_last_output": _by(_no_last_output),
    "no_last_tx": _by(_no_last_tx),
    "no_mempool": _by(_no_mempool),
    "unknown_txs": _by(_unknown_txs),
    "other_genesis": _by(_other_genesis),
    "stops": _stops,
}


def _flipped(method: str, params: list[Any], result: Any) -> Any:
    if method == "eth_getBlockReceipts" and isinstance(result, list):
        return [item | {"status": "0x0"} for item in result]
    return result


def _no_receipts(method: str, params: list[Any], result: Any) -> Any:
    return [] if method == "eth_getBlockReceipts" else result


def _no_logs(method: str, params: list[Any], result: Any) -> Any:
    if method == "eth_getBlockReceipts" and isinstance(result, list):
        return [item | {"logs": []} for item in result]
    return result


def _more_value(method: str, params: list[Any], result: Any) -> Any:
    if method != "eth_getBlockByHash" or not isinstance(result, dict):
        return result
    txs = [
        tx | {"value": hex(int(tx["value"], 16) * 100)} if isinstance(tx, dict) else tx
        for tx in result["transactions"]
    ]
    return result | {"transactions": txs}


def _other_chain(method: str, params: list[Any], result: Any) -> Any:
    return "0x539" if method == "eth_chainId" else result


def _null_txs(method: str, params: list[Any], result: Any) -> Any:
    is_of_txs = method in ("eth_getTransactionByHash", "eth_getTransactionReceipt")
    return None if is_of_txs else result


EVM: Mapping[str, Lie] = {
    **EVERYWHERE,
    "flipped": _by(_flipped),
    "no_receipts": _by(_no_receipts),
    "no_logs": _by(_no_logs),
    "more_value": _by(_more_value),
    "other_chain": _by(_other_chain),
    "null_txs": _by(_null_txs),
}
