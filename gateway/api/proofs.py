"""Proofs of reserves: ask for one, read it, and find one's own leaf in it (FEATURES L9, N8).

The watchers answer and payouts assemble and sign; the API stores the question and shows the rest.
A casino sees the statement and its own leaves, never another's names or our addresses.
"""

import asyncio
import base64
from uuid import UUID

from config.ids import parse_public_id
from gateway import proof_building, proofs_store
from gateway.api.endpoint import NOT_CLIENTS, Answer, Call, Idempotency, endpoint
from gateway.api.players import check_player
from gateway.api.switches import check_operator
from gateway.api.wire_base import rfc3339
from gateway.api.wire_proofs import (
    BundleOut,
    HoldingOut,
    InclusionOut,
    LeafOut,
    NodeOut,
    OwnershipOut,
    ProofOut,
    ProofQuery,
)
from gateway.api.wire_query import Page, PageQuery, decode_cursor, limit_of, next_cursor
from gateway.errors import Conflict, NotFound, invalid_field
from gateway.proofs_store import LeafRow, ProofRow
from watchers import probes
from watchers.probes import ProbeKind

READ = frozenset({"treasury:read", "ledger:read", "audit:read", "deposits:read"})
KIND = "proof"


@endpoint(
    "POST",
    "/v1/proofs",
    "Make a proof of reserves of every network; ask for it until it is `done`.",
    answers=ProofOut,
    status=202,
    scopes=frozenset({"treasury:write", "audit:read"}),
    kinds=NOT_CLIENTS,
    idempotency=Idempotency.OPTIONAL,
)
async def create_proof(call: Call) -> Answer:
    """One at a time: while one is being made, another is refused."""
    check_operator(call)
    await proofs_store.lock(call.uow)  # two that look at once would both find none
    if await proofs_store.open_one(call.uow) is not None:
        raise Conflict("proof_running", "A proof is being made; ask for it.")
    asked = {}
    for network in call.services.registry.chains:
        asked[network] = call.services.ids.new_id()
        await probes.ask(
            call.uow,
            probe_id=asked[network],
            network=network,
            kind=ProbeKind.RESERVES,
            at=call.at,
        )
    proof_id = call.services.ids.new_id()
    await proofs_store.insert(
        call.uow,
        proof_id=proof_id,
        probes=asked,
        requested_by=call.principal.person or call.principal.key_id,
        at=call.at,
    )
    row = await proofs_store.get(call.uow, proof_id)
    if row is None:
        raise RuntimeError("a proof that was just written is not there")
    return Answer(body=_wire(call, row))


@endpoint(
    "GET",
    "/v1/proofs",
    "Proofs of reserves, newest first.",
    answers=Page[ProofOut],
    query=PageQuery,
    scopes=READ,
)
async def list_proofs(call: Call) -> Page[ProofOut]:
    """The statements are for everybody; who asked is not shown."""
    limit = limit_of(call.query.limit)
    rows = await proofs_store.newest(call.uow, before=decode_cursor(call.query.cursor), limit=limit)
    return Page[ProofOut](
        items=[_wire(call, row) for row in rows],
        next_cursor=next_cursor([row.id for row in rows], limit=limit),
    )


@endpoint("GET", "/v1/proofs/{id}", "One proof of reserves.", answers=ProofOut, scopes=READ)
async def get_proof(call: Call) -> ProofOut:
    """By id."""
    return _wire(call, await _existing(call, call.object_id(KIND)))


@endpoint(
    "GET",
    "/v1/proofs/{id}/bundle",
    "All that a stranger needs to verify it offline: every leaf, address and signature.",
    answers=BundleOut,
    scopes=READ,
    kinds=NOT_CLIENTS,
)
async def get_bundle(call: Call) -> BundleOut:
    """The operator's to publish. No owner's name stands in it."""
    check_operator(call)
    row = _signed(await _existing(call, call.object_id(KIND)))
    liabilities = await proofs_store.parts(call.uow, row.id, kind="liabilities")
    holdings = await proofs_store.parts(call.uow, row.id, kind="holdings")
    raws = await proofs_store.parts(call.uow, row.id, kind="transactions")
    addresses = await proofs_store.addresses_of(call.uow, row.id)
    return BundleOut(
        format="cage-reserves-bundle/1",
        **_signature(row),
        liabilities={asset: _nodes(content) for asset, content in liabilities.items()},
        holdings={network: _held(content) for network, content in holdings.items()},
        transactions={network: _by_txid(content) for network, content in raws.items()},
        ownership=[
            OwnershipOut(
                network=item.network,
                address=item.address,
                signature=item.signature,
                code=item.code,
            )
            for item in addresses
        ],
    )


