"""Breakers in the database: who may write what, once however often, and nothing is forgotten."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlalchemy.exc import DBAPIError

from config.database import Database, async_url
from config.settings import DatabaseRole
from tests.support.clock import START, SequentialIds
from tests.support.databases import TestDatabase
from watchers import switches
from watchers.switches import Action, GrantKind, Switch, Value

pytestmark = pytest.mark.postgres

BTC = "network:btc"


@dataclass(frozen=True, slots=True)
class Board:
    """One role's view of the breakers, each call in a unit of work of its own."""

    database: Database
    ids: SequentialIds

    async def stop(
        self,
        scope: str = BTC,
        action: Action = Action.ALL,
        *,
        reason: str = "a deep reorg",
        actor: str = "watcher",
    ) -> bool:
        """Open a breaker."""
        async with self.database.unit_of_work() as uow:
            return await switches.open_breaker(
                uow, scope=scope, action=action, reason=reason, actor=actor, ids=self.ids, at=START
            )

    async def start(
        self, *, version: int = 1, scope: str = BTC, action: Action = Action.ALL, by: str = "bea"
    ) -> Switch | None:
        """Close a breaker."""
        async with self.database.unit_of_work() as uow:
            return await switches.close_breaker(
                uow,
                scope=scope,
                action=action,
                version=version,
                reason="looked at",
                proposed_by="anna",
                approved_by=by,
                ids=self.ids,
                at=START,
            )

    async def is_stopped(self, network: str, asset: str | None, action: Action) -> bool:
        """What a step asks."""
        async with self.database.unit_of_work() as uow:
            return await switches.is_stopped(uow, network=network, asset=asset, action=action)

    async def grant(self, kind: GrantKind, count: int, *, value: Value | None = None) -> None:
        """What two people allow."""
        async with self.database.unit_of_work() as uow:
            await switches.grant(
                uow,
                network="btc",
                kind=kind,
                count=count,
                value=value,
                proposed_by="anna",
                approved_by="bea",
                ids=self.ids,
                at=START,
            )

    async def take(self, count: int, *, value_minor: int | None = None) -> bool:
        """Use a grant up."""
        async with self.database.unit_of_work() as uow:
            return await switches.take_reversals(
                uow, network="btc", count=count, value_minor=value_minor, currency="USD", at=START
            )

    async def column(self, sql: str) -> list[object]:
        """The first column of a query, as this role sees it."""
        async with self.database.unit_of_work() as uow:
            return list((await uow.execute(sql)).scalars())


@pytest.fixture
async def boards(
    test_database: TestDatabase, ids: SequentialIds
) -> AsyncIterator[dict[DatabaseRole, Board]]:
    """The view of each role that stops or reads."""
    roles: tuple[DatabaseRole, ...] = ("watchers", "gateway_payouts", "gateway_api")
    opened = {role: Database(async_url(test_database.role_url(role))) for role in roles}
    yield {role: Board(database, ids) for role, database in opened.items()}
    for database in opened.values():
        await database.close()


@pytest.fixture
def watcher(boards: dict[DatabaseRole, Board]) -> Board:
    """The watcher's view."""
    return boards["watchers"]


@pytest.fixture
def api(boards: dict[DatabaseRole, Board]) -> Board:
    """The API's view."""
    return boards["gateway_api"]


async def test_i16_an_open_breaker_of_a_network_stops_every_action_and_asset_of_it_alone(
    watcher: Board,
) -> None:
    assert await watcher.stop()
    for action in Action:
        assert await watcher.is_stopped("btc", "btc:BTC", action)
        assert await watcher.is_stopped("btc", None, action)
        assert not await watcher.is_stopped("bt", None, action)
        assert not await watcher.is_stopped("ltc", "ltc:LTC", action)


async def test_i16_one_action_of_one_asset_stops_nothing_else(watcher: Board) -> None:
    await watcher.stop("asset:eth:USDT", Action.BUILD)
    assert await watcher.is_stopped("eth", "eth:USDT", Action.BUILD)
    assert not await watcher.is_stopped("eth", "eth:USDT", Action.SIGN)
    assert not await watcher.is_stopped("eth", "eth:ETH", Action.BUILD)
    assert not await watcher.is_stopped("eth", None, Action.BUILD)


async def test_a_hundred_stops_at_once_are_one_with_one_event_and_one_alarm(
    watcher: Board, boards: dict[DatabaseRole, Board]
) -> None:
    both = [watcher, boards["gateway_payouts"]]
    told = await asyncio.gather(*(both[i % 2].stop() for i in range(100)))
    assert sum(told) == 1
    assert await watcher.column("SELECT version FROM chain.switch_history") == [1]
    assert await watcher.column(
        "SELECT object_version FROM ledger.events WHERE type = 'switch.changed'"
    ) == [1]
    assert await watcher.column("SELECT kind FROM gateway.alarms") == ["switch_stopped"]


async def test_a_second_cause_is_kept_and_voids_what_was_agreed_without_it(
    watcher: Board, api: Board
) -> None:
    await watcher.stop()
    assert not await watcher.stop(reason="21 reversals in one step")
    assert await api.start(version=1) is None
    assert await api.is_stopped("btc", None, Action.CREDIT)
    assert await api.start(version=2) is not None
    assert not await api.is_stopped("btc", None, Action.CREDIT)


async def test_causes_without_end_stop_growing(watcher: Board) -> None:
    for number in range(switches.CAUSES_MAX + 5):
        await watcher.stop(reason=f"cause {number}")
    assert await watcher.column("SELECT version FROM chain.switches") == [switches.CAUSES_MAX]


