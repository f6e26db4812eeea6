"""Every message of a process to the outside has a number, and can be its last word.

Owns the count of messages and the place of the next death (CASES c.8): before the message is passed
on, after it took effect and before its answer, or late, when its sender was stopped past its lease
and another instance did the work meanwhile (P13). Doors in front of the real servers ask it
(`sandbox.doors`); nothing is built into the service. It starts no process and ends none itself.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Side(StrEnum):
    """When the process dies."""

    BEFORE = "before"
    """The message never leaves."""
    AFTER = "after"
    """It took effect; its answer never arrives."""
    LATE = "late"
    """The process is stopped, the message leaves when it goes on, and it lives. Only at a message
    that no open unit of work waits for: a lock would keep the other instance out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The n-th message of a kind (from 1) and a side of it."""

    kind: str
    number: int
    side: Side

    def __str__(self) -> str:
        return f"{self.side} {self.kind} {self.number}"


def _nothing(slot: str) -> None:
    del slot


@dataclass(slots=True)
class Boundary:
    """The count of messages, and where the next death is. `kill(slot)` ends a process at once,
    `stop(slot)` makes it stand still."""

    kill: Callable[[str], None]
    stop: Callable[[str], None] = _nothing
    by_kind: dict[str, int] = field(default_factory=dict)
    counted: frozenset[str] = frozenset()
    """Slots whose messages count: the others only stand by."""
    killed: list[str] = field(default_factory=list)
    """What was said last at each death: `postgres/watch-a`."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """The armed message is about to pass."""
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Who stands still may go on: its message leaves."""
    passed: asyncio.Event = field(default_factory=asyncio.Event)
    """A late message was answered."""
    asleep: str | None = None
    """The slot that stands still."""
    _point: Point | None = None

    def arm(self, point: Point | None) -> None:
        """Count from one again; die at that message (None: only count)."""
        self._point = point
        self.by_kind.clear()
        for event in (self.reached, self.woken, self.passed):
            event.clear()

    def crosses(self, kind: str, slot: str) -> bool:
        """A message of a process is about to pass; True when it is the last one it sends."""
        if slot not in self.counted:
            return False
        number = self.by_kind[kind] = self.by_kind.get(kind, 0) + 1
        point = self._point
        if point is None or (point.kind, point.number) != (kind, number):
            return False
        self.reached.set()
        return True

    def stops(self, side: Side, kind: str, slot: str) -> bool:
        """Kill the sender when this is the side; True then."""
        if self._point is None or side is not self._point.side:
            return False
        self._point = None
        self.killed.append(f"{kind}/{slot}")
        self.kill(slot)
        return True

    async def stands_still(self, kind: str, slot: str) -> bool:
        """Stop the sender when this is the side, until `wake`; True then: the message goes out."""
        if self._point is None or self._point.side is not Side.LATE:
            return False
        self._point = None
        self.killed.append(f"{kind}/{slot}")
        self.asleep = slot
        self.stop(slot)
        await self.woken.wait()
        return True

    def wake(self) -> str | None:
        """Let a late message go; the slot that stood still."""
        slot, self.asleep = self.asleep, None
        self.woken.set()
        return slot
