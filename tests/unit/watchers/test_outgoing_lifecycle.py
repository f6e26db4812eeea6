"""Every (state, event) pair of an own transaction, legal and illegal (HOUSE 6)."""

import pytest

from ledger.errors import IllegalTransition
from watchers.outgoing import OUTGOING, OutgoingEvent, OutgoingState

LEGAL = {
    ("built", "sign"): "signed",
    ("built", "refuse"): "refused",
    ("signed", "broadcast"): "broadcast",
    ("dropped", "broadcast"): "broadcast",
    ("signed", "see"): "seen",
    ("broadcast", "see"): "seen",
    ("dropped", "see"): "seen",
    ("broadcast", "drop"): "dropped",
    ("seen", "drop"): "dropped",
    ("signed", "mine"): "mined",
    ("broadcast", "mine"): "mined",
    ("seen", "mine"): "mined",
    ("dropped", "mine"): "mined",
    ("replaced", "mine"): "mined",
    ("signed", "replace"): "replaced",
    ("broadcast", "replace"): "replaced",
    ("seen", "replace"): "replaced",
    ("dropped", "replace"): "replaced",
    ("mined", "finalise"): "final",
    ("mined", "revert"): "reverted",
    ("mined", "orphan"): "seen",
    ("final", "orphan"): "seen",
    ("reverted", "orphan"): "seen",
}


@pytest.mark.parametrize("state", OutgoingState)
@pytest.mark.parametrize("event", OutgoingEvent)
def test_each_pair_does_what_the_house_says(state: OutgoingState, event: OutgoingEvent) -> None:
    target = LEGAL.get((state.value, event.value))
    if target is None:
        with pytest.raises(IllegalTransition):
            OUTGOING.next(state, event)
    else:
        assert OUTGOING.next(state, event) == target
