"""The relay: due deliveries to tries, results to rows (CONTRACT 6).

Owns how many tries run at once, and what a result means for its delivery and its endpoint. At least
once: a claim is committed before a try and the result after it, so a death in between means the
same webhook-id once more. It must not number events or build bodies.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from config import alarm_store
from config.clock import Clock, Waker
from config.database import Database, Uow
from config.ids import Ids
from config.logs import get_logger
from gateway.webhooks import deliveries_store as store
from gateway.webhooks.connector import Poster
from gateway.webhooks.deliveries_store import Claim, EndpointHealth, Retry
from gateway.webhooks.delivery import Outcome, Schedule, try_once
from gateway.webhooks.secrets import SealingKey

FAN_OUT = 16  # tries at once per endpoint: a slow receiver fills its own places only (P34)
TRIES_MAX = 256  # tries at once in this process
ALARM_CHECK_SECONDS = 10.0  # how late an alarm ends that a person made void
ALARM_PARKED = "webhook_parked"
ALARM_PAUSED = "webhook_endpoint_paused"

log = get_logger("gateway.webhooks.relay")


class Relay:
    """One relay; any number may run, the claims keep them apart."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        ids: Ids,
        poster: Poster,
        key: SealingKey,
        schedule: Schedule,
        livemode: bool,
        waker: Waker,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._poster = poster
        self._key = key
        self._schedule = schedule
        self._livemode = livemode
        self._waker = waker
        self._check_alarms_at_seconds = 0.0
        self._in_flight: Counter[UUID] = Counter()  # by endpoint id
        self._outcomes: asyncio.Queue[Outcome] = asyncio.Queue(maxsize=TRIES_MAX)

    async def run(self) -> None:
        """Deliver until cancelled; tries in flight are cancelled too, their claims run out."""
        self._in_flight.clear()  # tries that an earlier run was cancelled with never counted down
        async with asyncio.TaskGroup() as group:
            group.create_task(self._record_forever())
            while True:
                claims = await self._claim()
                for claim in claims:
                    group.create_task(self._try(claim))
                if not claims:
                    await self._waker.wait()

    async def run_once(self) -> int:
        """Claim what is due, try it all, record it; the number of tries. For tests and drains."""
        claims = await self._claim()
        async with asyncio.TaskGroup() as group:
            for claim in claims:
                group.create_task(self._try(claim))
        if claims:
            await self._record([self._outcomes.get_nowait() for _ in claims])
        return len(claims)

    async def _claim(self) -> list[Claim]:
        total = TRIES_MAX - self._in_flight.total()
        if total <= 0:
            return []
        claims = await self._database.run(lambda uow: self._claim_in(uow, total))
        for claim in claims:
            self._in_flight[claim.endpoint_id] += 1
        return claims

    async def _claim_in(self, uow: Uow, total: int) -> list[Claim]:
        now = self._clock.now()
        until = now + timedelta(seconds=self._schedule.claim_seconds)
        free = {
            endpoint_id: max(0, FAN_OUT - count) for endpoint_id, count in self._in_flight.items()
        }
        due = await store.claim_due(
            uow, at=now, claimed_until=until, fan_out=FAN_OUT, free=free, total=total
        )
        probes = await store.claim_probes(
            uow, at=now, claimed_until=until, total=max(0, total - len(due))
        )
        await self._check_alarms(uow, now)
        return [*due, *probes]

    async def _check_alarms(self, uow: Uow, now: datetime) -> None:
        monotonic_seconds = self._clock.monotonic_seconds()
        if monotonic_seconds >= self._check_alarms_at_seconds:
            self._check_alarms_at_seconds = monotonic_seconds + ALARM_CHECK_SECONDS
            await store.clear_resumed(uow, kind=ALARM_PAUSED, at=now)

    async def _try(self, claim: Claim) -> None:
        try:
            outcome = await try_once(
                claim,
                poster=self._poster,
                key=self._key,
                clock=self._clock,
                livemode=self._livemode,
            )
        finally:
            self._in_flight[claim.endpoint_id] -= 1
            if self._in_flight[claim.endpoint_id] <= 0:
                del self._in_flight[claim.endpoint_id]
        await self._outcomes.put(outcome)

    async def _record_forever(self) -> None:
        while True:
            outcomes = [await self._outcomes.get()]
            while not self._outcomes.empty():
                outcomes.append(self._outcomes.get_nowait())
            await self._record(outcomes)
            self._waker.wake()  # the next event of each object may go now

    async def _record(self, outcomes: Sequence[Outcome]) -> None:
        await self._database.run(lambda uow: self._record_in(uow, outcomes))

    async def _record_in(self, uow: Uow, outcomes: Sequence[Outcome]) -> None:
        now = self._clock.now()
        delivered = [(o.claim, o.status or 200) for o in outcomes if o.is_delivered]
        retries = [self._retry(outcome, now) for outcome in outcomes if not outcome.is_delivered]
        if delivered:
            await store.mark_delivered(uow, delivered, at=now)
        if retries:
            await store.mark_failed(uow, retries, at=now)
        gone = [claim for claim, _ in delivered]
        gone += [retry.claim for retry in retries if retry.next_attempt_at is None]
        if gone:
            await store.release_next(uow, gone)
        await self._record_health(uow, outcomes, now)
        for retry in retries:
            if retry.next_attempt_at is None:
                await self._park_alarm(uow, retry, now)

    def _retry(self, outcome: Outcome, now: datetime) -> Retry:
        claim = outcome.claim
        next_at = self._schedule.next_attempt_at(
            failures=claim.attempts + 1,
            first_attempt_at=claim.first_attempt_at or now,
            at=now,
        )
        log.info(
            "webhook.try_failed",
            delivery_id=claim.delivery_id,
            endpoint_id=claim.endpoint_id,
            attempt=claim.attempts + 1,
            status=outcome.status,
            reason=outcome.reason,
            next_attempt_at=next_at,
        )
        return Retry(
            claim=claim, status=outcome.status, reason=outcome.reason, next_attempt_at=next_at
        )

    async def _record_health(self, uow: Uow, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Count failures in a row. Successes of a healthy endpoint write nothing: no hot row."""
        changed = {
            o.claim.endpoint_id
            for o in outcomes
            if not o.is_delivered or o.claim.is_endpoint_failing
        }
        if not changed:
            return
        for before in await store.lock_endpoints(uow, sorted(changed)):
            mine = [o for o in outcomes if o.claim.endpoint_id == before.endpoint_id]
            after = health_after(before, mine, schedule=self._schedule, at=now)
            if after == before:
                continue
            await store.set_health(uow, after)
            if after.is_paused and not before.is_paused:
                log.warning("webhook.endpoint_paused", endpoint_id=after.endpoint_id)
                await alarm_store.raise_alarm(
                    uow,
                    alarm_id=self._ids.new_id(),
                    kind=ALARM_PAUSED,
                    object_id=after.endpoint_id,
                    detail=f"webhook endpoint failed {after.failures_in_a_row} times in a row",
                    at=now,
                )
            elif before.is_paused and not after.is_paused:
                log.info("webhook.endpoint_resumed", endpoint_id=after.endpoint_id)
                await store.clear_alarm(uow, kind=ALARM_PAUSED, object_id=after.endpoint_id, at=now)

    async def _park_alarm(self, uow: Uow, retry: Retry, now: datetime) -> None:
        claim = retry.claim
        log.warning("webhook.parked", delivery_id=claim.delivery_id, event_id=claim.event_id)
        await alarm_store.raise_alarm(
            uow,
            alarm_id=self._ids.new_id(),
            kind=ALARM_PARKED,
            object_id=claim.delivery_id,
            detail=f"webhook delivery given up after {claim.attempts + 1} tries: {retry.reason}",
            at=now,
        )


def health_after(
    before: EndpointHealth, outcomes: Sequence[Outcome], *, schedule: Schedule, at: datetime
) -> EndpointHealth:
    """The endpoint's health after these outcomes, in their order.

    The `pause_after_failures`-th failure in a row pauses it; one success resumes it. Of a paused
    one only probes count: what was in flight beside them tells nothing new and moves no probe away.
    One that a person paused (it has no probe time) stays so.
    """
    if before.is_paused and before.next_probe_at is None:
        return before
    failures, is_paused, next_probe_at = (
        before.failures_in_a_row,
        before.is_paused,
        before.next_probe_at,
    )
    for outcome in outcomes:
        if outcome.is_delivered:
            failures, is_paused, next_probe_at = 0, False, None
            continue
        if is_paused and not outcome.claim.is_probe:
            continue
        failures += 1
        if is_paused or failures >= schedule.pause_after_failures:
            is_paused = True
            next_probe_at = schedule.next_probe_at(failures=failures, at=at)
    return EndpointHealth(
        endpoint_id=before.endpoint_id,
        failures_in_a_row=failures,
        is_paused=is_paused,
        next_probe_at=next_probe_at,
    )
