"""UTXO transactions: the signer's own reading of a PSBT v0, and its P2WPKH signatures.

It proves input amounts from the previous transactions (S04), accepts only inputs of own keys and
SIGHASH_ALL (S11), and rebuilds the tx it signs from what it decoded. It must not decide policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from embit import compact
from embit.base import EmbitError
from embit.psbt import PSBT
from embit.script import (
    Script,
    Witness,
    p2pkh_from_p2wpkh,
)
from embit.transaction import SIGHASH

from signer.errors import RefusalCode, Refused
from signer.keyring import Keyring
from signer.paths import OwnPath, parse_path
from signer.settings import NetworkSettings

WITNESS_WEIGHT = 107  # count, 71-byte signature with sighash, 33-byte key, two lengths
MAX_INPUTS = 1_000
MAX_OUTPUTS = 1_000
SEQUENCES = frozenset({0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF})  # BIP 125; no BIP 68 lock
MAX_MONEY = 84_000_000 * 10**8  # Litecoin's; bounds sums, Bitcoin's lies below
TX_VERSION = 2
# What embit raises on malformed bytes; anything else is a bug and must surface.
_DECODE_ERRORS = (
    EmbitError, ValueError, RuntimeError, TypeError, IndexError, KeyError, AttributeError,
    OverflowError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class UtxoInput:
    """One coin to spend: proven amount in satoshi, own path."""

    txid: str
    vout: int
    amount_minor: int
    path: OwnPath

    @property
    def outpoint(self) -> str:
        """`txid:vout`, the coin's identity."""
        return f"{self.txid}:{self.vout}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UtxoOutput:
    """One output: scriptPubKey and amount in satoshi."""

    script: bytes
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UtxoTx:
    """A decoded tx whose inputs are own and proven. `vsize` is that of the signed tx, or less."""

    inputs: tuple[UtxoInput, ...]
    outputs: tuple[UtxoOutput, ...]
    fee_minor: int
    vsize: int
    unsigned: Any

    @property
    def outpoints(self) -> frozenset[str]:
        """The coins it spends."""
        return frozenset(item.outpoint for item in self.inputs)


def decode(
    unsigned: bytes, paths: Sequence[str], *, keyring: Keyring, network: NetworkSettings
) -> UtxoTx:
    """Read a PSBT; raises Refused (`undecodable`, `unproven_input`, `foreign_input`)."""
    psbt = _parse(unsigned)
    tx = psbt.tx
    if not 1 <= len(tx.vin) <= MAX_INPUTS or not 1 <= len(tx.vout) <= MAX_OUTPUTS:
        raise Refused(RefusalCode.UNDECODABLE, "the number of inputs or outputs is out of range")
    # A tx that no node takes yet would burn its orders: they count as paid from the signature on.
    if tx.locktime != 0 or any(item.sequence not in SEQUENCES for item in tx.vin):
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, "a lock time, or an unusual sequence number")
    if len(paths) != len(tx.vin):
        raise Refused(RefusalCode.FOREIGN_INPUT, "one path per input is required")
    inputs = tuple(
        _own_input(scope, parse_path(path, network), keyring)
        for scope, path in zip(psbt.inputs, paths, strict=True)
    )
    if len({item.outpoint for item in inputs}) != len(inputs):
        raise Refused(RefusalCode.UNDECODABLE, "a coin is spent twice")
    outputs = tuple(
        UtxoOutput(script=bytes(out.script_pubkey.data), amount_minor=int(out.value))
        for out in tx.vout
    )
    total_in = sum(item.amount_minor for item in inputs)
    total_out = sum(item.amount_minor for item in outputs)
    if total_in > MAX_MONEY or any(not 0 < out.amount_minor <= MAX_MONEY for out in outputs):
        raise Refused(RefusalCode.UNDECODABLE, "an amount is out of range")
    if total_out > total_in:
        raise Refused(RefusalCode.UNDECODABLE, "it pays more than its inputs hold")
    return UtxoTx(
        inputs=inputs,
        outputs=outputs,
        fee_minor=total_in - total_out,
        vsize=_vsize(len(tx.serialize()), len(inputs)),
        unsigned=tx,
    )


def sign(tx: UtxoTx, keyring: Keyring) -> tuple[bytes, str]:
    """(network-serialised signed tx, txid). Each signature was verified by the keyring."""
    unsigned = tx.unsigned
    digests = []
    for index, item in enumerate(tx.inputs):
        code = p2pkh_from_p2wpkh(Script(keyring.script(item.path)))  # BIP-143 script code
        digest = unsigned.sighash_segwit(index, code, item.amount_minor, SIGHASH.ALL)
        digests.append((item.path, digest))
    signatures = keyring.sign_ecdsa(digests)
    for vin, item, signature in zip(unsigned.vin, tx.inputs, signatures, strict=True):
        public_key = keyring.public_key(item.path)
        vin.witness = Witness([signature + bytes([SIGHASH.ALL]), public_key])
    return bytes(unsigned.serialize()), bytes(unsigned.txid()).hex()


def _parse(unsigned: bytes) -> Any:
    try:
        stream = BytesIO(unsigned)
        psbt = PSBT.read_from(stream)
        tx = psbt.tx
        plain = tx.serialize()
        prefix = b"psbt\xff\x01\x00" + compact.to_bytes(len(plain)) + plain
        has_witness = tx.is_segwit or any(vin.script_sig.data for vin in tx.vin)
    except _DECODE_ERRORS as error:
        raise Refused(RefusalCode.UNDECODABLE, "not a PSBT") from error
    # BIP-174 v0: the global tx comes first and is what the scopes say; nothing follows the PSBT.
    is_plain = unsigned.startswith(prefix) and not stream.read(1) and psbt.version in (None, 0)
    if not is_plain or has_witness or tx.version != TX_VERSION:
        raise Refused(RefusalCode.UNDECODABLE, "not a PSBT v0 of an unsigned version 2 tx")
    return psbt


def _own_input(scope: Any, path: OwnPath, keyring: Keyring) -> UtxoInput:
    if scope.sighash_type not in (None, SIGHASH.ALL):
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, "a sighash other than ALL")
    if scope.non_witness_utxo is None:
        raise Refused(RefusalCode.UNPROVEN_INPUT, "an input lacks its previous tx")
    try:
        is_proven = scope.non_witness_utxo.txid() == scope.txid
        coin = scope.non_witness_utxo.vout[scope.vout]
        script, amount = bytes(coin.script_pubkey.data), int(coin.value)
    except _DECODE_ERRORS as error:
        raise Refused(RefusalCode.UNPROVEN_INPUT, "the previous tx lacks the output") from error
    if not is_proven:
        raise Refused(RefusalCode.UNPROVEN_INPUT, "the previous tx has another txid")
    witness = scope.witness_utxo
    if witness is not None and (
        int(witness.value) != amount or bytes(witness.script_pubkey.data) != script
    ):
        raise Refused(RefusalCode.UNPROVEN_INPUT, "witness_utxo differs from the previous tx")
    if scope.redeem_script is not None or scope.witness_script is not None:
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, "only P2WPKH inputs are signed")
    if script != keyring.script(path):
        raise Refused(RefusalCode.FOREIGN_INPUT, f"an input is not of {path.text}")
    return UtxoInput(
        txid=bytes(scope.txid).hex(), vout=int(scope.vout), amount_minor=amount, path=path
    )


def _vsize(stripped_bytes: int, inputs: int) -> int:
    """BIP-141 virtual size with the shortest usual witnesses: never above the true one."""
    weight = stripped_bytes * 4 + 2 + inputs * WITNESS_WEIGHT
    return weight // 4
