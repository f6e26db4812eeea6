"""A further attempt of an own move, or of a set-up, that pays more for the same when it is late.

Owns when it is due, by the rules of payouts (docs/adr/0023), and its draft. It records nothing,
asks nobody and moves no state.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from config.database import Uow
from gateway.payouts import bump_build, bump_policy, funds
from gateway.payouts.bump_build import Need, Write
from gateway.payouts.context import Lane
from gateway.payouts.same_tx import gas_fields
from watchers import coins, outgoing_families, registry
from watchers.chain import FeeQuote
from watchers.outgoing import OutgoingDraft, OutgoingRow, OutgoingState

BUMPS_MAX: Final = 10  # of one move; each pays at least an eighth more than the last


async def dearer(
    lane: Lane,
    uow: Uow,
    family: Sequence[OutgoingRow],
    *,
    for_id: UUID,
    target_blocks: int,
    write: Write | None = None,
) -> OutgoingDraft | None:
    """A further attempt at a higher fee where the newest one is late; its family is locked.
    `write`: its bytes, where it is no payment.

    None while it need not be. Raises FeesUnknown, BumpCapped, CoinTaken (somebody builds on it).
    """
    current = next(tx for tx in reversed(family) if tx.raw is not None)
    height = await outgoing_families.followed_height(uow, network=lane.network)
    first_height = min(
        (tx.broadcast_height for tx in family if tx.broadcast_height is not None), default=None
    )
    if height is None or current.broadcast_height is None or first_height is None:
        return None
    tried = [tx.planned_height or 0 for tx in family if tx.replaces_id is not None]
    if not lane.spec.can_replace or len(tried) >= BUMPS_MAX or height in tried:
        return None
    quote = await funds.current_quote(lane, uow)
    rate = bump_policy.wanted_rate(
        bump_policy.Waiting(
            rate=_rate(lane, current, quote),
            quote=quote,
            target_blocks=target_blocks,
            waited=height - current.broadcast_height,
            family_waited=height - first_height,
            is_fee_refused=current.state is OutgoingState.DROPPED,
        )
    )
    if rate is None:
        return None
    need = Need(
        rate=rate,
        quote=quote,
        below_size_vb=0,
        below_fee_minor=0,
        room_minor=await funds.room_beside(lane, uow, family_id=current.family_id),
        share_minor=None,
        for_id=for_id,
        height=height,
    )
    if lane.is_account_based:
        built = await bump_build.same_nonce(
            lane, uow, current, family, need, target_blocks=target_blocks, write=write
        )
    else:
        built = await bump_build.replacement(lane, uow, current, family, need)
    await coins.reserve(uow, attempt_id=built.draft.id, outpoints=built.takes)
    return built.draft


def _rate(lane: Lane, tx: OutgoingRow, quote: FeeQuote) -> int:
    """What an attempt offers for inclusion: sat per kvB, or wei per gas."""
    if lane.is_account_based:
        max_fee, tip, _ = gas_fields(tx.unsigned)
        return min(max_fee, max(quote.base_fee, 0) + tip)
    offered = registry.offered_rate(
        lane.spec, unsigned=tx.unsigned, raw=tx.raw, fee_minor=tx.fee_cap_minor
    )
    return offered or 0
