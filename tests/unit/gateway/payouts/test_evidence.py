"""Who may move a withdrawal that the signer was asked for, trigger by trigger."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from gateway.payouts.errors import MaybeSigned
from gateway.payouts.evidence import NEEDS_EVIDENCE, NEVER, Evidence, require
from gateway.payouts.withdrawals import Trigger
from gateway.withdrawals_store import WithdrawalRow

AT = datetime(2026, 1, 1, tzinfo=UTC)
TXID = "ab" * 32
STAFF = Evidence(reference="statement-1")

ASKED = WithdrawalRow(
    id=UUID(int=1), brand="acme", request_id="r-1", kind="withdrawal", player_id="p",
    network="btc", asset="btc:BTC", address="a", address_key="k", amount_minor=1,
    pam_balance_minor=0, fee_class="normal", fee_mode="brand", metadata={}, state="on_hold",
    code="signer_knows_more", is_reserved=True, version=1, attempt_id=UUID(int=2), txid=None,
    valid_until=AT, promise_at=AT, sign_requested_at=AT, accepted_at=AT, state_at=AT,
)  # fmt: skip
SIGNED = replace(ASKED, txid=TXID)
NEVER_ASKED = replace(ASKED, sign_requested_at=None)


def test_the_rule_names_triggers_of_the_table() -> None:
    assert set(Trigger) >= NEVER | NEEDS_EVIDENCE
    assert not NEVER & NEEDS_EVIDENCE


@pytest.mark.parametrize("trigger", Trigger)
def test_a_row_the_signer_was_never_asked_for_needs_no_evidence(trigger: Trigger) -> None:
    require(NEVER_ASKED, trigger, None)


@pytest.mark.parametrize("trigger", sorted(NEVER))
@pytest.mark.parametrize("evidence", [None, STAFF])
def test_nobody_approves_resumes_or_ends_a_row_that_may_be_signed(
    trigger: str, evidence: Evidence | None
) -> None:
    with pytest.raises(MaybeSigned):
        require(ASKED, trigger, evidence)


@pytest.mark.parametrize("trigger", sorted(NEEDS_EVIDENCE))
def test_a_reissue_or_decline_needs_evidence_over_the_txid(trigger: str) -> None:
    for row, evidence in [
        (ASKED, None),
        (ASKED, Evidence(reference="")),
        (SIGNED, None),
        (SIGNED, STAFF),
        (SIGNED, Evidence(reference="statement-1", dead_txids=frozenset({"cd" * 32}))),
    ]:
        with pytest.raises(MaybeSigned):
            require(row, trigger, evidence)

    require(ASKED, trigger, STAFF)
    require(SIGNED, trigger, Evidence(reference="statement-1", dead_txids=frozenset({TXID})))


@pytest.mark.parametrize("trigger", ["sign", "broadcast", "complete", "unplan", "reopen"])
def test_the_road_itself_goes_on(trigger: str) -> None:
    require(SIGNED, trigger, None)
