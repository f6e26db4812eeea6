"""What it takes to let a withdrawal go on after the signer was asked for it.

Owns one rule: from `sign_requested_at` on, a signature may exist that nobody here knows. Nobody
approves, resumes, cancels or expires such a row; a reissue or a decline needs evidence that
nothing signed for it can still pay (CONTRACT 5). Pure: it reads the row and knows no signer.
"""

from dataclasses import dataclass
from typing import Final

from gateway.payouts.errors import MaybeSigned
from gateway.withdrawals_store import WithdrawalRow

NEEDS_EVIDENCE: Final = frozenset({"reissue", "decline"})
"""Triggers of `withdrawals.Trigger` that people may apply with evidence."""

NEVER: Final = frozenset(
    {"approve", "resume_queued", "resume_waiting", "resume_approval", "cancel", "expire"}
)
"""Triggers that are for withdrawals which the signer was never asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Proof that nothing signed for a withdrawal can pay it any more.

    `dead_txids`: every txid that was signed for it, each excluded by a final tx. `reference` names
    what was signed about it: the statement of two staff members, or the signer's own word.
    """

    reference: str
    dead_txids: frozenset[str] = frozenset()


def require(row: WithdrawalRow, trigger: str, evidence: Evidence | None) -> None:
    """Raises MaybeSigned when the row may be paid already and `evidence` does not rule it out."""
    if row.sign_requested_at is None and row.txid is None:
        return
    if trigger in NEVER:
        raise MaybeSigned(f"{row.id}: {trigger} after the signer was asked")
    if trigger not in NEEDS_EVIDENCE:
        return
    if evidence is None or not evidence.reference:
        raise MaybeSigned(f"{row.id}: {trigger} without evidence")
    if row.txid is not None and row.txid not in evidence.dead_txids:
        raise MaybeSigned(f"{row.id}: {trigger} while {row.txid} is not proven dead")
