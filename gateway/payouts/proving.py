"""Makes proofs of reserves: from the watchers' answers to a statement that the keys have signed.

Owns the loop from `asked` to `done`. Each step is one unit of work, and the signer is asked between
them, so that a death anywhere goes on where it stood; two processes at once do the same twice, and
one of them is kept. Nobody's money waits for a proof: a signer or node that is out only delays it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from config import alarm_store
from config.clock import Clock, Waker
from config.database import Database, Uow
from config.ids import Ids, public_id
from config.logs import get_logger
from config.registry import Registry
from gateway import proof_building, proofs_store
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.patience import heard, retry_at
from gateway.proof_building import Assembled
from gateway.proofs_store import AddressOfProof, ProofRow
from ledger import lifecycle
from ledger.errors import SumTreeError
from signer.protocol import Refusal
from signer.protocol import protocol_reserves as reserves
from watchers import probes
from watchers.probes import ProbeState

PAGE = reserves.MAX_PROVE_PATHS
LOOK_SECONDS = 1  # how soon a network that has not answered yet is looked at again
ANSWER_MINUTES_MAX = 15  # a network that is down this long fails the proof
SIGN_HOURS_MAX = 24  # later its figures are old news, and it stands in the way of the next one
UNKNOWN_NETWORK = "unknown_network"
EVERY = "*"  # a proof is of all networks
MISMATCH = "proof_address_mismatch"
"""Alarm: the signer derives another address from the path of one that holds something."""
REFUSED = "proof_refused"
"""Alarm: the signer will not sign a proof of reserves."""

log = get_logger(__name__)


class ProofState(StrEnum):
    """Where a proof stands."""

    ASKED = "asked"
    """Every network's watcher was asked what it holds and owes."""
    ASSEMBLED = "assembled"
    """Statement and trees stand; the keys are signing."""
    DONE = "done"
    """Signed; it never changes again."""
    FAILED = "failed"
    """A network gave no answer, or no key signed; `reason` says which."""


class ProvingSigner(Protocol):
    """What the loop asks of the signer; raises SignerUnavailable."""

    async def prove(self, request: reserves.ProveRequest) -> reserves.Proven | Refusal: ...


