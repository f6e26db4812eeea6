"""The drill's verdict about one withdrawal: what is paid or released once, and everything else."""

from dataclasses import replace
from uuid import UUID

import pytest

from gateway.sandbox.drill_scenes import Verdict, verdict
from gateway.sandbox.drill_store import Fate

AMOUNT = 100_000
PAID = Fate(
    id=UUID(int=1),
    request_id="r-1",
    state="completed",
    code=None,
    amount_minor=AMOUNT,
    hold_state="settled",
    is_asked=True,
    txid="ab" * 32,
    attempts=(b"raw",),
    void_state=None,
    void_code=None,
)
RELEASED = replace(
    PAID,
    state="cancelled",
    hold_state="released",
    is_asked=False,
    txid=None,
    attempts=(),
    void_state="delivered",
)


@pytest.mark.parametrize("told", [None, False])
def test_completed_with_one_exact_payment_is_paid(told: bool | None) -> None:
    assert verdict(PAID, amount_minor=AMOUNT, seen=[AMOUNT], was_cancelled=told) is Verdict.PAID


@pytest.mark.parametrize("told", [None, True])
@pytest.mark.parametrize("hold", ["released", None])
def test_ended_with_nothing_on_chain_or_signed_is_released(
    told: bool | None, hold: str | None
) -> None:
    fate = replace(RELEASED, hold_state=hold)
    assert verdict(fate, amount_minor=AMOUNT, seen=[], was_cancelled=told) is Verdict.RELEASED


@pytest.mark.parametrize(
    ("fate", "seen", "told"),
    [
        (PAID, [], None),  # nothing arrived
        (PAID, [AMOUNT, AMOUNT], None),  # twice
        (PAID, [AMOUNT - 1], None),  # another amount
        (PAID, [AMOUNT], True),  # the client was told that it is cancelled
        (replace(PAID, hold_state="captured"), [AMOUNT], None),
        (replace(PAID, hold_state="released"), [AMOUNT], None),  # paid, and given back
        (RELEASED, [AMOUNT], None),  # given back, and paid
        (RELEASED, [], False),  # the client was told that it is too late
        (replace(RELEASED, hold_state="open"), [], None),
        (replace(RELEASED, hold_state="captured"), [], None),
        (replace(RELEASED, void_state="pending"), [], None),
        (replace(RELEASED, void_state=None), [], None),
        (replace(RELEASED, void_code="signer_knows_more"), [], None),  # the signer had signed it
        (replace(PAID, state="sent"), [AMOUNT], None),  # it does not rest
        (replace(PAID, state="on_hold", code="anchor_dead"), [], None),
        (replace(PAID, state="planned", hold_state="open"), [], None),
    ],
)
def test_everything_else_is_wrong(fate: Fate, seen: list[int], told: bool | None) -> None:
    assert verdict(fate, amount_minor=AMOUNT, seen=seen, was_cancelled=told) is Verdict.WRONG
