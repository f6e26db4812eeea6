"""How many bytes a batch could have done with: the bound behind `bytes_ratio` of `payouts.utxo`.

Pure. The bound is below what can be had: the fewest of the largest coins that cover the payments,
without a fee, and no change output even where no coins add up.
"""

from collections.abc import Sequence

INPUT_VB = 68  # P2WPKH with a 71-byte signature
CHANGE_VB = 31  # P2WPKH


def fewest_inputs(paid_minor: int, coins_minor: Sequence[int]) -> int:
    """How many of these coins reach at least. Raises ValueError when all of them do not."""
    total = 0
    for count, amount in enumerate(sorted(coins_minor, reverse=True), start=1):
        total += amount
        if total >= paid_minor:
            return count
    raise ValueError("the coins do not cover the payments")


def least_vb(size_vb: int, *, inputs: int, change: int, fewest: int) -> int:
    """The size of a tx of `size_vb` with the fewest inputs and no change."""
    return size_vb - INPUT_VB * (inputs - fewest) - CHANGE_VB * change
