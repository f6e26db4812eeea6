"""What an unsigned tx of ours spends and keeps, read from its own bytes.

For books that are written again: nothing but the bytes is left. Pure; it reads only what this
house builds (BIP 174 version 0 with a version 2 tx, EIP-1559 with a transfer) and raises
UnreadableTx for anything else. It decides nothing.
"""

from dataclasses import dataclass

from gateway.payouts.same_tx import list_body, unsigned_tx
from watchers.chain import Outpoint

_TYPE_1559 = b"\x02"
_DATA = 7  # the place of a call's data in the EIP-1559 list; the value stands before it
_WORD = 32  # bytes of one argument (Solidity ABI)


class UnreadableTx(ValueError):
    """Not a tx that this house builds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UtxoParts:
    """Inputs in order, and the amount of each output in order, minor units."""

    inputs: tuple[Outpoint, ...]
    amounts: tuple[int, ...]


def utxo_parts(psbt: bytes) -> UtxoParts:
    """Of the unsigned tx in a PSBT; raises UnreadableTx."""
    try:
        reader = _Reader(unsigned_tx(psbt))
        reader.take(4)  # version
        inputs = tuple(_input(reader) for _ in range(reader.count()))
        amounts = tuple(_output(reader) for _ in range(reader.count()))
        reader.take(4)  # lock time
    except (IndexError, ValueError) as error:
        raise UnreadableTx("not a PSBT of an unsigned tx") from error
    if reader.rest or not inputs or not amounts:
        raise UnreadableTx("not a PSBT of an unsigned tx")
    return UtxoParts(inputs=inputs, amounts=amounts)


def account_nonce(payload: bytes) -> int:
    """The nonce of an unsigned EIP-1559 payload; raises UnreadableTx."""
    if not payload.startswith(_TYPE_1559):
        raise UnreadableTx("not an EIP-1559 payload")
    try:
        reader = _Reader(list_body(payload[1:]))
        _item(reader)  # the chain's id
        return int.from_bytes(_item(reader), "big")
    except (IndexError, ValueError) as error:
        raise UnreadableTx("not an EIP-1559 payload") from error


def account_amount(payload: bytes) -> int:
    """What an unsigned EIP-1559 payload transfers: its value, or the last argument of its call.

    Raises UnreadableTx.
    """
    if not payload.startswith(_TYPE_1559):
        raise UnreadableTx("not an EIP-1559 payload")
    try:
        reader = _Reader(list_body(payload[1:]))
        fields = [_item(reader) for _ in range(_DATA + 1)]
    except (IndexError, ValueError) as error:
        raise UnreadableTx("not an EIP-1559 payload") from error
    return int.from_bytes(fields[_DATA][-_WORD:] or fields[_DATA - 1], "big")


class _Reader:
    """Takes bytes from the front; raises ValueError past the end."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, size: int) -> bytes:
        part, self.rest = self.rest[:size], self.rest[size:]
        if len(part) != size:
            raise ValueError("cut short")
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def count(self) -> int:
        """A CompactSize."""
        first = self.number(1)
        width = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(first)
        return first if width is None else self.number(width)


def _input(reader: _Reader) -> Outpoint:
    txid, vout = reader.take(32)[::-1].hex(), reader.number(4)
    reader.take(reader.count())  # an unsigned tx's script is empty
    reader.take(4)  # sequence
    return Outpoint(txid=txid, vout=vout)


def _output(reader: _Reader) -> int:
    amount = reader.number(8)
    reader.take(reader.count())
    return amount


def _item(reader: _Reader) -> bytes:
    """The next byte string of an RLP list's body; raises ValueError, also for a list in it."""
    first = reader.number(1)
    if first < 0x80:
        return bytes([first])
    if first >= 0xC0:
        raise ValueError("a list")
    if first <= 0xB7:
        return reader.take(first - 0x80)
    return reader.take(int.from_bytes(reader.take(first - 0xB7), "big"))
