"""The tree of liabilities: builder and verifier, which share no code, agree; known attacks fail."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import reserves_proof
from gateway.cli.deposit_proof_errors import CheckFailed
from ledger import sum_tree
from ledger.errors import SumTreeError
from ledger.sum_tree import SUM_MAX, Node, Owed, SumTree

SALT = bytes(range(32))


def owed(amount: int = 5, *, player: str = "p1", brand: str = "acme", kind: str = "player") -> Owed:
    return Owed(asset="btc:BTC", kind=kind, brand=brand, player_id=player, amount_minor=amount)


def tree_of(amounts: Sequence[int]) -> tuple[SumTree, list[tuple[Node, Owed, bytes]]]:
    """A tree of one player per amount, and its leaves in their order."""
    made = []
    for number, amount in enumerate(amounts):
        salt = hashlib.sha256(str(number).encode()).digest()
        claim = owed(amount, player=f"p{number}")
        made.append((sum_tree.leaf(claim, salt=salt), claim, salt))
    made.sort(key=lambda item: item[0].hash)
    return SumTree([node for node, _, _ in made]), made


def shown(node: Node) -> dict[str, str]:
    return {"hash": node.hash.hex(), "sum": str(node.sum_minor)}


def climb(node: Node, place: object, count: object, path: Sequence[Any]) -> tuple[bytes, int]:
    """As the verifier goes up."""
    return reserves_proof._climb((node.hash, node.sum_minor), place, count, list(path))


@given(st.lists(st.integers(1, 10**30), min_size=1, max_size=70))
def test_every_leaf_leads_to_the_root_by_the_verifiers_own_rules(amounts: list[int]) -> None:
    tree, made = tree_of(amounts)
    root = (tree.root.hash, tree.root.sum_minor)
    assert root[1] == sum(amounts)
    assert reserves_proof._root([(node.hash, node.sum_minor) for node, _, _ in made]) == root
    for place, (node, claim, salt) in enumerate(made):
        path = [shown(item) for item in tree.path(place)]
        assert climb(node, place, tree.count, path) == root
        leaf = {
            "asset": claim.asset,
            "kind": claim.kind,
            "brand": claim.brand,
            "player_id": claim.player_id,
            "amount_minor": str(claim.amount_minor),
            "salt": salt.hex(),
        }
        assert reserves_proof._leaf(leaf) == (node.hash, node.sum_minor)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=40), st.data())
def test_no_leaf_leads_there_with_another_amount_place_or_number(
    amounts: list[int], data: st.DataObject
) -> None:
    tree, made = tree_of(amounts)
    root = (tree.root.hash, tree.root.sum_minor)
    place = data.draw(st.integers(0, len(amounts) - 1))
    node = made[place][0]
    path = [shown(item) for item in tree.path(place)]
    wrong = Node(hash=node.hash, sum_minor=node.sum_minor + 1)
    assert climb(wrong, place, tree.count, path) != root
    other = data.draw(st.integers(0, len(amounts) - 1).filter(lambda value: value != place))
    with_other = _tried(node, other, tree.count, path)
    assert with_other != root
    with pytest.raises(CheckFailed):
        climb(node, place, tree.count, [*path, shown(node)])
    with pytest.raises(CheckFailed):
        climb(node, tree.count, tree.count, path)


def _tried(node: Node, place: int, count: int, path: Sequence[Any]) -> tuple[bytes, int] | None:
    try:
        return climb(node, place, count, path)
    except CheckFailed:
        return None


def test_the_empty_tree_owes_nothing() -> None:
    tree = SumTree([])
    assert (tree.count, tree.root) == (0, Node(hash=hashlib.sha256(b"").digest(), sum_minor=0))
    assert reserves_proof._root([]) == (tree.root.hash, 0)


@pytest.mark.parametrize("amount", [0, -1, -(10**20), SUM_MAX + 1])
def test_l18_a_claim_below_or_at_zero_or_over_the_limit_is_no_leaf(amount: int) -> None:
    """A negative leaf would pay for another's claim; a zero one pads the tree."""
    with pytest.raises(SumTreeError):
        sum_tree.leaf(owed(amount), salt=SALT)
    with pytest.raises(SumTreeError):
        SumTree([Node(hash=bytes(32), sum_minor=amount)])
    with pytest.raises(CheckFailed):
        reserves_proof._node({"hash": "00" * 32, "sum": str(amount)})


