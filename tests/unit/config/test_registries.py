"""Networks, assets and policy are data: what the files say, what the operator may change."""

import json
from typing import Any

import pytest

from config.assets import Tier, minor_units
from config.chains import Family
from config.errors import ConfigError, MixedNetworks
from config.registry import Registry, load_registry
from config.settings import load_settings
from config.treasury_policy import WalletRole

TOKEN = "0x" + "00" * 19 + "aa"
TEST_NETWORKS = {"btc": {"chain": "regtest"}, "ltc": {"chain": "regtest"}, "eth": {"chain": "dev"}}


def _registry(**sections: Any) -> Registry:
    sections = {"networks": TEST_NETWORKS} | sections
    environ = {
        f"CAGE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in sections.items()
    }
    return load_registry(load_settings(environ=environ))


@pytest.mark.parametrize(
    ("network", "caip2"),
    [
        ("btc", "bip122:000000000019d6689c085ae165831e93"),
        ("ltc", "bip122:12a765e31ffd4059bada1e25190f6e98"),
        ("eth", "eip155:1"),
    ],
)
def test_main_networks_have_their_registered_caip_2_ids(network: str, caip2: str) -> None:
    found = _registry(networks={network: {}}, livemode=True)
    assert found.chains[network].caip2 == caip2


def test_a_regtest_id_is_computed_from_its_genesis_block() -> None:
    assert _registry().chains["btc"].caip2 == "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"


@pytest.mark.parametrize(
    ("asset", "caip19"),
    [
        ("btc:BTC", "bip122:000000000019d6689c085ae165831e93/slip44:0"),
        ("eth:ETH", "eip155:1/slip44:60"),
        ("eth:USDT", "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"),
    ],
)
def test_assets_have_their_caip_19_ids(asset: str, caip19: str) -> None:
    assert _registry(networks={"btc": {}, "eth": {}}, livemode=True).assets[asset].caip19 == caip19


@pytest.mark.parametrize(
    ("networks", "livemode"),
    [
        ({"btc": {"chain": "main"}, "ltc": {"chain": "regtest"}}, False),
        ({"btc": {"chain": "main"}, "ltc": {"chain": "regtest"}}, True),
        ({"btc": {"chain": "regtest"}}, True),
        ({"btc": {}}, False),
    ],
)
def test_main_and_test_networks_never_mix(networks: Any, livemode: bool) -> None:
    with pytest.raises(MixedNetworks):
        _registry(networks=networks, livemode=livemode)


def test_litecoin_does_not_replace_and_bitcoin_does() -> None:
    chains = _registry().chains
    assert (chains["btc"].can_replace, chains["ltc"].can_replace) == (True, False)


@pytest.mark.parametrize(("network", "blocks"), [("btc", 144), ("ltc", 576), ("eth", 7200)])
def test_absence_limits_are_those_of_the_contract(network: str, blocks: int) -> None:
    assert _registry().chains[network].absence_blocks == blocks


@pytest.mark.parametrize(
    "networks",
    [
        {"doge": {}},
        {"btc": {"chain": "moon"}},
        {"btc": {"chain": "regtest", "family": "evm"}},
        {"btc": {"chain": "regtest", "min_depth": 9}},
    ],
)
def test_an_unknown_or_contradictory_network_is_refused(networks: Any) -> None:
    with pytest.raises(ConfigError, match=r"^networks\."):
        _registry(networks=networks)


def test_a_token_without_a_contract_on_the_chain_is_left_out() -> None:
    assert "eth:USDT" not in _registry().assets


def test_a_deployment_brings_its_own_token_contract() -> None:
    found = _registry(assets={"eth:USDT": {"contract": TOKEN}}).assets["eth:USDT"]
    assert (found.contract, found.decimals, found.is_native) == (TOKEN, 6, False)
    assert found.caip19 == f"eip155:31337/erc20:{TOKEN}"


def test_a_new_token_is_configuration_only() -> None:
    token = {"contract": TOKEN, "decimals": 18, "minimum_deposit": "2.5"}
    found = _registry(assets={"eth:DAI": token}).assets["eth:DAI"]
    assert found.minimum_deposit_minor == 25 * 10**17
    assert found.tiers == (Tier(up_to_minor=None, min_depth=3, full_depth=32),)


