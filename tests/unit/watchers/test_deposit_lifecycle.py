"""Every (state, trigger) pair of a deposit, legal and illegal, in definition order (CONTRACT 4)."""

import pytest

from ledger.errors import IllegalTransition
from watchers.deposits import DEPOSITS, RESTORES, DepositState, DepositTrigger

LEGAL = {
    ("detected", "include"): "pending",
    ("dropped", "include"): "pending",
    ("replaced", "include"): "pending",
    ("reversed", "include"): "pending",
    ("detected", "replace"): "replaced",
    ("detected", "drop"): "dropped",
    ("pending", "underpay"): "below_minimum",
    ("pending", "disallow"): "unsupported",
    ("pending", "hold"): "on_hold",
    ("provisional", "hold"): "on_hold",
    ("pending", "credit"): "provisional",
    ("provisional", "finalise"): "final",
    ("pending", "finalise"): "final",
    ("pending", "orphan"): "detected",
    ("provisional", "orphan"): "orphaned",
    ("final", "orphan"): "orphaned",
    ("on_hold", "orphan"): "orphaned",
    ("below_minimum", "orphan"): "orphaned",
    ("unsupported", "orphan"): "orphaned",
    ("rejected", "orphan"): "orphaned",
    ("refunded", "orphan"): "orphaned",
    ("orphaned", "restore_provisional"): "provisional",
    ("orphaned", "restore_final"): "final",
    ("orphaned", "restore_on_hold"): "on_hold",
    ("orphaned", "restore_below_minimum"): "below_minimum",
    ("orphaned", "restore_unsupported"): "unsupported",
    ("orphaned", "restore_rejected"): "rejected",
    ("orphaned", "restore_refunded"): "refunded",
    ("orphaned", "reverse"): "reversed",
    ("on_hold", "release"): "final",
    ("on_hold", "reject"): "rejected",
    ("below_minimum", "reject"): "rejected",
    ("unsupported", "reject"): "rejected",
    ("rejected", "refund"): "refunding",
    ("refunding", "refund_complete"): "refunded",
    ("refunding", "refund_end"): "rejected",
    ("refunded", "refund_reopen"): "refunding",
    ("orphaned", "refund_reopen"): "refunding",
}


@pytest.mark.parametrize("state", DepositState)
@pytest.mark.parametrize("trigger", DepositTrigger)
def test_each_pair_does_what_the_contract_says(
    state: DepositState, trigger: DepositTrigger
) -> None:
    target = LEGAL.get((state.value, trigger.value))
    if target is None:
        with pytest.raises(IllegalTransition):
            DEPOSITS.next(state, trigger)
    else:
        assert DEPOSITS.next(state, trigger) == target


def test_every_state_that_can_be_orphaned_can_be_restored_to_itself() -> None:
    for state, trigger in RESTORES.items():
        assert DEPOSITS.next(state, DepositTrigger.ORPHAN) is DepositState.ORPHANED
        assert DEPOSITS.next(DepositState.ORPHANED, trigger) is state
