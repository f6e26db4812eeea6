"""The chart: codes, normal sides, and what may never go below zero."""

import pytest

from ledger import accounts
from ledger.accounts import CHECKED_KINDS, LIABILITY_KINDS, Account, AccountKind, Side, Stage

USDT = "eth:USDT"

CHART = [
    (accounts.custody("btc", "hot", "btc:BTC"), "custody:btc/hot:btc:BTC", Side.DEBIT, False),
    (
        accounts.custody("eth", "deposit", USDT, brand="acme"),
        "custody:eth/deposit/acme:eth:USDT",
        Side.DEBIT,
        False,
    ),
    (
        accounts.player("acme", "p:1", Stage.PROVISIONAL, USDT),
        "player:acme:p:1:provisional:eth:USDT",
        Side.CREDIT,
        True,
    ),
    (
        accounts.player("acme", "p", Stage.HELD, USDT),
        "player:acme:p:held:eth:USDT",
        Side.CREDIT,
        True,
    ),
    (
        accounts.player("acme", "p", Stage.RESERVED, USDT),
        "player:acme:p:reserved:eth:USDT",
        Side.CREDIT,
        True,
    ),
    (
        accounts.player("acme", "p", Stage.IN_FLIGHT, USDT),
        "player:acme:p:in_flight:eth:USDT",
        Side.CREDIT,
        True,
    ),
    (accounts.clearing("acme", USDT), "brand:acme:clearing:eth:USDT", Side.CREDIT, True),
    (accounts.unallocated(USDT), "unallocated:eth:USDT", Side.CREDIT, True),
    (accounts.receivable("acme", USDT), "receivable:acme:eth:USDT", Side.DEBIT, True),
    (accounts.network_fee("eth:ETH"), "expense:fee:network:eth:ETH", Side.DEBIT, False),
    (accounts.reorg_loss(USDT), "expense:loss:reorg:eth:USDT", Side.DEBIT, False),
    (accounts.write_off(USDT), "expense:loss:write_off:eth:USDT", Side.DEBIT, False),
    (accounts.fee_recovery(USDT), "income:fee_recovery:eth:USDT", Side.CREDIT, False),
    (accounts.service(USDT), "income:service:eth:USDT", Side.CREDIT, False),
    (accounts.capital(USDT), "equity:capital:eth:USDT", Side.CREDIT, False),
    (accounts.suspense(USDT), "suspense:eth:USDT", Side.CREDIT, False),
]


@pytest.mark.parametrize(("account", "code", "side", "is_checked"), CHART)
def test_an_account_has_its_code_side_and_check(
    account: Account, code: str, side: Side, is_checked: bool
) -> None:
    assert (account.code, account.normal_side, account.is_checked) == (code, side, is_checked)


def test_the_chart_covers_every_kind() -> None:
    assert {row[0].kind for row in CHART} == set(AccountKind)


def test_every_liability_is_checked_and_a_receivable_is_none() -> None:
    assert LIABILITY_KINDS < CHECKED_KINDS
    assert CHECKED_KINDS - LIABILITY_KINDS == {AccountKind.RECEIVABLE}
