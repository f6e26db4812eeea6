"""The signer's own parsers of paths and addresses: vectors of BIP-173, BIP-350 and EIP-55."""

from pathlib import Path

import pytest

from signer.errors import ConfigurationError, Refused
from signer.paths import Role, parse_path
from signer.schemes.address import bitcoin_script, evm_address
from signer.settings import Settings, load_settings
from tests.support.vault import SIGNER_TOML, new_folder

BITCOIN_VERSIONS = "p2pkh_versions = [0]\np2sh_versions = [5]\n"
MAIN_TOML = (
    SIGNER_TOML.replace("test = true", "test = false")
    .replace('hrp = "bcrt"', 'hrp = "bc"')
    .replace(
        "p2pkh_versions = [111]\np2sh_versions = [196]\n",
        "p2pkh_versions = [0]\np2sh_versions = [5]\n",
    )
    .replace('hrp = "rltc"', 'hrp = "ltc"')
    .replace("p2pkh_versions = [111]", "p2pkh_versions = [48]")
    .replace("p2sh_versions = [196, 58]", "p2sh_versions = [50, 5]")
    .replace("coin_type = 1", "coin_type = 0", 1)
    .replace("coin_type = 1", "coin_type = 2", 1)
)


@pytest.fixture
def main(tmp_path: Path) -> Settings:
    """Main networks, as far as parsing goes."""
    (tmp_path / "signer.toml").write_text(MAIN_TOML, "utf-8")
    return load_settings(tmp_path, own_uid=0)


