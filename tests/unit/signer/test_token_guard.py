"""What no software token shows: locked PINs, failures of the module, and the guard's own rules."""

import base64
import hashlib
import io
import json
import os
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from pkcs11 import TokenFlag
from pkcs11 import exceptions as failures

from signer.errors import KeyringError, PinRefused, Refused, TokenError
from signer.files import write_private
from signer.keyring import open_keyring, outer_layer, seal, unseal
from signer.logs import Log
from signer.pin import PinFile, PinGiven
from signer.token import check_flags, meaning
from signer.token_guard import Proof, TokenGuard
from tests.support.sign_requests import utxo_request
from tests.support.vault import (
    TEST_ENTROPY,
    CountingRandomness,
    HandClock,
    VaultKit,
    open_kit,
)

PASSPHRASE = b"a public test passphrase"
KEY_ID = bytes(range(16))


class PlainKey:
    """A sealing key that lies open: AES-256-CBC as the token does it."""

    key_id = KEY_ID

    def __init__(self) -> None:
        self._cipher = algorithms.AES(hashlib.sha256(b"a public sealing key").digest())

    def encrypt(self, iv: bytes, data: bytes) -> bytes:
        """Pad and encrypt."""
        padder, worker = PKCS7(128).padder(), Cipher(self._cipher, modes.CBC(iv)).encryptor()
        return worker.update(padder.update(data) + padder.finalize()) + worker.finalize()

    def decrypt(self, iv: bytes, data: bytes) -> bytes:
        """Decrypt and take the padding off."""
        worker, unpadder = Cipher(self._cipher, modes.CBC(iv)).decryptor(), PKCS7(128).unpadder()
        try:
            padded = worker.update(data) + worker.finalize()
            return unpadder.update(padded) + unpadder.finalize()
        except ValueError as error:
            raise TokenError("the token did not open what it had sealed") from error


class PlainToken:
    """Holds one key."""

    def key(self, key_id: bytes) -> PlainKey:
        """It, or TokenError."""
        if key_id != KEY_ID:
            raise TokenError("the token does not hold the sealing key")
        return PlainKey()


class CountedToken(PlainToken):
    """Tells whether it was closed; may hold no key any more, or one that opens something else."""

    def __init__(self, *, is_dead: bool = False, is_other: bool = False) -> None:
        self.is_dead = is_dead
        self.is_other = is_other
        self.is_closed = False

    def key(self, key_id: bytes) -> PlainKey:
        """The key, a stranger, or TokenError."""
        if self.is_dead:
            raise TokenError("the token does not hold the sealing key")
        return OtherKey() if self.is_other else super().key(key_id)

    def close(self) -> None:
        """Remember it."""
        self.is_closed = True


class OtherKey(PlainKey):
    """The same id, another key: it opens to something."""

    def decrypt(self, iv: bytes, data: bytes) -> bytes:
        """Nothing that was sealed."""
        return iv + data


def sealed() -> bytes:
    """The public entropy under passphrase and token."""
    return seal(
        TEST_ENTROPY,
        PASSPHRASE,
        randomness=CountingRandomness(),
        is_test=True,
        is_cheap=True,
        outer=PlainKey(),
    )


def test_s12_a_sealed_file_opens_with_passphrase_and_token_only() -> None:
    envelope = sealed()
    assert unseal(envelope, PASSPHRASE, is_test=True, token=PlainToken()) == TEST_ENTROPY
    with pytest.raises(KeyringError, match="wrong passphrase"):
        unseal(envelope, b"another passphrase", is_test=True, token=PlainToken())
    with pytest.raises(KeyringError, match="sealed by a token"):
        unseal(envelope, PASSPHRASE, is_test=True)
    layer = outer_layer(envelope)
    assert layer is not None
    assert layer.key_id == KEY_ID
    # What the token opens is the inner layer, not the entropy: the token alone is not enough.
    assert TEST_ENTROPY not in PlainKey().decrypt(layer.iv, layer.sealed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("fingerprint", "00000000"),
        ("memory_kib", 8_193),
        ("salt", base64.b64encode(bytes(16)).decode()),
        ("nonce", base64.b64encode(bytes(12)).decode()),
        ("iv", base64.b64encode(bytes(16)).decode()),
        ("ciphertext", base64.b64encode(bytes(64)).decode()),
        ("ciphertext", base64.b64encode(bytes(63)).decode()),
        ("key_id", "00" * 16),
    ],
)
def test_s12_any_altered_field_of_a_sealed_file_is_seen(field: str, value: object) -> None:
    raw = {**json.loads(sealed()), field: value}
    with pytest.raises((KeyringError, TokenError)):
        unseal(json.dumps(raw).encode(), PASSPHRASE, is_test=True, token=PlainToken())


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"outer": "none"},
        {"key_id": "00"},
        {"key_id": "zz" * 16},
        {"iv": "AA=="},
        {"iv": 7},
    ],
)
def test_s12_sealed_file_of_another_form_is_refused(change: dict[str, object]) -> None:
    raw = {**json.loads(sealed()), **change}
    with pytest.raises(KeyringError):
        unseal(json.dumps(raw).encode(), PASSPHRASE, is_test=True, token=PlainToken())


