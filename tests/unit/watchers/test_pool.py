"""Public keys are read strictly, and every brand has its own branch of the address tree."""

import json
from pathlib import Path

import pytest

from config.errors import ConfigError
from config.settings import Settings
from tests.support.clock import SequentialIds
from tests.support.simchain import sim_account, sim_utxo
from tests.support.watching import account_xpubs, registry_for
from watchers import pool
from watchers.network import Network

KEYS = {0: "operator", 1: "acme", 2: "zest"}


def network_of(family: str) -> tuple[Network, Settings]:
    """A test network and the settings it came from."""
    _, chain = sim_utxo() if family == "bitcoin" else sim_account()
    registry = registry_for(chain, {})
    network = Network(
        spec=registry.chains[chain.network],
        assets=registry.assets,
        ids=SequentialIds(),
        reversed_per_step_max=20,
    )
    return network, registry.settings


def test_a_utxo_network_has_one_hot_address_change_and_a_branch_per_brand() -> None:
    network, settings = network_of("bitcoin")
    found = pool.branches(settings, network, KEYS)
    assert [(row.role.value, row.brand, row.account, row.branch) for row in found] == [
        ("hot", None, 0, 0),
        ("change", None, 0, 1),
        ("deposit", "acme", 1, 0),
        ("deposit", "zest", 2, 0),
    ]


def test_an_account_network_has_hot_lanes_and_a_gas_account() -> None:
    network, settings = network_of("evm")
    found = pool.branches(settings, network, KEYS)
    assert [(row.role.value, row.branch, row.high) for row in found[:2]] == [
        ("hot", 0, pool.EVM_HOT_LANES),
        ("gas", 1, pool.EVM_GAS_ACCOUNTS),
    ]


@pytest.mark.parametrize(
    ("keys", "named"), [({1: "acme", 2: "zest"}, "account 0"), ({0: "a", 1: "b"}, "zest")]
)
def test_a_missing_key_is_named(keys: dict[int, str], named: str) -> None:
    network, settings = network_of("bitcoin")
    with pytest.raises(ConfigError, match=named):
        pool.branches(settings, network, keys)


def test_xpubs_are_read_by_account(tmp_path: Path) -> None:
    path = tmp_path / "xpubs.json"
    path.write_text(json.dumps({"fingerprint": "00", "networks": {"btc": {"0": "x", "7": "y"}}}))
    assert pool.load_xpubs(path, "btc") == {0: "x", 7: "y"}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"networks": {"ltc": {"0": "x"}}}'])
def test_a_file_without_keys_of_the_network_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "xpubs.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"xpubs\.json"):
        pool.load_xpubs(path, "btc")


def test_the_accounts_of_the_public_vector_differ() -> None:
    _, chain = sim_utxo()
    assert len(set(account_xpubs(chain).values())) == 3
