"""`cage drill kill-payout`: the payout road dies at its messages, and pays once all the same (P02).

Owns which points are played, the progress, the table and the verdict at the end: the independent
auditor at rest and the reconciliation against the nodes. Exit 0 only with no violation.
"""

import asyncio
import hashlib
import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from config.clock import SystemClock
from gateway.sandbox import story
from gateway.sandbox.auditor_store import audit
from gateway.sandbox.boundary import Point, Side
from gateway.sandbox.deployment import DeploymentFailed
from gateway.sandbox.doors import SignerDoor
from gateway.sandbox.drill_house import STEP_SECONDS, House, drill_house
from gateway.sandbox.drill_scenes import SCENES, Played, Player, Scene
from gateway.sandbox.narration import Narration
from gateway.sandbox.nodes import NodeFailed
from gateway.sandbox.postgres import PostgresUnavailable
from gateway.sandbox.provision import Provisioned, provision
from gateway.sandbox.stage import reconcile, until_ready
from gateway.sandbox.story import Payment, StoryFailed

NODES = ("bitcoind", "anvil")
HOT_FUNDS = {"btc:BTC": "2", "eth:ETH": "10", "eth:USDT": "20000"}
CLEARING = [
    Payment(brand="acme", player="rich", asset="btc:BTC", amount="3"),
    Payment(brand="acme", player="rich", asset="eth:USDT", amount="20000"),
]
COUNTING_RUNS = 2  # without a death; what comes when is a little different each time
PATIENCE_SECONDS = 600.0  # a process starts within it on a very busy machine, and many times
RESTLESS_MAX = 3  # points after which withdrawals do not rest: what follows would tell nothing new
REST_SECONDS = 120.0
WORLDS = 2  # houses at once: while one waits for its chain, the other has the processor
LATE_KINDS = (SignerDoor.ASKS, "broadcast")  # no unit of work is open while these are asked
INTERRUPTED = 130


@dataclass(slots=True, kw_only=True)
class SceneResult:
    """What one scene came to."""

    scene: str
    messages: dict[str, int] = field(default_factory=dict)
    points: int = 0
    deaths: int = 0
    paid: int = 0
    released: int = 0
    replaced: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, name: str, played: Played, *, is_point: bool) -> None:
        """One more point, or a run without a death."""
        self.points += is_point
        for kind, count in played.messages.items() if not is_point else ():
            self.messages[kind] = max(count, self.messages.get(kind, 0))
        self.deaths += played.has_died
        self.paid += played.paid
        self.released += played.released
        self.replaced += played.replaced
        self.violations += [f"{self.scene}, {name}: {text}" for text in played.violations]


