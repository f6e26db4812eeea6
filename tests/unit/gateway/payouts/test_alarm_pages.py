"""Whoever is called by an alarm of payouts finds it in the page of operations."""

from pathlib import Path

import pytest

from gateway.payouts import aborts, exits, families, refusals, silence
from gateway.payouts.time_limits import TIME_LIMITS

PAGE = Path(__file__).parents[4] / "docs" / "OPERATIONS.md"
KINDS = {
    *families.ABOUT_AN_ATTEMPT,
    *(limit.alarm for limit in TIME_LIMITS if limit.alarm is not None),
    aborts.BLOCKED,
    exits.ANCHOR_DEAD,
    exits.NOT_DEAD,
    families.BUMP_CAPPED,
    families.BUMP_REFUSED,
    refusals.SIGNER_CAP,
    refusals.SIGNER_KNOWS_MORE,
    silence.UNANSWERED,
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_alarm_has_its_row(kind: str) -> None:
    assert f"| `{kind}` |" in PAGE.read_text(encoding="utf-8")
