"""What comes back from the signers of a cold wallet: PSBTs (BIP 174), or a finished transaction.

Pure. An uploaded file is never sent anywhere: only signatures are taken from it, and only those
that verify over the plan that was stored. The transaction is then put together from the plan's own
bytes, so that nothing a signer changed can reach the chain. PSBT maps are read here byte by byte:
the comparison with the plan must not go through a parser that repairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from embit import ec, psbt, script, transaction
from embit.base import EmbitError
from embit.transaction import SIGHASH

from watchers.chains.bitcoin import rawtx
from watchers.cold_spends import ColdProgress, ColdSignature
from watchers.errors import SignedFileRefused

MAGIC: Final = b"psbt\xff"
FILE_BYTES_MAX: Final = 1_000_000  # far above any plan; a file is read in one go
MAP_KEYS_MAX: Final = 10_000

_UNSIGNED_TX, _VERSION = b"\x00", b"\xfb"  # global types
_PARTIAL, _SIGHASH, _SCRIPT_SIG, _WITNESS = 0x02, b"\x03", b"\x07", b"\x08"  # input types
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # SEC 2
_OP_RESERVED: Final = 0x50  # OP_1 is one above it
_DECODE_ERRORS: Final = (EmbitError, ValueError, IndexError, TypeError, RuntimeError, OverflowError)


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of the plan: what is signed, by whom, and how the witness looks."""

    digest: bytes
    publics: tuple[bytes, ...]
    fingerprints: Mapping[bytes, str]
    witness_script: bytes | None

    @property
    def needed(self) -> int:
        return 1 if self.witness_script is None else self.witness_script[0] - _OP_RESERVED


@dataclass(frozen=True, slots=True)
class _Plan:
    tx: bytes
    txid: str
    inputs: tuple[_Input, ...]


def read_signatures(unsigned: bytes, upload: bytes) -> tuple[ColdSignature, ...]:
    """The signatures of a file, each verified over the plan, in order. `unsigned`: the stored PSBT.

    Raises SignedFileRefused; nothing of a file counts when one part of it is wrong.
    """
    plan = _plan(unsigned)
    if len(upload) > FILE_BYTES_MAX:
        _refuse("too_large", "the file is larger than any plan", remedy="send the signed PSBT")
    if upload.startswith(MAGIC):
        found = _of_psbt(plan, upload)
    elif upload[:4] in (b"\x01\x00\x00\x00", b"\x02\x00\x00\x00"):
        found = _of_tx(plan, upload)
    else:
        _refuse(
            "not_a_signed_file",
            "neither a PSBT nor a transaction of this network",
            remedy="export the signed PSBT (binary or base64), or the finished transaction",
        )
    if not found:
        _refuse("no_signature", "the file has no signature", remedy="sign it, then export it again")
    return tuple(sorted(found))


def assemble(unsigned: bytes, signatures: Sequence[ColdSignature]) -> ColdProgress:
    """How far the plan is signed by verified signatures, and the transaction once it is."""
    plan = _plan(unsigned)
    given: list[dict[bytes, bytes]] = [{} for _ in plan.inputs]
    for item in sorted(signatures):
        given[item.input_index].setdefault(item.public_key, item.signature)
    by_input = [
        {wanted.fingerprints[public] for public in wanted.publics if public in had}
        for wanted, had in zip(plan.inputs, given, strict=True)
    ]
    everyone = {name for wanted in plan.inputs for name in wanted.fingerprints.values()}
    signed_by = set.intersection(*by_input)
    is_done = all(len(had) >= wanted.needed for wanted, had in zip(plan.inputs, given, strict=True))
    return ColdProgress(
        raw=_finished(plan, given) if is_done else None,
        txid=plan.txid,
        needed=max(wanted.needed for wanted in plan.inputs),
        signed_by=tuple(sorted(signed_by)),
        waits_for=() if is_done else tuple(sorted(everyone - signed_by)),
    )


def _finished(plan: _Plan, given: Sequence[Mapping[bytes, bytes]]) -> bytes:
    tx = transaction.Transaction.parse(plan.tx)
    for vin, wanted, had in zip(tx.vin, plan.inputs, given, strict=True):
        if wanted.witness_script is None:
            (public,) = wanted.publics
            vin.witness = script.Witness([had[public], public])
            continue
        signers = [public for public in wanted.publics if public in had][: wanted.needed]
        items = [b"", *(had[public] for public in signers), wanted.witness_script]  # BIP 147
        vin.witness = script.Witness(items)
    return bytes(tx.serialize())


