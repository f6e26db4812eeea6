"""The key file opens only whole, private and with its passphrase; keys never show themselves."""

import base64
import json
import os
import pickle
from pathlib import Path

import pytest
from coincurve import PublicKey
from embit import bip32

from signer import keyring as keys
from signer.errors import KeyringError
from signer.files import write_private
from signer.keyring import keyring_from_entropy, open_keyring, read_passphrase, seal, unseal
from signer.paths import parse_path
from signer.pool import PoolVerifier
from signer.protocol import PoolRow
from signer.settings import load_settings
from tests.support.vault import TEST_ENTROPY, CountingRandomness, new_folder

PASSPHRASE = b"a public test passphrase"
# The seed of the same words, from the BIP-39 vectors (TREZOR's list, empty passphrase variant).
TREZOR_WORDS = "abandon " * 23 + "art"


def sealed(*, is_test: bool = True, is_cheap: bool = True) -> bytes:
    """The envelope of the public entropy."""
    return seal(
        TEST_ENTROPY,
        PASSPHRASE,
        randomness=CountingRandomness(),
        is_test=is_test,
        is_cheap=is_cheap,
    )


def test_s12_envelope_opens_with_its_passphrase_and_holds_no_plain_secret() -> None:
    envelope = sealed()
    assert unseal(envelope, PASSPHRASE, is_test=True) == TEST_ENTROPY
    for secret in (TEST_ENTROPY, TREZOR_WORDS.encode(), b"abandon", TEST_ENTROPY.hex().encode()):
        assert secret not in envelope
        assert base64.b64encode(secret) not in envelope


def test_s12_wrong_passphrase_is_a_clear_failure() -> None:
    with pytest.raises(KeyringError, match="wrong passphrase or altered"):
        unseal(sealed(), b"another passphrase", is_test=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fingerprint", "00000000"),
        ("memory_kib", 8_193),
        ("time_cost", 2),
        ("parallelism", 2),
        ("salt", base64.b64encode(bytes(16)).decode()),
        ("nonce", base64.b64encode(bytes(12)).decode()),
        ("ciphertext", base64.b64encode(bytes(48)).decode()),
    ],
)
def test_s12_any_altered_field_is_seen(field: str, value: object) -> None:
    raw = json.loads(sealed())
    raw[field] = value
    with pytest.raises(KeyringError, match="wrong passphrase or altered"):
        unseal(json.dumps(raw).encode(), PASSPHRASE, is_test=True)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kdf": "scrypt"},
        {"cipher": "none"},
        {"memory_kib": 2**40},
        {"memory_kib": 8},
        {"time_cost": 0},
        {"time_cost": True},
        {"parallelism": 65},
        {"salt": "AA=="},
        {"salt": "?"},
        {"more": 1},
        {"is_test": False},
    ],
)
def test_s12_envelope_of_another_form_is_refused(change: dict[str, object]) -> None:
    raw = {**json.loads(sealed()), **change}
    with pytest.raises(KeyringError):
        unseal(json.dumps(raw).encode(), PASSPHRASE, is_test=True)


def test_s12_text_that_is_no_envelope_is_refused() -> None:
    with pytest.raises(KeyringError, match="not an envelope"):
        unseal(b"hello", PASSPHRASE, is_test=True)


@pytest.mark.slow
def test_s12_default_cost_is_256_mib_three_passes_and_cheap_is_for_test_networks() -> None:
    envelope = sealed(is_test=False, is_cheap=False)
    raw = json.loads(envelope)
    assert (raw["kdf"], raw["memory_kib"], raw["time_cost"]) == ("argon2id", 262_144, 3)
    assert unseal(envelope, PASSPHRASE, is_test=False) == TEST_ENTROPY
    with pytest.raises(KeyringError, match="test networks only"):
        sealed(is_test=False, is_cheap=True)


def test_s12_cheap_file_relabelled_as_main_is_refused_before_it_is_stretched() -> None:
    raw = {**json.loads(sealed()), "is_test": False}
    with pytest.raises(KeyringError, match="too cheap"):
        unseal(json.dumps(raw).encode(), PASSPHRASE, is_test=False)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_s12_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keyring.json"
    write_private(path, sealed())
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(mode)
    with pytest.raises(KeyringError, match="mode 0600"):
        open_keyring(path, PASSPHRASE, is_test=True)


def test_key_file_behind_a_link_or_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    write_private(path, sealed())
    link = tmp_path / "link.json"
    link.symlink_to(path)
    for wrong in (link, tmp_path / "none.json", tmp_path):
        with pytest.raises(KeyringError):
            open_keyring(wrong, PASSPHRASE, is_test=True)
    assert open_keyring(path, PASSPHRASE, is_test=True).fingerprint == "5436d724"


