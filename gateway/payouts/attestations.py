"""Fetches the signer's statement about each address that was handed out (FEATURES N20).

Owns the loop from a handed-out address to one whose statement is stored and told to the brand
(`address.attested`). Nobody waits for it: the address was answered before, and a signer that is
down only delays. Asking is at least once; the signer answers the same item the same, for ever.
An address that the signer derives otherwise, or that belongs to another player there, is taken out
of hand-out with an alarm (`address.withdrawn`); it stays watched.
"""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from config import alarm_store
from config.clock import Clock, Waker
from config.database import Database, Uow
from config.ids import Ids
from config.logs import get_logger
from gateway import attestation_store
from gateway.attestation_store import Attestation
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.patience import heard, retry_at
from ledger import outbox
from signer.protocol import (
    MAX_ATTEST_ITEMS,
    Attestations,
    Attested,
    AttestItem,
    AttestRequest,
    ProtocolError,
    Refusal,
    parse_statement,
)
from watchers import addresses
from watchers.addresses import AddressRow

PAGE = MAX_ATTEST_ITEMS
NEVER = frozenset({"bound"})
"""Refusals that no later question changes: the path has another player there."""
MISMATCH = "address_mismatch"
WITHDRAWN = "address_withdrawn"
"""Alarm: the signer does not stand by an address that a player was given."""
REFUSED = "attestation_refused"
"""Alarm: the signer's settings do not let it speak of these addresses."""

log = get_logger(__name__)


class AttestingSigner(Protocol):
    """What the loop asks of the signer; raises SignerUnavailable."""

    async def attest(self, request: AttestRequest) -> Attestations | Refusal: ...


class AttestationFetch:
    """One network's loop. Two at once are harmless: what comes twice is stored and told once."""

    def __init__(
        self,
        network: str,
        *,
        caip2: str,
        database: Database,
        signer: AttestingSigner,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._network = network
        self._caip2 = caip2
        self._database = database
        self._signer = signer
        self._clock = clock
        self._ids = ids

    async def run(self, waker: Waker) -> None:
        """Fetch for ever; a signer that is down only delays (S21)."""
        while True:
            try:
                while await self.fetch_page() == PAGE:
                    pass
            except SignerUnavailable as error:
                log.warning(
                    "attestations.signer_unavailable", network=self._network, detail=str(error)
                )
            await waker.wait()

    async def fetch_page(self) -> int:
        """Ask about what is due, at most a page; returns how many. Raises SignerUnavailable."""
        async with self._database.unit_of_work() as uow:
            due = await attestation_store.due(
                uow, network=self._network, at=self._clock.now(), limit=PAGE
            )
            found = await addresses.by_ids(uow, list(due))
        rows = [found[address_id] for address_id in due if address_id in found]
        if not rows:
            return 0
        answer = await self._ask(rows)
        await self._database.run(lambda uow: self._keep(uow, rows, answer, due))
        return len(rows)

    async def _ask(self, rows: Sequence[AddressRow]) -> Attestations:
        """One answer per row; a refusal of the whole question is the answer of each."""
        items = tuple(
            AttestItem(brand=row.brand or "", player=row.player_id or "", path=row.path)
            for row in rows
        )
        request = AttestRequest(network=self._network, items=items)
        answer = heard(await self._signer.attest(request))
        if isinstance(answer, Refusal):
            return Attestations(key_id="", items=(answer,) * len(rows))
        return answer

    async def _keep(
        self,
        uow: Uow,
        rows: Sequence[AddressRow],
        answer: Attestations,
        refusals: Mapping[UUID, int],
    ) -> None:
        at = self._clock.now()
        good: list[Attestation] = []
        for row, item in zip(rows, answer.items, strict=True):
            code = _refusal(item, row, caip2=self._caip2)
            if code is None and isinstance(item, Attested):
                signature = base64.b64encode(item.signature).decode("ascii")
                good.append(
                    Attestation(
                        address_id=row.id,
                        statement=item.statement,
                        signature=signature,
                        key_id=answer.key_id,
                    )
                )
            elif code in {*NEVER, MISMATCH}:
                await self._withdraw(uow, row, code=str(code), at=at)
            else:
                await self._postpone(uow, row, str(code), refusals[row.id], at=at)
        await self._attested(uow, good, at=at)
        if not await attestation_store.any_refused(uow, network=self._network):
            await alarm_store.clear(uow, kinds=[REFUSED], network=self._network, at=at)

    async def _attested(self, uow: Uow, good: Sequence[Attestation], *, at: datetime) -> None:
        if not good:
            return
        new = await attestation_store.keep(uow, good, at=at)
        rows = await addresses.next_version(uow, sorted(new))
        by_id = {item.address_id: item for item in good}
        events = [self._event("address.attested", row, by_id[row.id]) for row in rows]
        await outbox.append_many(uow, events, at=at)
        log.info("attestations.kept", network=self._network, addresses=len(rows))

    async def _withdraw(self, uow: Uow, row: AddressRow, *, code: str, at: datetime) -> None:
        """The player gets another address at the next call; a person must look at once."""
        if not await attestation_store.refuse(uow, row.id, code=code, at=at):
            return
        retired = await addresses.withdraw(uow, row.id, at=at)
        if retired is not None:
            event = self._event("address.withdrawn", retired, None)
            await outbox.append_many(uow, [event], at=at)
        await alarm_store.raise_alarm(
            uow,
            alarm_id=self._ids.new_id(),
            kind=WITHDRAWN,
            network=self._network,
            object_id=row.id,
            detail=f"{code}: {row.path} of brand {row.brand}, given to {row.player_id}",
            at=at,
        )
        log.error("attestations.withdrawn", address_id=str(row.id), code=code)

    async def _postpone(
        self, uow: Uow, row: AddressRow, code: str, refusals: int, *, at: datetime
    ) -> None:
        await attestation_store.postpone(uow, row.id, code=code, until=retry_at(at, refusals))
        if refusals == 0:
            log.warning("attestations.refused", address_id=str(row.id), code=code)
        await alarm_store.raise_alarm(
            uow,
            alarm_id=self._ids.new_id(),
            kind=REFUSED,
            network=self._network,
            object_id=None,
            detail=f"{code}: {row.path} of brand {row.brand}",
            at=at,
        )

    def _event(self, kind: str, row: AddressRow, found: Attestation | None) -> outbox.Event:
        return outbox.Event(
            event_id=self._ids.new_id(),
            brand=row.brand,
            type=kind,
            object_kind="address",
            object_id=row.id,
            object_version=row.version,
            previous_state=None,
            snapshot=_snapshot(row, found),
        )


def _refusal(item: Attested | Refusal, row: AddressRow, *, caip2: str) -> str | None:
    """None: the statement says of this very row what the books say. Else the code."""
    if isinstance(item, Refusal):
        return item.code
    try:
        said = parse_statement(item.statement)
    except ProtocolError:
        return "unreadable_statement"
    if (said.brand, said.player) != (row.brand, row.player_id):
        return "unreadable_statement"
    if said.network != caip2:  # the two configurations name other chains: no fault of an address
        return "wrong_network"
    return None if said.address == row.address else MISMATCH


def _snapshot(row: AddressRow, found: Attestation | None) -> dict[str, Any]:
    return {
        "id": row.id,
        "version": row.version,
        "brand": row.brand,
        "player_id": row.player_id,
        "network": row.network,
        "address": row.address,
        "scheme": row.scheme,
        "attestation": None if found is None else found.snapshot(),
        "issued_at": row.issued_at,
        "retired_at": row.retired_at,
    }
