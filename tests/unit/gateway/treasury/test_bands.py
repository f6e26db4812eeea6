"""When a wallet is told to have left its band, and when to be back: all states and amounts."""

import itertools

import pytest

from config.treasury_policy import Band, WalletRole
from gateway.treasury.bands import WALLET_BANDS, BandState, Crossing, crossing

BAND = Band(min_minor=100, target_minor=500, max_minor=1_000)
LOW, INSIDE, HIGH = BandState.LOW, BandState.INSIDE, BandState.HIGH
GAS_LOW = BandState.GAS_LOW
STATES = {WalletRole.HOT: (LOW, INSIDE, HIGH), WalletRole.GAS: (GAS_LOW, INSIDE, HIGH)}


@pytest.mark.parametrize(
    ("state", "amount", "expected"),
    [
        (INSIDE, 99, Crossing.FALL),
        (INSIDE, 100, None),
        (INSIDE, 1_000, None),
        (INSIDE, 1_001, Crossing.RISE),
        (LOW, 99, None),
        (LOW, 100, None),
        (LOW, 139, None),  # 10 % of the way from 100 to 500 is 140
        (LOW, 140, Crossing.RETURN),
        (LOW, 1_000, Crossing.RETURN),
        (LOW, 1_001, Crossing.RISE),
        (HIGH, 1_001, None),
        (HIGH, 1_000, None),
        (HIGH, 951, None),
        (HIGH, 950, Crossing.RETURN),
        (HIGH, 100, Crossing.RETURN),
        (HIGH, 99, Crossing.FALL),
    ],
)
def test_a_crossing_is_told_once_and_the_way_back_after_a_part_of_it(
    state: BandState, amount: int, expected: Crossing | None
) -> None:
    assert crossing(BAND, WalletRole.HOT, state, amount, hysteresis_permille=100) is expected


@pytest.mark.parametrize("permille", [0, 100, 1_000])
def test_whatever_is_told_is_legal_and_is_not_told_again(permille: int) -> None:
    for role, states in STATES.items():
        for state, amount in itertools.product(states, range(90, 1_011)):
            move = crossing(BAND, role, state, amount, hysteresis_permille=permille)
            reached = state if move is None else WALLET_BANDS.next(state, move)
            assert reached in states
            assert crossing(BAND, role, reached, amount, hysteresis_permille=permille) is None


@pytest.mark.parametrize("state", list(BandState))
@pytest.mark.parametrize("move", list(Crossing))
def test_every_pair_of_the_table(state: BandState, move: Crossing) -> None:
    legal = {
        (INSIDE, Crossing.FALL), (INSIDE, Crossing.RISE), (LOW, Crossing.RETURN),
        (LOW, Crossing.RISE), (HIGH, Crossing.RETURN), (HIGH, Crossing.FALL),
        (INSIDE, Crossing.RUN_DRY), (GAS_LOW, Crossing.RETURN), (GAS_LOW, Crossing.RISE),
        (HIGH, Crossing.RUN_DRY),
    }  # fmt: skip
    assert WALLET_BANDS.allows(state, move) == ((state, move) in legal)


@pytest.mark.parametrize("state", [INSIDE, HIGH])
def test_a_gas_wallet_runs_dry(state: BandState) -> None:
    move = crossing(BAND, WalletRole.GAS, state, 99, hysteresis_permille=100)
    assert move is Crossing.RUN_DRY
    assert WALLET_BANDS.next(state, move) is GAS_LOW
