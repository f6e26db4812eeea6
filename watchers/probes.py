"""Questions that need a node, asked as rows by processes that have none (HOUSE 3).

Owns `chain.probes`. The watcher of the network answers; the asker polls its row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from config.clock import Clock
from config.database import Database, Uow
from config.logs import get_logger, redact_text
from watchers import reconciliations, searches, store
from watchers.addresses import AddressRole
from watchers.balance_scan import SCAN_KEYS
from watchers.chain import Chain, Outpoint
from watchers.errors import NodeError
from watchers.network import Network
from watchers.reconcile_chain import Holdings
from watchers.reconciliations import Trigger

log = get_logger("watchers.probes")

PROBES_PER_ROUND = 10


class ProbeKind(StrEnum):
    """What may be asked."""

    HOLDINGS = "holdings"
    """Books against chain at the follower's block."""
    RESERVES = "reserves"
    """The same, with what stands at each address and what is owed, for a proof of reserves."""


class ProbeState(StrEnum):
    """Where a question stands."""

    ASKED = "asked"
    """Waits for the watcher."""
    ANSWERED = "answered"
    """`answer` holds the result."""
    FAILED = "failed"
    """No usable answer from the nodes; `answer.error` says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A question and its answer. Amounts in `answer` are integer text by account code."""

    id: UUID
    network: str
    kind: ProbeKind
    state: ProbeState
    answer: Mapping[str, Any] | None
    asked_at: datetime
    answered_at: datetime | None


async def ask(uow: Uow, *, probe_id: UUID, network: str, kind: ProbeKind, at: datetime) -> None:
    """Ask the watcher of a network."""
    await store.ask_probe(uow, probe_id=probe_id, network=network, kind=kind.value, at=at)


async def get(uow: Uow, probe_id: UUID) -> Probe | None:
    """A question and, once there, its answer."""
    row = await store.probe(uow, probe_id)
    if row is None:
        return None
    return Probe(**{**row, "kind": ProbeKind(row["kind"]), "state": ProbeState(row["state"])})


async def answer_all(database: Database, chain: Chain, network: Network, *, clock: Clock) -> int:
    """Answer what is open, at most PROBES_PER_ROUND; returns how many."""
    async with database.unit_of_work() as uow:
        rows = await store.open_probes(uow, network=network.name, limit=PROBES_PER_ROUND)
    for row in rows:
        try:
            is_proof = row["kind"] == ProbeKind.RESERVES.value
            run, held = await reconciliations.compare(
                database,
                chain,
                network,
                clock=clock,
                trigger=Trigger.REQUEST,
                scan_keys=SCAN_KEYS,
                is_proof=is_proof,
            )
            await searches.book(database, network, held, at=clock.now())
            state, answer = ProbeState.ANSWERED, _answer(run.id, held, is_proof=is_proof)
        except NodeError as error:
            state, answer = ProbeState.FAILED, {"error": redact_text(str(error))}
            log.warning("probe.failed", probe_id=str(row["id"]), network=network.name)
        async with database.unit_of_work() as uow:
            await store.answer_probe(
                uow, probe_id=row["id"], state=state.value, answer=answer, at=clock.now()
            )
    return len(rows)


def _answer(run_id: UUID, held: Holdings, *, is_proof: bool) -> dict[str, Any]:
    def texts(amounts: Mapping[str, int]) -> dict[str, str]:
        return {code: str(amount) for code, amount in amounts.items()}

    return {
        "run_id": str(run_id),
        "network": held.network,
        "height": held.height,
        "block_hash": held.block_hash,
        "chain": texts(held.chain),
        "books": texts(held.books),
        "unposted": texts(held.unposted),
        "unsettled": texts(held.unsettled),
        "breaks": texts(held.breaks),
        **(_reserves(held) if is_proof else {}),
    }


def _reserves(held: Holdings) -> dict[str, Any]:
    return {
        "held": [
            {
                "asset": item.asset,
                "address": item.address.address,
                # A cold address' path is of a key that the signer does not have.
                "path": None if item.address.role is AddressRole.COLD else item.address.path,
                "outpoint": _outpoint(item.outpoint),
                "amount_minor": str(item.amount_minor),
            }
            for item in held.held
        ],
        "transactions": {txid: raw.hex() for txid, raw in sorted(held.transactions.items())},
        "owed": [
            {
                "kind": item.kind,
                "asset": item.asset,
                "brand": item.brand,
                "player_id": item.player_id,
                "amount_minor": str(item.amount_minor),
            }
            for item in held.owed
        ],
    }


def _outpoint(value: Outpoint | None) -> str | None:
    return None if value is None else f"{value.txid}:{value.vout}"
