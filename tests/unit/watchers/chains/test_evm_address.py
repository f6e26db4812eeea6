"""A14, A18, A19: which texts are EVM addresses, and what we derive ourselves."""

import pytest
from embit import bip32, bip39

from tests.unit.watchers.chains.support import evm_network, vectors
from watchers.chains.evm.address import EvmAddressCodec
from watchers.errors import InvalidAddress

VECTORS = vectors("evm/addresses.json")
TOKEN = "0x" + "ab" * 20
CODEC = EvmAddressCodec(evm_network(token=TOKEN))
MIXED = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.mark.parametrize("text", VECTORS["checksummed"])
def test_a14_vectors_are_accepted_in_three_spellings(text: str) -> None:
    for spelling in (text, text.lower(), "0x" + text[2:].upper()):
        found = CODEC.parse(spelling)
        assert found.address == text or text == text.lower()
        assert found.key == text.lower()


@pytest.mark.parametrize("position", [i for i, c in enumerate(MIXED) if c.isalpha() and i > 1])
def test_a14_one_letter_in_the_wrong_case_is_refused(position: int) -> None:
    wrong = MIXED[:position] + MIXED[position].swapcase() + MIXED[position + 1 :]
    with pytest.raises(InvalidAddress, match="EIP-55"):
        CODEC.parse(wrong)


@pytest.mark.parametrize("number", range(0x12))
def test_a18_zero_and_precompiles_are_refused(number: int) -> None:
    with pytest.raises(InvalidAddress, match="precompile"):
        CODEC.parse("0x" + f"{number:040x}")


def test_a18_the_contract_of_a_listed_token_is_refused() -> None:
    with pytest.raises(InvalidAddress, match="token"):
        CODEC.parse(TOKEN)


def test_the_first_address_after_the_precompiles_is_accepted() -> None:
    assert CODEC.parse("0x" + f"{0x12:040x}").key.endswith("12")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        MIXED[2:],
        "0X" + MIXED[2:],
        MIXED + "0",
        MIXED[:-1],
        " " + MIXED,
        MIXED + " ",
        MIXED + "\n",
        MIXED + "\x00",
        MIXED[:-1] + "g",
        MIXED[:-1] + "\uff10",
        MIXED[:-1] + "\u0664",  # an Arabic digit
        "\u200b" + MIXED,
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "ethereum:" + MIXED,
    ],
)
def test_a19_strange_texts_are_refused_and_never_trimmed(text: str) -> None:
    with pytest.raises(InvalidAddress):
        CODEC.parse(text)


@pytest.mark.parametrize(("index", "address"), list(enumerate(VECTORS["junk_phrase_accounts"])))
def test_bip44_accounts_are_derived(index: int, address: str) -> None:
    """The xpub of m/44h/60h/0h of the public dev phrase (BIP 39 seed without passphrase)."""
    found = CODEC.derive(xpub=_xpub(), account=0, chain=0, index=index)
    assert found.address == address
    assert found.key == address.lower()
    assert found.path == f"m/44h/60h/0h/0/{index}"
    assert found.scheme == "eoa"


def _xpub() -> str:
    phrase = " ".join(["test"] * 11 + ["junk"])
    root = bip32.HDKey.from_seed(bip39.mnemonic_to_seed(phrase))
    return str(root.derive("m/44h/60h/0h").to_public().to_base58())


def test_uri_is_the_plain_address() -> None:
    assert CODEC.uri(MIXED) == MIXED
