"""A second implementation that reads signed UTXO transactions: bitcoinlib, tests only (GPL).

Its import leaves a file open and warns; that is its own fault, not ours, and is silenced here only.
"""

import warnings
from dataclasses import dataclass

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from bitcoinlib.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondReading:
    """What the second implementation found in raw bytes."""

    txid: str
    is_verified: bool
    outputs: list[tuple[bytes, int]]


def outpoints_of(raw: bytes) -> list[tuple[str, int]]:
    """The coins that a tx spends, in order."""
    tx = Transaction.parse(raw, network="testnet")
    return [(item.prev_txid.hex(), int(item.output_n_int)) for item in tx.inputs]


def read_p2wpkh(raw: bytes, amounts: list[int]) -> SecondReading:
    """Parse a signed tx and verify every signature against the spent amounts (satoshi)."""
    tx = Transaction.parse(raw, network="testnet")
    for item, amount in zip(tx.inputs, amounts, strict=True):
        item.value = amount
    tx.update_totals()
    return SecondReading(
        txid=str(tx.txid),
        is_verified=bool(tx.verify()),
        outputs=[(bytes(item.lock_script), int(item.value)) for item in tx.outputs],
    )
