"""A posting that does not balance cannot be made."""

import pytest

from ledger.accounts import Side, clearing, custody
from ledger.errors import UnbalancedPosting
from ledger.journal import ENTRIES_MAX, Entry, Posting, credit, debit

BTC = "btc:BTC"
HOT = custody("btc", "hot", BTC)
CLEARING = clearing("acme", BTC)


def _posting(*entries: Entry) -> Posting:
    return Posting(reference="r", kind="test", entries=entries)


def test_a_posting_balances() -> None:
    posting = _posting(debit(HOT, 5), credit(CLEARING, 3), credit(CLEARING, 2, brand_tag="acme"))
    assert [entry.side for entry in posting.entries] == [Side.DEBIT, Side.CREDIT, Side.CREDIT]


@pytest.mark.parametrize(
    "entries",
    [
        (),
        (debit(HOT, 5),),
        (debit(HOT, 5), credit(CLEARING, 4)),
        (debit(HOT, 0), credit(CLEARING, 0)),
        (debit(HOT, -5), credit(CLEARING, -5)),
        (debit(HOT, 1), credit(CLEARING, 1)) * (ENTRIES_MAX // 2 + 1),
    ],
    ids=["empty", "one side", "unequal", "zero", "negative", "too long"],
)
def test_l01_an_unbalanced_posting_is_refused(entries: tuple[Entry, ...]) -> None:
    with pytest.raises(UnbalancedPosting):
        _posting(*entries)


def test_l16_assets_balance_each_on_its_own() -> None:
    other = clearing("acme", "tron:USDT")
    with pytest.raises(UnbalancedPosting, match="eth:USDT, tron:USDT"):
        _posting(debit(custody("eth", "hot", "eth:USDT"), 5), credit(other, 5))
