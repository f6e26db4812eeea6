"""A Safe as a cold wallet: what it is at a block, and a transaction of it that its owners sign.

Values only. How they are read, hashed and put together is the business of
`watchers/chains/evm/safe.py`; they leave and arrive through `registry`.
"""

from dataclasses import dataclass

from watchers.plans import DerivedAddress, Pay


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeState:
    """A Safe at a block. `owners`: keys; `threshold` of them sign; `nonce`: of its next
    transaction. `owner_contracts`: owners with code, who cannot sign as a key does (EIP-1271)."""

    version: str
    owners: tuple[str, ...]
    threshold: int
    nonce: int
    owner_contracts: frozenset[str]

    @property
    def signers(self) -> tuple[str, ...]:
        """Owners who sign with a key."""
        return tuple(key for key in self.owners if key not in self.owner_contracts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SafePlan:
    """One transfer of a Safe to an address of ours, at one number of the Safe."""

    safe_key: str
    nonce: int
    payment: Pay


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeCallPlan:
    """What to build to execute it: a call by an account of ours, which pays the fee alone.

    `typed`: what the owners signed; `signatures`: each 65 bytes, in the order of owners.
    """

    sender: DerivedAddress
    nonce: int
    typed: bytes
    signatures: tuple[bytes, ...]
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
