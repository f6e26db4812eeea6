"""What 30 walks must meet follows from their seeds, wherever they begin."""

import pytest

from tests.conftest import COUNTED_WALKS
from tests.simulation.lies import EVM, UTXO
from tests.simulation.plan import SCENES, Act, make_plan

STARTS = (0, 1, 7, 20260101, 2**40 + 3)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("can_replace", [True, False])
def test_a_counted_run_plans_every_act_and_every_lie(start: int, can_replace: bool) -> None:
    plans = [make_plan(start + number, can_replace=can_replace) for number in range(COUNTED_WALKS)]
    acts = {step.act for plan in plans for step in plan}
    assert acts == set(Act) - (set() if can_replace else {Act.REPLACE})
    turns = [step.turn for plan in plans for step in plan if step.turn is not None]
    for lies in (EVM, UTXO):
        assert {turn % len(lies) for turn in turns} == set(range(len(lies)))


@pytest.mark.parametrize("can_replace", [True, False])
def test_every_scene_has_its_turn(can_replace: bool) -> None:
    scenes = [scene.acts for scene in SCENES if can_replace or Act.REPLACE not in scene.acts]
    for number, scene in enumerate(scenes):
        plan = make_plan(len(scenes) * 5 + number, can_replace=can_replace)
        acts = [step.act for step in plan if step.turn is None]
        assert any(
            tuple(acts[place : place + len(scene)]) == scene for place in range(len(acts))
        ), scene


def test_a_plan_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    def told(seed: int) -> list[tuple[Act, bool, int | None, float]]:
        plan = make_plan(seed, can_replace=True)
        return [(step.act, step.looks, step.turn, step.dice.random()) for step in plan]

    assert told(5) == told(5)
    assert told(5) != told(6)
