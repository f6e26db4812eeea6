"""A Safe's refill: the one call of a pinned Safe that the signer makes (CONTRACT 8, ADR 0040).

The signer reads the calldata with its own code. Owners of the Safe have signed it elsewhere; this
signature only pays its gas, and only for one transfer to a hot lane of ours: a CALL, without a
refund to anybody, whose every word is where it has to be. Whether the owners' signatures hold is
for the Safe to say; one that does not moves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from signer.errors import RefusalCode, Refused

if TYPE_CHECKING:
    from signer.settings import AssetSettings

EXEC_SELECTOR = bytes.fromhex("6a761202")
"""execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)"""
TRANSFER_SELECTOR = bytes.fromhex("a9059cbb")  # transfer(address,uint256)
TRANSFER_BYTES = 68
WORD = 32
SIGNATURE_BYTES = 65
SIGNATURES_MAX = 50
CALL_GAS = 70_000  # what the Safe itself uses beside the transfer and each signature
SIGNATURE_GAS = 10_000
_HEAD_WORDS = 10
_DATA_AT = _HEAD_WORDS * WORD
_BY_KEY = (27, 28)  # a signature of typed data; 0, 1 and above 30 ask contracts or other hashes


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeCall:
    """A decoded call: what the Safe pays to whom, and how many of its owners signed."""

    asset: str
    to: bytes
    amount_minor: int
    signatures: int

    @property
    def gas_beside(self) -> int:
        """What it may use beside the transfer."""
        return CALL_GAS + SIGNATURE_GAS * self.signatures


def decode_exec(
    data: bytes, value: int, assets: Mapping[str, "AssetSettings"], *, safe: bytes
) -> SafeCall:
    """The one call; raises Refused (`forbidden_shape`)."""
    body = data[len(EXEC_SELECTOR) :]
    if not data.startswith(EXEC_SELECTOR) or value != 0 or len(body) < _DATA_AT:
        raise _bad("a call of the Safe that executes nothing, or that gives it coin")
    words = [body[at : at + WORD] for at in range(0, _DATA_AT, WORD)]
    inner, end = _bytes_at(body, _DATA_AT)
    signatures, last = _bytes_at(body, end)
    is_laid_out = (
        not any(words[0][:12])
        and _number(words[2]) == _DATA_AT
        and _number(words[9]) == end
        and last == len(body)
    )
    if not is_laid_out:
        raise _bad("a call that is not laid out canonically")
    if any(_number(word) for word in words[3:9]):
        raise _bad("a delegate call, or a refund to somebody")
    count, rest = divmod(len(signatures), SIGNATURE_BYTES)
    kinds = signatures[SIGNATURE_BYTES - 1 :: SIGNATURE_BYTES]
    if rest or not 1 <= count <= SIGNATURES_MAX or any(kind not in _BY_KEY for kind in kinds):
        raise _bad("1 to 50 signatures of owners' keys")
    target, amount = words[0][12:], _number(words[1])
    if target == safe:
        raise _bad("the Safe's own settings")
    asset, to, moved = _transfer(target, amount, inner, assets)
    return SafeCall(asset=asset, to=to, amount_minor=moved, signatures=count)


def _transfer(
    target: bytes, value: int, inner: bytes, assets: Mapping[str, "AssetSettings"]
) -> tuple[str, bytes, int]:
    token = next((item for item in assets.values() if item.contract == target), None)
    if not inner and token is None and value:
        native = next(item for item in assets.values() if item.contract is None)
        return native.asset, target, value
    is_transfer = len(inner) == TRANSFER_BYTES and inner.startswith(TRANSFER_SELECTOR)
    amount = _number(inner[36:])
    if token is None or not is_transfer or value or any(inner[4:16]) or not amount:
        raise _bad("it makes no transfer of a listed asset")
    return token.asset, inner[16:36], amount


def _bytes_at(body: bytes, at: int) -> tuple[bytes, int]:
    """(bytes of a dynamic argument, where it ends), padded with zeros to whole words."""
    size = _number(body[at : at + WORD])
    start, end = at + WORD, at + WORD + -(-size // WORD) * WORD
    if size > len(body) or end > len(body) or any(body[start + size : end]):
        raise _bad("a call that is not laid out canonically")
    return body[start : start + size], end


def _number(word: bytes) -> int:
    return int.from_bytes(word, "big")


def _bad(reason: str) -> Refused:
    return Refused(RefusalCode.FORBIDDEN_SHAPE, reason)
