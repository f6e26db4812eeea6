"""Bands by role of the wallet, and the outflow breaker: what is taken, and what is refused."""

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.policy import Policy
from config.registry import load_registry
from config.settings import load_settings
from config.treasury_policy import Band, OutflowMax, WalletRole

NODES = """
[networks.btc]
chain = "regtest"
[networks.eth]
chain = "dev"
[assets."eth:USDT"]
contract = "0x00000000000000000000000000000000000c0de1"
"""
BAND = 'min = "1"\ntarget = "2"\nmax = "3"\n'


def _policy(folder: Path, text: str, *, policy: str = "") -> Policy:
    (folder / "policy.toml").write_text(policy)
    path = folder / "cage.toml"
    path.write_text('policy_file = "policy.toml"\n' + NODES + text)
    return load_registry(load_settings(path, environ={})).policy


def test_a_band_beside_the_asset_is_the_hot_wallets(tmp_path: Path) -> None:
    policy = _policy(tmp_path, f'[wallets."btc:BTC"]\n{BAND}')
    band = Band(min_minor=10**8, target_minor=2 * 10**8, max_minor=3 * 10**8)
    assert policy.treasury.band("hot", "btc:BTC") == band
    assert policy.treasury.band("cold", "btc:BTC") is None


def test_each_role_has_its_own_band(tmp_path: Path) -> None:
    roles = ("deposit", "hot", "warm", "cold", "gas")
    text = "".join(f'[wallets."eth:ETH".{role}]\n{BAND}' for role in roles)
    treasury = _policy(tmp_path, text).treasury
    assert [role for role, _ in treasury.bands] == [WalletRole(role) for role in roles]
    assert treasury.bands[WalletRole.GAS, "eth:ETH"].max_minor == 3 * 10**18


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[wallets."btc:BTC"]\nmin = "1"', "min, target and max belong together"),
        (f'[wallets."btc:BTC"]\n{BAND}[wallets."btc:BTC".hot]\n{BAND}', "keep one"),
        (f'[wallets."btc:BTC".gas]\n{BAND}', "wallets.btc:BTC.gas: btc has no gas wallet"),
        (f'[wallets."btc:BTC".deposit]\n{BAND}', "btc has no deposit wallet"),
        (f'[wallets."eth:USDT".gas]\n{BAND}', "wallets.eth:USDT.gas: fees are paid in eth:ETH"),
        (f'[wallets."eth:DAI"]\n{BAND}', "wallets.eth:DAI: the asset is not enabled"),
        (
            '[wallets."eth:ETH".cold]\nmin = "3"\ntarget = "2"\nmax = "4"',
            "wallets.eth:ETH.cold: min <= target <= max does not hold",
        ),
        (f'[wallets."eth:ETH".lukewarm]\n{BAND}', "wallets.eth:ETH.lukewarm: unknown key"),
    ],
)
def test_a_band_that_no_wallet_can_have_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _policy(tmp_path, text)


def test_no_outflow_breaker_is_on_by_itself(tmp_path: Path) -> None:
    assert _policy(tmp_path, "").treasury.outflow_max == {}


def test_an_outflow_breaker_is_policy(tmp_path: Path) -> None:
    row = '[outflow_breaker."btc:BTC"]\nquantile = "p90"\nfactor_permille = 2500\nat_least = "0.5"'
    found = _policy(tmp_path, "", policy=row).treasury
    assert found.outflow_max == {
        "btc:BTC": OutflowMax(
            quantile_permille=900, factor_permille=2_500, at_least_minor=50_000_000
        )
    }
    assert found.history_days_min == 28


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('[outflow_breaker."ltc:LTC"]\nfactor_permille = 2000\nat_least = "1"', "not enabled"),
        ('[outflow_breaker."btc:BTC"]\nfactor_permille = 900\nat_least = "1"', "factor_permille"),
        ('[outflow_breaker."btc:BTC"]\nfactor_permille = 2000', "at_least"),
        ('[outflow_breaker."btc:BTC"]\nfactor_permille = 2000\nat_least = 1', "at_least"),
        ("[treasury]\nhistory_days_min = 1", "history_days_min"),
    ],
)
def test_a_wrong_row_of_the_policy_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _policy(tmp_path, "", policy=row)
