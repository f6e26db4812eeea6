"""One walk: the plan is played on a real node while watchers follow, die, sleep and take over.

Owns what the watchers do and the comparison at the end. The world is the arena's.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Protocol

from config.database import is_away
from tests.simulation.arena import Arena, CannotBe
from tests.simulation.ending import compare, count_steps, unsettled
from tests.simulation.lies import DECEITS
from tests.simulation.plan import REORG_DEPTH_MAX, REORG_LIMIT_BLOCKS, Act, Step
from tests.support.clock import ManualClock
from tests.support.pgproxy import CommitCutter
from tests.support.pools import OverReader
from tests.support.proxy import LyingNode
from tests.support.watching import Watch
from watchers.agreed_chain import AgreedChain
from watchers.chain import Block, Chain
from watchers.errors import LeaseLost, NodeError
from watchers.follower import LEASE_SECONDS, Crash, Follower, no_crash
from watchers.judge import SERIOUS
from watchers.quorum import AgreeingReader

PLAYERS = (("acme", "anna"), ("acme", "ben"), ("zest", "carl"), ("zest", "dora"), ("acme", "eve"))
LOOK_SECONDS = 2.0
HUNG_SECONDS = 60.0
CUT_AMONG = 8  # the COMMIT that is cut is one of this many next ones
VISITS_MAX = 3
REST_ROUNDS = 12
REST_BLOCKS = 4
POINTS = tuple(
    f"{loop}.{moment}"
    for loop in ("block", "block", "reorg", "settle", "mempool", "absence")
    for moment in ("before_commit", "after_commit")
)


class Died(Exception):
    """The process is gone."""


class Violation(AssertionError):
    """What must not be."""


class MakeFollower(Protocol):
    """The follower under test, or a mutant of it."""

    def __call__(self, watch: Watch, chain: Chain, holder: str, crash: Crash) -> Follower: ...


def honest_follower(watch: Watch, chain: Chain, holder: str, crash: Crash) -> Follower:
    """The follower as it is."""
    return Follower(
        chain=chain,
        network=watch.network,
        database=watch.as_watcher,
        clock=watch.clock,
        holder=holder,
        start_height=None,
        crash=crash,
    )


class Gate:
    """Where a watcher sleeps."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


class SleepyReader(AgreeingReader):
    """Has a block's effects in hand, and gives them when the gate opens."""

    def __init__(self, chain: AgreedChain, gate: Gate) -> None:
        super().__init__(chain.pool, reorg_limit_blocks=REORG_LIMIT_BLOCKS)
        self._gate = gate

    async def block(self, block_hash: str) -> Block:
        found = await super().block(block_hash)
        self._gate.reached.set()
        await self._gate.opened.wait()
        return found


def dies(dice: Random) -> Crash:
    """Death at a visit of a point: an exception, or a cancellation that meets the next await."""
    chosen, left = dice.choice(POINTS), dice.randint(1, VISITS_MAX)
    is_cancelled = dice.random() < 0.4

    def crash(point: str) -> None:
        nonlocal left
        left -= point == chosen
        if point != chosen or left:
            return
        task = asyncio.current_task()
        if is_cancelled and task is not None:
            task.cancel()
            return
        raise Died(point)

    return crash


