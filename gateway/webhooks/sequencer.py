"""The sequencer: gives committed events their numbers, per brand without holes (CONTRACT 6).

One leader at a time, by a lease with fencing. One unit of work per batch: off the queue, number,
exact body text, feed rows and deliveries together, so that a crash loses and doubles nothing. It
renders each body once; nothing later may render it again (D78). It sends nothing.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from uuid import UUID

from config import alarm_store
from config.clock import Clock, Waker
from config.database import Database, Uow
from config.ids import Ids
from config.logs import get_logger
from gateway import leases
from gateway.api.wire import WireContext, render_event
from gateway.webhooks import store
from gateway.webhooks.store import EventRow, NewDelivery, NumberedEvent, Subscription

LEASE_NAME = "sequencer"
LEASE_SECONDS = 6  # a killed leader is replaced after this long
RENEW_SECONDS = 2.0
BATCH_EVENTS = 500  # numbered in one unit of work: keeps it well below 50 ms

log = get_logger("gateway.webhooks.sequencer")


class UnrenderableEvent(Exception):
    """An event whose snapshot has no wire form; `cause` names the kind of error."""

    def __init__(self, event: EventRow, cause: str) -> None:
        super().__init__(f"event {event.id} cannot be rendered: {cause}")
        self.event = event
        self.cause = cause


class Sequencer:
    """One instance of the numbering loop; any number may run, one works."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        context: WireContext,
        waker: Waker,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._context = context
        self._waker = waker
        self._lease = leases.Lease(
            name=LEASE_NAME, holder=f"webhooks:{ids.new_id().hex}", seconds=LEASE_SECONDS
        )
        self._renew_at_seconds = 0.0

    async def run(self) -> None:
        """Number what is committed, at each hint and each poll, until cancelled."""
        try:
            while True:
                if not await self.run_once():
                    await self._waker.wait()
        finally:
            await leases.give_back(self._database, self._lease)

    async def run_once(self) -> bool:
        """One cycle. True when the batch was full, so that more may wait."""
        if not await self._is_leader():
            return False
        try:
            count = await self._database.run(self._number_batch)
        except leases.LeaseLost as error:
            log.warning("sequencer.lease_lost", reason=str(error))
            return False
        except UnrenderableEvent as error:
            await self._set_aside(error)
            return True
        return count >= BATCH_EVENTS

    async def _is_leader(self) -> bool:
        now = self._clock.monotonic_seconds()
        if self._lease.is_held and now < self._renew_at_seconds:
            return True
        was_held = self._lease.is_held
        is_held = await leases.hold(self._database, self._lease)
        self._renew_at_seconds = now + RENEW_SECONDS
        if is_held and not was_held:
            async with self._database.unit_of_work() as uow:
                await store.unstick(uow)
            log.info("sequencer.leader", fence=self._lease.fence)
        return is_held

    async def _number_batch(self, uow: Uow) -> int:
        await self._lease.check(uow)
        events = in_object_order(await store.take_unnumbered(uow, limit=BATCH_EVENTS))
        if not events:
            return 0
        before = await store.advance_counters(uow, Counter(event.brand for event in events))
        numbered = self._number(events, before)
        await store.insert_numbered(uow, numbered)
        subscriptions = await store.subscriptions(uow, sorted(before))
        deliveries = [
            NewDelivery(id=self._ids.new_id(), endpoint_id=subscription.endpoint_id, numbered=row)
            for row in numbered
            for subscription in subscriptions
            if wants(subscription, row.event)
        ]
        if deliveries:
            await store.insert_deliveries(uow, deliveries, at=self._clock.now())
        return len(events)

    def _number(self, events: Sequence[EventRow], before: Mapping[str, int]) -> list[NumberedEvent]:
        last = dict(before)
        numbered = []
        for event in events:
            last[event.brand] += 1
            seq = last[event.brand]
            try:
                body = body_text(event, seq=seq, context=self._context)
            except (KeyError, ValueError, TypeError) as error:
                raise UnrenderableEvent(event, type(error).__name__) from error
            numbered.append(NumberedEvent(event=event, seq=seq, body=body))
        return numbered

    async def _set_aside(self, error: "UnrenderableEvent") -> None:
        """Bad state stops the smallest thing that contains it: the events of one object."""
        event = error.event
        log.error("sequencer.event_stuck", event_id=str(event.id), type=event.type)
        async with self._database.unit_of_work() as uow:
            await self._lease.check(uow)
            await store.mark_stuck(uow, event.id)
            await alarm_store.raise_alarm(
                uow,
                alarm_id=self._ids.new_id(),
                kind="event_stuck",
                object_id=event.object_id,
                detail=f"{event.type} {event.id} cannot be rendered ({error.cause})",
                at=self._clock.now(),
            )


def in_object_order(events: Sequence[EventRow]) -> list[EventRow]:
    """The same events; each object's versions rise, and stay in the places that the object had."""
    waiting: dict[UUID, list[EventRow]] = {}
    for event in events:
        waiting.setdefault(event.object_id, []).append(event)
    for group in waiting.values():
        group.sort(key=lambda event: event.object_version, reverse=True)
    return [waiting[event.object_id].pop() for event in events]


def wants(subscription: Subscription, event: EventRow) -> bool:
    """Whether the endpoint gets this event: its brand's, and of a type that it asked for. A test of
    an endpoint is for that one, whatever it asked for."""
    if event.object_kind == "webhook_endpoint":
        return subscription.endpoint_id == event.object_id
    return subscription.brand == event.brand and matches_type(subscription.types, event.type)


def matches_type(patterns: Sequence[str], event_type: str) -> bool:
    """Empty = all; `deposit.final` is that type; `deposit.*` is every type of that noun."""
    if not patterns:
        return True
    noun = event_type.partition(".")[0]
    return any(pattern in (event_type, f"{noun}.*", "*") for pattern in patterns)


def body_text(event: EventRow, *, seq: int, context: WireContext) -> str:
    """The body of CONTRACT 6 as the one exact text that feed and webhooks send."""
    body = render_event(
        event_id=event.id,
        seq=seq,
        event_type=event.type,
        created_at=event.created_at,
        brand=event.brand,
        object_kind=event.object_kind,
        object_version=event.object_version,
        previous_state=event.previous_state,
        snapshot=event.snapshot,
        context=context,
    )
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
