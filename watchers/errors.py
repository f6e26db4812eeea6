"""Errors of the watchers package.

WatcherError
├── NodeError (expected)
│   ├── NodeUnavailable      no usable answer: time-out, 5xx, null, nonsense; retry for ever
│   │   ├── NodeLied         the answer contradicts its own hashes; the node is not believed
│   │   ├── NodesDisagree    healthy nodes answer differently; nothing moves until k agree
│   │   └── StateUnavailable state of this block was thrown away; another node may have it
│   ├── WrongNetwork         genesis or chain id differs; the node is refused
│   └── TipMoved             the tip changed during a read; read again
├── InvalidAddress (expected)  not an address of this network; carries reason and remedy
├── SignedFileRefused (expected)  not a signature of the stored plan; carries code, reason, remedy
├── UnsupportedOperation (invariant)  asked a family for what it does not have
├── NoProgress (invariant)   this process follows and connects nothing; it must be started again
├── LeaseLost (conflict)     another instance follows this network now
├── NetworkStopped (invariant) the cursor carries a reason; a person clears it
│   └── ReorgTooDeep         fork below the retained headers or the reorg limit
├── NothingToReserve (expected) coins or capital short
├── CoinTaken (conflict)     a coin was reserved or spent meanwhile; select again
├── PoolEmpty (expected)     no verified address is free; the pool is being filled
├── UnknownAddress (expected)  no such active address of this brand
├── DepositStays (expected)  people may not decide this about the deposit now; carries a code
├── RateRefused (expected)   a reference rate that cannot count; carries a code
│   └── RateTooFar           further from the last ones than one person may move it
├── UnknownAttempt (invariant) no such own transaction
└── AttemptConflict (invariant) the attempt is not in a state for this step, or bytes differ
"""


class WatcherError(Exception):
    """Base of the package's errors."""


class NodeError(WatcherError):
    """A node did not give what was asked."""


class NodeUnavailable(NodeError):
    """No usable answer; the caller retries and never reads it as an empty one."""


class NodeLied(NodeUnavailable):
    """The answer contradicts itself: roots, proof of work or bytes do not fit (N04, N06)."""


class NodesDisagree(NodeUnavailable):
    """Fewer than k nodes give the same answer; the text names the nodes (N05, N07)."""


class StateUnavailable(NodeUnavailable):
    """The node has thrown the state of this block away; another one may have it."""


class WrongNetwork(NodeError):
    """The node serves another chain."""


class TipMoved(NodeError):
    """The tip changed during a read that needs it to stand still."""


class InvalidAddress(WatcherError):
    """Not an address of this network. `reason` says why, `remedy` what to send instead."""

    def __init__(self, reason: str, *, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class SignedFileRefused(WatcherError):
    """A file that does not sign the stored plan. `code` is a stable word; `reason` says what is
    wrong with it, `remedy` what to do."""

    def __init__(self, code: str, reason: str, *, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.code = code
        self.reason = reason
        self.remedy = remedy


class UnsupportedOperation(WatcherError):
    """The chain family has no such thing."""


class NoProgress(WatcherError):
    """The process holds the lease and stands still while the chain goes on."""


class LeaseLost(WatcherError):
    """The lease of this network went to another instance (fencing)."""


class RescanEnded(WatcherError):
    """People ended this rescan meanwhile; what was not committed is given up."""


class NetworkStopped(WatcherError):
    """Nobody follows this network until a person clears the reason."""


class ReorgTooDeep(NetworkStopped):
    """The fork point is beyond the network's limit; a person must decide."""


class NothingToReserve(WatcherError):
    """Coins are short for this payment now."""


class CoinTaken(WatcherError):
    """At least one coin is reserved, spent or unknown; nothing was reserved."""


class PoolEmpty(WatcherError):
    """No verified address is free."""


class UnknownAddress(WatcherError):
    """No such active address."""


class DepositStays(WatcherError):
    """People may not decide this about the deposit as it stands. `code` is a stable word."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class RateRefused(WatcherError):
    """A reference rate that cannot count. `code` is a stable word."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class RateTooFar(RateRefused):
    """Further from the rates of the last hour than one person, or a source, may move it."""

    def __init__(self, detail: str) -> None:
        super().__init__("too_far", detail)


class UnknownAttempt(WatcherError):
    """No such own transaction."""


class AttemptConflict(WatcherError):
    """The attempt cannot take this step, or has other bytes already."""