@dataclass(slots=True, kw_only=True)
class Walk:
    """Everything one walk has. `tally` counts over all walks what happened at least once."""

    arena: Arena
    watch: Watch
    proxies: Sequence[LyingNode]
    clock: ManualClock
    cutter: CommitCutter
    tally: Counter[str]
    new_chain: Callable[[], AgreedChain]
    make_follower: MakeFollower = honest_follower
    chain: AgreedChain = field(init=False)
    addresses: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Deposit address -> (brand, player)."""
    processes: int = 0
    started_at: int = 0
    held_before: Mapping[str, int] = field(default_factory=dict)

    async def play(self, plan: Sequence[Step]) -> None:
        """The whole walk. Raises Violation."""
        self.chain = self.new_chain()
        try:
            await self._start()
            for step in plan:
                try:
                    await self._do(step)
                except CannotBe:
                    self.tally["impossible"] += 1
                else:
                    self.tally[step.act] += 1
                if step.looks:
                    await self.look()
            await self._rest()
        finally:
            await self.chain.close()

    async def _start(self) -> None:
        self.started_at = await self.arena.height()
        for brand, player in PLAYERS:
            row = await self.watch.address(player, brand=brand)
            self.addresses[row.address] = (brand, player)
        self.held_before = await self.arena.holds(self.addresses)
        await self._run_new_process()
        await self.look()

    async def _run_new_process(self, crash: Crash = no_crash) -> None:
        """Nothing in memory is left; the lease of the dead one runs out."""
        self.processes += 1
        self.clock.advance(LEASE_SECONDS + 1)
        await self.watch.age_lease()
        self.watch.follower = self._follower(self.chain, crash)

    def _follower(self, chain: Chain, crash: Crash = no_crash) -> Follower:
        return self.make_follower(self.watch, chain, f"process-{self.processes}", crash)

    async def _take_over(self, crash: Crash = no_crash) -> None:
        """Another process: its nodes are unknown to it, its connections new."""
        await self.chain.close()
        self.chain = self.new_chain()
        await self.watch.as_watcher.engine.dispose()
        await self._run_new_process(crash)

    async def look(self) -> None:
        """One round of the watcher, whatever becomes of it."""
        self.clock.advance(LOOK_SECONDS)
        error = await self._outcome(asyncio.create_task(self.watch.follow()))
        if error is None:
            self.tally["looked"] += 1
        elif isinstance(error, Died | asyncio.CancelledError):
            self.tally["died"] += 1
            await self._take_over()
        elif isinstance(error, NodeError):
            self.tally["waited for nodes"] += 1
        elif isinstance(error, LeaseLost):
            self.tally["lease lost"] += 1
        elif is_away(error):
            self.tally["connection lost"] += 1  # as in production the same process goes on
        else:
            raise error

    async def _outcome(self, task: "asyncio.Task[object]") -> BaseException | None:
        done, _ = await asyncio.wait([task], timeout=HUNG_SECONDS)
        if not done:
            task.cancel()
            await asyncio.wait([task])
            raise Violation(f"the watcher hung for {HUNG_SECONDS:g} s")
        return asyncio.CancelledError() if task.cancelled() else task.exception()

    async def _do(self, step: Step) -> None:
        dice, arena = step.dice, self.arena
        depth = dice.randint(1, REORG_DEPTH_MAX)
        simple: dict[Act, Callable[[], Awaitable[object]]] = {
            Act.PAY: lambda: arena.pay(dice, self.addresses),
            Act.MINE: lambda: arena.mine(dice.randint(1, 2)),
            Act.MINE_SOME: lambda: arena.mine_some(dice),
            Act.REORG_REMINE: lambda: arena.reorg_remine(dice, depth),
            Act.REORG_DROP: lambda: arena.reorg_drop(dice, depth),
            Act.REORG_CONFLICT: lambda: arena.reorg_conflict(dice, depth),
            Act.THERE_AND_BACK: lambda: arena.there_and_back(dice, depth, self.look),
            Act.DOUBLE_SPEND: lambda: arena.double_spend(dice),
            Act.REPLACE: lambda: arena.replace(dice),
            Act.REVIVE: lambda: arena.revive(dice),
            Act.RESTART: self._take_over,
            Act.KILL: lambda: self._take_over(dies(dice)),
            Act.LIE: lambda: self._lie(dice, step.turn),
            Act.HONEST: self._honest,
            Act.OUTAGE: lambda: self._outage(dice),
            Act.CUT: lambda: self._cut(dice),
            Act.FREEZE: self._freeze,
        }
        await simple[step.act]()

    async def _lie(self, dice: Random, turn: int | None) -> None:
        """One liar at a time: two of three are always right. Who deceives about blocks is one of
        those that are asked for them; a deceiver that is named counts as caught."""
        await self._honest()
        names = sorted(self.arena.lies)
        if turn is not None:
            name = names[turn % len(names)]
        else:
            name = dice.choice(sorted(DECEITS & set(names)) if dice.random() < 0.5 else names)
        asked = self.chain.pool.quorum if name in DECEITS else len(self.proxies)
        liar = dice.randrange(asked)
        was_named = self._is_named(liar)
        self.arena.lies[name](self.proxies[liar], await self.arena.height())
        self.tally[f"lie: {name}"] += 1
        await self.arena.pay(dice, self.addresses)
        await self.arena.mine()
        await self.look()
        self.tally["liars caught"] += self._is_named(liar) and not was_named

    async def _honest(self) -> None:
        for proxy in self.proxies:
            proxy.honest()

    def _is_named(self, number: int) -> bool:
        return self.chain.pool.records[number].state in SERIOUS

    async def _outage(self, dice: Random) -> None:
        """Too few nodes for one look; what cannot be read is no empty block (N11, N18)."""
        await self._honest()
        await self.arena.mine()
        if dice.random() < 0.5:
            for proxy in dice.sample(self.proxies, k=len(self.proxies) - 1):
                proxy.status = 503
        else:
            for proxy in self.proxies:
                self.arena.hide_bodies(proxy)
        before = self.tally["waited for nodes"] + self.tally["died"]
        await self.look()
        if self.tally["waited for nodes"] + self.tally["died"] == before:
            self.tally["outage not noticed"] += 1
        await self._honest()

    async def _cut(self, dice: Random) -> None:
        cuts = self.cutter.cuts
        reaches = dice.random() < 0.5
        self.cutter.cut_next(dice.randint(1, CUT_AMONG), reaches_server=reaches)
        await self.arena.mine()
        await self.look()
        self.cutter.disarm()
        self.tally[f"cut: {'after' if reaches else 'before'}"] += self.cutter.cuts - cuts

    async def _freeze(self) -> None:
        """The sleeper has the block, its lease runs out, another one follows, it wakes: fenced."""
        await self.arena.mine()
        chain, gate = self.new_chain(), Gate()
        await self._run_new_process()
        sleeper = self._follower(OverReader(chain, SleepyReader(chain, gate)))
        task: asyncio.Task[object] = asyncio.create_task(self.watch.follow(sleeper))
        reached = asyncio.create_task(gate.reached.wait())
        await asyncio.wait(
            [task, reached], timeout=HUNG_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        is_asleep = reached.done()
        reached.cancel()
        try:
            await self._take_over()
            await self.look()
            gate.opened.set()
            error = await self._outcome(task)
        finally:
            await chain.close()
        if is_asleep and not isinstance(error, LeaseLost | NodeError):
            raise Violation(f"a watcher that slept past its lease went on: {error!r}")
        self.tally["fenced"] += isinstance(error, LeaseLost)

    async def _rest(self) -> None:
        """Faults off; mine until nothing is open; then the books must be the chain's."""
        self.cutter.disarm()
        await self._honest()
        await self.arena.clear()
        await self._take_over()
        for _ in range(REST_ROUNDS):
            await self.arena.mine(REST_BLOCKS)
            await self.look()
            if not unsettled(await self.watch.deposits()):
                break
        self.watch.chain = self.chain
        self.tally.update(await count_steps(self.watch))
        await compare(
            self.watch,
            self.arena,
            self.addresses,
            above=self.started_at - REORG_DEPTH_MAX,
            held=self.held_before,
        )


def short(watch: Watch, *, blocks: int) -> None:
    """Absence and disappearance are told after few blocks."""
    spec = replace(watch.network.spec, dropped_blocks=blocks, absence_blocks=blocks)
    watch.network = replace(watch.network, spec=spec)
