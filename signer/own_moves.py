"""What a merge or a split of own coins, or a child that pays, may spend (CONTRACT 8).

Nobody authorises one, so it may touch nothing that somebody authorised: a coin that a signed payout
spends is refused, since that would abort the payout, which takes two people. It decides on the
decoded tx and the signer's own rows; outputs, fees and counters are checked by the policy.
"""

from signer import attempts_store as rows
from signer.errors import RefusalCode, Refused
from signer.protocol import Purpose, SignRequest
from signer.schemes.bitcoin import UtxoTx
from signer.settings import NetworkSettings
from signer.store import Store

PARTS_MAX = 100  # outputs of a split


def check(request: SignRequest, tx: UtxoTx, network: NetworkSettings, *, store: Store) -> None:
    """Raises Refused unless the tx has the shape of its purpose and spends free coins only."""
    if request.own_path is not None or request.replaces is not None or request.approvals:
        raise Refused(RefusalCode.BAD_REQUEST, "it names nothing but its coins and its change")
    inputs, outputs = len(tx.inputs), len(tx.outputs)
    if request.purpose is Purpose.CONSOLIDATE:
        is_shaped = inputs > 1 and outputs == 1
    else:
        is_shaped = inputs == 1 and 1 < outputs <= PARTS_MAX
    if not is_shaped:
        reason = f"{inputs} coins to {outputs} outputs is no {request.purpose.value}"
        raise Refused(RefusalCode.FORBIDDEN_SHAPE, reason)
    for item in tx.inputs:
        if rows.is_signed_input(store, network=network.name, outpoint=item.outpoint):
            raise Refused(RefusalCode.NOT_EXCLUSIVE, f"{item.outpoint} is an input of a signed tx")


def check_child(tx: UtxoTx, network: NetworkSettings, *, child_hash: str, store: Store) -> None:
    """Raises Refused unless it spends an output of an own tx, and no coin of a signed payout."""
    if not any(rows.is_own_tx(store, network=network.name, txid=item.txid) for item in tx.inputs):
        raise Refused(RefusalCode.NOT_OWN_PARENT, "it spends no output of an own tx")
    for item in tx.inputs:
        if rows.is_payment_input(
            store, network=network.name, outpoint=item.outpoint, child_hash=child_hash
        ):
            raise Refused(
                RefusalCode.NOT_EXCLUSIVE, f"{item.outpoint} is an input of a signed payout"
            )