def _plan(unsigned: bytes) -> _Plan:
    """Of our own stored PSBT, which is whole by construction."""
    container = psbt.PSBT.parse(unsigned)
    tx = container.tx
    raw = bytes(tx.serialize())
    inputs = []
    for index, scope in enumerate(container.inputs):
        witness = None if scope.witness_script is None else bytes(scope.witness_script.data)
        code = scope.witness_script or script.p2pkh_from_p2wpkh(scope.witness_utxo.script_pubkey)
        origins = {bytes(key.sec()): value for key, value in scope.bip32_derivations.items()}
        publics = tuple(sorted(origins))  # the order of `sortedmulti` (BIP 67)
        inputs.append(
            _Input(
                digest=bytes(tx.sighash_segwit(index, code, scope.witness_utxo.value, SIGHASH.ALL)),
                publics=publics,
                fingerprints={key: bytes(origins[key].fingerprint).hex() for key in publics},
                witness_script=witness,
            )
        )
    return _Plan(raw, rawtx.double_sha256(raw)[::-1].hex(), tuple(inputs))


def _of_psbt(plan: _Plan, upload: bytes) -> list[ColdSignature]:
    reader = _Reader(upload[len(MAGIC) :])
    try:
        top = reader.map()
        tx = top.get(_UNSIGNED_TX)
        if tx is None or int.from_bytes(top.get(_VERSION, b""), "little"):
            _refuse(
                "psbt_version", "not a PSBT of version 0", remedy="export it as BIP 174 version 0"
            )
        if tx != plan.tx:
            _refuse_other(plan, tx)
        scopes = [reader.map() for _ in plan.inputs]
        for _ in rawtx.reduce(plan.tx).outputs:
            reader.map()
    except (ValueError, IndexError) as error:
        raise SignedFileRefused(
            "truncated", "the PSBT is cut short or damaged", remedy="export it again, whole"
        ) from error
    if reader.rest:
        _refuse("damaged", "bytes follow the PSBT", remedy="export it again")
    found: dict[tuple[int, bytes], ColdSignature] = {}
    for index, (wanted, scope) in enumerate(zip(plan.inputs, scopes, strict=True)):
        for item in _of_scope(index, wanted, scope):
            found.setdefault((index, item.public_key), item)
    return list(found.values())


def _of_scope(index: int, wanted: _Input, scope: Mapping[bytes, bytes]) -> list[ColdSignature]:
    sighash = scope.get(_SIGHASH)
    if sighash is not None and int.from_bytes(sighash, "little") != SIGHASH.ALL:
        _refuse_sighash(index)
    if scope.get(_SCRIPT_SIG):
        _refuse_witness(index)
    found = [
        _verified(index, wanted, key[1:], value)
        for key, value in scope.items()
        if key[0] == _PARTIAL
    ]
    if _WITNESS in scope:
        found += _of_witness(index, wanted, _stack(index, scope[_WITNESS]))
    return found


def _of_tx(plan: _Plan, upload: bytes) -> list[ColdSignature]:
    try:
        reduced = rawtx.reduce(upload)
        tx: Any = transaction.Transaction.parse(upload)
    except (rawtx.BadRawTx, *_DECODE_ERRORS) as error:
        raise SignedFileRefused(
            "truncated", "the transaction is cut short or damaged", remedy="export it again, whole"
        ) from error
    if reduced.txid != plan.txid:  # commits to all but the witnesses (BIP 141)
        _refuse_other(plan, upload)
    return [
        item
        for index, (wanted, vin) in enumerate(zip(plan.inputs, tx.vin, strict=True))
        if vin.witness.items
        for item in _of_witness(index, wanted, [bytes(part) for part in vin.witness.items])
    ]


def _of_witness(index: int, wanted: _Input, stack: Sequence[bytes]) -> list[ColdSignature]:
    """The signatures of a finished input, matched to their keys."""
    if wanted.witness_script is None:
        if len(stack) != 2:
            _refuse_witness(index)
        return [_verified(index, wanted, stack[1], stack[0])]
    if len(stack) != wanted.needed + 2 or stack[0] or stack[-1] != wanted.witness_script:
        _refuse_witness(index)
    found = []
    for signature in stack[1:-1]:
        public = next((key for key in wanted.publics if _is_valid(wanted, key, signature)), None)
        if public is None:
            _refuse_signature(index, signature)
        found.append(ColdSignature(input_index=index, public_key=public, signature=signature))
    return found


