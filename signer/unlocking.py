"""How the key file opens: with the passphrase alone, or with a token and its PIN besides.

It joins files, token and keyring, and owns no rule of either. A signer without a token loads no
PKCS#11 library.
"""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from signer.errors import SignerError
from signer.files import read_private
from signer.keyring import (
    KEY_ID_BYTES,
    Keyring,
    keyring_from_entropy,
    open_keyring,
    read_passphrase,
    seal,
    sealed_layer,
    unseal,
)
from signer.logs import Log
from signer.pin import Pin, PinFile, PinGiven
from signer.ports import Guard, Randomness, Unguarded
from signer.settings import Settings, TokenSettings

if TYPE_CHECKING:
    from signer.token import Token


def passphrase_of(arguments: Namespace, settings: Settings) -> bytes:
    """From the descriptor that was given, else from the file; raises KeyringError."""
    if arguments.passphrase_fd is not None:
        return read_passphrase(int(arguments.passphrase_fd))
    return read_passphrase(settings.passphrase_file)


@contextmanager
def token_of(
    arguments: Namespace, settings: Settings, *, is_writing: bool = False
) -> "Iterator[Token | None]":
    """The token that the settings name, logged in; None where they name none. TokenError."""
    if settings.token is None:
        yield None
        return
    from signer.token import open_token

    token = open_token(settings.token, _pin(arguments, settings.token), is_writing=is_writing)
    try:
        yield token
    finally:
        token.close()


def unlocked(arguments: Namespace, settings: Settings) -> Keyring:
    """The opened keyring; raises KeyringError, TokenError."""
    passphrase = passphrase_of(arguments, settings)
    with token_of(arguments, settings) as token:
        return open_keyring(settings.keyring, passphrase, is_test=settings.is_test, token=token)


def unlocked_and_guarded(
    arguments: Namespace, settings: Settings, log: Log
) -> tuple[Keyring, Guard]:
    """For a signer that stays: its token proves itself before each answer, from now on."""
    named = settings.token
    if named is None:
        return unlocked(arguments, settings), Unguarded()
    from signer.token import open_token
    from signer.token_guard import Proof, TokenGuard

    passphrase, pin = passphrase_of(arguments, settings), _pin(arguments, named)
    token = open_token(named, pin)
    envelope = read_private(settings.keyring)
    layer = sealed_layer(envelope)
    entropy = unseal(envelope, passphrase, is_test=settings.is_test, token=token)
    proof = Proof(token=token, reopen=lambda: open_token(named, pin), layer=layer)
    return keyring_from_entropy(entropy), TokenGuard(proof, log)


def sealed_anew(
    entropy: bytes,
    passphrase: bytes,
    *,
    settings: Settings,
    randomness: Randomness,
    is_cheap: bool,
    token: "Token | None",
) -> bytes:
    """An envelope as the settings want it, by a new key of the token; it is proven to open."""
    outer = None
    if token is not None:
        owner = keyring_from_entropy(entropy).fingerprint
        outer = token.make_key(randomness.token(KEY_ID_BYTES), owner=owner)
    envelope = seal(
        entropy,
        passphrase,
        randomness=randomness,
        is_test=settings.is_test,
        is_cheap=is_cheap,
        outer=outer,
    )
    if unseal(envelope, passphrase, is_test=settings.is_test, token=token) != entropy:
        raise SignerError("the new key file does not open; nothing was changed")
    return envelope


def _pin(arguments: Namespace, token: TokenSettings) -> Pin:
    if arguments.pin_fd is not None:
        return PinGiven(int(arguments.pin_fd))
    return PinFile(token.pin_file)
