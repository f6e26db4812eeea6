"""Many walks on one node, each on a fresh copy of one filled database."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from config.registry import Registry
from gateway.sandbox.nodes import COINBASE_MATURITY_BLOCKS, Anvil, Bitcoind, Litecoind, UtxoNode
from gateway.sandbox.postgres import EmbeddedPostgres
from tests.conformance.conftest import chain_of
from tests.simulation.arena import Arena
from tests.simulation.evm_arena import EvmArena
from tests.simulation.plan import REORG_LIMIT_BLOCKS, Step, make_plan
from tests.simulation.utxo_arena import UtxoArena
from tests.simulation.walk import MakeFollower, Walk, honest_follower, short
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase, clone, drop
from tests.support.pgproxy import CommitCutter, commit_cutter
from tests.support.proxy import LyingNode, lying
from tests.support.watching import watching
from watchers.agreed_chain import AgreedChain
from watchers.chain import Chain
from watchers.registry import build_agreed_chain

QUORUM, NODES = 2, 3
ABSENCE_BLOCKS = 5
TIMEOUT_SECONDS = 5.0


class WalkFailed(AssertionError):
    """A walk ended wrong; the message has its plan and the command that repeats it."""


class WalkClock(ManualClock):
    """A pause between two tries at a node is over at once: time is the walk's."""

    async def sleep(self, delay_seconds: float) -> None:
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutDatabase(TestDatabase):
    """A database whose watchers connect through the cutter."""

    __test__ = False

    folder: Path

    def role_url(self, role: str) -> str:
        if role == "watchers":
            return f"postgresql://watchers@/{self.name}?host={self.folder}"
        return self.server.url(self.name, user=role)


@dataclass(slots=True, kw_only=True)
class Campaign:
    """A node with its three proxies, and what all walks on it counted."""

    backend: str
    arena: Arena
    chain: Chain
    """The network without its nodes: codec and family."""
    postgres: EmbeddedPostgres
    template: str
    proxies: Sequence[LyingNode]
    cutter: CommitCutter
    folder: Path
    tally: Counter[str] = field(default_factory=Counter)

    async def walk(self, seed: int, *, make_follower: MakeFollower = honest_follower) -> None:
        """Raises WalkFailed."""
        plan = make_plan(seed, can_replace=self.arena.can_replace)
        database = await clone(self.postgres, template=self.template, is_durable=False)
        cut = CutDatabase(server=self.postgres, name=database.name, folder=self.folder)
        await self.arena.begin()
        try:
            await self._walk(seed, plan, cut, make_follower)
        except Exception as error:  # whatever it is, the seed goes with it
            acts = " ".join(f"{step.act}{'' if step.looks else '-'}" for step in plan)
            raise WalkFailed(
                f"walk {seed} on {self.backend}: {type(error).__name__}: {error}\nplan: {acts}\n"
                f"repeat: ./cage test --walks 1 --seed {seed} tests/simulation -k {self.backend}"
            ) from error
        finally:
            self.cutter.disarm()
            for proxy in self.proxies:
                proxy.honest()
            await self.arena.end()
            await drop(database)

    async def _walk(
        self, seed: int, plan: Sequence[Step], database: TestDatabase, make_follower: MakeFollower
    ) -> None:
        clock = WalkClock()
        ids = SequentialIds(clock, seed=seed)
        async with watching(
            self.chain,
            database,
            clock=clock,
            ids=ids,
            assets=self.arena.assets,
            reorg_limit_blocks=REORG_LIMIT_BLOCKS,
        ) as watch:
            short(watch, blocks=ABSENCE_BLOCKS)
            walk = Walk(
                arena=self.arena,
                watch=watch,
                proxies=self.proxies,
                clock=clock,
                cutter=self.cutter,
                tally=self.tally,
                new_chain=lambda: self._new_chain(watch.registry, clock),
                make_follower=make_follower,
            )
            await walk.play(plan)

    def _new_chain(self, registry: Registry, clock: ManualClock) -> AgreedChain:
        """The chain as the role builds it, two of three; its looks follow the walk's clock."""
        return build_agreed_chain(
            registry.chains[self.arena.network],
            [proxy.url for proxy in self.proxies],
            registry.assets.values(),
            quorum=QUORUM,
            clock=clock,
            timeout_seconds=TIMEOUT_SECONDS,
        )


@asynccontextmanager
async def campaign(
    backend: str, *, postgres: EmbeddedPostgres, programs: Mapping[str, Path], folder: Path
) -> AsyncIterator[Campaign]:
    """A node of its own, three proxies before it, and a database whose address pool is full."""
    async with AsyncExitStack() as stack:
        arena = await _arena(backend, programs[backend], folder / backend, stack)
        proxies = [await stack.enter_async_context(lying(arena.url)) for _ in range(NODES)]
        sockets = folder / f"cut-{backend}"
        sockets.mkdir(parents=True)
        cutter, _ = await stack.enter_async_context(commit_cutter(postgres.url(), sockets))
        chain = chain_of(arena.network, arena.url)
        stack.push_async_callback(chain.close)
        filled = await clone(postgres)
        stack.push_async_callback(drop, filled)
        clock = ManualClock()
        ids = SequentialIds(clock, seed=-1)
        async with watching(chain, filled, clock=clock, ids=ids, assets=arena.assets):
            pass  # its pool is full now
        yield Campaign(
            backend=backend,
            arena=arena,
            chain=chain,
            postgres=postgres,
            template=filled.name,
            proxies=proxies,
            cutter=cutter,
            folder=sockets,
        )


async def _arena(backend: str, program: Path, folder: Path, stack: AsyncExitStack) -> Arena:
    if backend == "anvil":
        return await EvmArena.on(await stack.enter_async_context(Anvil(program, folder)))
    if backend == "litecoind":
        node: UtxoNode = Litecoind(program, folder)
        network, can_replace = "ltc", False
    else:
        node, network, can_replace = Bitcoind(program, folder), "btc", True
    await stack.enter_async_context(node)
    await node.ensure_funds()
    node.keeps_rewards = False
    await node.mine(COINBASE_MATURITY_BLOCKS)  # no coin of the wallet is young from here on
    return UtxoArena(node, network, can_replace=can_replace)
