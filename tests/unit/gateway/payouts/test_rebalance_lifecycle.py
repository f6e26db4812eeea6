"""The table of moves between hot and cold, pair by pair."""

from itertools import product

import pytest

from gateway.payouts.rebalances import REBALANCES, State, Trigger
from ledger.errors import IllegalTransition

LEGAL = {
    (State.PROPOSED, Trigger.AGREE): State.APPROVED,
    (State.PROPOSED, Trigger.DECLINE): State.DECLINED,
    (State.PROPOSED, Trigger.CANCEL): State.CANCELLED,
    (State.APPROVED, Trigger.CANCEL): State.CANCELLED,
    (State.APPROVED, Trigger.PLAN): State.PLANNED,
    (State.APPROVED, Trigger.BUILD): State.UNSIGNED_READY,
    (State.APPROVED, Trigger.REFUSE): State.FAILED,
    (State.PLANNED, Trigger.UNPLAN): State.APPROVED,
    (State.PLANNED, Trigger.REFUSE): State.FAILED,
    (State.PLANNED, Trigger.SIGN): State.SIGNED,
    (State.UNSIGNED_READY, Trigger.UNBUILD): State.APPROVED,
    (State.UNSIGNED_READY, Trigger.CANCEL): State.CANCELLED,
    (State.UNSIGNED_READY, Trigger.SIGN): State.SIGNED,
    (State.SIGNED, Trigger.SEND): State.SENT,
    (State.SIGNED, Trigger.EXECUTE): State.SIGNED,
    (State.SIGNED, Trigger.FAIL): State.FAILED,
    (State.SIGNED, Trigger.REPLACE): State.SIGNED,
    (State.SENT, Trigger.REPLACE): State.SENT,
    (State.SENT, Trigger.CONFIRM): State.DONE,
    (State.SENT, Trigger.FAIL): State.FAILED,
    (State.DONE, Trigger.REOPEN): State.SENT,
    (State.FAILED, Trigger.REOPEN): State.SENT,
}


@pytest.mark.parametrize(("state", "trigger"), list(product(State, Trigger)))
def test_each_pair_is_what_the_table_says_or_illegal(state: State, trigger: Trigger) -> None:
    wanted = LEGAL.get((state, trigger))
    if wanted is not None:
        assert REBALANCES.next(state, trigger) is wanted
        return
    with pytest.raises(IllegalTransition):
        REBALANCES.next(state, trigger)


def test_what_was_signed_is_never_taken_back() -> None:
    """Only a block decides: neither a person nor the system ends it."""
    taking_back = {Trigger.CANCEL, Trigger.DECLINE, Trigger.UNPLAN, Trigger.UNBUILD}
    for state in (State.SIGNED, State.SENT, State.DONE):
        assert not any(REBALANCES.allows(state, trigger) for trigger in taking_back)
