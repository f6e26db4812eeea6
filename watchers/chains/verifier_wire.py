"""What the two ends of a verifier's socket say: pickles, with short forms of a block's parts.

A block holds thousands of these parts. By default each of them is written field by field with the
names, and read back in Python: a third of what a full block cost the watcher.
"""

import copyreg
import io
import pickle  # both ends are this program, of one version, over a socket that nobody else has
from collections.abc import Callable
from typing import Any

from watchers.chain import AccountSend, Outpoint, Spend, Transfer


def _transfer(*values: Any) -> Transfer:
    txid, position, asset, to_key, amount_minor, is_coinbase = values
    return Transfer(
        txid=txid,
        position=position,
        asset=asset,
        to_key=to_key,
        amount_minor=amount_minor,
        is_coinbase=is_coinbase,
    )


def _spend(txid: str, spent_txid: str, vout: int) -> Spend:
    return Spend(txid=txid, outpoint=Outpoint(txid=spent_txid, vout=vout))


def _send(*values: Any) -> AccountSend:
    txid, sender_key, nonce, is_success, fee_minor, transfers_out, batch, collected = values
    return AccountSend(
        txid=txid,
        sender_key=sender_key,
        nonce=nonce,
        is_success=is_success,
        fee_minor=fee_minor,
        transfers_out=transfers_out,
        batch=batch,
        collected=collected,
    )


def _of_transfer(item: Transfer) -> tuple[Callable[..., Transfer], tuple[Any, ...]]:
    return _transfer, (
        item.txid,
        item.position,
        item.asset,
        item.to_key,
        item.amount_minor,
        item.is_coinbase,
    )


def _of_spend(item: Spend) -> tuple[Callable[..., Spend], tuple[Any, ...]]:
    return _spend, (item.txid, item.outpoint.txid, item.outpoint.vout)


def _of_send(item: AccountSend) -> tuple[Callable[..., AccountSend], tuple[Any, ...]]:
    return _send, (
        item.txid,
        item.sender_key,
        item.nonce,
        item.is_success,
        item.fee_minor,
        item.transfers_out,
        item.batch,
        item.collected,
    )


_SHORT: dict[type, Callable[[Any], Any]] = {
    **copyreg.dispatch_table,
    Transfer: _of_transfer,
    Spend: _of_spend,
    AccountSend: _of_send,
}


def packed(value: object) -> bytes:
    """`value` as bytes for the other end. PickleError, TypeError or AttributeError for what has
    no pickle."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = _SHORT
    pickler.dump(value)
    return buffer.getvalue()


def unpacked(data: bytes | bytearray) -> Any:
    """What the other end packed."""
    return pickle.loads(data)