def test_a_new_evm_network_is_configuration_only(tmp_path: Any) -> None:
    (tmp_path / "policy.toml").write_text(
        '[fees.base]\nrate_floor = "1"\nrate_cap = "9"\nfee_per_tx_max = "1"\ncpfp_reserve = "0"\n'
    )
    found = _registry(
        networks={"base": {"family": "evm", "evm_chain_id": 8453, "native_asset": "base:ETH"}},
        assets={"base:ETH": {"decimals": 18}},
        policy_file=str(tmp_path / "policy.toml"),
        livemode=True,
    )
    assert found.chains["base"].family is Family.EVM
    assert found.chains["base"].caip2 == "eip155:8453"
    assert found.policy.fees["base"].rate_cap == 9


@pytest.mark.parametrize(
    "assets",
    [
        {"eth:USDT": {"minimum_deposit": "2"}},
        {"eth:ETH": {"contract": TOKEN}},
        {"eth:DAI": {"contract": TOKEN}},
        {"tron:USDT": {"contract": TOKEN}},
        {"btc:BTC": {"minimum_deposit": "0.000000001"}},
        {"btc:BTC": {"tiers": [{"up_to": "1", "min": 1, "full": 2}]}},
        {"btc:BTC": {"tiers": [{"min": 3, "full": 2}]}},
        {
            "btc:BTC": {
                "tiers": [
                    {"up_to": "2", "min": 1, "full": 2},
                    {"up_to": "1", "min": 1, "full": 2},
                    {"min": 1, "full": 2},
                ]
            }
        },
    ],
)
def test_a_wrong_asset_is_refused(assets: Any) -> None:
    with pytest.raises(ConfigError, match=r"^assets\."):
        _registry(assets=assets)


@pytest.mark.parametrize(
    ("amount", "full"), [("0.05", 2), ("0.05000001", 3), ("1", 3), ("1.00000001", 6)]
)
def test_a_larger_amount_waits_for_more_confirmations(amount: str, full: int) -> None:
    amount_minor = minor_units(amount, decimals=8, where="test")
    assert _registry().assets["btc:BTC"].tier(amount_minor).full_depth == full


@pytest.mark.parametrize(("text", "minor"), [("0", 0), ("1", 100), ("0.01", 1), ("12.3", 1230)])
def test_configured_amounts_become_minor_units(text: str, minor: int) -> None:
    assert minor_units(text, decimals=2, where="test") == minor


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1e2", ".5", "1.", "01", "0.001", "NaN", "\u0661"]
)
def test_a13_other_texts_are_no_amounts_and_nothing_is_rounded(text: str) -> None:
    with pytest.raises(ConfigError):
        minor_units(text, decimals=2, where="test")


def test_bands_are_in_minor_units_of_their_asset() -> None:
    band = {"min": "1", "target": "2", "max": "3.5"}
    found = _registry(wallets={"btc:BTC": band}).policy.treasury.bands[WalletRole.HOT, "btc:BTC"]
    assert (found.min_minor, found.target_minor, found.max_minor) == (10**8, 2 * 10**8, 35 * 10**7)


@pytest.mark.parametrize(
    "wallets",
    [
        {"btc:BTC": {"min": "3", "target": "2", "max": "4"}},
        {"eth:USDT": {"min": "1", "target": "2", "max": "4"}},
    ],
)
def test_an_impossible_band_is_refused(wallets: Any) -> None:
    with pytest.raises(ConfigError, match=r"^wallets\."):
        _registry(wallets=wallets)


def test_promises_and_targets_are_those_of_the_contract() -> None:
    classes = _registry().policy.classes
    rows = {
        name: (row.promise_seconds, *row.inclusion_blocks.values()) for name, row in classes.items()
    }
    assert rows == {"urgent": (120, 2, 5), "normal": (900, 6, 20), "economy": (7200, 36, 100)}


def test_a_fee_rate_is_clamped_between_floor_and_cap() -> None:
    fees = _registry().policy.fees["btc"]
    assert [fees.clamp(rate) for rate in (0, 1, 50, 300, 9999)] == [1, 1, 50, 300, 300]


@pytest.mark.parametrize(
    "text", ["[fees.btc]\nrate_floor = 1", "[limits]\nx = 1", "nonsense", "[fees.btc]\nzzz = '1'"]
)
def test_a_wrong_policy_file_is_refused(tmp_path: Any, text: str) -> None:
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(ConfigError, match="policy"):
        _registry(policy_file=str(tmp_path / "policy.toml"))


