"""Packages of own txs as miners weigh them, and the limits of nodes."""

from uuid import UUID

from gateway.payouts.packages import Packages
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
    def chain(length: int) -> list[OpenTx]:
        return [tx(n, parents=(n - 1,) if n > 1 else ()) for n in range(1, length + 1)]

    for length, has_room in ((24, True), (25, False)):
        txs = chain(length)
        assert packages(*txs).has_room(txs[-1]) is has_room


def test_p32_a_root_with_24_children_takes_no_further_one() -> None:
    for children, has_room in ((23, True), (24, False)):
        txs = [tx(1), *(tx(n, parents=(1,)) for n in range(2, children + 2))]
        assert packages(*txs).has_room(txs[-1]) is has_room
