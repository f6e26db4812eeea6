"""Fee quotes of Bitcoin-family nodes, in satoshi per 1,000 virtual bytes.

Pure. Two sources: the node's estimator and our own model of its mempool (F1). Both are clamped to
the mempool's floor; a missing, zero or negative one is not said, and with neither it is the floor
(N26). Ceilings are policy and not known here.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal

from watchers.chain import FeeQuote
from watchers.chains import fee_sources
from watchers.chains.bitcoin.decode import COIN
from watchers.chains.errors import RpcError
from watchers.errors import NodeUnavailable

_SOURCES = {2: fee_sources.urgent, 6: fee_sources.normal, 36: fee_sources.economy}
TARGETS = tuple(_SOURCES)  # inclusion targets of urgent, normal and economy (CONTRACT 5)
BLOCK_WEIGHT = 4_000_000
BLOCK_VB = 1_000_000
FULL_PERCENT = 90  # of the weight limit: from there on txs compete
MARGINAL_PERCENT = 10
BACKLOG_SLACK = 2  # new txs keep coming while a backlog is worked off
RATE_MAX_SAT_PER_KVB = 10_000_000  # 10,000 sat/vB: an answer above it is nonsense (N26)


def rate_sat_per_kvb(value: object) -> int | None:
    """A node's BTC/kvB as sat/kvB, rounded up; None when it is no usable rate."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    rate = Decimal(value)
    if not rate.is_finite() or rate <= 0 or rate * COIN > RATE_MAX_SAT_PER_KVB:
        return None
    return int((rate * COIN).to_integral_value(rounding=ROUND_CEILING))


def quote(
    mempool_info: object, estimates: Sequence[object | RpcError], template: object = None
) -> FeeQuote:
    """Combine `getmempoolinfo`, one `estimatesmartfee` answer per target in order, and the block
    that the node would mine now (`getblocktemplate`; RpcError or None where it makes none)."""
    if not isinstance(mempool_info, Mapping):
        raise NodeUnavailable("getmempoolinfo: an object is required")
    floors = [
        rate_sat_per_kvb(mempool_info.get(name)) or 0 for name in ("mempoolminfee", "minrelaytxfee")
    ]
    floor = max(floors)
    if floor == 0:
        raise NodeUnavailable("getmempoolinfo: no usable fee floor")
    model = _model(mempool_info, template, floor)
    rates: dict[int, int] = {}
    for (target, combine), answer in zip(_SOURCES.items(), estimates, strict=True):
        told = answer.get("feerate") if isinstance(answer, Mapping) else None
        estimate = rate_sat_per_kvb(told)
        known = None if estimate is None else max(estimate, floor)
        rates[target] = max(combine(model.get(target), known) or floor, floor)
    return FeeQuote(rates=rates, floor=floor, base_fee=0)


def _model(
    mempool_info: Mapping[object, object], template: object, floor: int
) -> Mapping[int, int]:
    """Our own rates by target: what the next block takes last, unless the mempool will be empty
    before the target. Nothing where the node makes no template."""
    marginal = _marginal(template)
    size = mempool_info.get("bytes")
    if marginal is None or type(size) is not int:
        return {}
    return {
        target: max(marginal, floor) if size * BACKLOG_SLACK > target * BLOCK_VB else floor
        for target in TARGETS
    }


def _marginal(template: object) -> int | None:
    """The rate in sat/kvB that a tenth of the block by weight does not reach; 0 with room left.

    Template fees are of single txs, so a parent that its child pays for looks cheap; the tenth
    leaves room for those.
    """
    if not isinstance(template, Mapping) or not isinstance(template.get("transactions"), list):
        return None
    limit = template.get("weightlimit", BLOCK_WEIGHT)
    rows = []
    for item in template["transactions"]:
        fee, weight = (item.get("fee"), item.get("weight")) if isinstance(item, Mapping) else (0, 0)
        if type(fee) is not int or type(weight) is not int or weight <= 0 or fee < 0:
            return None
        rows.append((fee * 4_000 // weight, weight))
    if type(limit) is not int or sum(weight for _, weight in rows) < limit * FULL_PERCENT // 100:
        return 0
    below = 0
    for rate, weight in sorted(rows):
        below += weight
        if below > limit * MARGINAL_PERCENT // 100:
            return min(rate, RATE_MAX_SAT_PER_KVB)
    return 0
