"""A lifecycle is its table and nothing else."""

from enum import StrEnum
from itertools import product

import pytest

from ledger.errors import IllegalTransition
from ledger.lifecycle import Lifecycle


class _State(StrEnum):
    """Of a lamp."""

    OFF = "off"
    """Dark."""
    ON = "on"
    """Bright."""


class _Event(StrEnum):
    """What happens to a lamp."""

    PRESS = "press"
    """A finger."""
    BURN_OUT = "burn_out"
    """Age."""


TABLE = {
    (_State.OFF, _Event.PRESS): _State.ON,
    (_State.ON, _Event.PRESS): _State.OFF,
    (_State.ON, _Event.BURN_OUT): _State.OFF,
}
LAMP = Lifecycle(kind="lamp", table="public.lamps", transitions=TABLE)


@pytest.mark.parametrize(("state", "event"), list(product(_State, _Event)))
def test_every_pair_is_in_the_table_or_illegal(state: _State, event: _Event) -> None:
    assert LAMP.allows(state, event) is ((state, event) in TABLE)
    if (state, event) in TABLE:
        assert LAMP.next(state, event) is TABLE[state, event]
    else:
        with pytest.raises(IllegalTransition, match="lamp"):
            LAMP.next(state, event)


def test_the_table_is_frozen() -> None:
    with pytest.raises(TypeError):
        LAMP.transitions[_State.OFF, _Event.BURN_OUT] = _State.OFF  # type: ignore[index]
