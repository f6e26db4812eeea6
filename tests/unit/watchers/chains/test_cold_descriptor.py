"""Descriptors of cold wallets: what is accepted, what is derived, and what is refused by name."""

from hashlib import sha256

import pytest
from embit.descriptor.checksum import add_checksum

from tests.support.cold import ALONE, TWO_OF_THREE, ColdPeople
from tests.unit.watchers.chains.support import bitcoin_network
from watchers.chains.bitcoin.descriptor import ColdDescriptor
from watchers.errors import InvalidAddress

PARAMS = bitcoin_network("btc", "regtest")
HARD = 1 << 31


def test_a_single_key_gives_the_addresses_of_bip_84() -> None:
    wallet = ColdDescriptor(ALONE.text(), PARAMS)
    key = ALONE.root(0).derive("m/84h/1h/0h/1/7").to_public().key
    place = wallet.script(1, 7)
    assert place.scheme == "p2wpkh"
    assert place.origins[0].public_key == key.sec()
    assert place.origins[0].fingerprint.hex() == ALONE.fingerprint(0)
    assert place.origins[0].path == (84 + HARD, 1 + HARD, HARD, 1, 7)
    assert place.address.startswith("bcrt1q")


def test_a_multisig_script_holds_its_keys_in_the_order_of_bip_67() -> None:
    wallet = ColdDescriptor(TWO_OF_THREE.text(), PARAMS)
    place = wallet.script(0, 3)
    publics = sorted(origin.public_key for origin in place.origins)
    assert place.witness_script == b"\x52" + b"".join(b"\x21" + k for k in publics) + b"\x53\xae"
    assert place.key == "0020" + sha256(place.witness_script).hexdigest()
    assert (wallet.threshold, wallet.keys_count) == (2, 3)


def test_branches_and_indexes_are_other_addresses() -> None:
    wallet = ColdDescriptor(TWO_OF_THREE.text(), PARAMS)
    places = [wallet.derive(branch=branch, index=index) for branch in (0, 1) for index in range(3)]
    assert len({place.key for place in places}) == 6


@pytest.mark.parametrize("text", [ALONE.text(), TWO_OF_THREE.text()])
def test_every_changed_character_is_refused(text: str) -> None:
    """The checksum of BIP 380 finds every single change."""
    for at in range(0, len(text), 7):
        other = "0" if text[at] != "0" else "1"
        with pytest.raises(InvalidAddress):
            ColdDescriptor(text[:at] + other + text[at + 1 :], PARAMS)


def test_a_private_key_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidAddress, match="private key") as caught:
        ColdDescriptor(ALONE.text(private=0), PARAMS)
    assert "prv" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (ALONE.text().partition("#")[0], "without a checksum"),
        (ALONE.text(suffix="/0/*"), "not wpkh"),
        (add_checksum("tr" + ALONE.text().partition("#")[0][4:]), "not wpkh"),
        (add_checksum(f"sh({ALONE.text().partition('#')[0]})"), "not wpkh"),
        (add_checksum(TWO_OF_THREE.text().partition("#")[0].replace("sorted", "")), "not wpkh"),
        (ColdPeople(threshold=4, count=3).text(), "4 of 3 keys"),
    ],
)
def test_other_shapes_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidAddress, match=reason):
        ColdDescriptor(text, PARAMS)


def test_one_key_twice_is_refused() -> None:
    body = TWO_OF_THREE.text().partition("#")[0]
    keys = body[len("wsh(sortedmulti(2,") : -2].split(",")
    with pytest.raises(InvalidAddress, match="twice"):
        ColdDescriptor(
            add_checksum(f"wsh(sortedmulti(2,{keys[0]},{keys[1]},{keys[0]}))"), params=PARAMS
        )


def test_a_key_of_another_network_is_refused() -> None:
    with pytest.raises(InvalidAddress, match="another network"):
        ColdDescriptor(ALONE.text(), bitcoin_network("btc", "main"))


def test_an_origin_that_is_not_the_keys_own_is_refused() -> None:
    body = ALONE.text().partition("#")[0].replace("/84h/1h/0h]", "/84h/1h/1h]")
    with pytest.raises(InvalidAddress, match="origin"):
        ColdDescriptor(add_checksum(body), PARAMS)
