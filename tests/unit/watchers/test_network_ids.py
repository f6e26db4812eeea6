"""Two networks are never one object, however long their names."""

from itertools import combinations

from watchers.health import network_object_id


def test_networks_whose_names_begin_alike_are_two_objects() -> None:
    names = ("eth", "arbitrum-sepolia", "arbitrum-sepolia-1", "arbitrum-sepolia-2")
    ids = {name: network_object_id(name) for name in names}
    assert all(ids[one] != ids[other] for one, other in combinations(names, 2))
    assert ids["eth"] == network_object_id("eth")
