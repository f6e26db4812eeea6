"""What comes back from the owner of a cold account: a signed EIP-1559 transaction.

Pure. The uploaded bytes are compared field by field with the stored payload, the signature must be
that of the cold account over it, and the transaction that is sent is put together here from the
payload and that signature (EIP-1559, EIP-2). A contract account cannot sign this way.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import rlp  # type: ignore[import-untyped]
from coincurve import PublicKey
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address
from rlp.exceptions import RLPException  # type: ignore[import-untyped]

from watchers.cold_spends import ColdProgress, ColdSignature
from watchers.errors import SignedFileRefused

TYPE: Final = b"\x02"
SIGNED_FIELDS: Final = 12  # nine of the payload, then parity, r, s
FIELDS: Final = (
    "chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "data",
    "accessList",
)  # fmt: skip
HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # EIP-2
SCALAR_BYTES: Final = 32


def transaction_of(unsigned: bytes) -> Mapping[str, str | int]:
    """The payload as programs that sign take it: quantities and data as 0x hex, EIP-55."""
    fields = _fields(unsigned)
    named: dict[str, str | int] = {"type": 2}
    for name, value in zip(FIELDS[:-1], fields, strict=False):
        is_bytes = name in ("to", "data")
        named[name] = "0x" + value.hex() if is_bytes else hex(int.from_bytes(value, "big"))
    return {**named, "to": to_checksum_address(str(named["to"]))}


def read_signatures(
    unsigned: bytes, upload: bytes, *, sender_key: str
) -> tuple[ColdSignature, ...]:
    """The signature of the upload, verified over the stored payload. Raises SignedFileRefused."""
    planned = _fields(unsigned)
    if not upload.startswith(TYPE):
        _refuse(
            "not_a_signed_file",
            "not a signed EIP-1559 transaction",
            remedy="export the raw signed transaction in hex (0x02...)",
        )
    try:
        given: Any = rlp.decode(upload[len(TYPE) :])
    except (RLPException, ValueError, IndexError, RecursionError) as error:
        raise SignedFileRefused(
            "truncated", "the transaction is cut short or damaged", remedy="export it again, whole"
        ) from error
    if not isinstance(given, list) or len(given) != SIGNED_FIELDS:
        _refuse("no_signature", "the transaction has no signature", remedy="sign it, then export")
    for name, there, here in zip(FIELDS, given, planned, strict=False):
        if there != here:
            code = "other_transaction" if name in ("chainId", "nonce") else "not_the_plan"
            _refuse(
                code, f"its {name} is not that of the plan", remedy="sign the exported transaction"
            )
    signature = _signature(given[len(FIELDS) :])
    if _signer(unsigned, signature) != sender_key:
        _refuse(
            "foreign_key",
            "it is not signed by the cold account, or not over this transaction",
            remedy="sign with the account that is configured as cold",
        )
    public = bytes.fromhex(sender_key[2:])
    return (ColdSignature(input_index=0, public_key=public, signature=signature),)


def assemble(
    unsigned: bytes, signatures: Sequence[ColdSignature], *, sender_key: str
) -> ColdProgress:
    """The transaction once the account has signed."""
    found = [item for item in signatures if item.public_key.hex() == sender_key[2:]]
    if not found:
        return ColdProgress(raw=None, txid=None, needed=1, signed_by=(), waits_for=(sender_key,))
    signature = found[0].signature
    numbers = [signature[-1:], signature[:SCALAR_BYTES], signature[SCALAR_BYTES:-1]]
    tail = [number.lstrip(b"\x00") for number in numbers]
    raw = TYPE + bytes(rlp.encode([*_fields(unsigned), *tail]))
    return ColdProgress(
        raw=raw,
        txid="0x" + keccak(raw).hex(),
        needed=1,
        signed_by=(sender_key,),
        waits_for=(),
    )


def _fields(unsigned: bytes) -> list[Any]:
    fields: list[Any] = rlp.decode(unsigned[len(TYPE) :])
    return fields


def _signature(tail: Sequence[Any]) -> bytes:
    """r, s and parity as 65 bytes; canonical numbers with a low s only."""
    if any(not isinstance(item, bytes) or len(item) > SCALAR_BYTES for item in tail):
        _refuse_signature()
    parity, r, s = tail
    is_canonical = not any(item.startswith(b"\x00") for item in tail)
    if parity not in (b"", b"\x01") or not is_canonical or not r or not s:
        _refuse_signature()
    if int.from_bytes(s, "big") > HALF_ORDER:
        _refuse_signature()
    scalars = r.rjust(SCALAR_BYTES, b"\x00") + s.rjust(SCALAR_BYTES, b"\x00")
    return bytes(scalars + (parity or b"\x00"))


def _signer(unsigned: bytes, signature: bytes) -> str:
    try:
        public = PublicKey.from_signature_and_message(signature, keccak(unsigned), hasher=None)
    except ValueError:
        _refuse_signature()
    return "0x" + keccak(public.format(compressed=False)[1:])[12:].hex()


def _refuse_signature() -> NoReturn:
    _refuse("bad_signature", "its signature is none", remedy="sign the exported transaction again")


def _refuse(code: str, reason: str, *, remedy: str) -> NoReturn:
    raise SignedFileRefused(code, reason, remedy=remedy)
