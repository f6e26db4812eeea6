"""What our own batch contract did in one tx, as the `Chain` interface tells it.

Values only; how they are read is the business of `watchers/chains/evm/batch.py`. Amounts in minor
units, keys as in `watchers.chain`.
"""

from dataclasses import dataclass

Movement = tuple[str, str, int]
"""What left an account: (asset, key of who got it, amount)."""


Collected = tuple[str, Movement]
"""What left a deposit address by our collector: (its key, movement)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLeg:
    """One payment of our batch contract. `is_paid`: it says so, and the token's log shows exactly
    this movement; a native leg's own word is the evidence."""

    index: int
    asset: str
    to_key: str
    amount_minor: int
    is_paid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEvidence:
    """What our batch contract, or the Safe that is the cold wallet, did in a tx: each leg that it
    tried, in order, and whatever of listed assets left it, paid legs included."""

    payer_key: str
    legs: tuple[BatchLeg, ...]
    moved: tuple[Movement, ...]
