"""The table of withdrawals, pair by pair (CONTRACT 5)."""

from itertools import product

import pytest

from gateway.payouts.withdrawals import END_STATES, WITHDRAWALS, State, Trigger
from ledger.errors import IllegalTransition

BEFORE_SIGNING = (
    State.RESERVED,
    State.SCREENING,
    State.ON_HOLD,
    State.PENDING_APPROVAL,
    State.QUEUED,
    State.WAITING_LIQUIDITY,
    State.PLANNED,
)

LEGAL: dict[tuple[State, Trigger], State] = {
    (State.RECEIVED, Trigger.REFUSE): State.REJECTED,
    (State.RECEIVED, Trigger.RESERVE): State.RESERVED,
    (State.WAITING_LIQUIDITY, Trigger.RESERVE): State.RESERVED,
    (State.RECEIVED, Trigger.CLEARING_SHORT): State.WAITING_LIQUIDITY,
    (State.RESERVED, Trigger.ENQUEUE): State.QUEUED,
    (State.SCREENING, Trigger.ENQUEUE): State.QUEUED,
    (State.RESERVED, Trigger.SCREEN): State.SCREENING,
    (State.RESERVED, Trigger.HOLD): State.ON_HOLD,
    (State.SCREENING, Trigger.HOLD): State.ON_HOLD,
    (State.RESERVED, Trigger.ASK_APPROVAL): State.PENDING_APPROVAL,
    (State.SCREENING, Trigger.ASK_APPROVAL): State.PENDING_APPROVAL,
    (State.ON_HOLD, Trigger.APPROVE): State.QUEUED,
    (State.PENDING_APPROVAL, Trigger.APPROVE): State.QUEUED,
    (State.QUEUED, Trigger.HOLD): State.ON_HOLD,
    (State.PLANNED, Trigger.HOLD): State.ON_HOLD,
    (State.QUEUED, Trigger.LIQUIDITY_SHORT): State.WAITING_LIQUIDITY,
    (State.WAITING_LIQUIDITY, Trigger.LIQUIDITY_BACK): State.QUEUED,
    **{
        (state, Trigger.DEPOSIT_ORPHANED): State.ON_HOLD
        for state in BEFORE_SIGNING
        if state is not State.ON_HOLD
    },
    (State.ON_HOLD, Trigger.RESUME_QUEUED): State.QUEUED,
    (State.ON_HOLD, Trigger.RESUME_WAITING): State.WAITING_LIQUIDITY,
    (State.ON_HOLD, Trigger.RESUME_APPROVAL): State.PENDING_APPROVAL,
    **{(state, Trigger.DECLINE): State.DECLINED for state in BEFORE_SIGNING},
    **{(state, Trigger.EXPIRE): State.EXPIRED for state in BEFORE_SIGNING},
    **{(state, Trigger.CANCEL): State.CANCELLED for state in BEFORE_SIGNING},
    (State.QUEUED, Trigger.PLAN): State.PLANNED,
    (State.PLANNED, Trigger.UNPLAN): State.QUEUED,
    (State.PLANNED, Trigger.SIGNER_REFUSED): State.ON_HOLD,
    (State.PLANNED, Trigger.SIGN): State.SIGNED,
    (State.SIGNED, Trigger.BROADCAST): State.BROADCASTING,
    (State.BROADCASTING, Trigger.ACCEPT): State.SENT,
    (State.BROADCASTING, Trigger.LOSE_SIGHT): State.UNCERTAIN,
    (State.UNCERTAIN, Trigger.FIND): State.SENT,
    (State.UNCERTAIN, Trigger.MINE): State.CONFIRMING,
    (State.SENT, Trigger.MINE): State.CONFIRMING,
    (State.CONFIRMING, Trigger.UNMINE): State.SENT,
    (State.UNCERTAIN, Trigger.CONFLICT_FINAL): State.ON_HOLD,
    (State.SENT, Trigger.CONFLICT_FINAL): State.ON_HOLD,
    (State.CONFIRMING, Trigger.COMPLETE): State.COMPLETED,
    (State.CANCELLING, Trigger.COMPLETE): State.COMPLETED,
    (State.CANCELLING, Trigger.CONFLICT_FINAL): State.ON_HOLD,
    (State.CONFIRMING, Trigger.FAIL): State.FAILED,
    (State.COMPLETED, Trigger.REOPEN): State.SENT,
    (State.ON_HOLD, Trigger.REISSUE): State.QUEUED,
    (State.SIGNED, Trigger.ABORT): State.CANCELLING,
    (State.BROADCASTING, Trigger.ABORT): State.CANCELLING,
    (State.UNCERTAIN, Trigger.ABORT): State.CANCELLING,
    (State.SENT, Trigger.ABORT): State.CANCELLING,
    (State.CANCELLING, Trigger.ABORT_FINAL): State.CANCELLED,
    (State.CANCELLING, Trigger.ABORT_REFUSED): State.UNCERTAIN,
    (State.SIGNED, Trigger.REPLACE): State.SIGNED,
    (State.BROADCASTING, Trigger.REPLACE): State.BROADCASTING,
    (State.UNCERTAIN, Trigger.REPLACE): State.UNCERTAIN,
    (State.SENT, Trigger.REPLACE): State.SENT,
    (State.SIGNED, Trigger.ADOPT): State.SIGNED,
    (State.BROADCASTING, Trigger.ADOPT): State.BROADCASTING,
    (State.UNCERTAIN, Trigger.ADOPT): State.UNCERTAIN,
    (State.SENT, Trigger.ADOPT): State.SENT,
    (State.CONFIRMING, Trigger.ADOPT): State.CONFIRMING,
    (State.CANCELLING, Trigger.REPLACE): State.CANCELLING,
    (State.CANCELLING, Trigger.ADOPT): State.CANCELLING,
}


@pytest.mark.parametrize("state", State)
def test_every_pair_is_legal_or_refused_as_the_contract_says(state: State) -> None:
    for current, trigger in product((state,), Trigger):
        if (current, trigger) in LEGAL:
            assert WITHDRAWALS.next(current, trigger) == LEGAL[(current, trigger)]
        else:
            with pytest.raises(IllegalTransition):
                WITHDRAWALS.next(current, trigger)


def test_end_states_are_left_only_by_an_orphaned_block() -> None:
    leaving = {(state, trigger) for state, trigger in LEGAL if state in END_STATES}
    assert leaving == {(State.COMPLETED, Trigger.REOPEN)}


def test_law_5_nothing_goes_back_from_maybe_sent_to_be_sent_by_itself() -> None:
    """From the first signature on, only a person's reissue leads to `queued` again."""
    signed = {State.SIGNED, State.BROADCASTING, State.UNCERTAIN, State.SENT, State.CONFIRMING}
    assert not any(
        state in signed and target is State.QUEUED for (state, _), target in LEGAL.items()
    )
