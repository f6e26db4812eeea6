"""A15-A19: which texts are addresses of a Bitcoin-family network, and what we derive ourselves."""

import pytest
from embit import base58, bech32, bip32
from embit.networks import NETWORKS

from tests.unit.watchers.chains.support import bitcoin_network, vectors
from watchers.chains.bitcoin.address import BitcoinAddressCodec
from watchers.errors import InvalidAddress

VECTORS = vectors("bitcoin/segwit_addresses.json")
MAIN = BitcoinAddressCodec(bitcoin_network("btc", "main"))
SIGNET = BitcoinAddressCodec(bitcoin_network("btc", "signet"))
LITECOIN = BitcoinAddressCodec(bitcoin_network("ltc", "main"))
REGTEST = BitcoinAddressCodec(bitcoin_network("btc", "regtest"))

PROGRAM = "751e76e8199196d454941c45d1b3a323f1433bd6"
P2WPKH = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"


def _base58(version: int, digest: str = PROGRAM) -> str:
    return str(base58.encode_check(bytes([version]) + bytes.fromhex(digest)))


@pytest.mark.parametrize(("text", "key"), VECTORS["valid_mainnet"])
def test_a17_valid_segwit_addresses_give_their_script(text: str, key: str) -> None:
    found = MAIN.parse(text)
    assert found.key == key
    assert found.address == text.lower()


@pytest.mark.parametrize(("text", "key"), VECTORS["valid_testnet"])
def test_a17_valid_test_network_addresses_give_their_script(text: str, key: str) -> None:
    assert SIGNET.parse(text).key == key


@pytest.mark.parametrize("text", VECTORS["invalid"])
def test_a17_invalid_vectors_are_refused_everywhere(text: str) -> None:
    for codec in (MAIN, SIGNET, LITECOIN, REGTEST):
        with pytest.raises(InvalidAddress):
            codec.parse(text)


@pytest.mark.parametrize("version", range(2, 17))
def test_a17_witness_versions_nobody_can_spend_are_refused(version: int) -> None:
    text = bech32.encode("bc", version, [7] * 32)
    with pytest.raises(InvalidAddress, match="not in use"):
        MAIN.parse(text)


@pytest.mark.parametrize(("version", "encoding"), [(0, 2), (1, 1)])
def test_a17_the_other_checksum_kind_is_refused(version: int, encoding: int) -> None:
    data = [version, *bech32.convertbits([7] * 32, 8, 5)]
    with pytest.raises(InvalidAddress):
        MAIN.parse(bech32.bech32_encode(encoding, "bc", data))


def test_a17_mixed_case_is_refused() -> None:
    with pytest.raises(InvalidAddress, match="mixed case"):
        MAIN.parse("bc1qW508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")


@pytest.mark.parametrize(
    ("codec", "hrp"),
    [(MAIN, "tb"), (MAIN, "ltc"), (MAIN, "bcrt"), (LITECOIN, "bc"), (REGTEST, "rltc")],
)
@pytest.mark.parametrize("version", [0, 1])
def test_a15_addresses_of_other_networks_are_refused_with_the_right_start(
    codec: BitcoinAddressCodec, hrp: str, version: int
) -> None:
    text = bech32.encode(hrp, version, [7] * 32)
    with pytest.raises(InvalidAddress) as refused:
        codec.parse(text)
    assert "another network" in refused.value.reason
    assert refused.value.remedy.startswith("send an address that starts with")


@pytest.mark.parametrize(
    ("codec", "version", "script"),
    [
        (MAIN, 0x00, f"76a914{PROGRAM}88ac"),
        (MAIN, 0x05, f"a914{PROGRAM}87"),
        (LITECOIN, 0x30, f"76a914{PROGRAM}88ac"),
        (LITECOIN, 0x32, f"a914{PROGRAM}87"),
        (REGTEST, 0x6F, f"76a914{PROGRAM}88ac"),
        (REGTEST, 0xC4, f"a914{PROGRAM}87"),
    ],
)
def test_base58_addresses_give_their_script(
    codec: BitcoinAddressCodec, version: int, script: str
) -> None:
    assert codec.parse(_base58(version)).key == script