def test_assets_of_a_network_start_with_its_coin() -> None:
    found = _registry(assets={"eth:USDT": {"contract": TOKEN}, "eth:AAA": {"enabled": False}})
    assert [asset.id for asset in found.assets_of("eth")] == ["eth:ETH", "eth:USDT"]


STETH = "0xae7ab96520DE3A18E5e111B5EaAb095312D7fE84"
OTHER = "0x" + "00" * 19 + "bb"


@pytest.mark.parametrize(
    ("assets", "words"),
    [
        ({"eth:REB": {"contract": OTHER, "decimals": 9, "rebasing": True}}, "rebasing"),
        ({"eth:USDT": {"contract": TOKEN, "native_mirror": OTHER}}, "native_mirror"),
    ],
)
def test_d40_d61_a_token_that_cannot_be_counted_is_refused(assets: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _registry(assets=assets)


def test_d40_a_token_known_to_rebase_is_refused_without_a_flag() -> None:
    main = {"eth": {"chain": "main"}}
    with pytest.raises(ConfigError, match="rebasing"):
        _registry(
            networks=main, livemode=True, assets={"eth:STETH": {"contract": STETH, "decimals": 18}}
        )


@pytest.mark.parametrize(
    "assets",
    [
        {"eth:AAA": {"contract": TOKEN, "decimals": 6}, "eth:BBB": {"contract": TOKEN.upper()}},
        {"eth:ETH": {"native_mirror": TOKEN}, "eth:AAA": {"contract": TOKEN, "decimals": 6}},
    ],
)
def test_d61_one_contract_is_never_two_assets(assets: Any) -> None:
    for item in assets.values():
        item.setdefault("decimals", 18)
        if "contract" in item:
            item["contract"] = item["contract"].replace("0X", "0x")
    with pytest.raises(ConfigError, match="its contract is that of"):
        _registry(assets=assets)


def test_d39_d61_tokens_with_a_fee_and_the_face_of_the_coin_are_flags() -> None:
    assets = {
        "eth:ETH": {"native_mirror": OTHER.upper().replace("0X", "0x")},
        "eth:FEE": {"contract": TOKEN, "decimals": 6, "fee_on_transfer": True},
    }
    found = _registry(assets=assets).assets
    assert found["eth:ETH"].native_mirror == OTHER
    assert (found["eth:FEE"].has_transfer_fee, found["eth:ETH"].has_transfer_fee) == (True, False)
    off = _registry(networks={"eth": {"chain": "dev", "traces": "off"}}).chains["eth"]
    assert (off.traces, _registry().chains["eth"].traces) == ("off", "auto")


def test_the_value_that_one_step_may_reverse_is_per_network(tmp_path: Any) -> None:
    """Ours are in asset units; the operator's file adds one in the reference currency."""
    (tmp_path / "policy.toml").write_text(
        '[deposits_reversed_value_max.btc]\nreference = "2500.5"\n'
        '[deposits_reversed_value_max.ltc.assets]\n"ltc:LTC" = "0"\n'
    )
    found = _registry(policy_file=str(tmp_path / "policy.toml")).policy.reversed_value_max
    assert found["btc"].reference_minor == 250_050
    assert found["btc"].assets_minor == {"btc:BTC": 500_000_000}
    assert (found["ltc"].reference_minor, found["ltc"].assets_minor) == (None, {"ltc:LTC": 0})


def test_our_value_limit_of_an_asset_that_is_not_enabled_is_left_out() -> None:
    found = _registry(assets={"eth:USDT": {"enabled": False}}).policy.reversed_value_max
    assert set(found["eth"].assets_minor) == {"eth:ETH"}


@pytest.mark.parametrize(
    "text",
    [
        '[deposits_reversed_value_max.btc.assets]\n"btc:BTX" = "1"',
        '[deposits_reversed_value_max.btc.assets]\n"ltc:LTC" = "1"',
        '[deposits_reversed_value_max.btc.assets]\n"btc:BTC" = "0.000000001"',
        '[deposits_reversed_value_max.btc]\nreference = "0.001"',
        "[deposits_reversed_value_max.btc]\nreference = 5",
        '[deposits_reversed_value_max.btc]\nper_step = "5"',
        '[deposits_reversed_value_max.dogecoin]\nreference = "5"',
    ],
)
def test_a_wrong_value_limit_is_refused(tmp_path: Any, text: str) -> None:
    """A limit that would bind nothing is not silently kept."""
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(ConfigError, match="deposits_reversed_value_max"):
        _registry(policy_file=str(tmp_path / "policy.toml"))