class Proving:
    """The loop of one process."""

    def __init__(
        self,
        registry: Registry,
        *,
        database: Database,
        signer: ProvingSigner,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._registry = registry
        self._database = database
        self._signer = signer
        self._clock = clock
        self._ids = ids

    async def run(self, waker: Waker) -> None:
        """Make proofs for ever; a signer that is down only delays (S21)."""
        while True:
            try:
                while await self.step():
                    pass
            except SignerUnavailable as error:
                log.warning("proofs.signer_unavailable", detail=str(error))
            await waker.wait()

    async def step(self) -> bool:
        """One step of the proof that is due; False when there is none. Raises SignerUnavailable."""
        async with self._database.unit_of_work() as uow:
            row = await proofs_store.due(uow, at=self._clock.now())
        if row is None:
            return False
        if row.state == ProofState.ASKED.value:
            await self._gather(row)
        elif self._clock.now() - row.created_at > timedelta(hours=SIGN_HOURS_MAX):
            await self._fail(row, f"no signature in {SIGN_HOURS_MAX} hours")
        else:
            await self._sign(row)
        return True

    async def _gather(self, row: ProofRow) -> None:
        async with self._database.unit_of_work() as uow:
            found = {
                network: await probes.get(uow, UUID(probe_id))
                for network, probe_id in row.probes.items()
            }
            reported = await proofs_store.reported(uow)
            last = await proofs_store.newest_done(uow)
        answers: dict[str, Mapping[str, Any]] = {}
        for network, probe in found.items():
            if probe is None or probe.state is ProbeState.FAILED:
                answer = (probe.answer if probe is not None else None) or {}
                reason = str(answer.get("error", "the question is gone"))
                await self._fail(row, f"{network}: {reason}")
                return
            if probe.state is ProbeState.ASKED:
                await self._wait_for(row, network)
                return
            answers[network] = probe.answer or {}
        try:
            made = await asyncio.to_thread(
                proof_building.assemble,
                proof_id=public_id("proof", row.id, livemode=self._registry.settings.livemode),
                livemode=self._registry.settings.livemode,
                at=self._clock.now(),
                answers=answers,
                reported=reported,
                chains=self._registry.chains,
                assets=self._registry.assets,
                previous=None if last is None else last.statement,
                salt=self._ids.token_bytes,
            )
        except SumTreeError as error:
            await self._fail(row, f"the books cannot be proven: {error}")
            return
        await self._database.run(lambda uow: self._keep(uow, row, made))

    async def _keep(self, uow: Uow, row: ProofRow, made: Assembled) -> None:
        at = self._clock.now()
        await lifecycle.set_actor(uow, "payouts")
        is_mine = await proofs_store.move(
            uow,
            row.id,
            current=ProofState.ASKED.value,
            target=ProofState.ASSEMBLED.value,
            at=at,
            statement=made.statement,
        )
        if not is_mine:
            return
        for kind, parts in (
            ("liabilities", made.liabilities),
            ("holdings", made.holdings),
            ("transactions", made.transactions),
        ):
            for subject, content in parts.items():
                await proofs_store.add_part(
                    uow, row.id, kind=kind, subject=subject, content=content
                )
        await proofs_store.add_leaves(uow, row.id, made.leaves)
        await proofs_store.add_addresses(uow, row.id, made.addresses)
        log.info("proofs.assembled", proof_id=str(row.id), leaves=len(made.leaves))

    async def _wait_for(self, row: ProofRow, network: str) -> None:
        now = self._clock.now()
        if now - row.created_at > timedelta(minutes=ANSWER_MINUTES_MAX):
            await self._fail(row, f"{network}: no answer in {ANSWER_MINUTES_MAX} minutes")
            return
        async with self._database.unit_of_work() as uow:
            until = now + timedelta(seconds=LOOK_SECONDS)
            await proofs_store.postpone(uow, row.id, until=until, attempts=row.attempts)

    async def _fail(self, row: ProofRow, reason: str) -> None:
        async with self._database.unit_of_work() as uow:
            await lifecycle.set_actor(uow, "payouts")
            await proofs_store.move(
                uow,
                row.id,
                current=row.state,
                target=ProofState.FAILED.value,
                at=self._clock.now(),
                reason=reason,
                statement=None,
            )
        log.warning("proofs.failed", proof_id=str(row.id), reason=reason)

    async def _sign(self, row: ProofRow) -> None:
        """A page of addresses, or the end when no address is left."""
        async with self._database.unit_of_work() as uow:
            page = await proofs_store.unsigned(uow, row.id, limit=PAGE)
        request = reserves.ProveRequest(
            network=page[0].network if page else "",
            statement=row.statement or "",
            paths=tuple(item.path or "" for item in page),
        )
        answer = heard(await self._signer.prove(request))
        if isinstance(answer, Refusal) and not (page and answer.code == UNKNOWN_NETWORK):
            await self._refused(row, answer)
        elif page:
            await self._database.run(lambda uow: self._keep_page(uow, row, page, answer))
        elif isinstance(answer, reserves.Proven):
            proven = answer
            await self._database.run(lambda uow: self._finish(uow, row, proven))

    async def _keep_page(
        self,
        uow: Uow,
        row: ProofRow,
        page: Sequence[AddressOfProof],
        answer: reserves.Proven | Refusal,
    ) -> None:
        """A network that the signer does not know is the answer of each of its addresses: the proof
        goes on and says which keys did not sign."""
        items = answer.items if isinstance(answer, reserves.Proven) else (answer,) * len(page)
        kept = [_kept(asked, item) for asked, item in zip(page, items, strict=True)]
        await proofs_store.keep_signatures(uow, row.id, kept)
        for item in kept:
            if item.code == "mismatch":
                log.error("proofs.mismatch", network=item.network, path=item.path)
                await alarm_store.raise_alarm(
                    uow,
                    alarm_id=self._ids.new_id(),
                    kind=MISMATCH,
                    network=item.network,
                    detail=f"{item.path} is not {item.address}",
                    at=self._clock.now(),
                )

    async def _finish(self, uow: Uow, row: ProofRow, proven: reserves.Proven) -> None:
        await lifecycle.set_actor(uow, "payouts")
        await proofs_store.move(
            uow,
            row.id,
            current=ProofState.ASSEMBLED.value,
            target=ProofState.DONE.value,
            at=self._clock.now(),
            key_id=proven.key_id,
            public_key=proven.public_key,
            signature=proven.signature,
        )
        await alarm_store.clear(uow, kinds=[REFUSED], network=EVERY, at=self._clock.now())
        log.info("proofs.done", proof_id=str(row.id))

    async def _refused(self, row: ProofRow, answer: Refusal) -> None:
        at = self._clock.now()
        async with self._database.unit_of_work() as uow:
            until = retry_at(at, row.attempts)
            await proofs_store.postpone(uow, row.id, until=until, attempts=row.attempts + 1)
            await alarm_store.raise_alarm(
                uow,
                alarm_id=self._ids.new_id(),
                kind=REFUSED,
                network=EVERY,
                detail=f"{answer.code}: {answer.reason}",
                at=at,
            )


def _kept(asked: AddressOfProof, item: reserves.ProvenAddress | Refusal) -> AddressOfProof:
    signature, code = None, None
    if isinstance(item, Refusal):
        code = item.code
    elif item.address != asked.address:
        code = "mismatch"
    else:
        signature = item.signature
    return AddressOfProof(
        network=asked.network,
        address=asked.address,
        path=asked.path,
        signature=signature,
        code=code,
    )
