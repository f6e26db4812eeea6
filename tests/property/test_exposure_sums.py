"""Any sequence of credits, reorgs, rates and policies keeps usage equal to the sum of deposits."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.database import Database, async_url
from config.registry import load_registry
from config.settings import BrandSettings, NetworkSettings, Settings
from gateway.sandbox.postgres import EmbeddedPostgres
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import clone, drop
from tests.support.exposures import CapDesk
from tests.support.hosting import LoopThread

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

PLAYERS = ("anna", "bert")
CAP_CENTS = 30_000

Op = tuple[str, int]
OPS = st.one_of(
    st.tuples(st.just("pay"), st.integers(1, 250_000_000)),
    st.tuples(st.just("credit"), st.just(0)),
    st.tuples(st.just("finalise"), st.integers(0, 9)),
    st.tuples(st.just("orphan"), st.integers(0, 9)),
    st.tuples(st.just("restore"), st.integers(0, 9)),
    st.tuples(st.just("reverse"), st.integers(0, 9)),
    st.tuples(st.just("hold"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.integers(1, 5_000)),
    st.tuples(st.just("rate"), st.integers(1, 200)),
    st.tuples(st.just("cap"), st.integers(0, CAP_CENTS)),
)
FROM = {
    "finalise": ("pending", "provisional"),
    "orphan": ("provisional", "final", "on_hold"),
    "restore": ("orphaned",),
    "reverse": ("orphaned",),
    "hold": ("provisional",),
}
TO = {"finalise": "final", "orphan": "orphaned", "reverse": "reversed", "hold": "on_hold"}


async def play(desk: CapDesk, script: Sequence[Op]) -> None:
    """Do a script; a step that nobody can take is left out. Checked after every step."""
    ids: list[UUID] = []
    cap_minor: int | None = None
    for name, number in script:
        rows = await desk.rows(ids)
        if name == "pay":
            ids.append(await desk.deposit(number, player=PLAYERS[number % 2]))
        elif name == "wait":
            desk.clock.advance(number)
        elif name == "rate":
            await desk.rate(str(number))
        elif name == "cap":
            await desk.caps({"per_brand": f"{number // 100}.{number % 100:02d}"})
            cap_minor = number
        elif name == "credit":
            before = (await desk.used("brand"))[0]
            admitted = await desk.credit(*(row.id for row in rows if row.state == "pending"))
            after = (await desk.used("brand"))[0]
            assert after <= max(before, cap_minor) if cap_minor is not None else after >= before
            assert admitted or after == before
        else:
            open_ = [row for row in rows if row.state.value in FROM[name]]
            if open_:
                row = open_[number % len(open_)]
                prior = row.state.value if name == "orphan" else None
                state = str(row.prior_state) if name == "restore" else TO[name]
                await desk.move(state, row.id, prior=prior)
        assert await desk.differences() == []


async def run(postgres: EmbeddedPostgres, script: Sequence[Op]) -> None:
    """One script on a database of its own."""
    database = await clone(postgres)
    clock = ManualClock()
    opened = [
        Database(async_url(database.owner_url), pool_size=1),
        Database(async_url(database.role_url("watchers")), pool_size=2),
    ]
    registry = load_registry(
        Settings(
            networks={"btc": NetworkSettings(chain="regtest")},
            brands={"acme": BrandSettings(account_index=1)},
        )
    )
    try:
        desk = CapDesk(
            registry=registry,
            network="btc",
            as_owner=opened[0],
            as_watcher=opened[1],
            clock=clock,
            ids=SequentialIds(clock),
        )
        await play(desk, script)
    finally:
        for item in opened:
            await item.close()
        await drop(database)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(OPS, min_size=5, max_size=25))
def test_usage_is_the_sum_of_the_deposits_whatever_happens(
    postgres: EmbeddedPostgres, loop_thread: LoopThread, script: list[Op]
) -> None:
    loop_thread.run(run(postgres, script))
