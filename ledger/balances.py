"""Balances by account and stage, the player lock, capital and the trial balance. Reads and locks.

A balance is the cached row plus the account's pending rows, in minor units, on the normal side.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from config.database import Uow
from ledger import store
from ledger.accounts import LIABILITY_KINDS, Account, AccountKind, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountBalance:
    """One account and what stands on it, on its normal side."""

    code: str
    kind: AccountKind
    asset: str
    brand: str | None
    player_id: str | None
    wallet: str | None
    normal_side: Side
    balance_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetTotals:
    """The two columns of one asset."""

    asset: str
    debit_minor: int
    credit_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Equation:
    """What we have against what we owe and own, of one asset (L18)."""

    asset: str
    custody_minor: int
    receivables_minor: int
    owed_minor: int
    """Players' stages, in flight, brands' clearing, unallocated."""
    suspense_minor: int
    own_minor: int
    """Capital and income, less expense and losses."""

    @property
    def is_equal(self) -> bool:
        """Assets are liabilities, suspense and what is the operator's, to the unit."""
        assets = self.custody_minor + self.receivables_minor
        return assets == self.owed_minor + self.suspense_minor + self.own_minor

    @property
    def is_covered(self) -> bool:
        """Nothing is owed that we do not have, or that a brand does not owe us."""
        return self.custody_minor + self.receivables_minor >= self.owed_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBalance:
    """All accounts; `is_balanced` when debits equal credits in every asset."""

    accounts: tuple[AccountBalance, ...]
    totals: tuple[AssetTotals, ...]

    @property
    def is_balanced(self) -> bool:
        """Debits equal credits, asset by asset."""
        return all(total.debit_minor == total.credit_minor for total in self.totals)

    @property
    def equations(self) -> tuple[Equation, ...]:
        """By asset. All from one statement, so of one moment."""
        sums: dict[str, dict[str, int]] = {}
        for account in self.accounts:
            part, sign = _PARTS[account.kind]
            of_asset = sums.setdefault(account.asset, dict.fromkeys(_NAMES, 0))
            of_asset[part] += sign * account.balance_minor
        return tuple(Equation(asset=asset, **of_asset) for asset, of_asset in sorted(sums.items()))


_NAMES = ("custody_minor", "receivables_minor", "owed_minor", "suspense_minor", "own_minor")
_PARTS = {
    AccountKind.CUSTODY: ("custody_minor", 1),
    AccountKind.RECEIVABLE: ("receivables_minor", 1),
    AccountKind.SUSPENSE: ("suspense_minor", 1),
    **dict.fromkeys(LIABILITY_KINDS, ("owed_minor", 1)),
    **dict.fromkeys(
        (AccountKind.CAPITAL, AccountKind.FEE_RECOVERY, AccountKind.SERVICE), ("own_minor", 1)
    ),
    **dict.fromkeys(
        (AccountKind.NETWORK_FEE, AccountKind.REORG_LOSS, AccountKind.WRITE_OFF), ("own_minor", -1)
    ),
}
"""Where each kind stands in the equation, and whether it raises or lowers its part."""


async def balance(uow: Uow, account: Account) -> int:
    """What stands on an account; 0 for one that was never posted to."""
    return await store.balance(uow, account.code)


async def balances(
    uow: Uow,
    *,
    kind: AccountKind | None = None,
    brand: str | None = None,
    player_id: str | None = None,
    asset: str | None = None,
) -> list[AccountBalance]:
    """The accounts that match, by code. Row-level security narrows it to the brand's own."""
    rows = await store.account_balances(
        uow, kind=kind.value if kind else None, brand=brand, player_id=player_id, asset=asset
    )
    return [account_balance(row) for row in rows]


async def lock_player(uow: Uow, *, brand: str, player_id: str) -> None:
    """Take the row lock of (brand, player) until the unit of work ends (CONTRACT 1)."""
    await lock_players(uow, [(brand, player_id)])


async def lock_players(uow: Uow, pairs: Iterable[tuple[str, str]]) -> None:
    """Take several player locks in one order, so that two callers cannot deadlock."""
    ordered = sorted(set(pairs))
    if ordered:
        await store.lock_players(uow, ordered)


async def try_lock_players(uow: Uow, *, brand: str, players: Iterable[str]) -> frozenset[str]:
    """Take the locks of a brand's players that are free now; the others are somebody else's."""
    return frozenset(await store.try_lock_players(uow, brand=brand, players=sorted(set(players))))


async def fee_capital(uow: Uow, asset: str) -> int:
    """capital + income - expense - loss of an asset: what fees may be paid from (CONTRACT 1)."""
    return await store.fee_capital(uow, asset)


async def lock_capital(uow: Uow, asset: str) -> None:
    """One decision about an asset's capital at a time, until the unit of work ends."""
    await store.lock_capital(uow, asset)


async def trial_balance(uow: Uow, *, at: datetime | None = None) -> TrialBalance:
    """Every account with its balance, now or as of `at` (from the entries)."""
    rows = await (store.balances_at(uow, at) if at else store.account_balances(uow))
    accounts = tuple(account_balance(row) for row in rows)
    sides: dict[str, dict[Side, int]] = {}
    for account in accounts:
        columns = sides.setdefault(account.asset, {Side.DEBIT: 0, Side.CREDIT: 0})
        columns[account.normal_side] += account.balance_minor
    totals = tuple(
        AssetTotals(asset=asset, debit_minor=both[Side.DEBIT], credit_minor=both[Side.CREDIT])
        for asset, both in sorted(sides.items())
    )
    return TrialBalance(accounts=accounts, totals=totals)


def account_balance(row: store.Row) -> AccountBalance:
    """An account as a row has it, `balance` on its normal side."""
    return AccountBalance(
        code=row["code"],
        kind=AccountKind(row["kind"]),
        asset=row["asset"],
        brand=row["brand"],
        player_id=row["player_id"],
        wallet=row["wallet"],
        normal_side=Side(row["normal_side"]),
        balance_minor=int(row["balance"]),
    )
