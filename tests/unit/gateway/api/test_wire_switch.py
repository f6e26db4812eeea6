"""What the operator's stream says of a switch."""

import json
from uuid import UUID

from gateway.api.wire import WireContext, render_object
from tests.support.clock import START
from watchers import switches
from watchers.switches import Action, Switch

SWITCH = Switch(
    id=UUID(int=7),
    scope="network:btc",
    action=Action.ALL,
    is_stopped=True,
    reason="drill",
    causes=("ada: drill",),
    changed_by="ada",
    approved_by=None,
    version=3,
    stopped_at=START,
    changed_at=START,
)


def test_an_event_carries_the_switch_as_the_api_shows_it() -> None:
    context = WireContext(assets={}, livemode=False)
    shown = render_object("switch", switches.snapshot(SWITCH), context=context)
    assert json.loads(json.dumps(shown)) == {
        "id": f"sw_test_{7:032x}",
        "version": 3,
        "brand": "operator",
        "livemode": False,
        "scope": "network:btc",
        "action": "all",
        "state": "stopped",
        "reason": "drill",
        "causes": ["ada: drill"],
        "changed_by": "ada",
        "approved_by": None,
        "stopped_at": "2026-01-01T00:00:00.000000Z",
        "changed_at": "2026-01-01T00:00:00.000000Z",
    }