@pytest.mark.parametrize("role", ["watchers", "gateway_payouts"])
async def test_a31_a_process_that_may_stop_cannot_start_again(
    boards: dict[DatabaseRole, Board], role: DatabaseRole
) -> None:
    await boards[role].stop()
    with pytest.raises(DBAPIError):
        await boards[role].start()
    assert await boards[role].is_stopped("btc", None, Action.SIGN)


async def test_a31_the_database_takes_no_start_by_one_person(watcher: Board, api: Board) -> None:
    await watcher.stop()
    with pytest.raises(DBAPIError):
        await api.start(by="anna")
    assert await api.is_stopped("btc", None, Action.SIGN)


async def test_a_start_closes_the_alarm_and_a_later_stop_opens_it_again(
    watcher: Board, api: Board
) -> None:
    await watcher.stop()
    await api.start()
    assert await watcher.stop(reason="a deep reorg")
    assert await watcher.column(
        "SELECT cleared_at IS NULL FROM gateway.alarms ORDER BY cleared_at NULLS LAST"
    ) == [False, True]
    assert await watcher.column("SELECT state FROM chain.switch_history ORDER BY version") == [
        "stopped",
        "running",
        "stopped",
    ]


async def test_a_hundred_starts_at_once_have_one_effect(watcher: Board, api: Board) -> None:
    await watcher.stop()
    done = await asyncio.gather(*(api.start() for _ in range(100)))
    assert sum(item is not None for item in done) == 1
    assert await api.column("SELECT max(version) FROM chain.switch_history") == [2]


@pytest.mark.parametrize(
    "change",
    [
        "scope = 'network:nowhere', version = version + 1",
        "action = 'sweep', version = version + 1",
        "causes = ARRAY['watcher: another'], version = version + 1",
        "version = version + 2",
        "reason = 'not this'",
    ],
)
@pytest.mark.parametrize("as_owner", [False, True], ids=["payouts", "owner"])
async def test_a31_a_stop_is_not_lifted_by_making_it_another(
    boards: dict[DatabaseRole, Board],
    test_database: TestDatabase,
    *,
    change: str,
    as_owner: bool,
) -> None:
    role: DatabaseRole = "gateway_payouts"
    await boards[role].stop()
    url = test_database.owner_url if as_owner else test_database.role_url(role)
    opened = Database(async_url(url), pool_size=1)
    try:
        with pytest.raises(DBAPIError):
            async with opened.unit_of_work() as uow:
                await uow.execute(f"UPDATE chain.switches SET {change}")
    finally:
        await opened.close()
    assert await boards[role].is_stopped("btc", None, Action.SIGN)


@pytest.mark.parametrize(
    "statement",
    ["UPDATE chain.switch_history SET reason = ''", "DELETE FROM chain.switch_history"],
)
async def test_the_history_is_changed_by_nobody_not_even_the_owner(
    watcher: Board, test_database: TestDatabase, statement: str
) -> None:
    await watcher.stop()
    owner = Database(async_url(test_database.owner_url), pool_size=1)
    try:
        with pytest.raises(DBAPIError, match="append-only"):
            async with owner.unit_of_work() as uow:
                await uow.execute(statement)
    finally:
        await owner.close()


async def test_d05_a_grant_of_reversals_is_used_once_and_covers_no_more_than_its_count(
    watcher: Board, api: Board
) -> None:
    await api.grant(GrantKind.REVERSALS, 25)
    assert not await watcher.take(26)
    taken = await asyncio.gather(*(watcher.take(25) for _ in range(20)))
    assert sum(taken) == 1


async def test_d05_a_grant_of_a_value_covers_no_more_and_nothing_that_nobody_can_tell(
    watcher: Board, api: Board
) -> None:
    await api.grant(GrantKind.REVERSALS, 25, value=Value(minor=500, currency="EUR"))
    assert not await watcher.take(25, value_minor=500)
    await api.grant(GrantKind.REVERSALS, 25, value=Value(minor=500, currency="USD"))
    assert not await watcher.take(25, value_minor=501)
    assert not await watcher.take(25, value_minor=None)
    assert not await watcher.take(26, value_minor=500)
    taken = await asyncio.gather(*(watcher.take(25, value_minor=500) for _ in range(20)))
    assert sum(taken) == 1
    assert await api.column(
        "SELECT taken_value_minor FROM chain.switch_grants WHERE taken_at IS NOT NULL"
    ) == [500]


async def test_d05_a_grant_that_names_a_value_is_used_before_one_that_does_not(
    watcher: Board, api: Board
) -> None:
    await api.grant(GrantKind.REVERSALS, 25)
    await api.grant(GrantKind.REVERSALS, 25, value=Value(minor=500, currency="USD"))
    assert await watcher.take(25, value_minor=500)
    assert await watcher.take(25, value_minor=None)


async def test_d05_a_watcher_grants_itself_nothing(watcher: Board) -> None:
    with pytest.raises(DBAPIError):
        await watcher.grant(GrantKind.REVERSALS, 25)


async def test_d09_no_reorg_is_granted_where_nobody_follows(api: Board) -> None:
    with pytest.raises(ValueError, match="nobody follows"):
        await api.grant(GrantKind.REORG, 200)


async def test_d05_a_grant_ends_with_the_next_stop_even_after_another_start(
    watcher: Board, api: Board
) -> None:
    await watcher.stop()
    await api.start(version=1)
    await api.grant(GrantKind.REVERSALS, 25)
    await watcher.stop(reason="another cause")
    assert not await watcher.take(25)
    await api.start(version=3)
    assert not await watcher.take(25)
    await api.grant(GrantKind.REVERSALS, 25)
    assert await watcher.take(25)
