"""What an account chain's tx is built from; part of the `Chain` interface (`watchers.chain`)."""

from dataclasses import dataclass
from enum import StrEnum


class Delegation(StrEnum):
    """What the code of an account says (EIP-7702)."""

    NONE = "none"
    """No code: its key alone speaks for it."""
    OURS = "ours"
    """It delegates to the network's collector."""
    FOREIGN = "foreign"
    """Anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountState:
    """An account at a block: whom it delegates to, and its next number."""

    delegation: Delegation
    nonce: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedAddress:
    """An address derived from a public parent key."""

    address: str
    key: str
    path: str
    scheme: str
    """`p2wpkh` or `eoa`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pay:
    """One payment of a tx to build."""

    asset: str
    address: str
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountPlan:
    """What to build on an account chain: one payment at one nonce."""

    sender: DerivedAddress
    nonce: int
    payment: Pay
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """What to build on an account chain that has our batch contract: several payments of one asset
    at one nonce of its owner. `batch_id`: 32 bytes, paid once for ever."""

    sender: DerivedAddress
    nonce: int
    batch_id: bytes
    payments: tuple[Pay, ...]
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectLeg:
    """What a deposit address gives, in minor units of the plan's token. `authorise_nonce`: the
    account's next number, where it must first delegate to the collector (EIP-7702)."""

    deposit: DerivedAddress
    amount_minor: int
    authorise_nonce: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectPlan:
    """What to build on an account chain that has our collector: a token of several deposit
    addresses to hot lane 0, at one nonce of the gas account that the collector obeys."""

    sender: DerivedAddress
    nonce: int
    asset: str
    legs: tuple[CollectLeg, ...]
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractPlan:
    """What to build to set up our batch contract. `pay`: what it is funded with or, `is_back`, what
    it gives back to its owner; None: its creation, which belongs to the sender."""

    sender: DerivedAddress
    nonce: int
    pay: Pay | None
    is_back: bool
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
