"""The drill of the payout road: a drawn sample of deaths, a planted bug that it must see, and how
points are drawn. All of it, by the command: `cage drill kill-payout`.

One house serves the module; the planted bug comes last, since it leaves broken books behind.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from rich.console import Console

from config.clock import SystemClock
from gateway.cli.console import USAGE
from gateway.cli.main import main
from gateway.sandbox.boundary import Point, Side
from gateway.sandbox.drill import (
    INTERRUPTED,
    LATE_KINDS,
    DrillResult,
    SceneResult,
    all_points,
    chosen_points,
    fund,
    merge,
    play,
    shares,
)
from gateway.sandbox.drill_house import PAYOUTS, House, drill_house
from gateway.sandbox.drill_scenes import SCENES, Player
from gateway.sandbox.narration import Narration
from gateway.sandbox.provision import Provisioned

POINTS = 8
SAMPLED = ("utxo-batch", "erc20", "cancel", "bump-utxo")  # bump-evm takes the most blocks
CANCEL = next(scene for scene in SCENES if scene.is_cancelled)
FORGETFUL = "tests.support.forgetful_payouts"
PATIENCE_SECONDS = 60.0
TRIES = 4
START_SECONDS = 120.0
LOOK_SECONDS = 0.05

MESSAGES = {"write": 5, "commit": 2, "sign": 1, "broadcast": 1}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(
    node_programs: dict[str, Path], request: pytest.FixtureRequest
) -> AsyncIterator[House]:
    """A funded deployment behind doors. After a failure its folder is kept, with its logs."""
    failed_before = request.session.testsfailed
    folder = Path(tempfile.mkdtemp(prefix="cage-drill-"))
    clock = SystemClock()
    wanted = Provisioned(programs={name: node_programs[name] for name in ("bitcoind", "anvil")})
    with (folder / "told.log").open("w") as log:
        told = Narration(
            clock=clock,
            console=Console(file=log, highlight=False),
            started_seconds=clock.monotonic_seconds(),
        )
        async with drill_house(folder, wanted, told) as running:
            await fund(running)
            yield running
    if request.session.testsfailed == failed_before:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("is_all", [False, True])
def test_points_are_all_messages_on_all_sides_drawn_by_the_seed(is_all: bool) -> None:
    every = all_points(MESSAGES)
    assert len(every) == len(set(every)) == 2 * 9 + 2
    assert {point.kind for point in every if point.side is Side.LATE} == set(LATE_KINDS)
    count = None if is_all else 8
    drawn = chosen_points(MESSAGES, count, draw="1 scene")
    assert set(drawn) <= set(every)
    assert len(drawn) == (len(every) if is_all else 8)
    assert {point.kind for point in drawn} == set(MESSAGES)
    assert drawn == chosen_points(MESSAGES, count, draw="1 scene")
    if not is_all:
        assert drawn != chosen_points(MESSAGES, count, draw="2 scene")


def test_points_are_shared_by_the_scenes() -> None:
    assert shares(8, 3) == [3, 3, 2]
    assert shares(1, 2) == [1, 0]
    assert shares(None, 2) == [None, None]


def test_what_several_worlds_found_is_told_as_one_in_the_order_of_the_scenes() -> None:
    first = DrillResult(seed=1, scenes=[SceneResult(scene="erc20"), SceneResult(scene="cancel")])
    second = DrillResult(seed=1, scenes=[SceneResult(scene="utxo-batch")], audit=["a break"])
    first.killed, second.killed = {"write": 2, "sign": 1}, {"write": 3}

    told = merge([first, second], seed=1, order=[scene.name for scene in SCENES])

    assert [scene.scene for scene in told.scenes] == ["utxo-batch", "erc20", "cancel"]
    assert told.killed == {"write": 5, "sign": 1}
    assert (told.audit, told.is_ok) == (["a break"], False)
    assert merge([first], seed=1, order=["erc20", "cancel"]).is_ok


@pytest.mark.parametrize(
    "option",
    [
        ("--scene", "none"),
        ("--points", "0"),
        ("--points", "many"),
        ("--points", "-1"),
        ("--worlds", "0"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_starts(option: tuple[str, str]) -> None:
    assert main(["drill", "kill-payout", *option]) == USAGE


@pytest.mark.node
@pytest.mark.postgres
@pytest.mark.parametrize("stage", ["pg", "state/signer/signer.toml"])
async def test_an_interrupted_drill_leaves_no_process_and_no_folder_behind(stage: str) -> None:
    """Ctrl-C while the database is made, or while set-up commands run: all end by their pids."""
    folder = Path(tempfile.mkdtemp(prefix="cagetmp"))
    clock = SystemClock()
    drill = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.cli.main", "drill", "kill-payout"),
        env={**os.environ, "TMPDIR": str(folder)},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not files_in(folder, f"cage-drill-*/w1/cage/{stage}"):
                await clock.sleep(LOOK_SECONDS)
        assert len(processes_of(folder)) >= 3  # itself and two nodes at least
        drill.send_signal(signal.SIGINT)
        async with asyncio.timeout(START_SECONDS):
            assert await drill.wait() == INTERRUPTED
    finally:
        if drill.returncode is None:
            drill.terminate()
            await drill.wait()
    assert processes_of(folder) == []
    assert files_in(folder, "cage-drill-*") == []
    await asyncio.to_thread(shutil.rmtree, folder)


def files_in(folder: Path, pattern: str) -> list[Path]:
    """What a folder holds."""
    return list(folder.glob(pattern))


def processes_of(folder: Path) -> list[str]:
    """Running processes that have the folder in their command or inherited it."""
    name = str(folder).encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            command = (entry / "cmdline").read_bytes()
            if name in command or name in (entry / "environ").read_bytes():
                found.append(command.replace(b"\0", b" ").decode("utf-8", "replace"))
    return found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.node
@pytest.mark.postgres
@pytest.mark.slow
async def test_p02_p13_killed_at_drawn_messages_each_withdrawal_is_paid_or_released_once(
    house: House, seed: int
) -> None:
    """Goal: no message of the road is a place where a death loses or doubles a payment."""
    scenes = [scene for scene in SCENES if scene.name in SAMPLED]

    result = await play(house, scenes=scenes, points=POINTS, seed=seed, counting_runs=1)

    assert [found for scene in result.scenes for found in scene.violations] == []
    assert result.audit == []
    assert sum(result.killed.values()) >= POINTS // 2
    assert sum(scene.paid + scene.released for scene in result.scenes) >= POINTS + len(scenes)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.node
@pytest.mark.postgres
@pytest.mark.slow
async def test_p02_the_drill_sees_a_role_that_forgets_that_it_asked_the_signer(
    house: House,
) -> None:
    """The client's cancel is taken though the signer has signed: released, and signed."""
    for slot in PAYOUTS:
        *_, file = house.commands[slot]
        house.commands[slot] = (sys.executable, "-m", FORGETFUL, "--config", file)
        house.kill(slot)
    player = Player(house, patience_seconds=PATIENCE_SECONDS)
    found: list[str] = []

    for _ in range(TRIES):
        played = await player.play(CANCEL, Point(kind="sign", number=1, side=Side.AFTER))
        found += played.violations
        if found:
            break

    withdrawal, *alarms = found
    assert "is cancelled (None), hold released" in withdrawal
    assert "void delivered (signer_knows_more), cancelled True" in withdrawal
    kinds = {text.partition(":")[0] for text in alarms}
    # The signature of what was cancelled may have been asked for again before the lane stopped.
    assert {"alarm signer_knows_more"} <= kinds
    assert kinds <= {"alarm signer_knows_more", "alarm sign_unstored"}
