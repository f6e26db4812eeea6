"""Errors of the payout road.

PayoutError
├── SignerUnavailable (expected)  no answer from the signer; payouts wait (S21)
├── FeesUnknown (expected)        no usable or only a stale fee quote; nothing is planned (N26)
├── FeeAboveCap (expected)        the chain asks more than policy allows; the payment waits (P25)
├── FundsShort (expected)         coins, hot balance or fee capital do not cover it now (P26)
├── BumpCapped (expected)         a bump would cost more than policy allows; a person looks
├── RequestTooLarge (expected)    the question does not fit a frame; nothing was sent, split it
├── MaybeSigned (expected)        a command on a withdrawal that may be paid already; refused
├── DecisionRefused (expected)    what a person decided does not fit the withdrawal; nothing changed
├── RefillNotPossible (expected)  a move from cold to hot cannot be built; it fails by this code
├── NothingToRecover (expected)   no recovery of the network waits for an import
└── BrokenAttempt (invariant)     books and attempt contradict each other; the lane stops
"""


class PayoutError(Exception):
    """Base of the payout errors."""


class SignerUnavailable(PayoutError):
    """The signer cannot be reached or answered nonsense; it may or may not have signed."""


class FeesUnknown(PayoutError):
    """No fee quote that is young enough to build with."""


class FeeAboveCap(PayoutError):
    """Inclusion costs more than the network's cap; wait for a calmer chain."""


class FundsShort(PayoutError):
    """Not enough to pay this now. `code` is the withdrawal's code while it waits."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class BumpCapped(PayoutError):
    """What waits needs more than a bound of policy allows, or there is nothing to bump it with."""


class RequestTooLarge(PayoutError):
    """A message that this side cannot put on the wire: the signer never saw it."""


class MaybeSigned(PayoutError):
    """The signer was asked for it and nothing proves that no signature can pay it."""


class DecisionRefused(PayoutError):
    """The withdrawal or the person forbids it. `code` is stable, `detail` a sentence for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class RefillNotPossible(PayoutError):
    """What people approved cannot be built. The text is the code of the rebalance."""


class NothingToRecover(PayoutError):
    """No recovery of this network is open, or people have confirmed it already."""


class BrokenAttempt(PayoutError):
    """An attempt without its row, its members or its bytes; a person must look."""
