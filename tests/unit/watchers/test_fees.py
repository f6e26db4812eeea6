"""Fee quotes of several nodes made one."""

from watchers.chain import FeeQuote
from watchers.fees import median_quote


def quote(
    rate: int, *, floor: int = 1_000, base_fee: int = 0, targets: tuple[int, ...] = (2, 6)
) -> FeeQuote:
    return FeeQuote(rates=dict.fromkeys(targets, rate), floor=floor, base_fee=base_fee)


def test_f1_one_node_that_is_far_off_moves_nothing() -> None:
    near = median_quote([quote(5_000, floor=1_000), quote(10**9, floor=10**8), quote(6_000)])

    assert near == quote(6_000)


def test_f1_of_two_nodes_the_higher_counts() -> None:
    assert median_quote([quote(5_000, base_fee=7), quote(9_000, base_fee=3)]) == quote(
        9_000, base_fee=7
    )


def test_f1_targets_that_not_all_know_are_left_out() -> None:
    assert set(median_quote([quote(1), quote(2, targets=(2, 36))]).rates) == {2}
