"""What an own transaction is planned to pay, and what the chain shows it moved: values only."""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPayment:
    """One payment of an attempt, in order. `key` is the match key of `address`; `from_key` is whom
    our collector takes it from."""

    asset: str
    address: str
    key: str
    amount_minor: int
    from_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeOutput:
    """A change output of an attempt, to an own address (`addresses.own_address`)."""

    vout: int
    address_id: UUID
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What left us by a tx, by the chain's evidence. `output_index`: the planned leg that this is,
    exactly; None for a movement that no leg planned. `from_key`: whom a collect took it from."""

    asset: str
    key: str
    amount_minor: int
    output_index: int | None = None
    from_key: str | None = None
