"""How much one step may reverse: so many deposits, and so much value (CONTRACT 4).

Owns the decision only. Who waits, and what two people grant, is `deposit_due.py`. What is in no
books has no value here: a token that no list has could otherwise stop a network.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from config.database import Uow
from watchers import rates
from watchers.deposits import DepositRow
from watchers.network import Network

COUNT_REASON = "more reversals in one step than the limit"
VALUE_REASON = "reversals of more value in one step than the limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """Why a step may not reverse. `reason` names the cause, `detail` what it would have been."""

    reason: str
    detail: str


async def excess(
    uow: Uow, network: Network, deposits: Sequence[DepositRow], *, at: datetime
) -> Excess | None:
    """What is over the network's limits when all of these are reversed in one step; or None."""
    count = len(deposits)
    if count > network.reversed_per_step_max:
        return Excess(
            reason=COUNT_REASON,
            detail=f"{count} deposits would be reversed in one step; nothing was reversed",
        )
    sums: Counter[str] = Counter()
    for item in deposits:
        if item.credited_stage is not None:
            sums[item.asset] += item.amount_minor
    over = await _over_value(uow, network, sums, at=at)
    if over is None:
        return None
    return Excess(
        reason=VALUE_REASON,
        detail=f"{count} deposits would be reversed in one step, {over}; nothing was reversed",
    )


async def _over_value(
    uow: Uow, network: Network, sums: Counter[str], *, at: datetime
) -> str | None:
    """In words what is over a value limit, in minor units."""
    limits = network.reversed_value_max
    for asset, amount_minor in sorted(sums.items()):
        most = limits.assets_minor.get(asset)
        if most is not None and amount_minor > most:
            return f"{amount_minor} of {asset} of at most {most} minor units"
    if limits.reference_minor is None or not sums:
        return None
    currency = network.reference.currency
    found = await rates.newest(uow, assets=sorted(sums), reference=network.reference)
    total = 0
    for asset_id, amount_minor in sorted(sums.items()):
        rate, spec = found.get(asset_id), network.asset(asset_id)
        if spec is None or rate is None or not rate.is_fresh(at=at, reference=network.reference):
            return f"{asset_id} among them without a fresh rate in {currency}"
        total += rates.to_reference(
            amount_minor,
            rate.rate,
            asset_decimals=spec.decimals,
            currency_decimals=network.reference.decimals,
        )
    if total <= limits.reference_minor:
        return None
    return f"{total} of at most {limits.reference_minor} minor units of {currency}"
