"""Laws of coin selection: covers or refuses, the fewest coins, nothing superfluous, exact sums."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.payouts.coin_selection import (
    GATHERED_MAX,
    MAX_INPUTS,
    SPARE_COINS,
    Selection,
    Terms,
    fee_for,
    select,
    select_in_order,
)
from watchers.chain import Coin, Outpoint

RATE = 1_000  # 1 sat per vB


def size_of(*, inputs: int, has_change: bool) -> int:
    """Close to P2WPKH: 68 vB per input, one payment, 31 vB of change."""
    return 42 + 68 * inputs + (31 if has_change else 0)


def coins_of(*amounts: int) -> list[Coin]:
    return [
        Coin(
            outpoint=Outpoint(txid=f"{index:064x}", vout=0),
            amount_minor=amount,
            key="0014" + "00" * 20,
            path=f"m/84h/1h/0h/0/{index}",
            previous_tx=b"",
        )
        for index, amount in enumerate(amounts)
    ]


def terms_of(
    payments: int, *, rate: int = RATE, change: int = 546, keep: bool = False, cheap: int = 0
) -> Terms:
    return Terms(
        payments_minor=payments, rate_sat_per_kvb=rate, change_min_minor=change,
        must_keep_change=keep, cheap_rate_sat_per_kvb=cheap,
    )  # fmt: skip


def chosen(selection: Selection | None) -> list[int]:
    if selection is None:
        raise LookupError("no selection")
    return [coin.amount_minor for coin in selection.coins]


def test_of_the_coins_that_reach_alone_the_smallest_is_spent() -> None:
    picked = select(coins_of(90_000, 50_000, 70_000), terms_of(10_000), size_of=size_of)

    assert chosen(picked) == [50_000]


def test_coins_that_add_up_without_change_are_cheaper() -> None:
    """31 vB of change now and 68 vB for spending it are saved; 80 sat go to the miner."""
    exact = 30_000 + 42 + 2 * 68 + 80
    coins = coins_of(20_000, 20_500, exact - 20_000, 7_000)

    picked = select(coins, terms_of(30_000, cheap=900), size_of=size_of)

    assert sorted(chosen(picked)) == [exact - 20_000, 20_000]
    assert picked is not None
    assert (picked.change_minor, picked.fee_minor) == (0, exact - 30_000)


def test_f3_small_coins_come_along_while_inclusion_is_cheap() -> None:
    coins = coins_of(*range(10_000, 10_000 + 40), 900_000)

    dear = select(coins, terms_of(800_000, rate=1_000, cheap=999), size_of=size_of)
    cheap = select(coins, terms_of(800_000, rate=1_000, cheap=1_000), size_of=size_of)

    assert chosen(dear) == [900_000]
    assert sorted(chosen(cheap)) == [*range(10_000, 10_000 + 40 - SPARE_COINS), 900_000]


def test_f3_no_more_come_along_than_one_tx_takes() -> None:
    coins = coins_of(*[10_000] * 1_000, 900_000)

    picked = select(coins, terms_of(800_000, cheap=2_000), size_of=size_of)

    assert len(chosen(picked)) == 1 + GATHERED_MAX


def test_unconfirmed_coins_join_only_when_the_others_do_not_reach() -> None:
    mined, change = coins_of(50_000, 60_000), coins_of(*[1] * 5, 900_000)[5:]

    near = select(mined, terms_of(70_000), size_of=size_of, unconfirmed=change)
    far = select(mined, terms_of(200_000), size_of=size_of, unconfirmed=change)
    short = select(mined, terms_of(2_000_000), size_of=size_of, unconfirmed=change)

    assert sorted(chosen(near)) == [50_000, 60_000]
    assert chosen(far) == [900_000]
    assert short is None


def test_coins_in_an_order_of_their_own_are_taken_in_it() -> None:
    picked = select_in_order(coins_of(40_000, 30_000, 90_000), terms_of(60_000), size_of=size_of)

    assert chosen(picked) == [40_000, 30_000]
    assert select_in_order(coins_of(100, 50_000), terms_of(60_000), size_of=size_of) is None


def test_coin_that_is_not_needed_is_dropped() -> None:
    picked = select(coins_of(5_000, 8_000, 90_000), terms_of(60_000), size_of=size_of)

    assert chosen(picked) == [90_000]


def test_fee_is_exact_and_rounded_up() -> None:
    picked = select(coins_of(100_000), terms_of(10_000, rate=1_001), size_of=size_of)

    assert picked is not None
    assert picked.fee_minor == 142  # 141 vB x 1.001 sat, up
    assert picked.change_minor == 100_000 - 10_000 - 142


def test_change_below_its_minimum_goes_to_the_miner() -> None:
    picked = select(coins_of(10_500), terms_of(10_000), size_of=size_of)

    assert picked is not None
    assert (picked.change_minor, picked.fee_minor) == (0, 500)


def test_reserve_for_a_child_is_kept_or_the_payment_waits() -> None:
    """LTC does not replace: each payout keeps change above the CPFP reserve (CONTRACT 5)."""
    terms = terms_of(10_000, change=100_000, keep=True)

    assert select(coins_of(60_000), terms, size_of=size_of) is None
    picked = select(coins_of(60_000, 60_000), terms, size_of=size_of)
    assert picked is not None
    assert picked.change_minor >= 100_000


def test_short_coins_are_refused() -> None:
    assert select(coins_of(5_000, 5_000), terms_of(10_000), size_of=size_of) is None
    assert select([], terms_of(10_000), size_of=size_of) is None


def test_p31_coins_that_cost_more_than_they_bring_stay_where_they_are() -> None:
    picked = select(coins_of(*[67] * 400, 20_000), terms_of(10_000), size_of=size_of)

    assert chosen(picked) == [20_000]


def test_p31_never_more_inputs_than_relayed() -> None:
    many = coins_of(*[1_000] * 600)

    assert select(many, terms_of(900 * MAX_INPUTS, rate=1_000), size_of=size_of) is not None
    assert select(many, terms_of(1_000 * MAX_INPUTS), size_of=size_of) is None


amount_lists: st.SearchStrategy[Sequence[int]] = st.lists(
    st.integers(min_value=1, max_value=10**9), max_size=30
)


@given(
    amounts=amount_lists,
    payments=st.integers(min_value=1, max_value=10**10),
    rate=st.integers(min_value=1_000, max_value=300_000),
    keep=st.booleans(),
)
def test_selection_covers_amount_and_fee_or_refuses(
    amounts: Sequence[int], payments: int, rate: int, keep: bool
) -> None:
    terms = terms_of(payments, rate=rate, change=1_000, keep=keep)

    picked = select(coins_of(*amounts), terms, size_of=size_of)

    if picked is not None:
        size = size_of(inputs=len(picked.coins), has_change=picked.change_minor > 0)
        total = sum(coin.amount_minor for coin in picked.coins)
        assert total == payments + picked.fee_minor + picked.change_minor
        assert picked.fee_minor >= fee_for(size, rate_sat_per_kvb=rate)
        assert picked.change_minor == 0 or picked.change_minor >= 1_000
        assert picked.change_minor > 0 or not keep
        assert len({coin.outpoint for coin in picked.coins}) == len(picked.coins)
    else:
        everything = sum(amounts)
        most = fee_for(size_of(inputs=len(amounts), has_change=True), rate_sat_per_kvb=rate)
        assert everything < payments + most + 1_000


def test_same_coins_and_terms_give_the_same_selection() -> None:
    coins = coins_of(9_000, 4_000, 8_000, 30_000, 2_000)

    first = select(coins, terms_of(15_000), size_of=size_of)

    assert first == select(list(coins), terms_of(15_000), size_of=size_of)


@pytest.mark.parametrize(("size", "rate", "fee"), [(1000, 1000, 1000), (141, 1001, 142), (1, 1, 1)])
def test_fee_rounds_up(size: int, rate: int, fee: int) -> None:
    assert fee_for(size, rate_sat_per_kvb=rate) == fee
