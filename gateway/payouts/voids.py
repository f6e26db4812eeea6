"""Tells the signer which withdrawals ended before anything was signed for them (S25).

Owns the loop from a pending void to one that the signer holds. Nobody waits for it: a cancel has
answered long before. Delivery is at least once, and the signer answers the same void the same. It
decides nothing about withdrawals (docs/adr/0010).
"""

from dataclasses import replace
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from config import alarm_store
from config.clock import Clock, Waker
from config.database import Database, Uow
from config.ids import Ids
from config.logs import get_logger
from gateway.payouts import void_store
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.patience import heard, retry_at
from gateway.payouts.refusals import SIGNER_KNOWS_MORE
from gateway.payouts.void_store import VoidRow
from signer.protocol import Refusal, Voided, VoidRequest

PAGE = 100  # one question to the signer each; between pages other work gets its turn
MOOT_AFTER = timedelta(days=31)  # CONTRACT 3: an order lives 30 days from `created`, 60 s ahead
VOID_REFUSED = "void_refused"
"""Alarm: the signer does not take a void, so it could still sign what has ended."""

log = get_logger(__name__)


class VoidSigner(Protocol):
    """What the loop asks of the signer; raises SignerUnavailable."""

    async def void(self, request: VoidRequest) -> Voided | Refusal: ...


class VoidDelivery:
    """The loop of one process. Two at once are harmless: a void is the same twice."""

    def __init__(self, *, database: Database, signer: VoidSigner, clock: Clock, ids: Ids) -> None:
        self._database = database
        self._signer = signer
        self._clock = clock
        self._ids = ids

    async def run(self, waker: Waker) -> None:
        """Deliver for ever; a signer that is down only delays (S21)."""
        while True:
            try:
                while await self.deliver_page() == PAGE:
                    pass
            except SignerUnavailable as error:
                log.warning("voids.signer_unavailable", detail=str(error))
            await waker.wait()

    async def deliver_page(self) -> int:
        """Ask about what is due, at most a page; returns how many. Raises SignerUnavailable."""
        async with self._database.unit_of_work() as uow:
            found = await void_store.due(uow, at=self._clock.now(), limit=PAGE)
        for withdrawal_id in found:
            await self._deliver(withdrawal_id)
        return len(found)

    async def _deliver(self, withdrawal_id: UUID) -> None:
        async with self._database.unit_of_work() as uow:
            row = await void_store.get(uow, withdrawal_id)
        if row is None:
            return  # another process was faster
        if row.order is None:
            await self._finish(row, state="moot", code="no_request")
            return
        request = VoidRequest(
            brand=row.brand, request_id=row.request_id, order=row.order, cancel=row.cancel
        )
        answer = heard(await self._signer.void(request))
        if isinstance(answer, Refusal) and row.cancel is not None:
            # The withdrawal has ended whatever the signer thinks of the cancel's key.
            log.warning(
                "void.cancel_refused", withdrawal_id=str(row.withdrawal_id), **_words(answer)
            )
            answer = heard(await self._signer.void(replace(request, cancel=None)))
        if isinstance(answer, Refusal):
            await self._refused(row, answer)
        elif answer.is_signed:
            await self._database.run(lambda uow: self._too_late(uow, row))
        else:
            await self._finish(row, state="delivered", code=None)

    async def _finish(self, row: VoidRow, *, state: str, code: str | None) -> None:
        at = self._clock.now()
        async with self._database.unit_of_work() as uow:
            await void_store.finish(uow, row.withdrawal_id, state=state, code=code, at=at)
            if row.attempts and not await void_store.any_refused(uow, network=row.network):
                await alarm_store.clear(uow, kinds=[VOID_REFUSED], network=row.network, at=at)
        log.info("void.finished", withdrawal_id=str(row.withdrawal_id), state=state)

    async def _refused(self, row: VoidRow, refusal: Refusal) -> None:
        """An order that the signer does not hold for one it does not sign either: for now."""
        log.warning("void.refused", withdrawal_id=str(row.withdrawal_id), **_words(refusal))
        now = self._clock.now()
        if now - row.created_at > MOOT_AFTER:
            await self._finish(row, state="moot", code=refusal.code)
            return
        async with self._database.unit_of_work() as uow:
            until = retry_at(now, row.attempts)
            await void_store.postpone(uow, row.withdrawal_id, code=refusal.code, until=until)
            await self._alarm(uow, row, VOID_REFUSED, f"{refusal.code}: {refusal.reason}")

    async def _too_late(self, uow: Uow, row: VoidRow) -> None:
        """The signer signed what these books gave up: they lost a commit (a restored database)."""
        at = self._clock.now()
        await void_store.finish(
            uow, row.withdrawal_id, state="delivered", code=SIGNER_KNOWS_MORE, at=at
        )
        detail = f"withdrawal {row.withdrawal_id} ended unsigned here and is signed there"
        await self._alarm(uow, row, SIGNER_KNOWS_MORE, detail)
        log.error("void.already_signed", withdrawal_id=str(row.withdrawal_id))

    async def _alarm(self, uow: Uow, row: VoidRow, kind: str, detail: str) -> None:
        await alarm_store.raise_alarm(
            uow,
            alarm_id=self._ids.new_id(),
            kind=kind,
            network=row.network,
            object_id=None,
            detail=detail,
            at=self._clock.now(),
        )


def _words(refusal: Refusal) -> dict[str, str]:
    return {"code": refusal.code, "reason": refusal.reason}
