"""The bound that a batch's bytes are held against."""

import pytest

from gateway.sandbox.batch_bytes import CHANGE_VB, INPUT_VB, fewest_inputs, least_vb
from watchers.chains.bitcoin.build import P2WPKH_KEY, size_vb


@pytest.mark.parametrize(("paid", "fewest"), [(1, 1), (9, 1), (10, 2), (14, 2), (15, 3), (17, 3)])
def test_the_fewest_coins_are_the_largest(paid: int, fewest: int) -> None:
    assert fewest_inputs(paid, [3, 9, 5]) == fewest


def test_coins_that_do_not_reach_are_no_bound() -> None:
    with pytest.raises(ValueError, match="do not cover"):
        fewest_inputs(18, [3, 9, 5])


@pytest.mark.parametrize("inputs", [1, 2, 7])
def test_the_bound_is_the_size_of_the_smaller_tx(inputs: int) -> None:
    """A builder's size is an upper bound, half a byte per signature above what is sent."""
    payments = [P2WPKH_KEY] * 40
    sent = size_vb(inputs=inputs, outputs=[*payments, P2WPKH_KEY])
    smallest = size_vb(inputs=1, outputs=payments)

    bound = least_vb(sent, inputs=inputs, change=1, fewest=1)

    assert smallest - inputs <= bound <= smallest
    assert least_vb(sent, inputs=1, change=0, fewest=1) == sent
    assert INPUT_VB > CHANGE_VB
