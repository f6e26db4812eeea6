"""What people signed for a lost abort or reissue, kept again as received (docs/adr/0026).

The signer's question has it, and the books need it: each dearer attempt of an abort is shown to the
signer with the same two signatures, and nobody can sign for an abort that is on its way; a second
family of a payment stands on two people's words (migration 0044). Whoever the books do not know, or
the order's own key, is left out, as the API would refuse them.
"""

from config.database import Uow
from config.logs import get_logger
from gateway import clients_store
from gateway.payouts import approvals_store, signed_orders
from gateway.payouts.approvals import Action
from gateway.payouts.context import Lane
from gateway.payouts.signed_orders import SignedExit, UnreadableOrder
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Authorisation, SignRequest

_KEPT = (Action.ABORT.value, Action.REISSUE.value)

log = get_logger(__name__)


async def keep(lane: Lane, uow: Uow, row: WithdrawalRow, question: SignRequest) -> None:
    """Keep what was said about this locked withdrawal, as words about the version that it has."""
    claims = [item for item in question.approvals if item.path.rpartition("/")[2] in _KEPT]
    if not claims:
        return
    people = {
        key.key_id: key.person
        for key in await clients_store.every(uow)
        if key.kind == "staff" and key.person is not None
    }
    for claim in claims:
        try:
            said = signed_orders.read_exit(claim)
        except UnreadableOrder as error:  # it counted for nothing at the signer either
            log.warning("recover.approval_unreadable", withdrawal_id=str(row.id), detail=str(error))
            continue
        if (said.brand, said.request_id) == (row.brand, row.request_id):
            await _keep_one(lane, uow, row, claim, said, person=people.get(said.key_id))


async def _keep_one(
    lane: Lane,
    uow: Uow,
    row: WithdrawalRow,
    claim: Authorisation,
    said: SignedExit,
    *,
    person: str | None,
) -> None:
    is_own = await approvals_store.is_initiators(uow, withdrawal_id=row.id, key_id=said.key_id)
    if person is None or is_own:
        log.warning("recover.approval_of_nobody", withdrawal_id=str(row.id), key_id=said.key_id)
        return
    await approvals_store.insert(
        uow,
        approval_id=lane.ids.new_id(),
        withdrawal_id=row.id,
        brand=row.brand,
        action=said.action,
        round_=row.version,
        key_id=said.key_id,
        person=person,
        txids=said.txids,
        signed=claim,
        at=lane.now(),
    )
