"""ETA: the model against published tables, and its laws."""

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.chains import load_chains
from config.settings import NetworkSettings, Settings
from tests.support.deposit_rows import PENDING
from watchers.chain import FeeQuote
from watchers.deposits import DepositRow, DepositState
from watchers.eta import (
    EPOCH_BLOCKS,
    Blocks,
    Pace,
    erlang_milli,
    inclusion,
    missing,
    pace_of,
    time_of,
)

CHAINS = load_chains(
    Settings(
        networks={"btc": NetworkSettings(chain="regtest"), "eth": NetworkSettings(chain="dev")}
    )
)
RANDOM = Pace(is_random=True, mean_ms=600_000)
SLOTS = Pace(is_random=False, mean_ms=12_000)
QUOTE = FeeQuote(
    rates=MappingProxyType({2: 30_000, 6: 12_000, 144: 2_000}), floor=1_000, base_fee=0
)
NONE = Blocks(p50=0, p90=0)


def deposit(**changes: object) -> DepositRow:
    """Pending at height 100, min 1, full 3."""
    row = replace(
        PENDING, min_depth=1, full_depth=3, provisional_at_height=100, final_at_height=102
    )
    return replace(row, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("blocks", "p50", "p90"),
    [
        # Half of the chi-square quantiles with 2k degrees of freedom (Abramowitz and Stegun 26.8).
        (0, 0, 0),
        (1, 694, 2_303),
        (2, 1_679, 3_890),
        (3, 2_675, 5_323),
        (6, 5_671, 9_275),
        (10, 9_669, 14_206),
        (50, 49_668, 59_250),
    ],
)
def test_r10_the_time_to_k_blocks_is_erlang(blocks: int, p50: int, p90: int) -> None:
    assert (erlang_milli(blocks, 50), erlang_milli(blocks, 90)) == (p50, p90)


def test_r10_three_bitcoin_confirmations() -> None:
    eta = time_of(RANDOM, Blocks(p50=3, p90=3))
    assert (eta.blocks, eta.p50_seconds, eta.p90_seconds) == (3, 1_605, 3_194)


def test_r10_twelve_slots() -> None:
    eta = time_of(SLOTS, Blocks(p50=12, p90=12))
    assert (eta.p50_seconds, eta.p90_seconds) == (144, 156)


def test_nothing_missing_takes_no_time() -> None:
    for pace in (RANDOM, SLOTS):
        eta = time_of(pace, NONE)
        assert (eta.blocks, eta.p50_seconds, eta.p90_seconds) == (0, 0, 0)


@settings(deadline=None, max_examples=150)
@given(
    is_random=st.booleans(),
    mean_ms=st.integers(250, 2_400_000),
    p50=st.integers(0, 150),
    more=st.integers(0, 60),
    further=st.integers(1, 20),
)
def test_p50_is_before_p90_and_more_blocks_are_never_sooner(
    is_random: bool, mean_ms: int, p50: int, more: int, further: int
) -> None:
    pace = Pace(is_random=is_random, mean_ms=mean_ms)
    eta = time_of(pace, Blocks(p50=p50, p90=p50 + more))
    later = time_of(pace, Blocks(p50=p50 + further, p90=p50 + more + further))
    assert eta.p50_seconds <= eta.p90_seconds
    assert eta.p50_seconds <= later.p50_seconds
    assert eta.p90_seconds <= later.p90_seconds


@pytest.mark.parametrize(
    ("blocks", "seconds", "mean_ms"),
    [
        (0, 0, 600_000),
        (10, 1, 600_000),  # too few to say anything
        (101, 55_000, 550_000),
        (101, 1, 150_000),  # a test chain, or a clock: bounded
        (101, 10**9, 2_400_000),
        (101, -50, 150_000),
    ],
)
def test_the_pace_is_that_of_our_own_blocks_within_reason(
    blocks: int, seconds: int, mean_ms: int
) -> None:
    assert pace_of(CHAINS["btc"], blocks=blocks, seconds=seconds).mean_ms == mean_ms
    assert pace_of(CHAINS["eth"], blocks=0, seconds=0) == SLOTS


@pytest.mark.parametrize(
    ("rate", "blocks"),
    [
        (30_000, (1, 2)),
        (29_999, (3, 6)),
        (2_000, (72, 144)),
        (1_999, (216, 432)),
        (None, (72, 144)),
    ],
)
def test_the_place_in_the_mempool_is_the_fastest_target_that_is_paid(
    rate: int | None, blocks: tuple[int, int]
) -> None:
    found = inclusion(rate, QUOTE)
    assert (found.p50, found.p90) == blocks


def test_without_a_sample_six_blocks_are_assumed() -> None:
    assert inclusion(10**9, None) == Blocks(p50=3, p90=6)


@given(rate=st.integers(0, 50_000), more=st.integers(0, 50_000))
def test_who_pays_more_is_never_later(rate: int, more: int) -> None:
    low, high = inclusion(rate, QUOTE), inclusion(rate + more, QUOTE)
    assert (high.p50, high.p90) <= (low.p50, low.p90)


@pytest.mark.parametrize(
    ("changes", "tip", "lag", "provisional", "final"),
    [
        ({}, 100, None, (0, 0), (2, 2)),
        ({"min_depth": 3}, 101, None, (1, 1), (1, 1)),
        ({"state": DepositState.PROVISIONAL}, 101, None, None, (1, 1)),
        ({"substatus": "exposure_cap"}, 100, None, None, (2, 2)),
        ({"state": DepositState.DETECTED, "height": None}, 100, None, (3, 6), (5, 8)),
        ({"state": DepositState.ORPHANED, "height": None}, 100, None, (3, 6), (5, 8)),
        ({}, 110, 64, (0, 0), (54, 54 + EPOCH_BLOCKS)),
        ({}, 170, 64, (0, 0), (0, 0)),
        ({"state": DepositState.FINAL}, 100, None, None, None),
        ({"state": DepositState.REVERSED, "height": None}, 100, None, None, None),
        ({"state": DepositState.ON_HOLD}, 100, None, None, None),
    ],
)
def test_r10_blocks_that_are_missing(
    changes: dict[str, object],
    tip: int,
    lag: int | None,
    provisional: tuple[int, int] | None,
    final: tuple[int, int] | None,
) -> None:
    found = missing(deposit(**changes), tip=tip, finality_lag=lag, entry=Blocks(p50=3, p90=6))
    pairs = {stage: None if left is None else (left.p50, left.p90) for stage, left in found.items()}
    assert pairs == {"provisional": provisional, "final": final}
