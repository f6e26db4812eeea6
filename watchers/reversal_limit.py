"""How much one step may reverse: so many deposits, and so much value (CONTRACT 4).

Owns the decision only. Who waits, and what two people grant, is `deposit_due.py`. What is in no
books has no value here: a token that no list has could otherwise stop a network.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from config.database import Uow
from ledger.money import format_amount
from watchers import rates
from watchers.deposits import DepositRow
from watchers.network import Network

COUNT_REASON = "more reversals in one step than the limit"
VALUE_REASON = "reversals of more value in one step than the limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """Why a step may not reverse. `reason` names the cause, `detail` what it would have been;
    `value_minor`: what all of it is worth in the reference currency, None where nobody can tell."""

    reason: str
    detail: str
    value_minor: int | None


async def excess(
    uow: Uow, network: Network, deposits: Sequence[DepositRow], *, at: datetime
) -> Excess | None:
    """What is over the network's limits when all of these are reversed in one step; or None."""
    count, limits = len(deposits), network.reversed_value_max
    is_many = count > network.reversed_per_step_max
    sums: Counter[str] = Counter()
    for item in deposits:
        if item.credited_stage is not None:
            sums[item.asset] += item.amount_minor
    if not is_many and limits.reference_minor is None and not limits.assets_minor:
        return None
    value = await _value(uow, network, sums, at=at)
    over = f"worth {_told(network, value)}" if is_many else _over_value(network, sums, value)
    if over is None:
        return None
    return Excess(
        reason=COUNT_REASON if is_many else VALUE_REASON,
        detail=f"{count} deposits would be reversed in one step, {over}; nothing was reversed",
        value_minor=value if isinstance(value, int) else None,
    )


def _over_value(network: Network, sums: Mapping[str, int], value: int | str) -> str | None:
    """In words what is over a value limit, in minor units. Pure."""
    limits = network.reversed_value_max
    for asset, amount_minor in sorted(sums.items()):
        most = limits.assets_minor.get(asset)
        if most is not None and amount_minor > most:
            worth = _told(network, value)
            return f"{amount_minor} of {asset} of at most {most} minor units, worth {worth}"
    if limits.reference_minor is None or not sums:
        return None
    currency = network.reference.currency
    if isinstance(value, str):
        return f"{value} among them without a fresh rate in {currency}"
    if value <= limits.reference_minor:
        return None
    return f"{value} of at most {limits.reference_minor} minor units of {currency}"


def _told(network: Network, value: int | str) -> str:
    """A value for people, in the units in which they grant it."""
    reference = network.reference
    if isinstance(value, str):
        return f"what nobody can tell: {value} has no fresh rate in {reference.currency}"
    return f"{format_amount(value, decimals=reference.decimals)} {reference.currency}"


async def _value(uow: Uow, network: Network, sums: Mapping[str, int], *, at: datetime) -> int | str:
    """The worth of all in minor units of the reference currency, or the first asset that has no
    fresh rate."""
    fresh = await rates.fresh(uow, assets=sums, reference=network.reference, at=at)
    total = 0
    for asset, amount_minor in sorted(sums.items()):
        value = rates.value(
            network.asset(asset), amount_minor, fresh.get(asset), reference=network.reference
        )
        if value is None:
            return asset
        total += value
    return total
