"""A Safe's refill at the API: its typed data leaves, owners' signatures come back one by one.

Only signatures that recover to an owner of the Safe over the stored typed data are kept. Nothing is
sent from here: payouts verify all of it again and call the Safe.
"""

import json
from collections.abc import Sequence

from gateway.api.endpoint import Call
from gateway.api.qr import qr_svg
from gateway.api.rebalances import KIND
from gateway.api.wire_rebalance_files import Signatures, UnsignedRebalance
from gateway.payouts import refills_store
from gateway.payouts.rebalances_store import RebalanceRow
from gateway.payouts.safe_plans_store import SafePlanRow
from watchers import registry
from watchers.cold_spends import ColdProgress, ColdSignature


def signatures(progress: ColdProgress) -> Signatures:
    """How far a plan is signed."""
    return Signatures(
        needed=progress.needed,
        signed_by=list(progress.signed_by),
        waits_for=list(progress.waits_for),
        is_complete=progress.raw is not None,
    )


async def progress_of(
    call: Call, plan: SafePlanRow, *, beside: Sequence[ColdSignature] = ()
) -> ColdProgress:
    """How many owners have signed, with those `beside` that are not kept."""
    signatures = [*await refills_store.of_attempt(call.uow, plan.id), *beside]
    return registry.safe_progress(signatures, owners=plan.owners, threshold=plan.threshold)


def signature_of(plan: SafePlanRow, upload: bytes) -> tuple[ColdSignature, ...]:
    """One owner's signature. Raises SignedFileRefused."""
    return registry.safe_signature(plan.typed, upload, owners=plan.owners)


async def unsigned(call: Call, row: RebalanceRow, plan: SafePlanRow) -> UnsignedRebalance:
    """What the owners sign."""
    context = call.services.wire
    native = call.services.registry.chains[plan.network].native_asset
    progress = await progress_of(call, plan)
    return UnsignedRebalance.model_validate(
        {
            "rebalance_id": context.id(KIND, row.id),
            "network": row.network,
            "format": "safe",
            "psbt": None,
            "tx": None,
            "transaction": None,
            "typed_data": json.loads(plan.typed),
            "safe_tx_hash": registry.safe_hash(plan.typed),
            "file_name": f"{context.id(KIND, row.id)}.json",
            "txid": row.txid,
            "asset": row.asset,
            "address": row.address,
            "amount": context.amount(row.amount_minor, row.asset),
            "amount_minor": str(row.amount_minor),
            "fee": context.amount(0, native),
            "fee_minor": "0",
            "coins": 0,
            "signatures": signatures(progress),
            "qr_svg": qr_svg(plan.typed.decode("ascii")),
        }
    )
