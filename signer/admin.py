"""The client side of the admin socket, and the making of staff statements.

Used by `python -m signer` and by tests on the signer's host. A person's private key signs a
statement here and is not kept.
"""

import base64
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from signer.errors import ConfigurationError, SignerError
from signer.files import read_private
from signer.protocol import MAX_FRAME_BYTES, frame, strict_loads
from signer.trust import CONTEXT, encode_statement

CALL_SECONDS = 30.0  # local, answers at once; verifying a long log takes seconds


def make_statement(
    action: str, *, signer: str, issued_at: int, fields: Mapping[str, object]
) -> bytes:
    """The canonical bytes of a staff statement, ready to sign. `signer` is its fingerprint."""
    return encode_statement({"action": action, "signer": signer, "issued_at": issued_at, **fields})


def sign_statement(key: Ed25519PrivateKey, statement: bytes) -> bytes:
    """One person's signature over a statement."""
    return key.sign(CONTEXT + statement)


def submit(admin_socket: Path, statement: bytes, signatures: Mapping[str, bytes]) -> dict[str, Any]:
    """Ask the running signer to apply a statement; the answer has `ok`."""
    message = {
        "op": "statement",
        "statement": base64.b64encode(statement).decode(),
        "signatures": {
            name: base64.b64encode(value).decode() for name, value in signatures.items()
        },
    }
    return call(admin_socket, message)


def call(path: Path, message: dict[str, Any]) -> dict[str, Any]:
    """One message and its answer over a Unix socket; raises SignerError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(CALL_SECONDS)
            client.connect(str(path))
            client.sendall(frame(message))
            size = int.from_bytes(_read(client, 4), "big")
            if size > MAX_FRAME_BYTES:
                raise SignerError(f"{path}: an answer of {size} bytes")
            return strict_loads(_read(client, size))
    except OSError as error:
        raise SignerError(
            f"{path}: the signer does not answer ({error}); is it running?"
        ) from error


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """A person's PEM private key (mode 0600); raises SignerError."""
    try:
        key = load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}: not an unencrypted PEM private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{path}: not an Ed25519 key")
    return key


def load_public_key(text: str) -> str:
    """A public key as base64 of 32 bytes, from that form itself or from a PEM file's path.

    A person's own private PEM file (mode 0600) is taken too, for its public half.
    """
    try:
        if len(base64.b64decode(text, validate=True)) == 32:
            return text
    except ValueError:
        pass  # then it is a path
    try:
        data = Path(text).read_bytes()
        is_private = b"PRIVATE KEY" in data
        key = load_private_key(Path(text)).public_key() if is_private else load_pem_public_key(data)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{text}: neither base64 of 32 bytes nor a PEM file") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigurationError(f"{text}: not an Ed25519 key")
    return base64.b64encode(key.public_bytes_raw()).decode()


def _read(client: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = client.recv(size - len(data))
        if not part:
            raise ConnectionError("the answer was cut short")
        data += part
    return bytes(data)
