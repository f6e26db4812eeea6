"""What an unsigned tx of ours spends and keeps, read from its own bytes.

For books that are written again: nothing but the bytes is left. Pure; it reads only what this
house builds (BIP 174 version 0 with a version 2 tx, EIP-1559 with a transfer, a collect) and raises
UnreadableTx for anything else. It decides nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.payouts.same_tx import items, list_body, unsigned_tx
from watchers.chain import Outpoint

_TYPE_1559 = b"\x02"
_TYPE_7702 = b"\x04"  # of a collect alone
_DATA = 7  # the place of a call's data in the EIP-1559 list; the value stands before it
_WORD = 32  # bytes of one argument (Solidity ABI)
_ADDRESS = 20
_HEX = "0x"
_TRANSFER = bytes.fromhex("a9059cbb")  # transfer(address,uint256), EIP-20
_TRANSFER_WORDS = 2
_PAY = bytes.fromhex("fb10ba49")  # pay(bytes32,address,bytes32[]) of the batch contract
_PAY_HEAD = 4  # batch id, token, where the legs begin, how many
_LEGS_AT = 96
_COLLECT = bytes.fromhex("35927669")  # collect(address,bytes32[]) of the collector
_COLLECT_HEAD = 3  # token, where the legs begin, how many
_COLLECT_LEGS_AT = 64


class UnreadableTx(ValueError):
    """Not a tx that this house builds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UtxoParts:
    """Inputs in order, and of each output in order its amount in minor units and its script."""

    inputs: tuple[Outpoint, ...]
    amounts: tuple[int, ...]
    scripts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPays:
    """(receiver key, minor units) of each payment in order; `token`: its contract, None for the
    native coin. `batch_id`: the batch contract pays, and each is a leg; None: the sender does."""

    legs: tuple[tuple[str, int], ...]
    token: str | None = None
    batch_id: bytes | None = None


def utxo_parts(psbt: bytes) -> UtxoParts:
    """Of the unsigned tx in a PSBT; raises UnreadableTx."""
    try:
        reader = _Reader(unsigned_tx(psbt))
        reader.take(4)  # version
        inputs = tuple(_input(reader) for _ in range(reader.count()))
        outputs = tuple(_output(reader) for _ in range(reader.count()))
        reader.take(4)  # lock time
    except (IndexError, ValueError) as error:
        raise UnreadableTx("not a PSBT of an unsigned tx") from error
    if reader.rest or not inputs or not outputs:
        raise UnreadableTx("not a PSBT of an unsigned tx")
    return UtxoParts(
        inputs=inputs,
        amounts=tuple(amount for amount, _ in outputs),
        scripts=tuple(script for _, script in outputs),
    )


def account_nonce(payload: bytes) -> int:
    """The nonce of an unsigned EIP-1559 or EIP-7702 payload; raises UnreadableTx."""
    if not payload.startswith((_TYPE_1559, _TYPE_7702)):
        raise UnreadableTx("not an EIP-1559 payload")
    try:
        reader = _Reader(list_body(payload[1:]))
        _item(reader)  # the chain's id
        return int.from_bytes(_item(reader), "big")
    except (IndexError, ValueError) as error:
        raise UnreadableTx("not an EIP-1559 payload") from error


def account_pays(payload: bytes, *, batch_contract: str | None) -> AccountPays:
    """Whom an unsigned EIP-1559 payload pays: by itself, by one ERC-20 `transfer`, or by `pay` of
    the batch contract. Raises UnreadableTx for every other call."""
    if not payload.startswith(_TYPE_1559):
        raise UnreadableTx("not an EIP-1559 payload")
    try:
        reader = _Reader(list_body(payload[1:]))
        *_, to, coin, data = (_item(reader) for _ in range(_DATA + 1))
    except (IndexError, ValueError) as error:
        raise UnreadableTx("not an EIP-1559 payload") from error
    target, value = _HEX + to.hex(), int.from_bytes(coin, "big")
    if len(to) != _ADDRESS:
        raise UnreadableTx("a tx to nowhere")
    if batch_contract is not None and target == batch_contract:
        return _batch(data, value)
    if not data:
        return AccountPays(legs=((target, value),))
    words = _words(data, _TRANSFER)
    if value or len(words) != _TRANSFER_WORDS or any(words[0][:-_ADDRESS]):
        raise UnreadableTx("a call that is no transfer")
    amount = int.from_bytes(words[1], "big")
    return AccountPays(token=target, legs=((_HEX + words[0][-_ADDRESS:].hex(), amount),))


