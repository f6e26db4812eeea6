"""Exposure caps on a real database: room, age, staleness, and the sum that is always provable."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from config.database import Database, async_url
from config.migrate import MIGRATIONS_FOLDER
from config.registry import load_registry
from config.settings import BrandSettings, NetworkSettings, Settings
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.exposures import CapDesk
from watchers import exposure

pytestmark = pytest.mark.postgres

COIN = 100_000_000  # satoshi; at 100 USD a coin is 10,000 cents


@pytest.fixture
async def desk(
    test_database: TestDatabase, clock: ManualClock, ids: SequentialIds
) -> AsyncIterator[CapDesk]:
    """BTC and LTC at a rate of 100 USD, no caps yet."""
    settings = Settings(
        networks={name: NetworkSettings(chain="regtest") for name in ("btc", "ltc")},
        brands={"acme": BrandSettings(account_index=1)},
    )
    as_owner = Database(async_url(test_database.owner_url), pool_size=2)
    as_watcher = Database(async_url(test_database.role_url("watchers")), pool_size=12)
    found = CapDesk(
        registry=load_registry(settings),
        network="btc",
        as_owner=as_owner,
        as_watcher=as_watcher,
        clock=clock,
        ids=ids,
    )
    await found.rate("100")
    yield found
    await as_owner.close()
    await as_watcher.close()


async def test_without_a_cap_everything_is_admitted_even_without_a_rate(desk: CapDesk) -> None:
    desk.clock.advance(3_601)
    one = await desk.deposit(COIN)
    assert await desk.credit(one) == {one}
    assert await desk.used("brand") == (0, 1)
    assert await desk.differences() == []


@pytest.mark.parametrize(
    "cap",
    [
        {"per_player": "250.00"},
        {"per_brand": "250.00"},
        {"per_asset": {"btc:BTC": "250.00"}},
        {"brand": "acme", "per_player": "250.00"},
    ],
)
async def test_n2_a_full_cap_keeps_the_next_deposit_pending(
    desk: CapDesk, cap: dict[str, object]
) -> None:
    await desk.caps(cap)
    found = [await desk.deposit(COIN) for _ in range(3)]
    assert await desk.credit(*found) == set(found[:2])
    assert [await desk.substatus(item) for item in found] == [None, None, "exposure_cap"]
    assert await desk.used("player", subject="anna") == (20_000, 2)
    assert await desk.used("asset", subject="btc:BTC") == (20_000, 2)
    assert await desk.used("brand") == (20_000, 2)
    assert await desk.differences() == []


async def test_a_cap_is_met_to_the_last_unit_and_not_exceeded_by_one(desk: CapDesk) -> None:
    await desk.caps({"per_player": "100.00"})
    exact = await desk.deposit(COIN)
    over = await desk.deposit(COIN + 1, player="bert")  # 10,000 cents and a fraction: rounded up
    assert await desk.credit(exact, over) == {exact}


async def test_a_cap_of_one_brand_is_not_that_of_another(desk: CapDesk) -> None:
    await desk.caps({"brand": "acme", "per_brand": "100.00"})
    ours = [await desk.deposit(COIN) for _ in range(2)]
    theirs = [await desk.deposit(COIN, brand="zest") for _ in range(2)]
    assert await desk.credit(*ours, *theirs) == {ours[0], *theirs}


async def test_room_goes_to_the_oldest_and_nobody_overtakes(desk: CapDesk) -> None:
    await desk.caps({"per_brand": "300.00"})
    first = await desk.deposit(2 * COIN)
    old = await desk.deposit(2 * COIN, player="bert")
    young = await desk.deposit(COIN, player="carl")
    assert await desk.credit(first) == {first}
    assert await desk.credit(old, young) == set()  # the young one would fit
    assert await desk.credit(young) == set()  # nor alone: the old one keeps its place
    async with desk.as_watcher.unit_of_work() as uow:
        assert list(await exposure.waiting(uow, desk.network, 10)) == [old, young]
    await desk.move("final", first)
    assert await desk.credit(old, young) == {old, young}
    assert await desk.used("brand") == (30_000, 2)
    assert await desk.differences() == []


async def test_one_that_is_larger_than_the_cap_holds_up_nobody(desk: CapDesk) -> None:
    await desk.caps({"per_brand": "100.00"})
    whale = await desk.deposit(2 * COIN)
    small = await desk.deposit(COIN, player="bert")
    assert await desk.credit(whale, small) == {small}
    assert await desk.substatus(whale) == "exposure_cap"


async def test_a_players_own_full_cap_holds_up_no_other_player(desk: CapDesk) -> None:
    await desk.caps({"per_player": "100.00", "per_brand": "300.00"})
    found = [await desk.deposit(COIN) for _ in range(3)]
    bert = await desk.deposit(COIN, player="bert")
    assert await desk.credit(*found) == {found[0]}
    assert await desk.credit(bert) == {bert}


async def test_a_rate_older_than_an_hour_means_that_the_cap_is_full(desk: CapDesk) -> None:
    await desk.caps({"per_brand": "1000.00"})
    desk.clock.advance(3_600 - 1)
    last = await desk.deposit(COIN)
    assert await desk.credit(last) == {last}
    desk.clock.advance(2)
    late = await desk.deposit(COIN)
    assert await desk.credit(late) == set()
    assert await desk.substatus(late) == "exposure_cap"
    assert await desk.alarms() == ["rate_stale"]
    await desk.rate("100")
    assert await desk.credit(late) == {late}
    assert await desk.substatus(late) is None
    assert await desk.alarms() == []


async def test_what_counts_without_a_value_fills_every_cap_until_it_is_gone(
    desk: CapDesk,
) -> None:
    desk.clock.advance(3_601)
    unknown = await desk.deposit(COIN)
    await desk.credit(unknown)
    await desk.rate("100")
    await desk.caps({"per_brand": "1000.00"})
    later = await desk.deposit(COIN, player="bert")
    assert await desk.credit(later) == set()
    await desk.move("final", unknown)
    assert await desk.credit(later) == {later}
    assert await desk.differences() == []


async def test_raising_a_cap_lets_in_and_lowering_takes_nothing_back(desk: CapDesk) -> None:
    await desk.caps({"per_brand": "100.00"})
    found = [await desk.deposit(COIN) for _ in range(2)]
    assert await desk.credit(*found) == {found[0]}
    await desk.caps({"per_brand": "200.00"})
    assert await desk.credit(found[1]) == {found[1]}
    await desk.caps({"per_brand": "50.00"})
    assert await desk.used("brand") == (20_000, 2)
    assert {row.state for row in await desk.rows(found)} == {"provisional"}
    more = await desk.deposit(COIN // 100)
    assert await desk.credit(more) == set()


async def test_orphaned_value_counts_and_final_value_does_not(desk: CapDesk) -> None:
    await desk.caps({"per_player": "100.00"})
    one = await desk.deposit(COIN)
    await desk.credit(one)
    await desk.move("orphaned", one, prior="provisional")
    assert await desk.used("player", subject="anna") == (10_000, 1)
    await desk.move("provisional", one)
    await desk.move("final", one)
    assert await desk.used("player", subject="anna") == (0, 0)
    await desk.move("orphaned", one, prior="final")
    assert await desk.used("player", subject="anna") == (10_000, 1)
    other = await desk.deposit(1)
    assert await desk.credit(other) == set()
    await desk.move("reversed", one)
    assert await desk.credit(other) == {other}
    assert await desk.differences() == []


async def test_final_value_that_is_orphaned_counts_beyond_the_cap(desk: CapDesk) -> None:
    await desk.caps({"per_brand": "100.00"})
    old = await desk.deposit(COIN)
    await desk.credit(old)
    await desk.move("final", old)
    new = await desk.deposit(COIN, player="bert")
    await desk.credit(new)
    await desk.move("orphaned", old, prior="final")
    assert await desk.used("brand") == (20_000, 2)
    assert await desk.differences() == []


async def test_the_count_is_the_same_however_often_it_is_asked(desk: CapDesk) -> None:
    one = await desk.deposit(COIN)
    async with desk.as_watcher.unit_of_work() as uow:
        rows = await desk.rows([one])
        for _ in range(2):
            admitted = await exposure.admit(uow, desk.network, rows, at=desk.clock.now())
            assert admitted == {one}
    assert await desk.used("brand") == (10_000, 1)
    for _ in range(2):
        async with desk.as_watcher.unit_of_work() as uow:
            released = await exposure.release(
                uow, desk.network, await desk.rows([one]), at=desk.clock.now()
            )
    assert released == 0
    assert await desk.used("brand") == (0, 0)
    assert await desk.differences() == []


async def test_the_check_names_each_kind_of_lie(desk: CapDesk) -> None:
    one, two = [await desk.deposit(COIN) for _ in range(2)]
    await desk.credit(one, two)
    async with desk.as_owner.unit_of_work() as uow:
        await uow.execute(
            "UPDATE chain.exposure_usage SET value = value - 1 WHERE scope = 'player'"
        )
        await uow.execute(
            "UPDATE chain.deposits SET state = 'final', version = version + 1 WHERE id = :id",
            {"id": one},
        )
    assert [(item.kind, item.subject) for item in await desk.differences()] == [
        ("counts no longer", str(one)),
        ("sum", "player acme anna"),
    ]


async def test_a_hundred_at_once_never_exceed_a_cap_by_one_unit(desk: CapDesk) -> None:
    """Each in a unit of work of its own, players mixed, room for 37."""
    await desk.caps({"per_brand": "3799.99"})
    found = [await desk.deposit(COIN, player=f"p{n % 7}") for n in range(100)]
    async with asyncio.TaskGroup() as group:
        for item in found:
            group.create_task(desk.credit(item))
    assert await desk.used("brand") == (370_000, 37)
    states = [row.state.value for row in await desk.rows(found)]
    assert (states.count("provisional"), states.count("pending")) == (37, 63)
    assert await desk.differences() == []


async def test_room_that_many_race_for_is_given_once(desk: CapDesk) -> None:
    """Ten times: all wait, one unit of room appears, everybody asks at once."""
    await desk.caps({"per_brand": "100.00"})
    first = await desk.deposit(COIN)
    await desk.credit(first)
    found = [await desk.deposit(COIN, player=f"p{n}") for n in range(10)]
    await desk.credit(*found)
    for expected in found:
        await desk.move("final", first)
        async with asyncio.TaskGroup() as group:
            for item in found:
                group.create_task(desk.credit(item))
        credited = [row.id for row in await desk.rows(found) if row.state == "provisional"]
        assert credited == [expected]
        first = expected


async def test_the_worked_example_of_the_guide(desk: CapDesk) -> None:
    """docs/integration/credit-policy.md, row by row."""
    desk.clock.advance(3_600)
    await desk.rate("64250.5")
    await desk.caps({"brand": "acme", "per_player": "5000.00", "per_brand": "12000.00"})
    first = await desk.deposit(5_000_000)
    assert await desk.credit(first) == {first}
    assert await desk.used("brand") == (321_253, 1)
    second = await desk.deposit(3_000_000)
    assert await desk.credit(second) == set()
    bert = await desk.deposit(7_000_000, player="bert")
    assert await desk.credit(bert) == {bert}
    assert await desk.used("brand") == (771_007, 2)
    carl = await desk.deposit(7_700_000, player="carl")
    dora = await desk.deposit(1_000_000, player="dora")
    assert await desk.credit(carl) == set()
    assert await desk.credit(dora) == set()
    await desk.move("final", first)
    assert await desk.used("brand") == (449_754, 1)
    assert await desk.credit(second, carl, dora) == {second, carl}
    assert await desk.used("brand") == (1_137_235, 3)
    assert await desk.substatus(dora) == "exposure_cap"
    assert await desk.differences() == []


async def test_watchers_of_two_networks_share_the_room_of_a_brand(desk: CapDesk) -> None:
    """Both credit and release at once, two brands each; neither waits for ever."""
    other = CapDesk(
        registry=desk.registry,
        network="ltc",
        as_owner=desk.as_owner,
        as_watcher=desk.as_watcher,
        clock=desk.clock,
        ids=desk.ids,
    )
    await other.rate("100")
    await desk.caps({"per_brand": "1000.00"})
    for _ in range(3):
        rounds = [
            (bench, await bench.deposit(COIN, brand=brand, player=f"p{n}"))
            for n in range(8)
            for brand in ("acme", "zest")
            for bench in (desk, other)
        ]
        ids = {bench: [item for owner, item in rounds if owner is bench] for bench in (desk, other)}
        async with asyncio.TaskGroup() as group:
            for bench, found in ids.items():
                for start in range(0, len(found), 4):
                    group.create_task(bench.credit(*found[start : start + 4]))
        assert await desk.used("brand") == (100_000, 10)
        assert await desk.used("brand", brand="zest") == (100_000, 10)
        async with asyncio.TaskGroup() as group:
            for bench, found in ids.items():
                group.create_task(bench.move("final", *found))
        assert await desk.used("brand") == (0, 0)
    assert await desk.differences() == []


async def test_what_counted_before_the_upgrade_counts_after_it_without_a_value(
    desk: CapDesk,
) -> None:
    """The statements of the migration over deposits that nobody counted."""
    rows = [("provisional", None), ("orphaned", "final"), ("orphaned", "on_hold"), ("final", None)]
    found = [await desk.deposit(COIN) for _ in rows]
    script = (MIGRATIONS_FOLDER / "sql" / "0009_exposure.sql").read_text(encoding="utf-8")
    backfill = [
        statement
        for statement in script.split(";")
        if "INSERT INTO chain.exposures (" in statement
        or "INSERT INTO chain.exposure_usage (" in statement
    ]
    assert len(backfill) == 2
    async with desk.as_owner.unit_of_work() as uow:
        for deposit_id, (state, prior) in zip(found, rows, strict=True):
            await uow.execute(
                "UPDATE chain.deposits SET state = :state, prior_state = :prior,"
                " version = version + 1 WHERE id = :id",
                {"id": deposit_id, "state": state, "prior": prior},
            )
        for statement in backfill:
            await uow.execute(statement[statement.index("INSERT") :])
    assert await desk.differences() == []
    assert await desk.used("brand") == (0, 2)
    await desk.caps({"per_brand": "1000.00"})
    later = await desk.deposit(COIN)
    assert await desk.credit(later) == set()
    await desk.move("final", *found[:2])
    assert await desk.credit(later) == {later}
