"""Order and filters of the sequencer, without a database."""

from uuid import UUID

import pytest

from gateway.webhooks.sequencer import in_object_order, matches_type
from gateway.webhooks.store import EventRow
from tests.support.clock import START


def event(number: int, *, object_number: int, version: int) -> EventRow:
    return EventRow(
        id=UUID(int=number),
        brand="acme",
        type="deposit.final",
        object_kind="deposit",
        object_id=UUID(int=object_number),
        object_version=version,
        previous_state=None,
        snapshot={},
        created_at=START,
    )


def test_versions_of_each_object_rise_whatever_the_positions_say() -> None:
    rows = [
        event(1, object_number=7, version=3),
        event(2, object_number=8, version=1),
        event(3, object_number=7, version=1),
        event(4, object_number=7, version=2),
    ]
    ordered = [(row.object_id.int, row.object_version) for row in in_object_order(rows)]
    assert ordered == [(7, 1), (8, 1), (7, 2), (7, 3)]


@pytest.mark.parametrize(
    ("patterns", "event_type", "is_wanted"),
    [
        ((), "deposit.final", True),
        (("deposit.final",), "deposit.final", True),
        (("deposit.*",), "deposit.final", True),
        (("withdrawal.*", "deposit.final"), "deposit.final", True),
        (("*",), "deposit.final", True),
        (("withdrawal.*",), "deposit.final", False),
        (("deposit.pending",), "deposit.final", False),
        (("dep*",), "deposit.final", False),
    ],
)
def test_endpoint_gets_the_types_that_it_asked_for(
    patterns: tuple[str, ...], event_type: str, *, is_wanted: bool
) -> None:
    assert matches_type(patterns, event_type) is is_wanted
