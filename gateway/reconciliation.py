"""Books against themselves and against the chains, on request or of a cycle (HOUSE 7, L12).

The API has no node: each network's watcher answers a probe row, so that a reconciliation is started
in one unit of work and read in later ones. Owns that pairing; what a break is belongs to `ledger`
and `watchers`. It books nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from config.database import Uow
from config.ids import Ids
from gateway import reconciliation_store as store
from ledger import reconcile
from watchers import probes, reconciliations
from watchers.probes import Probe, ProbeKind, ProbeState
from watchers.reconciliations import NOT_COMPARED, Run, Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One break, minor units: found minus expected. `network` is None for the books alone."""

    kind: str
    network: str | None
    subject: str
    asset: str
    difference_minor: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkResult:
    """What a network's watcher answered. `is_answered` False: still waiting."""

    network: str
    is_answered: bool
    height: int | None
    block_hash: str | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """One run, asked for or of the cycle. Complete once every network has answered or failed."""

    id: UUID
    trigger: Trigger
    created_at: datetime
    networks: tuple[NetworkResult, ...]
    breaks: tuple[Difference, ...]
    runs: tuple[UUID, ...] = ()
    """The stored comparisons behind it, one per network that could compare."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is awaited any more."""
        return all(network.is_answered for network in self.networks)


async def start(
    uow: Uow,
    *,
    reconciliation_id: UUID,
    networks: Iterable[str],
    requested_by: str,
    ids: Ids,
    at: datetime,
) -> Reconciliation:
    """Check the books now and ask every network; the unit of work must see all brands."""
    asked = {}
    for network in networks:
        asked[network] = ids.new_id()
        await probes.ask(
            uow, probe_id=asked[network], network=network, kind=ProbeKind.HOLDINGS, at=at
        )
    found = [
        {
            "kind": item.kind.value,
            "subject": item.subject,
            "asset": item.asset,
            "difference_minor": str(item.difference_minor),
        }
        for item in await reconcile.check_books(uow)
    ]
    await store.insert(
        uow,
        reconciliation_id=reconciliation_id,
        probes={network: str(probe_id) for network, probe_id in asked.items()},
        book_breaks=found,
        requested_by=requested_by,
        at=at,
    )
    result = await get(uow, reconciliation_id)
    if result is None:
        raise RuntimeError("a reconciliation that was just written is not there")
    return result


async def get(uow: Uow, reconciliation_id: UUID) -> Reconciliation | None:
    """A run as far as it has come: one that was asked for, or one of a network's cycle."""
    row = await store.get(uow, reconciliation_id)
    if row is None:
        run = await reconciliations.get(uow, reconciliation_id)
        return None if run is None else of_run(run)
    networks, breaks, runs = [], [_book_break(item) for item in row.book_breaks], []
    for network, probe_id in sorted(row.probes.items()):
        probe = await probes.get(uow, UUID(probe_id))
        networks.append(_network(network, probe))
        run = await _run_of(uow, probe)
        if run is None:
            breaks += _not_compared(networks[-1])
        else:
            breaks += _chain_breaks(run)
            runs.append(run.id)
    return Reconciliation(
        id=row.id,
        trigger=Trigger.REQUEST,
        created_at=row.created_at,
        networks=tuple(networks),
        breaks=tuple(breaks),
        runs=tuple(runs),
    )


def of_run(run: Run) -> Reconciliation:
    """A stored comparison of one network by itself."""
    result = NetworkResult(
        network=run.network,
        is_answered=True,
        height=run.height,
        block_hash=run.block_hash,
        error=run.error,
    )
    return Reconciliation(
        id=run.id,
        trigger=run.trigger,
        created_at=run.started_at,
        networks=(result,),
        breaks=tuple(_chain_breaks(run) + _not_compared(result)),
        runs=(run.id,),
    )


def _book_break(item: Mapping[str, Any]) -> Difference:
    return Difference(
        kind=item["kind"],
        network=None,
        subject=item["subject"],
        asset=item["asset"],
        difference_minor=int(item["difference_minor"]),
    )


def _network(network: str, probe: Probe | None) -> NetworkResult:
    answer = (probe.answer if probe is not None else None) or {}
    is_failed = probe is None or probe.state is ProbeState.FAILED
    return NetworkResult(
        network=network,
        is_answered=probe is None or probe.state is not ProbeState.ASKED,
        height=answer.get("height"),
        block_hash=answer.get("block_hash"),
        error=str(answer.get("error", "the question is gone")) if is_failed else None,
    )


async def _run_of(uow: Uow, probe: Probe | None) -> Run | None:
    answer = (probe.answer if probe is not None else None) or {}
    run_id = answer.get("run_id")
    return None if run_id is None else await reconciliations.get(uow, UUID(str(run_id)))


def _not_compared(result: NetworkResult) -> list[Difference]:
    """A network that could not be compared is a break itself."""
    if result.error is None:
        return []
    return [
        Difference(
            kind=NOT_COMPARED,
            network=result.network,
            subject=result.error,
            asset="",
            difference_minor=0,
        )
    ]


def _chain_breaks(run: Run) -> list[Difference]:
    return [
        Difference(
            kind=item.kind.value,
            network=run.network,
            subject=item.subject,
            asset=item.asset,
            difference_minor=item.difference_minor,
            details=item.details,
        )
        for item in run.breaks
    ]
