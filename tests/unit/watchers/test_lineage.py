"""Which outpoints a tx needs, its unconfirmed ancestors' included."""

from watchers.chain import Outpoint, Spend
from watchers.lineage import ANCESTORS_MAX, lineage, needed_inputs, spends_by_tx


def spends(*pairs: tuple[str, str]) -> dict[str, list[Outpoint]]:
    """`child` spends output 0 of `parent`, pair by pair."""
    return spends_by_tx(
        [Spend(txid=child, outpoint=Outpoint(txid=parent, vout=0)) for child, parent in pairs]
    )


def test_d13_a_tx_needs_what_it_and_its_ancestors_spend() -> None:
    found = needed_inputs({"c"}, spends(("c", "b"), ("b", "a"), ("a", "coin"), ("x", "y")))
    assert found == [("b", 0, "c", "c"), ("a", 0, "c", "b"), ("coin", 0, "c", "a")]


def test_a_tx_that_is_not_known_needs_nothing() -> None:
    assert needed_inputs({"c"}, {}) == []
    assert lineage("c", {}) == []


def test_an_ancestor_reached_twice_counts_once() -> None:
    """A diamond, and two txs that claim the same outpoint, which only a liar tells of."""
    found = needed_inputs(
        {"d"}, spends(("d", "b"), ("d", "c"), ("b", "a"), ("c", "a"), ("a", "coin"))
    )
    assert sorted(found) == [
        ("a", 0, "d", "b"),
        ("b", 0, "d", "d"),
        ("c", 0, "d", "d"),
        ("coin", 0, "d", "a"),
    ]


def test_a_circle_and_a_long_chain_end() -> None:
    assert lineage("a", spends(("a", "b"), ("b", "a"))) == ["a", "b"]
    chain = spends(*((str(n), str(n + 1)) for n in range(10 * ANCESTORS_MAX)))
    assert len(lineage("0", chain)) == ANCESTORS_MAX + 1