def collect_takes(payload: bytes, *, collector: str | None) -> AccountPays:
    """What an unsigned collect takes: its token, and as legs (deposit key, minor units) in order.
    Raises UnreadableTx for anything else."""
    if not payload.startswith((_TYPE_1559, _TYPE_7702)):
        raise UnreadableTx("not a payload of a collect")
    try:
        reader = _Reader(list_body(payload[1:]))
        *_, to, coin, data = (_item(reader) for _ in range(_DATA + 1))
    except (IndexError, ValueError) as error:
        raise UnreadableTx("not a payload of a collect") from error
    words = _words(data, _COLLECT)
    if collector is None or _HEX + to.hex() != collector or any(coin):
        raise UnreadableTx("not a call of the collector")
    if len(words) <= _COLLECT_HEAD or any(words[0][:-_ADDRESS]):
        raise UnreadableTx("a call of the collector that takes nothing")
    at, count = (int.from_bytes(word, "big") for word in words[1:_COLLECT_HEAD])
    if at != _COLLECT_LEGS_AT or count != len(words) - _COLLECT_HEAD:
        raise UnreadableTx("a collect that is not laid out canonically")
    return AccountPays(token=_HEX + words[0][-_ADDRESS:].hex(), legs=_legs(words[_COLLECT_HEAD:]))


def authorised_nonces(payload: bytes) -> tuple[int, ...]:
    """At which number of its own each account delegates by an unsigned payload, in order
    (EIP-7702); raises UnreadableTx."""
    if not payload.startswith(_TYPE_7702):
        return ()
    try:
        given = items(list_body(items(list_body(payload[1:]))[-1]))
        return tuple(_third_integer(list_body(item)) for item in given)
    except (IndexError, ValueError) as error:
        raise UnreadableTx("not an EIP-7702 payload") from error


def _third_integer(body: bytes) -> int:
    reader = _Reader(body)
    *_, last = (_item(reader) for _ in range(3))  # chain id, contract, number
    return int.from_bytes(last, "big")


def _legs(words: Sequence[bytes]) -> tuple[tuple[str, int], ...]:
    """(key, minor units) of each: 20 bytes of account, 12 of amount."""
    return tuple(
        (_HEX + word[:_ADDRESS].hex(), int.from_bytes(word[_ADDRESS:], "big")) for word in words
    )


def _batch(data: bytes, value: int) -> AccountPays:
    """`pay(bytes32 batchId, address token, bytes32[] legs)`, laid out as it is built here."""
    words = _words(data, _PAY)
    if value or len(words) <= _PAY_HEAD or any(words[1][:-_ADDRESS]):
        raise UnreadableTx("a call of the batch contract that is no payment")
    at, count = (int.from_bytes(word, "big") for word in words[2:_PAY_HEAD])
    if at != _LEGS_AT or count != len(words) - _PAY_HEAD:
        raise UnreadableTx("a batch that is not laid out canonically")
    token = words[1][-_ADDRESS:]
    return AccountPays(
        batch_id=words[0],
        token=_HEX + token.hex() if any(token) else None,
        legs=_legs(words[_PAY_HEAD:]),
    )


def _words(data: bytes, selector: bytes) -> list[bytes]:
    body = data[len(selector) :]
    if not data.startswith(selector) or len(body) % _WORD:
        raise UnreadableTx("a call that this house does not make")
    return [body[at : at + _WORD] for at in range(0, len(body), _WORD)]


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


def _output(reader: _Reader) -> tuple[int, bytes]:
    return reader.number(8), reader.take(reader.count())


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
