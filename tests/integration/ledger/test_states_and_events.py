"""State changes with their history, and events of the same unit of work."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import asyncpg
import pytest

from config.database import Database
from ledger import lifecycle, outbox
from ledger.errors import IllegalTransition, StaleState
from ledger.lifecycle import HistoryRow, Lifecycle
from tests.support.clock import SequentialIds

pytestmark = pytest.mark.postgres

AT = datetime(2026, 1, 1, tzinfo=UTC)


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


LAMP = Lifecycle(
    kind="lamp", table="gateway.lamps", transitions={(_State.OFF, _Event.PRESS): _State.ON}
)


@pytest.fixture
async def lamp(database: Database, ids: SequentialIds) -> UUID:
    """A dark lamp in a table of its own, with the ledger's history trigger."""
    lamp_id = ids.new_id()
    async with database.unit_of_work() as uow:
        await uow.execute(
            "CREATE TABLE gateway.lamps (id uuid PRIMARY KEY, brand text, state text, "
            "version integer, state_at timestamptz, colour text)"
        )
        await uow.execute(
            "CREATE TRIGGER history AFTER INSERT OR UPDATE OF state ON gateway.lamps "
            "FOR EACH ROW EXECUTE FUNCTION ledger.record_state('lamp')"
        )
        await uow.execute(
            "INSERT INTO gateway.lamps VALUES (:id, 'acme', 'off', 1, :at)",
            {"id": lamp_id, "at": AT},
        )
    return lamp_id


async def test_a_step_moves_the_row_once_and_writes_its_history(
    database: Database, lamp: UUID
) -> None:
    async with database.unit_of_work() as uow:
        await lifecycle.set_actor(uow, "alice", reason="dusk")
        row = await lifecycle.advance(
            uow,
            LAMP,
            object_id=lamp,
            current=_State.OFF,
            event=_Event.PRESS,
            set={"colour": "green"},
            at=AT,
        )
        assert (row["state"], row["version"], row["colour"]) == ("on", 2, "green")
        assert await lifecycle.history(uow, "lamp", lamp) == [
            HistoryRow(version=1, previous_state=None, state="off", at=AT, actor=None, reason=None),
            HistoryRow(
                version=2, previous_state="off", state="on", at=AT, actor="alice", reason="dusk"
            ),
        ]


async def test_a_row_that_moved_meanwhile_is_stale(database: Database, lamp: UUID) -> None:
    async def press() -> None:
        async with database.unit_of_work() as uow:
            await lifecycle.advance(
                uow, LAMP, object_id=lamp, current=_State.OFF, event=_Event.PRESS, set={}, at=AT
            )

    await press()
    with pytest.raises(StaleState, match="no longer off"):
        await press()


async def test_an_illegal_step_touches_nothing(database: Database, lamp: UUID) -> None:
    async with database.unit_of_work() as uow:
        with pytest.raises(IllegalTransition):
            await lifecycle.advance(
                uow, LAMP, object_id=lamp, current=_State.ON, event=_Event.PRESS, set={}, at=AT
            )
        assert len(await lifecycle.history(uow, "lamp", lamp)) == 1


async def test_a23_a_column_name_is_never_taken_from_a_stranger(
    database: Database, lamp: UUID
) -> None:
    async with database.unit_of_work() as uow:
        with pytest.raises(ValueError, match="not a column"):
            await lifecycle.advance(
                uow,
                LAMP,
                object_id=lamp,
                current=_State.OFF,
                event=_Event.PRESS,
                set={"colour = 'x', state": 1},
                at=AT,
            )


async def _append(database: Database, ids: SequentialIds, snapshot: dict[str, object]) -> None:
    async with database.unit_of_work() as uow:
        await outbox.append(
            uow,
            event_id=ids.new_id(),
            brand="acme",
            type="lamp.on",
            object_kind="lamp",
            object_id=ids.new_id(),
            object_version=1,
            previous_state=None,
            snapshot=snapshot,
            at=AT,
        )


async def test_an_event_is_stored_in_neutral_form_and_hinted_at(
    database: Database, database_url: str, ids: SequentialIds
) -> None:
    listener = await asyncpg.connect(database_url, timeout=10)
    heard = asyncio.Event()
    try:
        await listener.add_listener(outbox.CHANNEL, lambda *_: heard.set())
        known = ids.new_id()
        await _append(database, ids, {"id": known, "at": AT, "amount": "12", "n": None})
        async with asyncio.timeout(10):
            await heard.wait()
        async with database.unit_of_work() as uow:
            row = (await uow.execute("SELECT brand, snapshot FROM ledger.events")).one()
    finally:
        await listener.close(timeout=10)
    assert row.snapshot == {
        "id": str(known),
        "at": "2026-01-01T00:00:00Z",
        "amount": "12",
        "n": None,
    }


async def test_a_snapshot_without_a_neutral_form_is_refused(
    database: Database, ids: SequentialIds
) -> None:
    with pytest.raises(TypeError, match="Decimal"):
        await _append(database, ids, {"amount": Decimal(1)})
