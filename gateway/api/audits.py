"""`/v1/audit`: who changed what, and the chain that shows that nobody changed it since.

A brand sees its own rows: the database decides that. The chain and its end are the operator's.
"""

from gateway import audit, audit_store
from gateway.api.endpoint import NOT_CLIENTS, Call, endpoint
from gateway.api.references import decode_text, encode_text
from gateway.api.wire_audit import (
    AuditChain,
    AuditOut,
    AuditQuery,
    AuditTail,
    ChainQuery,
    HeadOut,
    SealedOut,
    SealOut,
)
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_query import BrandQuery, Page, limit_of, moment_of, sequence_of
from gateway.audit_store import AuditRow
from gateway.errors import NotFound, invalid_field
from ledger import seals

READ = frozenset({"audit:read"})


@endpoint(
    "GET",
    "/v1/audit",
    "Changes by people, policies and roles, newest first.",
    answers=Page[AuditOut],
    query=AuditQuery,
    scopes=READ,
)
async def list_audit(call: Call) -> Page[AuditOut]:
    """A page. A row appears with the commit of its change, its seal within a second."""
    query: AuditQuery = call.query
    limit = limit_of(query.limit)
    rows = await audit_store.find(
        call.uow,
        filters={
            "actor": query.actor,
            "action": query.action,
            "subject": query.subject,
            "brand": call.one_brand,
            "correlation": query.correlation,
            "since": moment_of(query.since, field="from"),
            "until": moment_of(query.until, field="to"),
        },
        before=_position(query.cursor),
        limit=limit,
    )
    following = encode_text(str(rows[-1].position)) if len(rows) == limit else None
    return Page[AuditOut](items=[_wire(call, row) for row in rows], next_cursor=following)


@endpoint(
    "GET",
    "/v1/audit/chain",
    "The sealed log in the order of its chain, for who verifies it.",
    answers=AuditChain,
    query=ChainQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def read_chain(call: Call) -> AuditChain:
    """Begin after 0 and go on after the last sequence until the list is empty."""
    _check_operator(call)
    rows = await audit_store.chain(
        call.uow, after=sequence_of(call.query.after), limit=limit_of(call.query.limit)
    )
    return AuditChain(
        items=[
            SealedOut(
                sequence=item.sequence,
                previous_hash=item.previous_hash,
                hash=item.hash,
                row=None if item.row is None else _wire(call, item.row),
            )
            for item in rows
        ]
    )


@endpoint(
    "GET",
    "/v1/audit/tail",
    "Where both chains end, and what waits for its seal.",
    answers=AuditTail,
    query=BrandQuery,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def read_tail(call: Call) -> AuditTail:
    """The heads to write down elsewhere."""
    _check_operator(call)
    tail = await audit_store.tail(call.uow)
    journal = await seals.newest(call.uow)
    return AuditTail(
        audit=HeadOut(sequence=tail.sequence, hash=tail.hash),
        waiting=tail.waiting,
        oldest_waiting_at=optional_time(tail.oldest_at),
        lost=tail.lost,
        journal=HeadOut(
            sequence=0 if journal is None else journal.sequence,
            hash=None if journal is None else journal.hash,
        ),
        journal_until=None if journal is None else rfc3339(journal.until),
    )


@endpoint(
    "GET",
    "/v1/ledger/seals/{sequence}",
    "One seal of the journal.",
    answers=SealOut,
    query=BrandQuery,
    scopes=frozenset({"ledger:read", "audit:read"}),
    kinds=NOT_CLIENTS,
)
async def get_seal(call: Call) -> SealOut:
    """To hold a head that was written down against the books."""
    _check_operator(call)
    text = call.path["sequence"]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise NotFound
    found = await seals.get(call.uow, int(text))
    if found is None:
        raise NotFound
    return SealOut(
        sequence=found.sequence,
        postings=found.postings,
        until=rfc3339(found.until),
        previous_hash=found.previous_hash,
        hash=found.hash,
        sealed_at=rfc3339(found.sealed_at),
    )


def _wire(call: Call, row: AuditRow) -> AuditOut:
    fields = audit.chained(row) | {"id": call.services.wire.id("audit", row.id)}
    return AuditOut(**fields, sequence=row.sequence, hash=row.hash)


def _check_operator(call: Call) -> None:
    if call.one_brand is not None:
        raise NotFound


def _position(cursor: str | None) -> int | None:
    text = decode_text(cursor)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise invalid_field("cursor", "invalid", "This is not a cursor of this list.")
    return int(text)