def test_s12_sealed_file_without_its_outer_fields_is_refused() -> None:
    raw = json.loads(sealed())
    for name in ("outer", "key_id", "iv"):
        del raw[name]
    with pytest.raises(KeyringError, match="unknown version"):
        unseal(json.dumps(raw).encode(), PASSPHRASE, is_test=True, token=PlainToken())


def test_a_file_without_an_outer_layer_is_refused_where_a_token_is_set(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    randomness = CountingRandomness()
    plain = seal(TEST_ENTROPY, PASSPHRASE, randomness=randomness, is_test=True, is_cheap=True)
    write_private(path, plain)
    with pytest.raises(KeyringError, match="not sealed by the token"):
        open_keyring(path, PASSPHRASE, is_test=True, token=PlainToken())


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (TokenFlag.USER_PIN_LOCKED, "has a locked PIN"),
        (TokenFlag.USER_PIN_FINAL_TRY | TokenFlag.USER_PIN_COUNT_LOW, "one more wrong PIN"),
    ],
)
def test_s12_no_pin_is_tried_where_a_wrong_one_would_lock_the_token(
    flags: TokenFlag, text: str
) -> None:
    with pytest.raises(TokenError, match=text):
        check_flags(flags)


def test_a_token_after_one_wrong_pin_is_tried() -> None:
    check_flags(TokenFlag.USER_PIN_COUNT_LOW | TokenFlag.LOGIN_REQUIRED)


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (failures.PinIncorrect(), PinRefused, "refused the PIN"),
        (failures.PinLenRange(), PinRefused, "refused the PIN"),
        (failures.PinLocked(), TokenError, "locked PIN"),
        (failures.PinExpired(), TokenError, "did not sign .PinExpired."),
        (failures.DeviceRemoved(), TokenError, "not there"),
        (failures.TokenNotPresent(), TokenError, "not there"),
        (failures.MultipleTokensReturned(), TokenError, "signer.token.serial"),
        (failures.DeviceError(), TokenError, "did not sign .DeviceError."),
        (failures.PKCS11Error("no such symbol"), TokenError, "no such symbol"),
    ],
)
def test_each_failure_of_a_module_has_a_meaning(
    error: failures.PKCS11Error, kind: type[TokenError], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        raise meaning(error, "did not sign")
    assert type(caught.value) is kind


def test_s12_a_refused_pin_file_is_tried_again_once_it_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    write_private(path, b"one-public-pin\n")
    pin = PinFile(path)
    assert pin.read() == "one-public-pin"
    pin.refused()
    for source in (pin, PinFile(path)):
        with pytest.raises(PinRefused, match="refused this PIN before"):
            source.read()
    path.write_bytes(b"another-public-pin\n")
    os.utime(path, ns=(1, 1))  # another time of change, whatever the clock's step is
    assert PinFile(path).read() == "another-public-pin"


def test_s13_a_given_pin_is_never_shown_and_once_refused_not_given_again(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    path.write_bytes(b"one-public-pin\n")
    pin = PinGiven(os.open(path, os.O_RDONLY))
    assert pin.read() == "one-public-pin"
    assert repr(pin) == str(pin) == "PinGiven()"
    pin.refused()
    with pytest.raises(PinRefused, match="start again"):
        pin.read()


@pytest.mark.parametrize("data", [b"", b"123\n", b"1" * 256, b"\xff" * 8])
def test_a_pin_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "pin"
    path.write_bytes(data)
    with pytest.raises(TokenError):
        PinGiven(os.open(path, os.O_RDONLY))


def test_a_proof_takes_a_new_session_when_the_old_one_is_dead() -> None:
    first, second = CountedToken(), CountedToken()
    layer = outer_layer(sealed())
    assert layer is not None
    proof = Proof(token=first, reopen=lambda: second, layer=layer)
    proof()
    first.is_dead = True
    proof()
    assert (first.is_closed, second.is_closed) == (True, False)
    first.is_dead = False  # what is closed is not asked again
    second.is_dead = True
    with pytest.raises(TokenError, match="does not hold"):
        proof()
    assert second.is_closed


def test_s09_a_token_that_opens_something_else_is_not_the_token() -> None:
    first, stranger = CountedToken(), CountedToken(is_other=True)
    layer = outer_layer(sealed())
    assert layer is not None
    proof = Proof(token=first, reopen=lambda: stranger, layer=layer)
    first.is_dead = True
    with pytest.raises(TokenError, match="something else"):
        proof()
    assert stranger.is_closed


class Prover:
    """A token that proves itself, fails, or hangs, as the test says."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()
        self.calls = 0

    def __call__(self) -> None:
        """One proof."""
        self.go_on.wait(60)
        self.calls += 1
        if self.failure is not None:
            raise self.failure


def guarded(prover: Prover, *, proof_seconds: float = 60) -> tuple[TokenGuard, io.StringIO]:
    """A guard that nobody's watch wakes, and its log."""
    stream = io.StringIO()
    log = Log(stream, HandClock())
    guard = TokenGuard(prover, log, proof_seconds=proof_seconds, watch_seconds=3_600)
    return guard, stream


def events(stream: io.StringIO) -> list[str]:
    """The names of what was logged."""
    return [json.loads(line)["event"] for line in stream.getvalue().splitlines()]


def test_s09_nothing_is_signed_without_the_token_and_the_attempt_stays_free(
    kit: VaultKit,
) -> None:
    """Neither new nor stored answers; afterwards the same attempt is signed."""
    kit.store.close()
    prover = Prover()
    guard, stream = guarded(prover)
    again = open_kit(kit.folder, kit.clock, guard=guard)
    prover.failure = TokenError("the token is not there (DeviceRemoved)")
    assert again.refused(utxo_request(again)) == "token_unavailable"
    with pytest.raises(Refused, match="token_unavailable"):
        again.vault.lookup("a-1")
    prover.failure = None
    answer = again.signed(utxo_request(again))
    prover.failure = TokenError("the token is not there (DeviceRemoved)")
    assert again.refused(utxo_request(again)) == "token_unavailable"
    assert again.vault.head().sequence > answer.log_sequence  # what gives nothing away is answered
    assert events(stream) == [
        "signer.token_lost", "signer.token_lost", "signer.token_back", "signer.token_lost",
    ]  # fmt: skip
    again.store.close()


def test_an_error_that_nobody_foresaw_signs_nothing_and_is_not_told_in_full() -> None:
    prover = Prover()
    guard, stream = guarded(prover)
    prover.failure = ZeroDivisionError("secret")
    with pytest.raises(Refused, match="ZeroDivisionError"):
        guard.check()
    assert "secret" not in stream.getvalue()
    prover.failure = None
    guard.check()


def test_a_token_that_hangs_is_waited_for_once() -> None:
    """The second caller is told at once; a proof that comes too late lets nothing through."""
    prover = Prover()
    guard, stream = guarded(prover, proof_seconds=0.05)
    prover.go_on.clear()
    for _ in range(3):
        with pytest.raises(Refused, match="does not answer"):
            guard.check()
    assert events(stream) == ["signer.token_lost"]
    assert prover.calls == 0
    prover.go_on.set()


def test_a_loss_is_told_although_nobody_asks() -> None:
    told = threading.Event()

    class Listening(Log):
        """A log that wakes the test."""

        def alarm(self, event: str, **fields: object) -> None:
            """Remember that it was told."""
            super().alarm(event, **fields)
            told.set()

    prover, stream = Prover(), io.StringIO()
    prover.failure = TokenError("the token is not there (DeviceRemoved)")
    TokenGuard(prover, Listening(stream, HandClock()), watch_seconds=0.01)
    assert told.wait(60)
    assert events(stream)[0] == "signer.token_lost"
    prover.go_on.clear()
