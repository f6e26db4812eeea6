"""Scopes of breakers, and what a stop covers."""

import pytest

from watchers.switches import Stopped, asset_of, network_of


@pytest.mark.parametrize(
    ("scope", "network", "asset"),
    [
        ("network:btc", "btc", None),
        ("asset:eth:USDT", "eth", "eth:USDT"),
        ("asset:eth:0xdeadbeef", "eth", "eth:0xdeadbeef"),
    ],
)
def test_a_scope_names_a_network_or_an_asset(scope: str, network: str, asset: str | None) -> None:
    assert (network_of(scope), asset_of(scope)) == (network, asset)


@pytest.mark.parametrize(
    "scope",
    ["", "btc", "network:", "network:BTC", "network:btc ", "asset:eth", "asset:eth:", "brand:acme"],
)
def test_anything_else_is_no_scope(scope: str) -> None:
    with pytest.raises(ValueError, match="a scope is"):
        network_of(scope)


def test_a_stopped_asset_leaves_the_others_and_the_network_running() -> None:
    stopped = Stopped(is_whole=False, assets=frozenset({"eth:USDT"}))
    assert stopped.covers("eth:USDT")
    assert not stopped.covers("eth:ETH")
    assert not stopped.covers(None)


def test_a_stopped_network_covers_every_asset_of_it() -> None:
    stopped = Stopped(is_whole=True, assets=frozenset())
    assert stopped.covers("eth:USDT")
    assert stopped.covers(None)
