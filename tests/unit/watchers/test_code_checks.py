"""D48: no block waits for what nodes know of code at own accounts, however many it names."""

from collections.abc import Sequence

import pytest

from tests.support.simchain import SimAccountReader, sim_account
from watchers.chain import Block
from watchers.code_checks import (
    BACKLOG_KEYS_MAX,
    CALLS_PER_RUN,
    KEYS_PER_CALL,
    PAUSE_BLOCKS,
    CodeChecks,
)
from watchers.errors import NodeError, NodeUnavailable, StateUnavailable

PER_BLOCK = KEYS_PER_CALL * CALLS_PER_RUN


def _keys(count: int) -> list[str]:
    return [f"0x{number:040x}" for number in range(count)]


class Coding(SimAccountReader):
    """Knows some accounts with code; counts what it is asked and may fail at it."""

    coded: frozenset[str] = frozenset()
    failure: NodeError | None = None

    async def with_code(self, keys: Sequence[str], *, block_hash: str) -> frozenset[str]:
        self.asked: list[int] = [*getattr(self, "asked", []), len(keys)]
        if self.failure is not None:
            raise self.failure
        return self.coded & set(keys)


async def _bench() -> tuple[Coding, Block, CodeChecks]:
    world, _ = sim_account()
    world.mine(1)
    reader = Coding(world)
    return reader, await reader.block(world.tip.ref.hash), CodeChecks()


async def test_d48_many_accounts_are_asked_about_in_parts_and_over_blocks() -> None:
    reader, block, checks = await _bench()
    keys = _keys(PER_BLOCK + 1)
    reader.coded = frozenset([keys[0], keys[-1]])
    first = await checks.ask(reader, [block], keys)
    assert (first.keys, first.unasked) == (frozenset(keys[:1]), 0)
    assert reader.asked == [KEYS_PER_CALL] * CALLS_PER_RUN
    second = await checks.ask(reader, [block], [])
    assert second.keys == {keys[0], keys[-1]}
    assert reader.asked[CALLS_PER_RUN:] == [1]


async def test_d48_nodes_that_do_not_answer_are_left_alone_for_a_while_and_asked_again() -> None:
    reader, block, checks = await _bench()
    keys = _keys(KEYS_PER_CALL + 1)
    reader.coded, reader.failure = frozenset(keys[-1:]), NodeUnavailable("no answer in 20 s")
    assert (await checks.ask(reader, [block], keys)).unasked == len(keys)
    for _ in range(PAUSE_BLOCKS):
        assert (await checks.ask(reader, [block], keys[:1])).unasked == len(keys)
    assert reader.asked == [KEYS_PER_CALL]
    reader.failure = None
    told = await checks.ask(reader, [block], [])
    assert (told.keys, told.unasked) == (frozenset(keys[-1:]), 0)


async def test_d48_a_run_of_blocks_ends_the_pause_as_its_blocks_would() -> None:
    reader, block, checks = await _bench()
    reader.failure = NodeUnavailable("no answer in 20 s")
    await checks.ask(reader, [block], _keys(1))
    await checks.ask(reader, [block] * PAUSE_BLOCKS, [])
    reader.failure = None
    assert (await checks.ask(reader, [block], [])).unasked == 0
    assert reader.asked == [1, 1]


async def test_d48_state_that_is_gone_is_asked_for_at_the_next_block() -> None:
    reader, block, checks = await _bench()
    reader.failure = StateUnavailable("missing trie node")
    reader.coded = frozenset(_keys(1))
    assert (await checks.ask(reader, [block], _keys(1))).unasked == 0
    reader.failure = None
    assert (await checks.ask(reader, [block], [])).keys == set(_keys(1))


@pytest.mark.parametrize("extra", [0, 5])
async def test_d48_what_waits_is_bounded(extra: int) -> None:
    reader, block, checks = await _bench()
    reader.failure = NodeUnavailable("refused")
    told = await checks.ask(reader, [block], _keys(BACKLOG_KEYS_MAX + extra))
    assert told.unasked == BACKLOG_KEYS_MAX