@dataclass(slots=True, kw_only=True)
class DrillResult:
    """The whole drill."""

    seed: int
    scenes: list[SceneResult] = field(default_factory=list)
    killed: dict[str, int] = field(default_factory=dict)
    """Deaths by the kind of the last message."""
    audit: list[str] = field(default_factory=list)
    seconds: int = 0

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found, and something was looked for."""
        return not self.audit and bool(self.scenes) and not any(s.violations for s in self.scenes)


Task = tuple[Scene, int | None]
"""A scene and how many points it plays; None means all."""
Step = Callable[[SceneResult, int], None]
"""Told after each point, with the number of points of its scene."""


def all_points(messages: Mapping[str, int]) -> list[Point]:
    """Every message on every side."""
    return [
        Point(kind=kind, number=number, side=side)
        for kind, count in sorted(messages.items())
        for number in range(1, count + 1)
        for side in Side
        if side is not Side.LATE or kind in LATE_KINDS
    ]


def chosen_points(messages: Mapping[str, int], count: int | None, *, draw: str) -> list[Point]:
    """`count` points in an order that follows from `draw`, all kinds in turn; None means all in the
    order of the road."""
    every = all_points(messages)
    if count is None:
        return every
    by_kind: dict[str, list[Point]] = {}
    for point in sorted(every, key=lambda item: _shuffled(f"{draw} {item}")):
        by_kind.setdefault(point.kind, []).append(point)
    kinds = sorted(by_kind, key=lambda kind: _shuffled(f"{draw} {kind}"))
    turns = max((len(points) for points in by_kind.values()), default=0)
    taken = [
        by_kind[kind][turn] for turn in range(turns) for kind in kinds if turn < len(by_kind[kind])
    ]
    return taken[:count]


def _shuffled(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def shares(total: int | None, count: int) -> list[int | None]:
    """How many points each of `count` scenes plays; None means all of each."""
    if total is None:
        return [None] * count
    return [total // count + (place < total % count) for place in range(count)]


async def drill(
    folder: Path,
    programs: Provisioned,
    told: Narration,
    *,
    scenes: Sequence[Scene],
    points: int | None,
    seed: int,
    worlds: int,
    step: Step,
) -> DrillResult:
    """`points` points over the scenes (None: all), in so many houses at once that share nothing;
    each takes the next scene that nobody has. Raises StoryFailed, DeploymentFailed, NodeFailed."""
    waiting = iter(list(zip(scenes, shares(points, len(scenes)), strict=True)))
    folders = [folder / f"w{number}" for number in range(1, min(worlds, len(scenes)) + 1)]
    results = await _all_or_none(
        [_in_a_house(place, programs, told, waiting, seed=seed, step=step) for place in folders]
    )
    merged = merge(results, seed=seed, order=[scene.name for scene in scenes])
    merged.seconds = round(told.elapsed_seconds())
    return merged


async def _all_or_none(plays: Sequence[Coroutine[Any, Any, DrillResult]]) -> list[DrillResult]:
    """The first one that fails ends the others, and its error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(item) for item in plays]
    except BaseExceptionGroup as failed:
        first: BaseException = failed
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from failed
    return [task.result() for task in tasks]


async def _in_a_house(
    folder: Path,
    programs: Provisioned,
    told: Narration,
    waiting: Iterable[Task],
    *,
    seed: int,
    step: Step,
) -> DrillResult:
    async with drill_house(folder, programs, told) as house:
        await fund(house)
        return await play_tasks(house, waiting, seed=seed, step=step)


def merge(results: Sequence[DrillResult], *, seed: int, order: Sequence[str]) -> DrillResult:
    """What all houses found, the scenes in this order."""
    scenes = [scene for result in results for scene in result.scenes]
    return DrillResult(
        seed=seed,
        scenes=sorted(scenes, key=lambda scene: order.index(scene.scene)),
        killed=dict(sum((Counter(result.killed) for result in results), Counter())),
        audit=[text for result in results for text in result.audit],
    )


async def fund(house: House) -> None:
    """Capital in the hot wallets, and something to pay out of."""
    await story.fund_hot_wallets(house.story, HOT_FUNDS)
    await story.plain_deposits(house.story, CLEARING)


async def play(
    house: House,
    *,
    scenes: Sequence[Scene],
    points: int | None,
    seed: int,
    counting_runs: int = COUNTING_RUNS,
    patience_seconds: float = PATIENCE_SECONDS,
    step: Step = lambda result, total: None,
) -> DrillResult:
    """Every scene with its share of the points, then the books. Raises StoryFailed."""
    return await play_tasks(
        house,
        zip(scenes, shares(points, len(scenes)), strict=True),
        seed=seed,
        counting_runs=counting_runs,
        patience_seconds=patience_seconds,
        step=step,
    )


async def play_tasks(
    house: House,
    tasks: Iterable[Task],
    *,
    seed: int,
    counting_runs: int = COUNTING_RUNS,
    patience_seconds: float = PATIENCE_SECONDS,
    step: Step = lambda result, total: None,
) -> DrillResult:
    """Each task when it is taken, then the books of this house. Raises StoryFailed."""
    result = DrillResult(seed=seed)
    player = Player(house, patience_seconds=patience_seconds)
    for scene, share in tasks:
        found = SceneResult(scene=scene.name)
        result.scenes.append(found)
        for _ in range(counting_runs):
            played = await player.play(scene, None)
            found.add("no death", played, is_point=False)
        await _play(player, found, scene, share, seed, step)
    result.killed = dict(Counter(house.boundary.killed))
    house.story.narration.say("the books")
    result.audit = await _verdict(house)
    return result


