"""A hardware token behind PKCS#11 (v2.40): it keeps the key that seals the key file.

The key is made inside and cannot leave. This is the only module that loads a PKCS#11 library, which
then runs in the signer's own process: its file must belong to root or to the signer. It must not
know what it seals, and no error text of it carries a PIN.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, TokenFlag
from pkcs11 import exceptions as failures

from signer.errors import ConfigurationError, PinRefused, TokenError
from signer.pin import Pin
from signer.settings import TokenSettings

KEY_BITS = 256
AES = Mechanism.AES_CBC_PAD  # not GCM, nor a key wrap: docs/adr/0031
KEY_LABEL = "cage-sealing-"  # and the fingerprint: a token may serve more than one key set
_DANGER = (
    (TokenFlag.USER_PIN_LOCKED, "has a locked PIN: the security officer unlocks it"),
    (
        TokenFlag.USER_PIN_FINAL_TRY,
        "locks itself at one more wrong PIN: log in once with its own tool, then start again",
    ),
)
_IS_GONE = (
    failures.NoSuchToken,
    failures.TokenNotPresent,
    failures.TokenNotRecognised,
    failures.DeviceRemoved,
    failures.SlotIDInvalid,
)
_PIN_WRONG = (failures.PinIncorrect, failures.PinInvalid, failures.PinLenRange)
_MUST_HOLD = (
    Attribute.SENSITIVE,
    Attribute.ALWAYS_SENSITIVE,
    Attribute.NEVER_EXTRACTABLE,
    Attribute.LOCAL,
)  # made inside, and no plain or wrapped copy of it was ever outside


class SealingKey:
    """A handle of one AES key inside the token. `repr` shows its id only."""

    def __init__(self, key: Any, key_id: bytes) -> None:
        self._key = key
        self.key_id = key_id

    def __repr__(self) -> str:
        return f"SealingKey({self.key_id.hex()})"

    def encrypt(self, iv: bytes, data: bytes) -> bytes:
        """AES-256-CBC with PKCS#7 padding, inside the token; raises TokenError."""
        with _told("did not seal"):
            return bytes(self._key.encrypt(data, AES, mechanism_param=iv))

    def decrypt(self, iv: bytes, data: bytes) -> bytes:
        """The inverse; raises TokenError, also for altered bytes."""
        with _told("did not open what it had sealed"):
            return bytes(self._key.decrypt(data, AES, mechanism_param=iv))


class Token:
    """A logged-in session. For one thread at a time."""

    def __init__(self, session: Any, token: Any) -> None:
        self._session = session
        self.description = {
            "label": token.label,
            "serial": token.serial.decode("ascii", "replace"),
            "model": token.model,
        }

    def close(self) -> None:
        """Log out; a token that is gone is closed as well."""
        try:
            self._session.close()
        except failures.PKCS11Error:
            return  # what is gone has no session

    def random(self, size: int) -> bytes:
        """`size` bytes from the token's own generator."""
        with _told("gave no random bytes"):
            return bytes(self._session.generate_random(size * 8))

    def key(self, key_id: bytes) -> SealingKey:
        """The key of an id; raises TokenError where there is none, or one that could leave."""
        with _told("could not be searched"):
            found = list(self._session.get_objects(_sealing({Attribute.ID: key_id})))
        if len(found) != 1:
            raise TokenError(f"the token does not hold the sealing key {key_id.hex()}")
        _check_cannot_leave(found[0])
        return SealingKey(found[0], key_id)

    def make_key(self, key_id: bytes, *, owner: str) -> SealingKey:
        """A new key, made inside, for the key set of a fingerprint; raises TokenError."""
        with _told("made no key"):
            made = self._session.generate_key(
                KeyType.AES,
                KEY_BITS,
                id=key_id,
                label=KEY_LABEL + owner,
                store=True,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template={
                    Attribute.PRIVATE: True,
                    Attribute.SENSITIVE: True,
                    Attribute.EXTRACTABLE: False,
                    Attribute.MODIFIABLE: False,
                },
            )
        _check_cannot_leave(made)
        return SealingKey(made, key_id)

    def key_ids(self, *, owner: str) -> list[bytes]:
        """The ids of all sealing keys of a key set."""
        with _told("could not be searched"):
            wanted = _sealing({Attribute.LABEL: KEY_LABEL + owner})
            return sorted(bytes(key[Attribute.ID]) for key in self._session.get_objects(wanted))

    def destroy_key(self, key_id: bytes) -> None:
        """For ever: what it sealed never opens again."""
        with _told("destroyed no key"):
            for key in list(self._session.get_objects(_sealing({Attribute.ID: key_id}))):
                key.destroy()


def open_token(settings: TokenSettings, pin: Pin, *, is_writing: bool = False) -> Token:
    """Load the module, find the token, log in once; raises TokenError or PinRefused.

    The library is started anew, since sessions of a token that was removed never come back.
    """
    _check_module(settings.module)
    with _told("cannot be reached"):
        library = pkcs11.lib(str(settings.module))
        library.reinitialize()
        token = library.get_token(
            token_label=settings.label,
            token_serial=settings.serial.encode() if settings.serial else None,
        )
    check_flags(token.flags)
    secret = pin.read()
    try:
        with _told("did not let the signer in"):
            return Token(token.open(rw=is_writing, user_pin=secret), token)
    except PinRefused:
        pin.refused()
        raise


def check_flags(flags: TokenFlag) -> None:
    """No PIN is tried where a wrong one would lock the token; raises TokenError."""
    for flag, text in _DANGER:
        if flags & flag:
            raise TokenError(f"the token {text}")


def meaning(error: failures.PKCS11Error, what: str) -> TokenError:
    """A failure of the module in our words. `what` says what the token did not do."""
    kind = type(error).__name__
    if isinstance(error, _PIN_WRONG):
        return PinRefused("the token refused the PIN; it is not tried again")
    if isinstance(error, failures.PinLocked):
        return TokenError("the token has a locked PIN: the security officer unlocks it")
    if isinstance(error, _IS_GONE):
        return TokenError(f"the token is not there ({kind})")
    if isinstance(error, failures.MultipleTokensReturned):
        return TokenError("more than one token has this label: set signer.token.serial")
    detail = f": {error}" if str(error) else ""
    return TokenError(f"the token {what} ({kind}{detail})")


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except failures.PKCS11Error as error:
        raise meaning(error, what) from error


def _sealing(more: dict[Attribute, Any]) -> dict[Attribute, Any]:
    return {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, **more}


def _check_cannot_leave(key: Any) -> None:
    with _told("does not tell what its key may do"):
        is_kept = all(key[name] is True for name in _MUST_HOLD)
        is_kept = is_kept and key[Attribute.EXTRACTABLE] is False
    if not is_kept:
        raise TokenError("the token's sealing key could leave the token, or came from outside")


def _check_module(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise ConfigurationError(f"signer.token.module: {path}: {error.strerror}") from error
    is_ours = status.st_uid in {0, os.geteuid()} and not status.st_mode & 0o022
    if not stat.S_ISREG(status.st_mode) or not is_ours:
        raise ConfigurationError(
            f"signer.token.module: {path}: a file that only root or the signer's user may change"
        )
