"""What the tests of this folder have in common: many walks on one node, and what they must see.

One test file per node, so that a run on several workers has the nodes side by side.
"""

import sys
from pathlib import Path

from config.clock import SystemClock
from gateway.sandbox.postgres import EmbeddedPostgres
from tests.conftest import COUNTED_WALKS
from tests.simulation.campaign import Campaign, campaign
from tests.simulation.plan import Act

SELDOM = 3  # what must happen at least this often in a whole run of walks


async def run_walks(
    backend: str,
    *,
    walks: int,
    seed: int,
    postgres: EmbeddedPostgres,
    programs: dict[str, Path],
    folder: Path,
) -> None:
    """Walks from a seed on; a run of COUNTED_WALKS or more must have seen everything.

    Raises WalkFailed, or AssertionError with what never happened.
    """
    clock = SystemClock()
    async with campaign(backend, postgres=postgres, programs=programs, folder=folder) as opened:
        began_seconds = clock.monotonic_seconds()
        for number in range(walks):
            await opened.walk(seed + number)
        took_seconds = clock.monotonic_seconds() - began_seconds
    sys.stdout.write(_told(opened, walks=walks, seed=seed, seconds=took_seconds))
    if walks >= COUNTED_WALKS:
        assert missing(opened) == []


def missing(opened: Campaign) -> list[str]:
    """What a run of this length must have seen, or it shows nothing."""
    wanted = {act.value: 1 for act in Act if opened.arena.can_replace or act is not Act.REPLACE}
    wanted |= {f"lie: {name}": 1 for name in opened.arena.lies}
    wanted |= {
        "died": SELDOM,
        "fenced": SELDOM,
        "waited for nodes": SELDOM,
        "liars caught": SELDOM,
        "cut: before": 1,
        "cut: after": 1,
        "provisional>orphaned": SELDOM,
        "final>orphaned": SELDOM,
        "orphaned>reversed": SELDOM,
        "orphaned>provisional": SELDOM,
        "detected>replaced": 1,
        "pending>below_minimum": SELDOM,
    }
    return [
        f"{name}: {opened.tally[name]} of {least}"
        for name, least in wanted.items()
        if opened.tally[name] < least
    ]


def _told(opened: Campaign, *, walks: int, seed: int, seconds: float) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in sorted(opened.tally.items()))
    return f"\n{opened.backend}: {walks} walks from seed {seed} in {seconds:.0f} s: {counts}"
