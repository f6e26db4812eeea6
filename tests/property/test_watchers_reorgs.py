"""Any script of payments, blocks and reorgs ends with the books of a straight chain."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.sandbox.postgres import EmbeddedPostgres
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import clone, drop
from tests.support.hosting import LoopThread
from tests.support.simchain import SimUtxo, sim_utxo
from tests.support.watching import Watch, watching

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

AMOUNTS = (1_000, 50_000_000, 200_000_000)  # below the minimum, full tier 3, full tier 6
REST_BLOCKS = 8  # past every full tier above

Op = tuple[str, int]
OPS = st.one_of(
    st.tuples(st.just("pay"), st.integers(0, len(AMOUNTS) - 1)),
    st.tuples(st.just("mine"), st.integers(1, 3)),
    st.tuples(st.just("lose"), st.integers(1, 4)),
    st.tuples(st.just("conflict"), st.just(0)),
    st.tuples(st.just("follow"), st.just(0)),
)


async def play(sim: SimUtxo, watch: Watch, address: str, script: Sequence[Op]) -> None:
    """Do a script; a step that the world cannot take is left out."""
    for name, number in script:
        depth = min(number, len(sim.active) - 1)
        if name == "pay":
            sim.pay([(address, AMOUNTS[number])])
        elif name == "mine":
            sim.mine(number)
        elif name == "lose" and depth:
            sim.rewind(depth)
            for _ in range(depth):
                sim.mine_exactly([])
        elif name == "conflict" and sim.pool:
            sim.conflict(next(iter(sim.pool)))
        elif name == "follow":
            await watch.follow()
    sim.mine(REST_BLOCKS)
    await watch.follow()


async def compare(postgres: EmbeddedPostgres, script: Sequence[Op]) -> None:
    """The books after the script against those of a watcher that saw only the end."""
    sim, chain = sim_utxo()
    databases = [await clone(postgres), await clone(postgres)]
    clock = ManualClock()
    try:
        async with (
            watching(chain, databases[0], clock=clock, ids=SequentialIds(clock)) as watch,
            watching(chain, databases[1], clock=clock, ids=SequentialIds(clock)) as straight,
        ):
            anna = await watch.address("anna")
            assert (await straight.address("anna")).address == anna.address
            await play(sim, watch, anna.address, script)
            await straight.follow()
            assert await watch.books() == await straight.books()
            await watch.audit()
            await straight.audit()
    finally:
        for database in databases:
            await drop(database)


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(OPS, min_size=4, max_size=14))
def test_any_reorg_script_ends_with_the_books_of_a_straight_chain(
    postgres: EmbeddedPostgres, loop_thread: LoopThread, script: list[Op]
) -> None:
    loop_thread.run(compare(postgres, script))
