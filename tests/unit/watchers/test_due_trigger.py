"""Which step of a deposit is due at a tip: decided by heights, never by counting."""

from dataclasses import replace

import pytest

from tests.support.deposit_rows import PENDING as AT_100
from watchers.deposit_due import due_trigger
from watchers.deposits import DepositRow, DepositState, DepositTrigger

ORPHANED = replace(AT_100, state=DepositState.ORPHANED, prior_state=DepositState.PROVISIONAL)
LOST = replace(
    ORPHANED,
    block_hash=None,
    height=None,
    provisional_at_height=None,
    final_at_height=None,
    conflict_final_at_height=110,
)


@pytest.mark.parametrize(
    ("deposit", "height", "final_below", "expected"),
    [
        (AT_100, 100, 100, None),
        (AT_100, 101, 101, DepositTrigger.CREDIT),
        (AT_100, 104, 104, DepositTrigger.CREDIT),
        (AT_100, 105, 105, DepositTrigger.FINALISE),
        (AT_100, 105, 99, DepositTrigger.CREDIT),
        (replace(AT_100, state=DepositState.PROVISIONAL), 104, 104, None),
        (replace(AT_100, state=DepositState.PROVISIONAL), 105, 99, None),
        (replace(AT_100, state=DepositState.PROVISIONAL), 105, 100, DepositTrigger.FINALISE),
        (replace(AT_100, state=DepositState.FINAL), 200, 200, None),
        (replace(AT_100, state=DepositState.ON_HOLD), 200, 200, None),
        (replace(AT_100, state=DepositState.BELOW_MINIMUM), 200, 200, None),
        (ORPHANED, 100, 100, None),
        (ORPHANED, 101, 101, DepositTrigger.RESTORE_PROVISIONAL),
        (replace(ORPHANED, prior_state=DepositState.FINAL), 104, 104, None),
        (replace(ORPHANED, prior_state=DepositState.FINAL), 105, 105, DepositTrigger.RESTORE_FINAL),
        (LOST, 109, 109, None),
        (LOST, 110, 110, DepositTrigger.REVERSE),
        (LOST, 110, 104, None),  # the conflict's block, 105, is not final to the chain itself
        (LOST, 110, 105, DepositTrigger.REVERSE),
        (replace(LOST, conflict_final_at_height=None), 500, 500, None),
    ],
)
def test_the_step_that_is_due(
    deposit: DepositRow, height: int, final_below: int, expected: DepositTrigger | None
) -> None:
    assert due_trigger(deposit, height=height, final_below=final_below) == expected
