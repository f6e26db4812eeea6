"""The seeded plan of one walk: what happens, in which order. Pure.

Each step has dice of its own, so that a step that is left out changes no other one. Besides what
is drawn, each plan has one scene, and every second one a lie, that follow each other from seed to
seed: as many walks as there are scenes and lies have met all of them, whatever the dice say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

STEPS_MIN, STEPS_MAX = 10, 16  # drawn; a scene and perhaps a lie come on top
REORG_DEPTH_MAX = 4  # blocks
REORG_LIMIT_BLOCKS = 24  # of the watcher; its first look reads so many headers of each node


class Act(StrEnum):
    """One kind of step."""

    PAY = "pay"
    """One to three payments to players, unconfirmed."""
    MINE = "mine"
    """One or two blocks with everything that waits."""
    MINE_SOME = "mine_some"
    """A block with some of what waits, perhaps nothing."""
    REORG_REMINE = "reorg_remine"
    """The txs of lost blocks are mined again elsewhere."""
    REORG_DROP = "reorg_drop"
    """The new branch has none, or not all, of the lost txs."""
    REORG_CONFLICT = "reorg_conflict"
    """A lost tx can never come back: the new branch spends its input (or nonce) otherwise."""
    THERE_AND_BACK = "there_and_back"
    """Branch A, then B, then A again (D06)."""
    DOUBLE_SPEND = "double_spend"
    """A waiting payment's input (or nonce) is mined in another tx."""
    REPLACE = "replace"
    """A waiting payment is replaced by one with a higher fee."""
    REVIVE = "revive"
    """Txs that were lost are broadcast again."""
    LIE = "lie"
    """One of the three nodes says what is not so, until it is honest again."""
    HONEST = "honest"
    """Every node tells the truth again."""
    OUTAGE = "outage"
    """Fewer nodes than the quorum answer, or none gives a block's body, for one look."""
    RESTART = "restart"
    """The watcher is stopped and another process starts."""
    KILL = "kill"
    """The watcher dies at a named point of its next looks; another process takes over."""
    CUT = "cut"
    """The connection breaks at one of the next COMMITs, before or after the server has it."""
    FREEZE = "freeze"
    """A watcher sleeps past its lease in the middle of a block; another follows; it wakes."""


WEIGHTS: Mapping[Act, int] = {
    Act.PAY: 7,
    Act.MINE: 5,
    Act.MINE_SOME: 2,
    Act.REORG_REMINE: 2,
    Act.REORG_DROP: 2,
    Act.REORG_CONFLICT: 2,
    Act.THERE_AND_BACK: 1,
    Act.DOUBLE_SPEND: 1,
    Act.REPLACE: 2,
    Act.REVIVE: 1,
    Act.LIE: 2,
    Act.HONEST: 1,
    Act.OUTAGE: 1,
    Act.RESTART: 1,
    Act.KILL: 3,
    Act.CUT: 2,
    Act.FREEZE: 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A step with what it needs before it. `is_quiet`: the watcher looks at its end only, so that
    it has several blocks to catch up with."""

    acts: tuple[Act, ...]
    is_quiet: bool = False


SCENES: Sequence[Scene] = (
    Scene(acts=(Act.PAY, Act.DOUBLE_SPEND)),
    Scene(acts=(Act.OUTAGE,)),
    Scene(acts=(Act.PAY, Act.MINE, Act.REORG_CONFLICT, Act.REVIVE)),
    Scene(acts=(Act.KILL, Act.PAY, Act.MINE)),
    Scene(acts=(Act.PAY, Act.REPLACE)),
    Scene(acts=(Act.PAY, Act.CUT)),
    Scene(acts=(Act.PAY, Act.MINE, Act.PAY, Act.MINE_SOME, Act.PAY, Act.MINE), is_quiet=True),
    Scene(acts=(Act.PAY, Act.MINE, Act.THERE_AND_BACK)),
    Scene(acts=(Act.PAY, Act.FREEZE)),
    Scene(acts=(Act.KILL, Act.PAY, Act.MINE, Act.PAY, Act.MINE, Act.CUT), is_quiet=True),
    Scene(acts=(Act.PAY, Act.MINE_SOME, Act.RESTART, Act.HONEST, Act.REORG_REMINE)),
    Scene(acts=(Act.PAY, Act.MINE, Act.REORG_DROP, Act.OUTAGE)),
)
"""What is met in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A kind of step with its own dice; `looks`: whether the watcher looks after it.

    `turn`: which of its kinds it takes, where those follow each other; None: the dice say.
    """

    act: Act
    dice: Random
    looks: bool
    turn: int | None = None


def make_plan(seed: int, *, can_replace: bool) -> list[Step]:
    """The plan of one seed. It begins with a payment in a block, so that a reorg finds one."""
    dice = Random(f"walk:{seed}")
    weights = {act: weight for act, weight in WEIGHTS.items() if can_replace or not _replaces(act)}
    count = dice.randint(STEPS_MIN, STEPS_MAX) - 2
    drawn = dice.choices(list(weights), weights=list(weights.values()), k=count)
    acts = [(act, dice.random() < 0.8) for act in [Act.PAY, Act.MINE, *drawn]]
    scenes = [scene for scene in SCENES if can_replace or not any(map(_replaces, scene.acts))]
    scene = scenes[seed % len(scenes)]
    place = dice.randint(2, len(acts))
    acts[place:place] = [(act, not scene.is_quiet) for act in scene.acts[:-1]]
    acts.insert(place + len(scene.acts) - 1, (scene.acts[-1], True))
    lies_at = None
    if seed % 2 == 0:
        lies_at = dice.randint(2, len(acts))
        acts.insert(lies_at, (Act.LIE, True))
    return [
        Step(
            act=act,
            dice=Random(f"walk:{seed}:{number}"),
            looks=looks,
            turn=seed // 2 if number == lies_at else None,
        )
        for number, (act, looks) in enumerate(acts)
    ]


def _replaces(act: Act) -> bool:
    return act is Act.REPLACE
