"""Webhook secrets: made here, shown once, kept in the database only sealed under a key file.

Owns the sealed form (AES-256-GCM: version byte, 12-byte nonce, ciphertext with tag) and the key
file. It must not log, return in an error, or store a plain secret. The same file seals for the API
(which makes secrets) and opens for the relay (which signs with them).
"""

import base64
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from config.ids import Ids
from gateway.webhooks.errors import SecretUnreadable

KEY_BYTES = 32
SECRET_BYTES = 32  # Standard Webhooks: between 24 and 64
SECRET_PREFIX = "whsec_"
_NONCE_BYTES = 12  # NIST SP 800-38D 8.2.2: 96 random bits, far below 2^32 seals per key
_VERSION = b"\x01"
_CONTEXT = b"cage webhook secret"


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The content of the key file, and where nonces come from. Its `repr` shows neither."""

    raw: bytes = field(repr=False)
    ids: Ids = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise SecretUnreadable(f"the sealing key must have {KEY_BYTES} bytes")


def new_secret(ids: Ids) -> str:
    """A fresh secret in the form that is shown once: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(ids.token_bytes(SECRET_BYTES)).decode("ascii")


def seal(key: SealingKey, secret: str) -> bytes:
    """`secret` as it may stand in the database."""
    nonce = key.ids.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(key.raw).encrypt(nonce, secret.encode("ascii"), _CONTEXT)
    return _VERSION + nonce + sealed


def unseal(key: SealingKey, sealed: bytes) -> str:
    """The secret behind `sealed`. Raises SecretUnreadable: other key, altered or unknown form."""
    if sealed[:1] != _VERSION or len(sealed) <= 1 + _NONCE_BYTES:
        raise SecretUnreadable("the sealed secret has an unknown form")
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return AESGCM(key.raw).decrypt(nonce, ciphertext, _CONTEXT).decode("ascii")
    except (InvalidTag, UnicodeDecodeError) as error:
        raise SecretUnreadable("the sealed secret was sealed under another key, or altered") from (
            error
        )


def load_key(path: Path, ids: Ids) -> SealingKey:
    """Read the key file (64 hex digits), making it first where there is none, readable by us only.

    Blocking, a few milliseconds. Safe when two roles start at once: one file wins, both read it.
    Raises SecretUnreadable when others may read the file or its content is no key.
    """
    if not path.exists():
        _create(path, ids)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretUnreadable(f"key file {path} cannot be read") from error
    if mode & 0o077:
        raise SecretUnreadable(f"key file {path} may be read by others: chmod 600 it")
    try:
        raw = bytes.fromhex(text)
    except ValueError as error:
        raise SecretUnreadable(f"key file {path} does not hold hex digits") from error
    return SealingKey(raw, ids)


def _create(path: Path, ids: Ids) -> None:
    """Write a whole file beside, then link it into place: never half a key, never two."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{ids.new_id().hex}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(ids.token_bytes(KEY_BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another role was first: its key is the key
    finally:
        draft.unlink()