@pytest.mark.parametrize(
    ("network", "address", "script"),
    [
        (
            "btc",
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        (
            "btc",
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        ),
        (
            "btc",
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac",
        ),
        (
            "btc",
            "3P14159f73E4gFr7JterCCQh9QjiTjiZrG",
            "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87",
        ),
    ],
)
def test_addresses_of_every_kind_become_their_scripts(
    main: Settings, network: str, address: str, script: str
) -> None:
    assert bitcoin_script(address, main.networks[network]).hex() == script


@pytest.mark.parametrize(
    "address",
    [
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",
        "tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut",
        "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
        "BC1SW50QGDZ25J",
        "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",
        "bc1gmk9yu",
        "bc1Qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf0a",
        "LM2WMpR1Rp6j3Sa59cMXMs1SPzj9eXpGc1",
        "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
        "",
        "bc1",
        "11111111111111112UzHM",
        " bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    ],
)
def test_address_with_wrong_checksum_kind_network_or_form_is_refused(
    main: Settings, address: str
) -> None:
    with pytest.raises(Refused, match="bad_order"):
        bitcoin_script(address, main.networks["btc"])


def test_litecoin_takes_its_own_versions_only(main: Settings) -> None:
    ltc = main.networks["ltc"]
    assert bitcoin_script("LM2WMpR1Rp6j3Sa59cMXMs1SPzj9eXpGc1", ltc)[:3] == b"\x76\xa9\x14"
    for wrong in (
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "ltcmweb1qqw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6q",
    ):
        with pytest.raises(Refused, match="bad_order"):
            bitcoin_script(wrong, ltc)


def test_evm_addresses_of_eip_55_are_taken_with_the_right_checksum_only() -> None:
    right = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    assert evm_address(right) == evm_address(right.lower()) == bytes.fromhex(right[2:])
    for wrong in (
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1Beaed",
        "0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        right[:-1],
        right + "0",
        right[2:],
        "0x" + "0" * 40,
        "0x" + "\u0661" * 40,
    ):
        with pytest.raises(Refused, match="bad_order"):
            evm_address(wrong)


@pytest.mark.parametrize(
    ("network", "path", "role"),
    [
        ("btc", "m/84h/0h/0h/0/0", Role.HOT),
        ("btc", "m/84'/0'/0'/1/5", Role.CHANGE),
        ("btc", "m/84h/0h/1h/0/2147483647", Role.DEPOSIT),
        ("ltc", "m/84h/2h/0h/0/0", Role.HOT),
        ("eth", "m/44h/60h/0h/0/0", Role.HOT),
        ("eth", "m/44h/60h/0h/1/0", Role.GAS),
        ("eth", "m/44h/60h/9h/0/0", Role.DEPOSIT),
    ],
)
def test_paths_of_the_house_have_a_role(
    main: Settings, network: str, path: str, role: Role
) -> None:
    parsed = parse_path(path, main.networks[network])
    assert (parsed.role, parsed.text) == (role, path.replace("'", "h"))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "m",
        "m/84h/0h/0h",
        "m/84h/0h/0h/0",
        "m/84h/0h/0h/0/0/0",
        "m/84/0h/0h/0/0",
        "m/84h/0h/0h/0h/0",
        "m/84h/0h/0h/0/0h",
        "m/84h/0h/0h/2/0",
        "m/84h/0h/1h/1/0",
        "m/84h/2h/0h/0/0",
        "m/44h/0h/0h/0/0",
        "m/49h/0h/0h/0/0",
        "M/84h/0h/0h/0/0",
        "84h/0h/0h/0/0",
        "m/84h/0h/0h/0/00",
        "m/84h/0h/0h/0/-1",
        "m/84h/0h/0h/0/2147483648",
        "m/84h/0h/2147483648h/0/0",
        "m/84h/0h/0h/0/\u0661",
        "m/84h/0h/0h/0/0\n",
    ],
)
def test_every_other_path_is_refused(main: Settings, path: str) -> None:
    with pytest.raises(Refused, match="bad_path"):
        parse_path(path, main.networks["btc"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("decimals = 8", "decimals = 8\nfoo = 1", "unknown key 'foo'"),
        ("decimals = 8", "", "decimals: is missing"),
        ("decimals = 8", 'decimals = "x"', "an integer"),
        ("decimals = 8", "decimals = -1", "an integer"),
        ("decimals = 8", "decimals = true", "an integer"),
        ("test = true", "test = 1", "true or false"),
        ("test = true", "test = false", "main and test"),
        ('family = "evm"', 'family = "solana"', "bitcoin or evm"),
        ('authorities = ["cage.test:8080"]', "authorities = [1]", "a list of strings"),
        ('authorities = ["cage.test:8080"]', "authorities = []", "at least one"),
        ("[196]", "196", "a list of integers"),
        ('anchor = "../anchor/anchor.json"', 'anchor = "a.json"', "another directory"),
        ('anchor = "../anchor/anchor.json"', "anchor = 1", "a string"),
        ("[networks.btc]", "[networks.BTC]", "a network name"),
        ('contract = "0x', 'contract = "0y', "40 hex"),
        ('contract = "0x', 'contract2 = "0x', "unknown key"),
        ("[signer]", "[signers]", "is missing"),
        ("[networks.btc.assets.BTC]", "[networks.btc.assets2.BTC]", "assets: is missing"),
        ("fee_rate_max = 200", "fee_rate_max = 200\nassets = 1", "signer.toml"),
        ("[signer]", "[signer", "signer.toml"),
    ],
)
def test_wrong_setting_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = new_folder(tmp_path)
    text = SIGNER_TOML.replace(old, new, 1)
    (folder / "signer.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=message):
        load_settings(folder, own_uid=0)


def test_two_natives_or_none_are_refused(tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    contract = 'contract = "0x5FbDB2315678afecb367f032d93F642f64180aa3"\n'
    (folder / "signer.toml").write_text(SIGNER_TOML.replace(contract, ""), "utf-8")
    with pytest.raises(ConfigurationError, match="exactly one native"):
        load_settings(folder, own_uid=0)


def test_missing_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path, own_uid=0)


def test_main_networks_that_share_keys_are_refused(tmp_path: Path) -> None:
    """Two UTXO networks with one coin type have the same keys: coins of one could pay the other."""
    (tmp_path / "signer.toml").write_text(MAIN_TOML.replace("coin_type = 2", "coin_type = 0"))
    with pytest.raises(ConfigurationError, match="share a coin type"):
        load_settings(tmp_path, own_uid=0)
