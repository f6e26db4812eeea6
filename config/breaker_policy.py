"""What the house stops by itself when something does not add up: data of `policy.toml`.

Each row names actions of ADR 0013; an empty list only tells people. Opening is the watchers' and
the payouts' business; two people start again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

BreakerAction = Literal["all", "accept", "credit", "build", "sign", "broadcast", "sweep"]
BreakName = Literal[
    "uningested_deposit", "unposted_fee", "unknown_outgoing", "unknown_incoming", "dust", "stuck"
]
FamilyName = Literal["bitcoin", "evm"]

_PAYOUTS: Mapping[str, tuple[str, ...]] = {
    "bitcoin": ("build", "sign", "broadcast"),
    "evm": ("build", "sign"),
}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BreakersRow(_Strict):
    """`[breakers]` of policy.toml."""

    reconciliation: dict[BreakName, dict[FamilyName, tuple[BreakerAction, ...]]] = Field(
        default_factory=dict
    )
    books: tuple[BreakerAction, ...] = ("accept", "credit", "build", "sign")
    signer_refusals_max: int = Field(default=20, ge=1)
    signer_refusals_seconds: int = Field(default=600, ge=1)
    signer_refusals: tuple[BreakerAction, ...] = ("build", "sign")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """What stops by itself. `reconciliation`: of an asset, by kind of break and chain family;
    `books`: of an asset whose books contradict themselves; `signer_refusals`: of a network whose
    signer refused `signer_refusals_max` transactions within `signer_refusals_seconds`."""

    reconciliation: Mapping[str, Mapping[str, tuple[str, ...]]] = field(
        default_factory=lambda: {"unknown_outgoing": _PAYOUTS}
    )
    books: tuple[str, ...] = ("accept", "credit", "build", "sign")
    signer_refusals_max: int = 20
    signer_refusals_seconds: int = 600
    signer_refusals: tuple[str, ...] = ("build", "sign")

    def of_break(self, kind: str, family: str) -> tuple[str, ...]:
        """What of the asset stops for a break of this kind."""
        return tuple(self.reconciliation.get(kind, {}).get(family, ()))


def breaker_policy(row: BreakersRow) -> BreakerPolicy:
    """The policy of a file."""
    return BreakerPolicy(
        reconciliation={
            kind: {family: tuple(actions) for family, actions in by.items()}
            for kind, by in row.reconciliation.items()
        },
        books=row.books,
        signer_refusals_max=row.signer_refusals_max,
        signer_refusals_seconds=row.signer_refusals_seconds,
        signer_refusals=row.signer_refusals,
    )
