"""What the signer is asked to sign for. Standard library only."""

from enum import StrEnum


class Purpose(StrEnum):
    """What a signature is for; each has its own caps and counters (CONTRACT 8)."""

    WITHDRAWAL = "withdrawal"
    """Pays exactly what clients signed."""
    GAS_TOP_UP = "gas_top_up"
    """Native coin to an own, re-derived address."""
    SWEEP = "sweep"
    """EVM: from a deposit address to `own_path`, a hot lane; no payments."""
    COLLECT = "collect"
    """EVM: tokens of many deposit addresses to hot lane 0, by the collector; no payments."""
    CPFP = "cpfp"
    """Child pays for parent: own output to an own, re-derived address."""
    REISSUE = "reissue"
    """As a withdrawal; members that were signed before go on in a new family, by two people each,
    who name every txid that was ever signed for them and call it dead."""
    REFUND = "refund"
    """A deposit back to where two people send it, from hot coins (CONTRACT 8); no payments."""
    RECOVERY = "recovery"
    """As a refund, from the deposit's own path: of what never came into custody."""
    ABORT = "abort"
    """Instead of a payment of one member, by two people: its own coins back to own change, or its
    account's nonce spent on a transfer of nothing to itself. Named by `replaces`; no payments."""
    CONTRACT_SETUP = "contract_setup"
    """The batch contract deployed, funded or withdrawn from by hot lane 0, as two people signed; no
    payments."""
    HOT_TO_COLD = "hot_to_cold"
    """Hot value to a pinned cold address; no payments."""
    HOT_TO_WARM = "hot_to_warm"
    """Hot value to `own_path`, the warm wallet; two people sign each. No payments."""
    WARM_TO_HOT = "warm_to_hot"
    """Warm value to `own_path`, the hot wallet; two people sign each. No payments."""
    SAFE_REFILL = "safe_refill"
    """EVM: a pinned Safe, whose owners have signed, pays `own_path`, a hot lane; no payments."""
    CONSOLIDATE = "consolidate"
    """UTXO: own coins, which no signed tx spends, into one own change output."""
    FAN_OUT = "fan_out"
    """UTXO: one such coin into several own change outputs."""


OWN_MOVES = (Purpose.CONSOLIDATE, Purpose.FAN_OUT)
"""Purposes that pay nobody, replace nothing and need nobody: the fee is all that leaves."""

WARM_MOVES = (Purpose.HOT_TO_WARM, Purpose.WARM_TO_HOT)
"""Purposes that may name the warm wallet; coins of it leave by the second one alone."""