def test_l18_sums_never_wrap() -> None:
    """Two claims whose sum would pass the limit are refused by both sides."""
    nodes = [Node(hash=bytes([number]) * 32, sum_minor=SUM_MAX) for number in (1, 2)]
    with pytest.raises(SumTreeError):
        SumTree(nodes)
    with pytest.raises(CheckFailed):
        reserves_proof._root([(node.hash, node.sum_minor) for node in nodes])


def test_l18_one_leaf_never_serves_two_owners() -> None:
    """Equal amounts of two players, or of one id at two casinos, have different leaves; one leaf
    twice is no tree."""
    leaves = [
        sum_tree.leaf(owed(player=player, brand=brand), salt=SALT)
        for player, brand in (("p1", "acme"), ("p2", "acme"), ("p1", "bravo"))
    ]
    assert len({leaf.hash for leaf in leaves}) == 3
    with pytest.raises(SumTreeError):
        SumTree([leaves[0], leaves[0]])


def test_l18_a_last_leaf_is_not_doubled_to_fill_a_level() -> None:
    """CVE-2012-2459: with padding, three leaves and four would have one root."""
    tree, made = tree_of([1, 2, 3])
    nodes = [node for node, _, _ in made]
    doubled = sum_tree.parent(
        sum_tree.parent(nodes[0], nodes[1]), sum_tree.parent(nodes[2], nodes[2])
    )
    assert tree.root.sum_minor == 6
    assert doubled.hash != tree.root.hash


def test_l18_a_parent_commits_to_each_childs_own_sum() -> None:
    """ "Broken proofs of solvency": a hash over the total alone lets a prover show one owner a
    sibling of nothing and the other likewise."""
    left, right = Node(hash=b"\x01" * 32, sum_minor=70), Node(hash=b"\x02" * 32, sum_minor=30)
    split = (
        Node(hash=left.hash, sum_minor=99),
        Node(hash=right.hash, sum_minor=1),
    )
    honest, dishonest = sum_tree.parent(left, right), sum_tree.parent(*split)
    assert honest.sum_minor == dishonest.sum_minor == 100
    assert honest.hash != dishonest.hash


def test_an_inner_node_is_never_a_leaf() -> None:
    """Second preimage: the two kinds are hashed under different first bytes."""
    tree, made = tree_of([1, 2, 3, 4])
    inner = sum_tree.parent(made[0][0], made[1][0])
    content = b"".join(
        node.sum_minor.to_bytes(32, "big") + node.hash for node in (made[0][0], made[1][0])
    )
    assert inner.hash != hashlib.sha256(b"\x00" + content).digest()
    with pytest.raises(CheckFailed):
        climb(inner, 0, tree.count, [shown(tree.path(0)[1])])


def test_a_leaf_tells_nothing_without_its_salt() -> None:
    """Who knows player, brand and amount cannot find the leaf; fields cannot run together."""
    assert sum_tree.leaf(owed(), salt=SALT).hash != sum_tree.leaf(owed(), salt=bytes(32)).hash
    with pytest.raises(SumTreeError):
        sum_tree.leaf(owed(), salt=b"short")
    with pytest.raises(SumTreeError):
        sum_tree.leaf(owed(player="p1\n5"), salt=SALT)


def test_the_leaf_of_the_document_is_this_one() -> None:
    """The example of docs/integration/proof-of-reserves.md, recomputed from its words."""
    text = "cage-leaf/1\n" + SALT.hex() + "\nbtc:BTC\nplayer\nacme\np1\n5"
    assert sum_tree.leaf(owed(), salt=SALT).hash == hashlib.sha256(b"\0" + text.encode()).digest()
    assert json.loads(json.dumps(shown(sum_tree.leaf(owed(), salt=SALT))))["sum"] == "5"