@pytest.mark.parametrize(
    ("codec", "version"),
    [(MAIN, 0x30), (MAIN, 0x32), (MAIN, 0x6F), (MAIN, 0xC4), (LITECOIN, 0x00), (REGTEST, 0x00)],
)
def test_a15_base58_of_other_networks_is_refused(codec: BitcoinAddressCodec, version: int) -> None:
    with pytest.raises(InvalidAddress):
        codec.parse(_base58(version))


def test_a16_litecoin_three_addresses_are_refused_with_a_hint() -> None:
    text = _base58(0x05)
    assert text.startswith("3")
    with pytest.raises(InvalidAddress) as refused:
        LITECOIN.parse(text)
    assert "M..." in refused.value.remedy


def test_a16_litecoin_m_addresses_are_accepted() -> None:
    text = _base58(0x32)
    assert text.startswith("M")
    assert LITECOIN.parse(text).address == text


@pytest.mark.parametrize("hrp", ["ltcmweb", "tmweb"])
def test_a16_mweb_addresses_are_refused_by_name(hrp: str) -> None:
    for text in (hrp + "1" + "q" * 100, (hrp + "1" + "q" * 100).upper()):
        with pytest.raises(InvalidAddress, match="MWEB"):
            LITECOIN.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " " + P2WPKH,
        P2WPKH + " ",
        P2WPKH + "\n",
        P2WPKH + "\x00",
        P2WPKH[:10] + "\u200b" + P2WPKH[10:],
        "\u202e" + P2WPKH,
        P2WPKH.replace("c", "\u0441"),  # Cyrillic es
        P2WPKH.replace("0", "\uff10"),  # full-width zero
        "bitcoin:" + P2WPKH,
        "O" * 34,
        "1" * 34,
        "x" * 5000,
    ],
)
def test_a19_strange_texts_are_refused_and_never_trimmed(text: str) -> None:
    with pytest.raises(InvalidAddress):
        MAIN.parse(text)


def test_a_wrong_base58_digit_is_refused() -> None:
    text = _base58(0x00)
    with pytest.raises(InvalidAddress, match="checksum"):
        MAIN.parse(text[:-1] + ("2" if text[-1] != "2" else "3"))


def _xpub(version: str = "xpub") -> str:
    key = bip32.HDKey.from_base58(VECTORS["bip84"]["zpub"])
    return str(key.to_base58(version=NETWORKS["main"][version]))


@pytest.mark.parametrize(("chain", "index", "address"), VECTORS["bip84"]["addresses"])
def test_bip84_vectors_are_derived(chain: int, index: int, address: str) -> None:
    found = MAIN.derive(xpub=_xpub(), account=0, chain=chain, index=index)
    assert found.address == address
    assert found.path == f"m/84h/0h/0h/{chain}/{index}"
    assert found.scheme == "p2wpkh"
    assert MAIN.parse(found.address).key == found.key


def test_derived_address_belongs_to_its_network() -> None:
    found = LITECOIN.derive(xpub=_xpub(), account=0, chain=0, index=0)
    assert found.address.startswith("ltc1q")
    assert found.path == "m/84h/2h/0h/0/0"


@pytest.mark.parametrize(
    ("xpub", "account", "chain", "index"),
    [
        ("", 0, 0, 0),
        ("xpub" + "1" * 107, 0, 0, 0),
        (str(base58.encode_check(base58.decode_check(_xpub())[:40])), 0, 0, 0),
        (VECTORS["bip84"]["zpub"], 0, 0, 0),  # another version: a network we do not serve
        (_xpub(), 1, 0, 0),
        (_xpub(), 0, -1, 0),
        (_xpub(), 0, 0, 2**31),
    ],
)
def test_keys_that_do_not_fit_are_refused(xpub: str, account: int, chain: int, index: int) -> None:
    with pytest.raises(InvalidAddress):
        MAIN.derive(xpub=xpub, account=account, chain=chain, index=index)


def test_a_private_key_is_refused() -> None:
    """BIP 32 test vector 1: public, worthless."""
    root = bip32.HDKey.from_seed(bytes.fromhex("000102030405060708090a0b0c0d0e0f"))
    text = root.derive("m/84h/0h/0h").to_base58()
    with pytest.raises(InvalidAddress, match="private"):
        MAIN.derive(xpub=text, account=0, chain=0, index=0)


def test_uri_is_bip21_without_an_amount() -> None:
    assert MAIN.uri(P2WPKH) == f"bitcoin:{P2WPKH}"
    assert LITECOIN.uri("ltc1q") == "litecoin:ltc1q"
