"""Cold wallets and who agrees to moves: what is taken, what is refused, what people are told."""

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.registry import Registry, load_registry
from config.settings import load_settings
from tests.support.colds import (
    COLD_BTC_ADDRESS,
    COLD_BTC_DESCRIPTOR,
    COLD_ETH_ADDRESS,
    multi_descriptor,
)
from watchers.registry import cold_addresses

NODES = '[networks.btc]\nchain = "regtest"\n[networks.eth]\nchain = "dev"\n'
COLD = f'[cold.btc]\naddress = "{COLD_BTC_ADDRESS}"\ndescriptor = "{COLD_BTC_DESCRIPTOR}"\n'


def registry(folder: Path, text: str) -> Registry:
    path = folder / "cage.toml"
    path.write_text(NODES + text)
    return load_registry(load_settings(path, environ={}))


def watched(folder: Path, text: str, network: str) -> list[str]:
    found = registry(folder, text)
    settings = found.settings.cold[network]
    rows = cold_addresses(found.chains[network], found.assets.values(), settings)
    return [row.derived.address for row in rows]


def test_without_a_word_two_people_agree_to_any_amount(tmp_path: Path) -> None:
    policy = registry(tmp_path, "").policy.rebalances["btc:BTC"]
    assert [policy.people_for(1, is_system=who) for who in (False, True)] == [2, 2]


@pytest.mark.parametrize(
    ("automatic", "is_system", "people"),
    [("false", False, 1), ("false", True, 1), ("true", False, 1), ("true", True, 0)],
)
def test_up_to_the_limit_one_person_or_the_system_where_policy_says_so(
    tmp_path: Path, automatic: str, is_system: bool, people: int
) -> None:
    text = f'[rebalances."btc:BTC"]\ntwo_people_above = "0.5"\nautomatic = {automatic}\n'
    policy = registry(tmp_path, text).policy.rebalances["btc:BTC"]
    assert policy.people_for(50_000_000, is_system=is_system) == people
    assert policy.people_for(50_000_001, is_system=is_system) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[rebalances."ltc:LTC"]\n', "rebalances.ltc:LTC"),
        ('[rebalances."btc:BTC"]\ntwo_people_above = "0.123456789"\n', "two_people_above"),
        ('[rebalances."btc:BTC"]\npause_seconds = 1\n', "pause_seconds"),
        ('[rebalances."btc:BTC"]\nauto = true\n', "auto"),
        ('[cold.ltc]\naddress = "x"\n', "cold.ltc"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        registry(tmp_path, text)


def test_the_first_addresses_of_both_branches_are_watched_and_one_account(tmp_path: Path) -> None:
    found = watched(tmp_path, COLD + "addresses = 3\n", "btc")
    assert (len(found), found[0]) == (6, COLD_BTC_ADDRESS)
    account = f'[cold.eth]\naddress = "{COLD_ETH_ADDRESS}"\n'
    assert watched(tmp_path, account, "eth") == [COLD_ETH_ADDRESS]


@pytest.mark.parametrize(
    ("text", "network", "told"),
    [
        (COLD.replace(COLD_BTC_DESCRIPTOR, multi_descriptor()), "btc", "not among the first"),
        (COLD.replace(COLD_BTC_DESCRIPTOR[-8:], "qqqqqqqq"), "btc", "checksum"),
        (f'[cold.btc]\naddress = "{COLD_BTC_ADDRESS}"\n', "btc", "descriptor: required"),
        (f'[cold.btc]\naddress = "{COLD_ETH_ADDRESS}"\ndescriptor = "x#12345678"\n', "btc", "btc"),
        (f'[cold.eth]\naddress = "{COLD_ETH_ADDRESS[:-1]}8"\n', "eth", "checksum"),
        (f'[cold.eth]\naddress = "{COLD_ETH_ADDRESS}"\ndescriptor = "x"\n', "eth", "only there"),
    ],
)
def test_a_cold_wallet_that_is_not_what_it_says_is_refused(
    tmp_path: Path, text: str, network: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        watched(tmp_path, text, network)
