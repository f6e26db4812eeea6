"""Fee quotes of Bitcoin-family nodes, in satoshi per 1,000 virtual bytes.

Pure. Estimates are clamped to the mempool's floor; a missing, zero or negative one becomes the
floor (N26). Ceilings are policy and not known here.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal

from watchers.chain import FeeQuote
from watchers.chains.bitcoin.decode import COIN
from watchers.chains.errors import RpcError
from watchers.errors import NodeUnavailable

TARGETS = (2, 6, 36)  # inclusion targets of urgent, normal and economy (CONTRACT 5)
RATE_MAX_SAT_PER_KVB = 10_000_000  # 10,000 sat/vB: an answer above it is nonsense (N26)


def rate_sat_per_kvb(value: object) -> int | None:
    """A node's BTC/kvB as sat/kvB, rounded up; None when it is no usable rate."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    rate = Decimal(value)
    if not rate.is_finite() or rate <= 0 or rate * COIN > RATE_MAX_SAT_PER_KVB:
        return None
    return int((rate * COIN).to_integral_value(rounding=ROUND_CEILING))


def quote(mempool_info: object, estimates: Sequence[object | RpcError]) -> FeeQuote:
    """Combine `getmempoolinfo` with one `estimatesmartfee` answer per target, in order."""
    if not isinstance(mempool_info, Mapping):
        raise NodeUnavailable("getmempoolinfo: an object is required")
    floors = [
        rate_sat_per_kvb(mempool_info.get(name)) or 0 for name in ("mempoolminfee", "minrelaytxfee")
    ]
    floor = max(floors)
    if floor == 0:
        raise NodeUnavailable("getmempoolinfo: no usable fee floor")
    rates: dict[int, int] = {}
    for target, answer in zip(TARGETS, estimates, strict=True):
        found = answer.get("feerate") if isinstance(answer, Mapping) else None
        rates[target] = max(rate_sat_per_kvb(found) or floor, floor)
    return FeeQuote(rates=rates, floor=floor, base_fee=0)
