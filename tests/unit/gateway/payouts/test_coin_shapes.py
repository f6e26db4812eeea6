"""When own coins are merged or split: borders, bounds and exact sums (F3)."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.policy import CoinPolicy
from gateway.payouts.coin_selection import fee_for
from gateway.payouts.coin_shapes import (
    MERGED_MAX,
    MERGED_MIN,
    PARTS_MAX,
    PREVIOUS_MAX_BYTES,
    Shape,
    merge,
    split,
)
from signer.own_moves import PARTS_MAX as SIGNED_PARTS_MAX
from watchers.chain import Coin, Outpoint

RATE = 2_000  # 2 sat per vB
INPUT_COST = 136
DUST = 294
POLICY = CoinPolicy(
    keep_coins=20, part_min_minor=1_000_000, merge_above=40, rate_max=10, pause_seconds=3_600
)


def coins_of(*amounts: int, previous_tx: bytes = b"") -> list[Coin]:
    return [
        Coin(
            outpoint=Outpoint(txid=f"{index:064x}", vout=0),
            amount_minor=amount,
            key="0014" + "00" * 20,
            path=f"m/84h/1h/0h/0/{index}",
            previous_tx=previous_tx,
        )
        for index, amount in enumerate(amounts)
    ]


def merged(coins: Sequence[Coin], policy: CoinPolicy = POLICY) -> Shape | None:
    return merge(
        coins,
        policy=policy,
        rate_sat_per_kvb=RATE,
        size_of=lambda inputs: 42 + 68 * inputs,
        dust_minor=DUST,
    )


def parted(coins: Sequence[Coin], policy: CoinPolicy = POLICY, *, unmined: int = 0) -> Shape | None:
    return split(
        coins,
        policy=policy,
        rate_sat_per_kvb=RATE,
        size_of_parts=lambda parts: 79 + 31 * parts,
        unmined=unmined,
    )


def spent(shape: Shape | None) -> list[int]:
    if shape is None:
        raise LookupError("no shape")
    return [coin.amount_minor for coin in shape.coins]


def test_f3_above_the_bound_all_but_the_largest_become_one() -> None:
    amounts = list(range(1_000, 1_041))

    assert merged(coins_of(*amounts[:40])) is None
    assert spent(merged(coins_of(*amounts))) == amounts[:21]


def test_f3_a_merge_is_bounded_and_takes_the_smallest() -> None:
    amounts = list(range(1_000, 2_000))

    assert spent(merged(coins_of(*reversed(amounts)))) == amounts[:MERGED_MAX]


def test_p31_a_coin_that_costs_more_than_it_brings_stays() -> None:
    worthless, least = [INPUT_COST] * 30, [INPUT_COST + 100] * MERGED_MIN
    large = [10**6] * POLICY.keep_coins

    assert spent(merged(coins_of(*worthless, *least, *large))) == least
    assert merged(coins_of(*worthless, *least[1:], *large)) is None


def test_f3_what_is_left_of_a_merge_is_no_dust() -> None:
    fee_alone = 2 * 42
    large = [10**6] * 31
    edge = (DUST + fee_alone) // MERGED_MIN
    amounts = [INPUT_COST + edge] * (MERGED_MIN - 1)
    rest = DUST + fee_alone - edge * (MERGED_MIN - 1)

    dust = coins_of(*amounts, INPUT_COST + rest, *large)
    kept = coins_of(*amounts, INPUT_COST + rest + 1, *large)

    assert merged(dust, replace(POLICY, keep_coins=31)) is None
    assert merged(kept, replace(POLICY, keep_coins=31)) is not None


def test_f3_previous_txs_of_a_merge_fit_into_one_question() -> None:
    heavy = bytes(PREVIOUS_MAX_BYTES // 12)

    assert len(spent(merged(coins_of(*[10_000] * 60, previous_tx=heavy)))) == 12
    too_heavy = bytes(PREVIOUS_MAX_BYTES // MERGED_MIN + 1)
    assert merged(coins_of(*[10_000] * 60, previous_tx=too_heavy)) is None


def test_f3_below_half_of_what_is_wanted_the_largest_is_split() -> None:
    coins = coins_of(*[3_000_000] * 8, 90_000_000)

    shape = parted(coins)

    assert spent(shape) == [90_000_000]
    assert shape is not None
    assert len(shape.parts_minor) == POLICY.keep_coins - 9 + 1
    assert parted([*coins, *coins_of(1_000)]) is None  # ten of twenty are enough
    assert parted(coins, unmined=1) is None  # and what is on its way counts


def test_f3_parts_are_as_few_as_the_least_part_demands() -> None:
    shape = parted(coins_of(3_001_000))

    assert shape is not None
    assert len(shape.parts_minor) == 3
    assert parted(coins_of(1_999_999)) is None  # two parts and the fee are more
    assert parted([]) is None


def test_f3_a_split_is_bounded_here_and_in_the_signer() -> None:
    shape = parted(coins_of(10**10), replace(POLICY, keep_coins=100))

    assert shape is not None
    assert len(shape.parts_minor) == PARTS_MAX <= SIGNED_PARTS_MAX


@pytest.mark.parametrize("field", ["keep_coins", "merge_above"])
def test_f3_zero_means_never(field: str) -> None:
    policy = replace(POLICY, **{field: 0})
    few, many = coins_of(10**9), coins_of(*[10_000] * 1_000)

    found = parted(few, policy) if field == "keep_coins" else merged(many, policy)

    assert found is None


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=120))
def test_f3_no_satoshi_is_lost_and_one_wallet_is_never_both_too_full_and_too_empty(
    amounts: list[int],
) -> None:
    coins = coins_of(*amounts)
    found = [shape for shape in (merged(coins), parted(coins)) if shape is not None]

    assert len(found) <= 1
    for shape in found:
        assert sum(spent(shape)) == sum(shape.parts_minor) + shape.fee_minor
        size = 42 + 68 * len(shape.coins)
        if len(shape.parts_minor) > 1:
            size = 79 + 31 * len(shape.parts_minor)
            assert min(shape.parts_minor) >= POLICY.part_min_minor
        assert shape.fee_minor == fee_for(size, rate_sat_per_kvb=RATE)
        assert min(shape.parts_minor) > DUST
