"""`GET /v1/ledger/trial_balance`: every account, narrowed to a brand by row-level security."""

from gateway.api.endpoint import Call, endpoint
from gateway.api.wire_base import rfc3339
from gateway.api.wire_query import MomentQuery, moment_of
from gateway.api.wire_resources import (
    AccountBalance,
    AssetTotal,
    EquationOut,
    TrialBalanceOut,
)
from ledger import balances


@endpoint(
    "GET",
    "/v1/ledger/trial_balance",
    "Every account with its balance, now or as of a moment.",
    answers=TrialBalanceOut,
    query=MomentQuery,
    scopes=frozenset({"ledger:read"}),
)
async def get_trial_balance(call: Call) -> TrialBalanceOut:
    """`balanced` speaks of the whole books, and of a brand's part of them only for operators."""
    query: MomentQuery = call.query
    at = moment_of(query.at, field="at")
    report = await balances.trial_balance(call.uow, at=at)
    wire = call.services.wire
    is_whole = call.one_brand is None
    return TrialBalanceOut(
        at=rfc3339(at or call.at),
        balanced=report.is_balanced if is_whole else True,
        totals=[
            AssetTotal(
                asset=total.asset,
                debits_minor=str(total.debit_minor),
                credits_minor=str(total.credit_minor),
                balanced=total.debit_minor == total.credit_minor,
            )
            for total in report.totals
            if is_whole
        ],
        equations=[
            EquationOut(
                asset=row.asset,
                custody_minor=str(row.custody_minor),
                receivables_minor=str(row.receivables_minor),
                owed_minor=str(row.owed_minor),
                suspense_minor=str(row.suspense_minor),
                own_minor=str(row.own_minor),
                equal=row.is_equal,
                covered=row.is_covered,
            )
            for row in report.equations
            if is_whole
        ],
        accounts=[
            AccountBalance(
                account=account.code,
                asset=account.asset,
                side=account.normal_side.value,
                balance=wire.amount(account.balance_minor, account.asset),
                balance_minor=str(account.balance_minor),
            )
            for account in report.accounts
            if is_whole or account.brand == call.one_brand
        ],
    )
