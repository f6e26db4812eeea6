"""Deposit addresses: get or create, look up, rotate (CONTRACT 3)."""

import io
from functools import lru_cache

import segno

from gateway import attestation_store
from gateway.api.endpoint import Call, Idempotency, endpoint
from gateway.api.players import check_player
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_objects import AttestationOut
from gateway.api.wire_resources import AddressIn, AddressOut
from gateway.attestation_store import Attestation
from gateway.errors import NotFound, Unavailable, invalid_field
from watchers import addresses
from watchers.addresses import AddressRow
from watchers.errors import InvalidAddress, PoolEmpty, UnknownAddress

READ = frozenset({"addresses:write", "deposits:read"})
WRITE = frozenset({"addresses:write"})
QR_KEPT = 4_096  # about 2 KB each; a player asks for the same one again
QR_MASK = 3  # weighing all eight masks is four fifths of the work, and readers take any


@endpoint(
    "POST",
    "/v1/players/{player_id}/addresses",
    "The player's address on a network: the same answer until rotated.",
    answers=AddressOut,
    body=AddressIn,
    scopes=WRITE,
    idempotency=Idempotency.OPTIONAL,
    is_routine=True,
)
async def create_address(call: Call) -> AddressOut:
    """Get or create."""
    network = call.body.network
    if network not in call.services.registry.chains:
        raise invalid_field("network", "unknown_network", "This network is not served.")
    try:
        row = await addresses.hand_out(
            call.uow,
            brand=call.require_brand(),
            player_id=check_player(call.path["player_id"]),
            network=network,
            at=call.at,
        )
    except PoolEmpty as error:
        raise _pool_empty() from error
    return await _handed_out(call, row)


@endpoint(
    "POST",
    "/v1/addresses/{id}/rotate",
    "Retire an address and hand out the next; the old one stays watched.",
    answers=AddressOut,
    scopes=WRITE,
    idempotency=Idempotency.OPTIONAL,
)
async def rotate_address(call: Call) -> AddressOut:
    """Only an active address of this brand can be rotated."""
    address_id = call.object_id("address")
    found = await addresses.by_id(call.uow, address_id)
    if found is None or found.brand is None or found.player_id is None:
        raise NotFound
    if call.one_brand not in (None, found.brand):
        raise NotFound
    try:
        row = await addresses.rotate(call.uow, address_id=address_id, brand=found.brand, at=call.at)
    except UnknownAddress as error:
        raise NotFound from error
    except PoolEmpty as error:
        raise _pool_empty() from error
    return await _handed_out(call, row)


@endpoint(
    "GET",
    "/v1/addresses/{address}",
    "One address by its text or id.",
    answers=AddressOut,
    scopes=READ,
)
async def get_address(call: Call) -> AddressOut:
    """Whose address this is, if it is one of the caller's."""
    text = call.path["address"]
    row = None
    if text.startswith("addr_"):
        row = await addresses.by_id(call.uow, call.object_id("address", "address"))
    else:
        for network, codec in call.services.codecs.items():
            try:
                key = codec.parse(text).key
            except InvalidAddress:
                continue
            row = row or await addresses.by_text(call.uow, network=network, key=key)
    if row is None or row.player_id is None:
        raise NotFound
    return _wire(call, row, await attestation_store.get(call.uow, row.id))


async def _handed_out(call: Call, row: AddressRow) -> AddressOut:
    """With the signer's statement, or asking for one in this unit of work."""
    found = await attestation_store.get(call.uow, row.id)
    if found is None:
        await attestation_store.request(
            call.uow, address_id=row.id, network=row.network, brand=str(row.brand), at=call.at
        )
    return _wire(call, row, found)


def _pool_empty() -> Unavailable:
    return Unavailable(
        "pool_empty", "No verified address is free; more are being made.", retry_after_seconds=2
    )


def _wire(call: Call, row: AddressRow, found: Attestation | None) -> AddressOut:
    wire = call.services.wire
    if row.brand is None or row.player_id is None or row.issued_at is None:
        raise NotFound
    uri = call.services.codecs[row.network].uri(row.address)
    return AddressOut(
        id=wire.id("address", row.id),
        version=row.version,
        brand=row.brand,
        livemode=wire.livemode,
        player_id=row.player_id,
        network=row.network,
        address=row.address,
        scheme=row.scheme,
        uri=uri,
        qr_svg=_qr_svg(uri),
        attestation=None if found is None else AttestationOut(**found.snapshot()),
        created_at=rfc3339(row.issued_at),
        retired_at=optional_time(row.retired_at),
    )


@lru_cache(maxsize=QR_KEPT)
def _qr_svg(text: str) -> str:
    """The text as a QR code (ISO/IEC 18004), error correction M or better: about 1 ms."""
    out = io.BytesIO()
    code = segno.make(text, error="m", micro=False, mask=QR_MASK)
    code.save(out, kind="svg", xmldecl=False, scale=4, border=4)
    return out.getvalue().decode("utf-8")
