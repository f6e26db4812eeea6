"""What payouts make of a signer that cannot work: they wait, and no payout fails for it (S21)."""

import pytest

from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.patience import SIGNER_IS_OUT, heard
from signer.errors import RefusalCode
from signer.protocol import Refusal
from signer.vault import NOT_STORED

ABOUT_THE_CALLER = {RefusalCode.STALE_EPOCH, RefusalCode.ATTEMPT_MISMATCH}


def test_s21_every_refusal_about_the_signer_itself_is_waited_for() -> None:
    """A code that the signer adds and payouts do not know would hold good payouts."""
    assert {code.value for code in NOT_STORED - ABOUT_THE_CALLER} <= SIGNER_IS_OUT


@pytest.mark.parametrize("code", sorted(SIGNER_IS_OUT))
def test_s21_a_signer_that_is_out_is_no_answer(code: str) -> None:
    with pytest.raises(SignerUnavailable, match=code):
        heard(Refusal(code=code, reason="not now"))


def test_a_refusal_of_what_was_asked_is_an_answer() -> None:
    refusal = Refusal(code=RefusalCode.BAD_ORDER.value, reason="no order")
    assert heard(refusal) is refusal