async def _play(
    player: Player, found: SceneResult, scene: Scene, share: int | None, seed: int, step: Step
) -> None:
    points = chosen_points(found.messages, share, draw=f"{seed} {scene.name}")
    restless = 0
    for point in points:
        played = await player.play(scene, point)
        found.add(str(point), played, is_point=True)
        step(found, len(points))
        restless += bool(played.violations)
        if restless == RESTLESS_MAX:
            return


async def _verdict(house: House) -> list[str]:
    """The auditor at rest, and every network against its node."""
    clock = house.clock
    deadline_seconds = clock.monotonic_seconds() + REST_SECONDS
    while found := await audit(house.books.engine, at_rest=True):
        if clock.monotonic_seconds() > deadline_seconds:
            return found
        for network in house.world.urls():
            await house.world.mine(network)
        await clock.sleep(story.MINE_EVERY_SECONDS)
    # The last death may have been the API's.
    await until_ready(house.deployment, clock, within_seconds=STEP_SECONDS)
    breaks = await reconcile(house.story, house.story.staff["alice"], key="drill-reconcile")
    return [f"reconciliation: {json.dumps(item, sort_keys=True)}" for item in breaks]


def run_drill(
    *, scene: str | None, points: int | None, seed: int, worlds: int, as_json: bool
) -> int:
    """Run the drill on throw-away nodes; 0 when nothing was found, 1 otherwise."""
    clock = SystemClock()
    console = Console(stderr=True, highlight=False)
    told = Narration(clock=clock, console=console, started_seconds=clock.monotonic_seconds())
    scenes = [item for item in SCENES if scene in (None, item.name)]
    folder = Path(tempfile.mkdtemp(prefix="cage-drill-"))
    is_ok = False
    try:
        result = asyncio.run(_on_terminal(folder, told, scenes, points, seed, worlds))
        is_ok = result.is_ok
        _show(result, console, as_json=as_json)
        return 0 if is_ok else 1
    except (StoryFailed, DeploymentFailed, NodeFailed, PostgresUnavailable) as error:
        console.print(f"[red bold]cage drill: {error}[/]")
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        is_ok = True  # nobody asked for what it found
        return INTERRUPTED
    finally:
        if is_ok:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            console.print(f"logs and database are kept in {folder}")


async def _on_terminal(
    folder: Path,
    told: Narration,
    scenes: Sequence[Scene],
    points: int | None,
    seed: int,
    worlds: int,
) -> DrillResult:
    """The drill under a progress bar. Both signals end it, also where a shell that starts it in the
    background has it ignore Ctrl-C."""
    playing = asyncio.current_task()
    if playing is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    programs = await asyncio.to_thread(provision, NODES, progress=told.say)
    for missing in programs.missing.values():
        raise DeploymentFailed(str(missing))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeElapsedColumn(), console=told.console)
    with bar:
        tasks = {item.name: bar.add_task(item.name, total=None) for item in scenes}

        def step(found: SceneResult, total: int) -> None:
            words = f"{found.scene}: {found.deaths} deaths, {len(found.violations)} violations"
            bar.update(tasks[found.scene], total=total, completed=found.points, description=words)

        return await drill(
            folder,
            programs,
            told,
            scenes=scenes,
            points=points,
            seed=seed,
            worlds=worlds,
            step=step,
        )


def _show(result: DrillResult, console: Console, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"ok": result.is_ok} | asdict(result)) + "\n")
        return
    table = Table(title=f"cage drill kill-payout, seed {result.seed}", title_justify="left")
    table.add_column("scene")
    for column in ("messages", "points", "deaths", "paid", "released", "replaced", "violations"):
        table.add_column(column, justify="right")
    for row in result.scenes:
        cells = (
            sum(row.messages.values()),
            row.points,
            row.deaths,
            row.paid,
            row.released,
            row.replaced,
        )
        table.add_row(row.scene, *(str(cell) for cell in cells), str(len(row.violations)))
    Console(highlight=False).print(table)
    for text in [*(v for row in result.scenes for v in row.violations), *result.audit]:
        console.print(text, style="red", markup=False)
    words = "all held" if result.is_ok else "FAILED"
    console.print(f"[bold]{words}[/] in {result.seconds} s; deaths {result.killed}")
