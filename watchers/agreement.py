"""Asking several nodes at once: the fastest sufficient set of answers, the slow ones left behind.

Owns parallelism, hedging and per-call time-outs of agreeing reads. What counts as sufficient is
the caller's; what an answer means too. An answer or an expected failure per node, never a guess.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from watchers.chain import Block, Transfer
from watchers.errors import NodeError, NodeUnavailable

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)
Ask = Callable[[], Awaitable[T]]


@dataclass(slots=True)
class Answers(Generic[T]):
    """Answers and failures by node label, in order of arrival; `pending` are still asked."""

    values: dict[str, T] = field(default_factory=dict)
    errors: dict[str, NodeError] = field(default_factory=dict)
    pending: int = 0

    def best(self) -> tuple[T, int] | None:
        """The most frequent answer (hashable answers only) and its number of votes."""
        counted = Counter(self.values.values()).most_common(1)
        return counted[0] if counted else None

    def told(self) -> str:
        """The failures in one line."""
        return "; ".join(str(error) for error in self.errors.values())


Enough = Callable[[Answers[T]], bool]
Traced = tuple[tuple[Transfer, ...], tuple[Transfer, ...]] | None


async def collect(
    asks: Mapping[str, Ask[T]],
    *,
    enough: Enough[T],
    acceptable: Enough[T] | None = None,
    timeout_seconds: float,
    grace_seconds: float = 0.0,
    at_once: int | None = None,
    hedge_seconds: float = 0.0,
) -> Answers[T]:
    """Ask in order until `enough`, or until everybody has answered or failed.

    `at_once` nodes are asked first, one more whenever one failed, they do not suffice, or after
    `hedge_seconds`. Once `acceptable`, the rest is waited for at most `grace_seconds`. Each call
    has `timeout_seconds`. What is not a NodeError of a node is raised.
    """
    loop = asyncio.get_running_loop()
    waiting = list(asks.items())
    running: dict[asyncio.Task[T], str] = {}
    answers: Answers[T] = Answers()
    grace_ends_seconds: float | None = None

    def start(count: int) -> None:
        for label, ask in waiting[:count]:
            running[asyncio.ensure_future(timed(label, ask, timeout_seconds))] = label
        del waiting[:count]
        answers.pending = len(running) + len(waiting)

    try:
        start(len(waiting) if at_once is None else at_once)
        while running and not enough(answers):
            wait_seconds = hedge_seconds if waiting else None
            if acceptable is not None and acceptable(answers):
                if grace_ends_seconds is None:
                    grace_ends_seconds = loop.time() + grace_seconds
                wait_seconds = max(0.0, grace_ends_seconds - loop.time())
            done, _ = await asyncio.wait(
                running, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not done and grace_ends_seconds is not None:
                break
            failed = len(answers.errors)
            for task in done:
                _take(task, running.pop(task), answers)
            answers.pending = len(running) + len(waiting)
            if waiting and (not done or not running or len(answers.errors) > failed):
                start(1)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return answers


async def timed(label: str, ask: Ask[T], timeout_seconds: float) -> T:
    """One node's answer; NodeUnavailable when it does not come in time."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await ask()
    except TimeoutError as error:
        raise NodeUnavailable(f"node {label}: no answer in {timeout_seconds:g} s") from error


def _take(task: "asyncio.Task[T]", label: str, answers: Answers[T]) -> None:
    try:
        answers.values[label] = task.result()
    except NodeError as error:
        answers.errors[label] = error


def kth_best(values: Sequence[int], k: int) -> int:
    """The highest number that k of the values reach."""
    return sorted(values, reverse=True)[k - 1]


def digest(block: Block) -> str:
    """What two honest nodes say alike of a block: its effects in order, without raw bytes.

    SHA-256 over the text of its parts; traced value is left out, as not every node can trace.
    """
    found = hashlib.sha256()
    for part in (
        block.ref,
        [item for item in block.transfers if not is_traced(item)],
        block.spends,
        block.sends,
        block.txids,
    ):
        found.update(repr(part).encode())
        found.update(b"\n")
    return found.hexdigest()


def traced(block: Block) -> Traced:
    """What only a tracing node can say of a block; None when this one could not."""
    if block.traces_incomplete:
        return None
    return tuple(item for item in block.transfers if is_traced(item)), block.gifts


def is_traced(transfer: Transfer) -> bool:
    """Whether the transfer is known from a trace alone."""
    return is_traced_at(transfer.position)


def is_traced_at(position: str) -> bool:
    """Whether a transfer at this position is known from a trace alone."""
    return position.startswith("trace:")
