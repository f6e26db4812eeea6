"""Errors of the ledger package.

LedgerError
├── AmountError (expected)          text that is not an amount of the asset
├── InsufficientFunds (expected)    a checked account would go below zero
├── ReferenceConflict (invariant)   the reference exists with other content
├── ForeignAccount (invariant)      a brand's unit of work reached for another owner's account
├── UnbalancedPosting (invariant)   debits and credits differ in an asset
├── BooksDoNotMatch (invariant)     the books contradict themselves
├── SumTreeError (invariant)        leaves that no tree of liabilities may hold
├── IllegalTransition (invariant)   a (state, event) pair that is not in the table
└── StaleState (conflict)           the row is no longer in the state that the caller read; also a
                                    config.database.Conflict: the unit of work runs again
"""

from config.database import Conflict


class LedgerError(Exception):
    """Base of the package's errors."""


class AmountError(LedgerError):
    """Not an amount; the text says why and what to send."""


class InsufficientFunds(LedgerError):
    """A checked account would go below zero; nothing was written."""

    def __init__(self, account_code: str) -> None:
        super().__init__(f"not enough on {account_code}")
        self.account_code = account_code


class ReferenceConflict(LedgerError):
    """The reference was posted before with other content."""


class ForeignAccount(LedgerError):
    """A unit of work of one brand named an account of another owner; nothing was written."""


class UnbalancedPosting(LedgerError):
    """Debits and credits differ in an asset, or a posting has no entries."""


class BooksDoNotMatch(LedgerError):
    """The books contradict themselves; freeze and page a person."""


class SumTreeError(LedgerError):
    """An amount, order or sum that a proof of liabilities must not contain."""


class IllegalTransition(LedgerError):
    """The lifecycle has no such (state, event) pair."""


class StaleState(LedgerError, Conflict):
    """Another unit of work moved the object first; read it again."""
