"""Unsigned PSBTs of cold wallets, as Sparrow, Electrum, Bitcoin Core and devices import them.

Pure: the same plan gives the same bytes (PSBT v0, BIP 174). Each input has its previous tx and its
output, script and key origins; the change output has its own, so that a device shows it as change;
a multisig wallet's account keys stand in the global map. The house has no key of any of it.
"""

from typing import Final

from embit import bip32, ec, psbt, script
from embit.transaction import TransactionOutput

from watchers.chain import DerivedAddress, Unsigned, UtxoPlan
from watchers.chains.bitcoin import build as plain
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.chains.bitcoin.descriptor import ColdDescriptor, ColdScript
from watchers.chains.bitcoin.params import BitcoinParams
from watchers.chains.errors import BadPlan
from watchers.cold_spends import ColdPlan

SIGNATURE_BYTES: Final = 73  # length, DER with a low S, sighash
P2WPKH_WITNESS: Final = 108  # count, signature, length and key: the same as in `build`
OUTPOINT_VB: Final = 41  # outpoint, empty script, sequence


def size_vb(descriptor: ColdDescriptor, *, inputs: int, outputs: list[str]) -> int:
    """Signed virtual size with inputs of this wallet; an upper bound."""
    witness = P2WPKH_WITNESS
    code = descriptor.witness_script_bytes
    if code:
        signatures = descriptor.threshold * SIGNATURE_BYTES
        witness = 1 + 1 + signatures + (1 if code < 0xFD else 3) + code
    bare = plain.size_vb(inputs=0, outputs=outputs) + (0 if inputs < 0xFD else 2)
    return bare + inputs * OUTPOINT_VB + -(-inputs * witness // plain.WEIGHT_PER_VB)


def build(
    plan: ColdPlan, *, params: BitcoinParams, codec: BitcoinAddressCodec, asset: str
) -> Unsigned:
    """The PSBT of a plan. Raises InvalidAddress, NothingToReserve, BadPlan as `build.build`."""
    descriptor = ColdDescriptor(plan.descriptor, params)
    scripts = [descriptor.script(item.branch, item.index) for item in plan.coins]
    for found, item in zip(scripts, plan.coins, strict=True):
        if found.key != item.coin.key:
            raise BadPlan(f"coin {item.coin.outpoint.txid} is not of this descriptor")
    change = None
    if plan.change is not None:
        change = descriptor.script(plan.change.branch, plan.change.index)
    utxo = UtxoPlan(
        coins=tuple(item.coin for item in plan.coins),
        payments=(plan.payment,),
        change=None if change is None else _derived(change),
        change_minor=plan.change_minor,
    )
    container, keys = plain.container_of(utxo, codec=codec, asset=asset)
    for scope, found, item in zip(container.inputs, scripts, plan.coins, strict=True):
        scope.witness_utxo = TransactionOutput(
            item.coin.amount_minor, script.Script(bytes.fromhex(item.coin.key))
        )
        _describe(scope, found)
    if change is not None:
        _describe(container.outputs[-1], change)
    if descriptor.is_multisig:
        for xpub in descriptor.xpubs:
            key = bip32.HDKey.parse(xpub.serialised)
            container.xpubs[key] = psbt.DerivationPath(xpub.fingerprint, list(xpub.path))
    size = size_vb(descriptor, inputs=len(scripts), outputs=keys)
    return plain.unsigned_of(utxo, container, size_vb=size)


def _describe(scope: psbt.InputScope | psbt.OutputScope, found: ColdScript) -> None:
    """Script and key origins, by which a device finds its keys and knows its change."""
    if found.witness_script is not None:
        scope.witness_script = script.Script(found.witness_script)
    for origin in sorted(found.origins, key=lambda item: item.public_key):
        public = ec.PublicKey.parse(origin.public_key)
        scope.bip32_derivations[public] = psbt.DerivationPath(origin.fingerprint, list(origin.path))


def _derived(found: ColdScript) -> DerivedAddress:
    return DerivedAddress(
        address=found.address, key=found.key, path=found.path, scheme=found.scheme
    )