@endpoint(
    "GET",
    "/v1/players/{player_id}/proof",
    "A player's own leaves in a proof of reserves, verifiable offline.",
    answers=InclusionOut,
    query=ProofQuery,
    scopes=READ,
)
async def get_player_proof(call: Call) -> InclusionOut:
    """404 where the proof owes this player nothing by name (its casino reports no balances)."""
    return await _inclusion(call, player_id=check_player(call.path["player_id"]))


@endpoint(
    "GET",
    "/v1/proof_of_brand",
    "A casino's own leaves in a proof of reserves, verifiable offline.",
    answers=InclusionOut,
    query=ProofQuery,
    scopes=READ,
)
async def get_brand_proof(call: Call) -> InclusionOut:
    """What is owed to the casino itself: all of it, or what is left beside its players' leaves."""
    return await _inclusion(call, player_id="")


async def _inclusion(call: Call, *, player_id: str) -> InclusionOut:
    brand = call.require_brand()
    row = await _chosen(call)
    leaves = await proofs_store.leaves_of(call.uow, row.id, brand=brand, player_id=player_id)
    if not leaves:
        raise NotFound
    shown = []
    for leaf in leaves:
        content = await proofs_store.part(call.uow, row.id, kind="liabilities", subject=leaf.asset)
        if content is None:
            raise RuntimeError("a proof has a leaf and no tree")
        shown.append(await asyncio.to_thread(_leaf, leaf, content))
    return InclusionOut(
        format="cage-inclusion/1",
        proof=call.services.wire.id(KIND, row.id),
        **_signature(row),
        leaves=shown,
    )


async def _chosen(call: Call) -> ProofRow:
    if call.query.proof is None:
        row = await proofs_store.newest_done(call.uow)
        if row is None:
            raise NotFound
        return row
    livemode = call.services.registry.settings.livemode
    proof_id = parse_public_id(KIND, call.query.proof, livemode=livemode)
    if proof_id is None:
        raise invalid_field("proof", "invalid", "This is no id of a proof.")
    return _signed(await _existing(call, proof_id))


async def _existing(call: Call, proof_id: UUID) -> ProofRow:
    row = await proofs_store.get(call.uow, proof_id)
    if row is None:
        raise NotFound
    return row


def _signed(row: ProofRow) -> ProofRow:
    if row.state != "done":
        raise Conflict("proof_not_done", f"The proof is {row.state}.")
    return row


def _signature(row: ProofRow) -> dict[str, str]:
    return {
        "statement": row.statement or "",
        "key_id": row.key_id or "",
        "public_key": _b64(row.public_key) or "",
        "signature": _b64(row.signature) or "",
    }


def _wire(call: Call, row: ProofRow) -> ProofOut:
    return ProofOut(
        id=call.services.wire.id(KIND, row.id),
        version=row.version,
        livemode=call.services.wire.livemode,
        state=row.state,
        statement=row.statement if row.state == "done" else None,
        key_id=row.key_id,
        public_key=_b64(row.public_key),
        signature=_b64(row.signature),
        # A node's words may name the operator's machines: they are for the operator alone.
        reason=row.reason if call.principal.brand is None else None,
        created_at=rfc3339(row.created_at),
        state_at=rfc3339(row.state_at),
    )


def _leaf(leaf: LeafRow, content: str) -> LeafOut:
    tree = proof_building.tree_of(content)
    return LeafOut(
        asset=leaf.asset,
        kind=leaf.kind,
        brand=leaf.brand,
        player_id=leaf.player_id,
        amount_minor=str(leaf.amount_minor),
        salt=leaf.salt.hex(),
        place=leaf.place,
        path=[
            NodeOut(hash=node.hash.hex(), sum=str(node.sum_minor)) for node in tree.path(leaf.place)
        ],
    )


def _nodes(content: str) -> list[NodeOut]:
    lines = [line.split(" ") for line in content.splitlines()]
    return [NodeOut(hash=digest, sum=amount) for digest, amount in lines]


def _held(content: str) -> list[HoldingOut]:
    lines = [line.split(" ") for line in content.splitlines()]
    return [
        HoldingOut(
            asset=asset,
            amount_minor=amount,
            address=address,
            outpoint=None if outpoint == "-" else outpoint,
        )
        for asset, amount, address, outpoint in lines
    ]


def _by_txid(content: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in content.splitlines())


def _b64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode("ascii")
