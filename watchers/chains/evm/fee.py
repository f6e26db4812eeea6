"""Fee quotes of EVM nodes from `eth_feeHistory` (EIP-1559) and their own suggestion, wei per gas.

Pure. Ceilings are policy and not known here.
"""

from watchers.chain import FeeQuote
from watchers.chains import fee_sources
from watchers.chains.evm.decode import mapping, quantity, sequence
from watchers.errors import NodeUnavailable

HISTORY_BLOCKS = 20
TARGET_PERCENTILES = {
    5: 75,
    20: 50,
    100: 25,
}  # inclusion targets of CONTRACT 5 -> reward percentile
_SOURCES = {5: fee_sources.urgent, 20: fee_sources.normal, 100: fee_sources.economy}
PERCENTILES = tuple(sorted(TARGET_PERCENTILES.values()))
PRIORITY_FLOOR_WEI = 1_000_000  # geth's default --miner.gasprice: 0.001 gwei


def quote(history: object, suggested_priority: object) -> FeeQuote:
    """Median reward per percentile over recent blocks with txs, moved by the node's suggestion.

    `history` is the answer to `eth_feeHistory(HISTORY_BLOCKS, "latest", PERCENTILES)`, whose last
    base fee is that of the next block.
    """
    raw = mapping(history, "eth_feeHistory")
    base_fees = sequence(raw.get("baseFeePerGas"), "baseFeePerGas")
    if not base_fees:
        raise NodeUnavailable("eth_feeHistory: no base fee")
    ratios = sequence(raw.get("gasUsedRatio"), "gasUsedRatio")
    rewards = sequence(raw.get("reward"), "reward")
    samples = [
        [quantity(item, "reward") for item in sequence(row, "reward")]
        for row, ratio in zip(rewards, ratios, strict=False)
        if ratio
    ]
    if any(len(sample) != len(PERCENTILES) for sample in samples):
        raise NodeUnavailable("eth_feeHistory: rewards do not fit the percentiles")
    suggested = quantity(suggested_priority, "eth_maxPriorityFeePerGas")
    rates: dict[int, int] = {}
    for target, percentile in TARGET_PERCENTILES.items():
        column = sorted(sample[PERCENTILES.index(percentile)] for sample in samples)
        median = column[len(column) // 2] if column else None
        rates[target] = max(_SOURCES[target](median, suggested) or 0, PRIORITY_FLOOR_WEI)
    return FeeQuote(
        rates=rates, floor=PRIORITY_FLOOR_WEI, base_fee=quantity(base_fees[-1], "baseFeePerGas")
    )
