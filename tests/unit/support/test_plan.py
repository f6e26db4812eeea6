"""A walk's plan depends on its seed alone, and a step's dice on its own place."""

from collections import Counter

from tests.simulation.plan import SCENES, STEPS_MAX, STEPS_MIN, Act, make_plan


def test_the_same_seed_gives_the_same_plan_and_dice() -> None:
    first, second = (make_plan(7, can_replace=True) for _ in range(2))
    assert [step.act for step in first] == [step.act for step in second]
    assert [step.dice.random() for step in first] == [step.dice.random() for step in second]
    assert [step.act for step in make_plan(8, can_replace=True)] != [step.act for step in first]


def test_thirty_plans_hold_every_step_and_none_that_the_chain_cannot_take() -> None:
    plans = [make_plan(seed, can_replace=True) for seed in range(30)]
    scenes = [len(scene.acts) for scene in SCENES]
    shortest, longest = STEPS_MIN + min(scenes), STEPS_MAX + max(scenes) + 1  # and perhaps a lie
    assert all(shortest <= len(plan) <= longest for plan in plans)
    assert set(Counter(step.act for plan in plans for step in plan)) == set(Act)
    without = [step.act for seed in range(30) for step in make_plan(seed, can_replace=False)]
    assert Act.REPLACE not in without
