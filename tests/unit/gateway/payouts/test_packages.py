"""Packages of own txs as miners weigh them, and the limits of nodes."""

from dataclasses import replace
from uuid import UUID

import pytest

from gateway.payouts.bump_policy import PACKAGE_MAX_VB, TX_MAX_VB
from gateway.payouts.coin_selection import MAX_INPUTS
from gateway.payouts.packages import Packages
from watchers.chain import Coin, Outpoint
from watchers.chains.bitcoin.build import P2WPKH_KEY, size_vb
from watchers.outgoing import OutgoingState
from watchers.outgoing_families import OpenTx


def tx(
    number: int,
    *,
    fee: int = 100,
    parents: tuple[int, ...] = (),
    family: int | None = None,
    is_built: bool = False,
) -> OpenTx:
    """Tx `number` of 100 vB that spends outputs of `parents`."""
    return OpenTx(
        id=UUID(int=number),
        family_id=UUID(int=family or number),
        purpose="withdrawal",
        state=OutgoingState.BUILT if is_built else OutgoingState.SEEN,
        txid=None if is_built else f"tx{number}",
        sender_key=None,
        nonce=None,
        fee_minor=fee,
        family_number=1,
        replaces_id=None,
        pays_for_id=None,
        broadcast_height=1,
        conflict_txid=None,
        parents=frozenset(f"tx{parent}" for parent in parents),
        keys=(),
        change=(0,),
        inputs_count=1,
    )


def coin(number: int, vout: int = 0) -> Coin:
    """Change of tx `number`."""
    outpoint = Outpoint(txid=f"tx{number}", vout=vout)
    return Coin(outpoint=outpoint, amount_minor=1, key="", path="", previous_tx=b"")


def chain(first: int, length: int) -> list[OpenTx]:
    """Each spends the change of the one before."""
    numbers = range(first, first + length)
    return [tx(n, parents=(n - 1,) if n > first else ()) for n in numbers]


def packages(*txs: OpenTx, current: tuple[int, ...] = ()) -> Packages:
    return Packages(txs, size_of=lambda _: 100, current={UUID(int=item) for item in current})


def test_a_tx_pays_what_its_best_package_pays() -> None:
    below, above = tx(1, fee=100), tx(2, fee=900, parents=(1,))
    found = packages(below, above)

    assert found.rate(below) == 5_000  # (100 + 900) / 200 vB
    assert found.rate(above) == 5_000
    assert found.ancestors(above) == [below]
    assert found.descendants(below) == [above]


def test_a_poor_child_makes_nothing_poorer() -> None:
    below, above = tx(1, fee=900), tx(2, fee=100, parents=(1,))
    assert packages(below, above).rate(below) == 9_000


def test_of_a_family_the_one_that_withdrawals_ride_on_counts() -> None:
    old, new = tx(1), tx(2, family=1)
    assert list(packages(old, new).signed) == [new.id]
    assert list(packages(old, new, current=(1,)).signed) == [old.id]


def test_work_that_has_begun_is_seen_wherever_it_hangs() -> None:
    stuck, above = tx(1), tx(2, parents=(1,))
    for built in (
        tx(9, family=1, is_built=True),
        tx(9, parents=(2,), is_built=True),
        tx(9, family=2, is_built=True),
    ):
        assert packages(stuck, above, built).is_in_work(stuck)
    assert not packages(stuck, above, tx(9, parents=(8,), is_built=True)).is_in_work(stuck)


def test_p32_a_chain_of_25_takes_no_further_child() -> None:
    for length, has_room in ((24, True), (25, False)):
        txs = chain(1, length)
        assert packages(*txs).has_room(txs[-1]) is has_room


def test_p32_a_root_with_24_children_takes_no_further_one() -> None:
    for children, has_room in ((23, True), (24, False)):
        txs = [tx(1), *(tx(n, parents=(1,)) for n in range(2, children + 2))]
        assert packages(*txs).has_room(txs[-1]) is has_room


@pytest.mark.parametrize(("length", "count"), [(13, 2), (14, 1)])
def test_p32_ancestors_of_all_inputs_count_together(length: int, count: int) -> None:
    """Ten and 13 below it, it, and a child that may have to pay for it one day: 25."""
    found = packages(*chain(1, 10), *chain(101, length))
    ends = [coin(10), coin(100 + length)]

    assert found.within_limits(ends) == ends[:count]


def test_p32_what_does_not_fit_stops_nothing_behind_it() -> None:
    found = packages(*chain(1, 10), *chain(101, 20), *chain(201, 10))

    assert found.within_limits([coin(10), coin(120), coin(210)]) == [coin(10), coin(210)]


def test_p32_a_common_ancestor_counts_once() -> None:
    txs = [*chain(1, 8), *(tx(20 + n, parents=(8,)) for n in range(14))]
    ends = [coin(20 + n) for n in range(14)]

    assert packages(*txs).within_limits(ends) == ends


@pytest.mark.parametrize(("children", "is_free"), [(22, True), (23, False)])
def test_p32_a_split_in_no_block_has_no_more_descendants_than_nodes_take(
    children: int, is_free: bool
) -> None:
    txs = [tx(1), *(tx(n, parents=(1,)) for n in range(2, children + 2))]

    assert packages(*txs).within_limits([coin(1, vout=50)]) == ([coin(1, vout=50)] * is_free)


@pytest.mark.parametrize(("built", "is_free"), [(12, True), (13, False)])
def test_p32_what_is_planned_and_not_signed_counts(built: int, is_free: bool) -> None:
    """One pass plans many payouts before the first of them is signed."""
    signed = [tx(n, parents=(1,)) for n in range(2, 12)]
    planned = [tx(n, parents=(n - 50,), is_built=True) for n in range(52, 62)]
    planned += [tx(n, parents=(1,), is_built=True) for n in range(70, 70 + built - 10)]

    found = packages(tx(1), *signed, *planned).within_limits([coin(1, vout=50)])

    assert found == [coin(1, vout=50)] * is_free


def test_p32_a_planned_replacement_is_no_further_descendant() -> None:
    signed = [tx(n, parents=(1,)) for n in range(2, 24)]
    planned = [
        replace(tx(n + 50, parents=(1,), is_built=True), family_id=UUID(int=n), replaces_id=one.id)
        for n, one in enumerate(signed, 2)
    ]

    assert packages(tx(1), *signed, *planned).within_limits([coin(1, vout=50)])


@pytest.mark.parametrize(("over", "is_free"), [(0, True), (1, False)])
def test_p31_what_it_hangs_on_leaves_room_for_the_largest_tx(over: int, is_free: bool) -> None:
    size = PACKAGE_MAX_VB - TX_MAX_VB + over
    found = Packages([tx(1)], size_of=lambda _: size)

    assert found.within_limits([coin(1)]) == [coin(1)] * is_free


def test_p31_the_largest_tx_is_standard() -> None:
    """500 coins to 500 taproot outputs and change; nodes relay 400,000 weight units."""
    payments = ["5120" + "00" * 32] * 500
    largest = size_vb(inputs=MAX_INPUTS, outputs=[*payments, P2WPKH_KEY])

    assert largest <= TX_MAX_VB
    assert 4 * TX_MAX_VB <= 400_000


def test_p32_change_of_a_tx_that_is_not_open_is_left_out() -> None:
    assert packages(tx(1)).within_limits([coin(2), coin(1)]) == [coin(1)]
