"""The sealer: binds the audit log and the journal into their chains, one process at a time.

Runs beside the scheduler, under a lease of its own with fencing. Audit rows are sealed at each hint
and each poll, so at most a second behind; the journal once a minute; both heads are then told in a
file and a log line. It moves no money and speaks to nobody. That it is down costs time, not truth:
what waits is sealed later, and `verify` tells how much waits.
"""

import asyncio
from pathlib import Path
from typing import Final

from config import alarm_store
from config.clock import Clock, Waker
from config.database import Database, Uow
from config.ids import Ids
from config.logs import get_logger
from gateway import anchors, audit, audit_store, leases
from gateway.anchors import Anchor, Head
from gateway.api.wire_base import rfc3339
from ledger import seals
from ledger.chain_of_seals import GENESIS_HASH

LEASE_NAME: Final = "sealer"
LEASE_SECONDS = 6  # a killed sealer is replaced after this long
RENEW_SECONDS = 2.0
POLL_SECONDS = 0.5  # when a notification was lost
JOURNAL_SECONDS = 60.0
CHANNEL: Final = "cage_audit"
REWRITTEN: Final = "log_rewritten"

log = get_logger("gateway.sealing")


class Sealer:
    """One instance of the loop; any number may run, one works. `anchor_file` is this host's own."""

    def __init__(
        self, *, database: Database, clock: Clock, ids: Ids, waker: Waker, anchor_file: Path
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._waker = waker
        self._anchor_file = anchor_file
        self._lease = leases.Lease(
            name=LEASE_NAME, holder=f"sealer:{ids.new_id().hex}", seconds=LEASE_SECONDS
        )
        self._renew_at_seconds = 0.0
        self._journal_at_seconds = 0.0
        self._told: tuple[Head, Head] | None = None

    @property
    def waker(self) -> Waker:
        """Woken by a notification on CHANNEL."""
        return self._waker

    async def run(self) -> None:
        """Seal what is committed, at each hint and each poll, until cancelled."""
        try:
            while True:
                if not await self.run_once():
                    await self._waker.wait()
        finally:
            await leases.give_back(self._database, self._lease)

    async def run_once(self) -> bool:
        """One cycle. True when more may wait."""
        try:
            if not await self._is_leader():
                return False
            count = await self._database.run(self._seal_audit)
            if count >= audit.SEAL_ROWS:
                return True
            if self._clock.monotonic_seconds() < self._journal_at_seconds:
                return False
            if await self._database.run(self._seal_journal) >= seals.SEAL_POSTINGS:
                return True
            self._journal_at_seconds = self._clock.monotonic_seconds() + JOURNAL_SECONDS
            await self._anchor()
        except leases.LeaseLost as error:
            log.warning("sealing.lease_lost", reason=str(error))
        return False

    async def _is_leader(self) -> bool:
        now = self._clock.monotonic_seconds()
        if self._lease.is_held and now < self._renew_at_seconds:
            return True
        was_held = self._lease.is_held
        is_held = await leases.hold(self._database, self._lease)
        self._renew_at_seconds = now + RENEW_SECONDS
        if is_held and not was_held:
            log.info("sealing.leader", fence=self._lease.fence)
        return is_held

    async def _seal_audit(self, uow: Uow) -> int:
        await self._lease.check(uow)
        return await audit.seal_next(uow)

    async def _seal_journal(self, uow: Uow) -> int:
        await self._lease.check(uow)
        return await seals.seal_next(uow, at=self._clock.now())

    async def _anchor(self) -> None:
        """Tell the heads outside the database; a file that cannot be written is an alarm."""
        await self._compare()
        async with self._database.unit_of_work() as uow:
            heads = await _heads(uow)
        if heads == self._told:
            return
        now = self._clock.now()
        anchor = Anchor(at=rfc3339(now), audit=heads[0], journal=heads[1])
        log.info(
            "sealing.anchored",
            audit_sequence=anchor.audit.sequence,
            audit_hash=anchor.audit.hash,
            journal_sequence=anchor.journal.sequence,
            journal_hash=anchor.journal.hash,
        )
        try:
            await asyncio.to_thread(anchors.append, self._anchor_file, anchor)
        except OSError as error:
            await self._alarm("anchor_unwritable", f"{self._anchor_file}: {error.strerror}")
            return
        self._told = heads

    async def _compare(self) -> None:
        """What this host told last must still stand; else the logs were written anew, or the
        database is an older one. Sealing goes on: what follows is evidence, too."""
        try:
            anchor = await asyncio.to_thread(anchors.newest, self._anchor_file)
        except (OSError, ValueError) as error:
            await self._alarm("anchor_unreadable", f"{self._anchor_file}: {type(error).__name__}")
            return
        if anchor is None:
            return
        async with self._database.unit_of_work() as uow:
            journal = await seals.get(uow, anchor.journal.sequence)
            found = {
                "audit": await audit_store.seal_at(uow, anchor.audit.sequence),
                "journal": None if journal is None else journal.hash,
            }
        gone = [
            f"{name} seal {head.sequence}"
            for name, head in (("audit", anchor.audit), ("journal", anchor.journal))
            if head.sequence and found[name] != head.hash
        ]
        if gone:
            await self._alarm(REWRITTEN, f"told at {anchor.at}, gone: {', '.join(gone)}")

    async def _alarm(self, kind: str, detail: str) -> None:
        log.error("sealing.alarm", kind=kind, detail=detail)
        async with self._database.unit_of_work() as uow:
            await alarm_store.raise_alarm(
                uow,
                alarm_id=self._ids.new_id(),
                kind=kind,
                detail=detail,
                at=self._clock.now(),
            )


async def _heads(uow: Uow) -> tuple[Head, Head]:
    sequence, found = await audit_store.head(uow) or (0, GENESIS_HASH)
    journal = await seals.newest(uow)
    return (
        Head(sequence=sequence, hash=found),
        Head(
            sequence=0 if journal is None else journal.sequence,
            hash=GENESIS_HASH if journal is None else journal.hash,
        ),
    )
