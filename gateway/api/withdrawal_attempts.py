"""`GET /v1/withdrawals/{id}/attempts`: every transaction that was ever built for a withdrawal."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import RowMapping

from config.chains import Family
from gateway import withdrawals_store
from gateway.api import attempts_store
from gateway.api.endpoint import Answer, Call, Services, endpoint
from gateway.api.wire_base import optional_time, rfc3339
from gateway.api.wire_withdrawals import AttemptKind, AttemptOut, WithdrawalAttempts
from gateway.api.withdrawals import READ
from gateway.errors import NotFound
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Purpose
from watchers.registry import offered_rate

ATTEMPTS_MAX = 200  # a family has at most nine, and children
RATE_UNITS: Final = {Family.BITCOIN: "sat_per_kvb", Family.EVM: "wei_per_gas"}
_KINDS: Final = {
    Purpose.CPFP.value: AttemptKind.CPFP,
    Purpose.ABORT.value: AttemptKind.ABORT,
    Purpose.REISSUE.value: AttemptKind.REISSUE,
}


@endpoint(
    "GET",
    "/v1/withdrawals/{id}/attempts",
    "Every transaction that was built for a withdrawal, oldest first. At most one of them pays.",
    answers=WithdrawalAttempts,
    scopes=READ,
)
async def get_withdrawal_attempts(call: Call) -> Answer:
    """Own transactions are the operator's: they are read behind the brand's look at its row."""
    row = await withdrawals_store.get(call.uow, call.object_id("withdrawal"))
    if row is None:
        raise NotFound
    found = row

    async def later() -> Answer:
        async with call.services.database.unit_of_work() as uow:
            rows = await attempts_store.of_withdrawal(uow, found.id, limit=ATTEMPTS_MAX)
        return Answer(body=_wire(call.services, found, rows))

    return Answer(body=None, later=later)


def _wire(
    services: Services, row: WithdrawalRow, attempts: Sequence[RowMapping]
) -> WithdrawalAttempts:
    return WithdrawalAttempts(
        id=services.wire.id("withdrawal", row.id),
        brand=row.brand,
        livemode=services.wire.livemode,
        items=[_attempt(services, row, item) for item in attempts],
    )


def _attempt(services: Services, row: WithdrawalRow, item: RowMapping) -> AttemptOut:
    spec = services.registry.chains[row.network]
    raw: bytes | None = item["raw"]
    cap_minor, fee_minor = int(item["fee_cap_minor"]), item["fee_minor"]
    rate = offered_rate(
        spec,
        unsigned=bytes(item["unsigned"]),
        raw=None if raw is None else bytes(raw),
        fee_minor=cap_minor,
    )
    amount = services.wire.amount
    return AttemptOut(
        txid=item["txid"],
        kind=_kind(item["purpose"], item["replaces_id"]),
        state=item["state"],
        is_current=item["id"] == row.attempt_id,
        replaces_txid=item["replaces_txid"],
        fee_asset=spec.native_asset,
        fee=None if fee_minor is None else amount(int(fee_minor), spec.native_asset),
        fee_minor=None if fee_minor is None else str(int(fee_minor)),
        fee_max=amount(cap_minor, spec.native_asset),
        fee_max_minor=str(cap_minor),
        fee_rate=None if rate is None else str(rate),
        fee_rate_unit=RATE_UNITS[spec.family],
        nonce=item["nonce"],
        inputs=int(item["inputs"]),
        output_index=item["output_index"],
        payments=int(item["members"]),
        block_hash=item["block_hash"],
        height=item["height"],
        created_at=rfc3339(item["created_at"]),
        signed_at=optional_time(item["signed_at"]),
        broadcast_at=optional_time(item["broadcast_at"]),
        final_at=optional_time(item["final_at"]),
        updated_at=rfc3339(item["state_at"]),
    )


def _kind(purpose: str, replaces_id: UUID | None) -> AttemptKind:
    """By what the signer was asked for; a further attempt of a family is a replacement."""
    kind = _KINDS.get(purpose, AttemptKind.ORIGINAL)
    if replaces_id is not None and kind in (AttemptKind.ORIGINAL, AttemptKind.REISSUE):
        return AttemptKind.REPLACEMENT
    return kind
