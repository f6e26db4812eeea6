"""The chart of accounts: kinds, normal sides and codes (HOUSE 7, CONTRACT 1).

Assets (debit side): custody, receivable. Expense (debit side): network fee, losses. Liabilities
(credit side): the player stages, brand clearing, unallocated. Income, capital and suspense are on
the credit side. Accounts are opened by their first posting.
"""

from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    """The two sides of an entry."""

    DEBIT = "debit"
    """Left: raises what we have and what we spent."""
    CREDIT = "credit"
    """Right: raises what we owe, earned or own."""


class Stage(StrEnum):
    """The stages of player money that Cage owns (rail mode)."""

    PROVISIONAL = "provisional"
    """Playable, not final."""
    HELD = "held"
    """Stopped by a rule."""
    RESERVED = "reserved"
    """Set aside for a withdrawal."""
    IN_FLIGHT = "in_flight"
    """On its way: signed, not final."""


class AccountKind(StrEnum):
    """What an account is for."""

    CUSTODY = "custody"
    """Coins under our keys, per wallet."""
    PROVISIONAL = "provisional"
    """See Stage."""
    HELD = "held"
    """See Stage."""
    RESERVED = "reserved"
    """See Stage."""
    IN_FLIGHT = "in_flight"
    """See Stage."""
    CLEARING = "clearing"
    """What a brand may withdraw from."""
    UNALLOCATED = "unallocated"
    """Arrived, but credited to nobody (under the minimum, rejected)."""
    RECEIVABLE = "receivable"
    """What a brand owes us after a reversal of spent money."""
    NETWORK_FEE = "network_fee"
    """Expense: what chains took."""
    REORG_LOSS = "reorg_loss"
    """Expense: written off after a reorg."""
    WRITE_OFF = "write_off"
    """Expense: what two people wrote off."""
    FEE_RECOVERY = "fee_recovery"
    """Income: fees that players paid."""
    SERVICE = "service"
    """Income: the house's own charges."""
    CAPITAL = "capital"
    """The operator's own money."""
    SUSPENSE = "suspense"
    """Arrived and not yet explained."""


_DEBIT_NORMAL = frozenset(
    {
        AccountKind.CUSTODY,
        AccountKind.RECEIVABLE,
        AccountKind.NETWORK_FEE,
        AccountKind.REORG_LOSS,
        AccountKind.WRITE_OFF,
    }
)
CHECKED_KINDS = frozenset(
    {
        AccountKind.PROVISIONAL,
        AccountKind.HELD,
        AccountKind.RESERVED,
        AccountKind.IN_FLIGHT,
        AccountKind.CLEARING,
        AccountKind.UNALLOCATED,
        AccountKind.RECEIVABLE,
    }
)
LIABILITY_KINDS = CHECKED_KINDS - {AccountKind.RECEIVABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account of the chart. `code` is its identity."""

    code: str
    kind: AccountKind
    asset: str
    brand: str | None = None
    player_id: str | None = None
    wallet: str | None = None

    @property
    def normal_side(self) -> Side:
        """The side that raises the balance."""
        return Side.DEBIT if self.kind in _DEBIT_NORMAL else Side.CREDIT

    @property
    def is_checked(self) -> bool:
        """Whether the balance may never go below zero."""
        return self.kind in CHECKED_KINDS


def custody(network: str, role: str, asset: str, *, brand: str | None = None) -> Account:
    """Coins of one wallet: network, role (`hot`, `gas`, `deposit`, `cold`), brand for deposits."""
    wallet = f"{network}/{role}" + (f"/{brand}" if brand else "")
    return Account(
        code=f"custody:{wallet}:{asset}",
        kind=AccountKind.CUSTODY,
        asset=asset,
        brand=brand,
        wallet=wallet,
    )


def player(brand: str, player_id: str, stage: Stage, asset: str) -> Account:
    """A player's money in one stage."""
    return Account(
        code=f"player:{brand}:{player_id}:{stage.value}:{asset}",
        kind=AccountKind(stage.value),
        asset=asset,
        brand=brand,
        player_id=player_id,
    )


def clearing(brand: str, asset: str) -> Account:
    """What the brand may withdraw from."""
    code = f"brand:{brand}:clearing:{asset}"
    return Account(code=code, kind=AccountKind.CLEARING, asset=asset, brand=brand)


def receivable(brand: str, asset: str) -> Account:
    """What the brand owes after a reversal."""
    code = f"receivable:{brand}:{asset}"
    return Account(code=code, kind=AccountKind.RECEIVABLE, asset=asset, brand=brand)


def _house(code: str, kind: AccountKind, asset: str) -> Account:
    return Account(code=f"{code}:{asset}", kind=kind, asset=asset)


def unallocated(asset: str) -> Account:
    """Arrived, credited to nobody."""
    return _house("unallocated", AccountKind.UNALLOCATED, asset)


def network_fee(asset: str) -> Account:
    """Expense: chain fees, entries tagged by brand."""
    return _house("expense:fee:network", AccountKind.NETWORK_FEE, asset)


def reorg_loss(asset: str) -> Account:
    """Expense: written off after a reorg."""
    return _house("expense:loss:reorg", AccountKind.REORG_LOSS, asset)


def write_off(asset: str) -> Account:
    """Expense: what two people wrote off."""
    return _house("expense:loss:write_off", AccountKind.WRITE_OFF, asset)


def fee_recovery(asset: str) -> Account:
    """Income: fees that players paid."""
    return _house("income:fee_recovery", AccountKind.FEE_RECOVERY, asset)


def service(asset: str) -> Account:
    """Income: the house's own charges."""
    return _house("income:service", AccountKind.SERVICE, asset)


def capital(asset: str) -> Account:
    """The operator's own money."""
    return _house("equity:capital", AccountKind.CAPITAL, asset)


def suspense(asset: str) -> Account:
    """Arrived and not yet explained."""
    return _house("suspense", AccountKind.SUSPENSE, asset)
