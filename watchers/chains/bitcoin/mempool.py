"""Single txs of a Core-compatible node: verified against their bytes, with their fee rates.

Pure. A txid commits to a tx's bytes, so that no node can tell another sum or receiver under it.
What they pay is the node's word alone, and for an estimate only (R10).
"""

from collections.abc import Mapping

from watchers.chain import MempoolTx, TxOutline
from watchers.chains.bitcoin import decode
from watchers.errors import NodeUnavailable


def reduced(
    answers: Mapping[str, object], entries: Mapping[str, object], *, asset: str
) -> list[MempoolTx]:
    """Verbose `getrawtransaction` and `getmempoolentry` answers by txid. NodeLied when a tx
    contradicts its bytes."""
    return [
        decode.mempool_tx(
            answer, txid=txid, asset=asset, fee_rate_sat_per_kvb=fee_rate(entries.get(txid))
        )
        for txid, answer in answers.items()
    ]


def outline(value: object, entry: object | None, *, txid: str, asset: str) -> TxOutline:
    """A verbose `getrawtransaction` answer with its `getmempoolentry`, where it has one."""
    tx = decode.mempool_tx(value, txid=txid, asset=asset)
    return TxOutline(txid=txid, transfers=tx.transfers, fee_rate=fee_rate(entry))


def fee_rate(entry: object) -> int | None:
    """Sat per kvB at which miners take it: its own, or that of it and what it waits for, whichever
    is less. None for a shape that is not known."""
    try:
        row = decode.mapping(entry, "getmempoolentry")
        fees = decode.mapping(row.get("fees"), "fees")
        pairs = ((fees.get("base"), row.get("vsize")), (fees.get("ancestor"), row["ancestorsize"]))
        return min(
            decode.amount_minor(fee) * 1_000 // decode.integer(size, "size") for fee, size in pairs
        )
    except (NodeUnavailable, KeyError, ZeroDivisionError):
        return None
