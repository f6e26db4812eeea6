"""How the tx of a move or a set-up ended, and whether its row says so.

Pure. By evidence, never by intent (P29): of a family one attempt at most is final or reverted, and
none can be mined any more once all are replaced. The same rule in SQL is in `ends_store`; they must
not differ, or a row would be looked at for ever, or never.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from watchers.outgoing import OutgoingRow, OutgoingState

REVERTED: Final = "reverted"
DIFFERENT: Final = "moved_differently"
NOT_OURS: Final = "not_our_contract"
"""Codes of a row that failed after it was signed; any other one says that its coins or its nonce
were taken."""


def ended(signed: Sequence[OutgoingRow]) -> OutgoingRow | None:
    """The attempt that decides: final or reverted, or the newest when none can be mined."""
    for tx in signed:
        if tx.state in (OutgoingState.FINAL, OutgoingState.REVERTED):
            return tx
    is_dead = bool(signed) and all(tx.state is OutgoingState.REPLACED for tx in signed)
    return signed[-1] if is_dead else None


def says_so(
    signed: Sequence[OutgoingRow], *, is_done: bool, code: str | None, attempt_id: UUID | None
) -> bool:
    """Whether a row that is over is over as the chain has it now."""
    tx = ended(signed)
    if tx is None:
        return False
    if is_done or code in (DIFFERENT, NOT_OURS):
        return tx.state is OutgoingState.FINAL and tx.id == attempt_id
    if code == REVERTED:
        return tx.state is OutgoingState.REVERTED and tx.id == attempt_id
    return tx.state is OutgoingState.REPLACED