def _verified(index: int, wanted: _Input, public: bytes, signature: bytes) -> ColdSignature:
    if public not in wanted.publics:
        _refuse(
            "foreign_key",
            f"input {index} is signed by a key that is not of this wallet",
            remedy="sign with the wallet of the descriptor",
        )
    if not _is_valid(wanted, public, signature):
        _refuse_signature(index, signature)
    return ColdSignature(input_index=index, public_key=public, signature=signature)


def _is_valid(wanted: _Input, public: bytes, signature: bytes) -> bool:
    """Strict DER with a low S (BIP 66, BIP 146), SIGHASH_ALL, over the plan's digest."""
    der = signature[:-1]
    if signature[-1:] != bytes([SIGHASH.ALL]):
        return False
    try:
        parsed = ec.Signature.parse(der)
        is_strict = bytes(parsed.serialize()) == der
        is_low = int.from_bytes(der[6 + der[3] :], "big") <= _HALF_ORDER
        return is_strict and is_low and ec.PublicKey.parse(public).verify(parsed, wanted.digest)
    except _DECODE_ERRORS:
        return False


def _stack(index: int, witness: bytes) -> list[bytes]:
    """The items of a serialised witness (BIP 144)."""
    reader = _Reader(witness)
    try:
        items = [reader.take(reader.count()) for _ in range(min(reader.count(), MAP_KEYS_MAX))]
    except ValueError:
        items = []
    if not items or reader.rest:
        _refuse_witness(index)
    return items


class _Reader:
    """Takes bytes from the front; raises ValueError past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    @property
    def rest(self) -> int:
        """How many bytes are left."""
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > self.rest:
            raise ValueError("cut short")
        self._at += size
        return bytes(self._data[self._at - size : self._at])

    def count(self) -> int:
        """A CompactSize."""
        first = self.take(1)[0]
        width = rawtx.WIDTHS.get(first)
        return first if width is None else int.from_bytes(self.take(width), "little")

    def map(self) -> dict[bytes, bytes]:
        """One map up to its separator (BIP 174); a key twice is damage."""
        found: dict[bytes, bytes] = {}
        while (length := self.count()) > 0:
            key = self.take(length)
            if key in found or len(found) >= MAP_KEYS_MAX:
                raise ValueError("a key twice")
            found[key] = self.take(self.count())
        return found


def _refuse_other(plan: _Plan, tx: bytes) -> NoReturn:
    """It signs something else: say what, so that a person sees mistake or attack."""
    try:
        theirs, ours = rawtx.reduce(tx), rawtx.reduce(plan.tx)
    except rawtx.BadRawTx as error:
        raise SignedFileRefused(
            "truncated", "its transaction does not parse", remedy="export it again, whole"
        ) from error
    if not set(theirs.inputs) & set(ours.inputs):
        _refuse(
            "other_transaction",
            "it is of another transaction, wallet or network",
            remedy="send the file that was exported for this rebalance",
        )
    for name, there, here in (("input", theirs.inputs, ours.inputs),
                              ("output", theirs.outputs, ours.outputs)):  # fmt: skip
        if len(there) != len(here):
            what = f"it has {len(there)} {name}s, the plan has {len(here)}"
            break
        wrong = [at for at, pair in enumerate(zip(there, here, strict=True)) if pair[0] != pair[1]]
        if wrong:
            what = f"its {name} {wrong[0]} is not that of the plan"
            break
    else:
        what = "its version, lock time or sequence numbers are not those of the plan"
    _refuse("not_the_plan", what, remedy="sign the exported file without changing it")


def _refuse_signature(index: int, signature: bytes) -> NoReturn:
    if signature and signature[-1] != SIGHASH.ALL:
        _refuse_sighash(index)
    _refuse(
        "bad_signature",
        f"a signature of input {index} does not verify over the plan",
        remedy="sign the exported file again",
    )


def _refuse_sighash(index: int) -> NoReturn:
    _refuse(
        "wrong_sighash",
        f"input {index} is not signed with SIGHASH_ALL",
        remedy="sign with the default signature type (ALL)",
    )


def _refuse_witness(index: int) -> NoReturn:
    _refuse(
        "wrong_witness",
        f"the finished script of input {index} is not that of this wallet",
        remedy="export the signed PSBT without finishing it",
    )


def _refuse(code: str, reason: str, *, remedy: str) -> NoReturn:
    raise SignedFileRefused(code, reason, remedy=remedy)
