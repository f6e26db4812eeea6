"""Refunds and recoveries: a deposit goes back to where two people send it (CONTRACT 8).

One tx is one refund. The fee is taken out of the amount where both are of one coin (CONTRACT 4), so
that the output is what people signed, less the tx's own fee at most. It must not ask who signed.
"""

from signer.approvals import Refund
from signer.errors import RefusalCode, Refused
from signer.fees import fee_of
from signer.paths import OwnPath, Role
from signer.protocol import Purpose, SignRequest
from signer.schemes.bitcoin import UtxoTx
from signer.schemes.evm import EvmTx
from signer.settings import NetworkSettings

OWNER = "#refund"  # what stands for a brand in the rows of paid requests; no brand has this name
_SOURCES = {Purpose.REFUND: (Role.HOT, Role.CHANGE), Purpose.RECOVERY: (Role.DEPOSIT,)}


def match(
    request: SignRequest, tx: UtxoTx | EvmTx, refund: Refund, network: NetworkSettings
) -> list[object]:
    """What it pays, if that is exactly the refund; change is the caller's to check."""
    if isinstance(tx, UtxoTx):
        rest = [index for index in range(len(tx.outputs)) if index not in request.change_paths]
        if len(rest) != 1:
            raise _other("a refund has one output that is not change")
        output = tx.outputs[rest[0]]
        asset, place, amount = network.native.asset, output.script, output.amount_minor
        sources: tuple[OwnPath, ...] = tuple(item.path for item in tx.inputs)
    else:
        if tx.batch is not None or request.change_paths:
            raise _other("a refund is one transfer")
        asset, place, amount = tx.asset, tx.destination, tx.amount_minor
        sources = (tx.sender,)
    if any(path.role not in _SOURCES[request.purpose] for path in sources):
        raise Refused(RefusalCode.BAD_PATH, "not from a path of this purpose")
    fee = fee_of(tx) if asset == network.native.asset else 0
    if (asset, place) != (refund.asset, refund.place):
        raise _other("another asset or another place than people signed")
    if not max(1, refund.amount_minor - fee) <= amount <= refund.amount_minor:
        raise _other("another amount than people signed, less the fee at most")
    return [OWNER, refund.deposit_id, asset, place.hex(), amount]


def _other(reason: str) -> Refused:
    return Refused(RefusalCode.PAYMENT_MISMATCH, reason)