def test_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    write_private(path, b"x")
    with pytest.raises(KeyringError, match="cannot be written"):
        keys.write_keyring(path, sealed())


def test_passphrase_comes_from_a_private_file_or_a_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    write_private(path, PASSPHRASE + b"\n")
    assert read_passphrase(path) == PASSPHRASE
    assert read_passphrase(os.open(path, os.O_RDONLY)) == PASSPHRASE
    path.chmod(0o644)
    with pytest.raises(KeyringError, match="mode 0600"):
        read_passphrase(path)


def test_short_passphrase_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    write_private(path, b"short\n")
    with pytest.raises(KeyringError, match="shorter"):
        read_passphrase(path)


def test_s13_representations_show_a_fingerprint_only(tmp_path: Path) -> None:
    ring = keyring_from_entropy(TEST_ENTROPY)
    assert repr(ring) == str(ring) == "Keyring(fingerprint=5436d724)"
    assert repr(PoolVerifier(ring)) == "PoolVerifier()"
    with pytest.raises(TypeError):
        pickle.dumps(ring)


def test_keys_are_those_of_the_public_vectors() -> None:
    """BIP-39: the seed of 32 zero bytes; its BIP-32 root, compared through embit's own parser."""
    ring = keyring_from_entropy(TEST_ENTROPY)
    seed = ring.seed_for_second_derivation().hex()
    assert seed.startswith("408b285c123836004f4b8842c89324c1f01382450c0d439af345ba7fc49acf70")


def test_xpub_of_an_account_derives_the_same_public_keys(tmp_path: Path) -> None:
    settings = load_settings(new_folder(tmp_path), own_uid=0)
    ring = keyring_from_entropy(TEST_ENTROPY)
    for name, path, prefix in (
        ("btc", "m/84h/1h/2h/0/9", "tpub"),
        ("ltc", "m/84h/1h/2h/0/9", "tpub"),
        ("eth", "m/44h/60h/2h/0/9", "xpub"),
    ):
        network = settings.networks[name]
        xpub = ring.account_xpub(network, 2)
        assert xpub.startswith(prefix)
        child = bip32.HDKey.from_string(xpub).derive([0, 9])
        assert child.sec() == ring.public_key(parse_path(path, network))


def test_hdwallet_and_embit_agree_on_every_kind_of_path(tmp_path: Path) -> None:
    """Two independent derivations, 60 rows; a wrong row is seen wherever it is wrong."""
    settings = load_settings(new_folder(tmp_path), own_uid=0)
    ring = keyring_from_entropy(TEST_ENTROPY)
    pool = PoolVerifier(ring)
    for name, head in (("btc", "m/84h/1h"), ("ltc", "m/84h/1h"), ("eth", "m/44h/60h")):
        network = settings.networks[name]
        tails = [f"{a}h/{c}/{i}" for a, c in ((0, 0), (0, 1), (1, 0), (7, 0)) for i in range(5)]
        rows = [
            PoolRow(
                path=f"{head}/{tail}",
                address=ring.address(parse_path(f"{head}/{tail}", network), network),
            )
            for tail in tails
        ]
        assert pool.agree(network, rows) == (True,) * 20
        wrong = [
            PoolRow(path=rows[0].path, address=rows[1].address),
            PoolRow(path=rows[0].path, address=rows[0].address.upper()),
            PoolRow(path=f"{head}/1h/1/0", address=rows[0].address),
            PoolRow(path="", address=rows[0].address),
        ]
        assert pool.agree(network, wrong) == (False,) * 4


def test_s19_signatures_are_deterministic_low_s_distinct_and_verified(tmp_path: Path) -> None:
    """Some hundred digests on both signature forms."""
    network = load_settings(new_folder(tmp_path), own_uid=0).networks["btc"]
    path = parse_path("m/84h/1h/0h/0/0", network)
    ring = keyring_from_entropy(TEST_ENTROPY)
    key = PublicKey(ring.public_key(path))
    half = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 // 2
    seen = set()
    for number in range(400):
        digest = number.to_bytes(32, "big")
        parity, r, s = ring.sign_recoverable(path, digest)
        signature = ring.sign_ecdsa([(path, digest)])[0]
        assert key.verify(signature, digest, hasher=None)
        assert s <= half
        assert parity in (0, 1)
        seen.add(r)
        assert ring.sign_recoverable(path, digest) == (parity, r, s)
        assert ring.sign_ecdsa([(path, digest)]) == [signature]
        assert r == int.from_bytes(signature[4 : 4 + signature[3]], "big")
    assert len(seen) == 400
