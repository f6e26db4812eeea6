"""Checks the signer's statement about a deposit address before it is shown, with public libraries.

    pip install cryptography
    python verify_address.py --public-key BASE64 --brand acme --player player-1 \
        --network bip122:000000000019d6689c085ae165831e93 --address bc1q... ANSWER.json

ANSWER.json is the answer of `POST /v1/players/{id}/addresses` or `GET /v1/addresses/{address}`.
Everything after `--` is what your own side knows: never take it from the answer that you check.
Nothing of this file is needed in your own program but `verify`. Exit 0: show the address.
"""

import argparse
import base64
import binascii
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class NotAttested(Exception):
    """The address must not be shown; the text says why."""


def key_id(public_key: bytes) -> str:
    """How statements name the key: `att_` and 16 hex digits of its SHA-256."""
    return "att_" + hashlib.sha256(public_key).hexdigest()[:16]


def verify(
    attestation: dict[str, Any] | None,
    *,
    public_keys: list[bytes],
    brand: str,
    player: str,
    network: str,
    address: str,
) -> None:
    """Raise NotAttested unless the signer says that `address` is this player's on this network.

    `public_keys` are pinned, 32 bytes each: one, or two while the keys are changed.
    """
    if attestation is None:
        raise NotAttested("there is no statement yet; ask again, or wait for address.attested")
    if attestation.get("algorithm") != "ed25519":
        raise NotAttested("another algorithm than ed25519")
    pinned = {key_id(key): key for key in public_keys}
    key = pinned.get(str(attestation.get("key_id")))
    if key is None:
        raise NotAttested("signed by a key that is not pinned here")
    statement = str(attestation.get("statement"))
    try:
        signature = base64.b64decode(str(attestation.get("signature")), validate=True)
        Ed25519PublicKey.from_public_bytes(key).verify(signature, statement.encode("utf-8"))
    except (binascii.Error, ValueError, InvalidSignature) as error:
        raise NotAttested("the signature does not hold") from error
    lines = statement.split("\n")
    expected = [
        "cage-address/1",
        f"brand={brand}",
        f"player={player}",
        f"network={network}",
        f"address={address}",
    ]
    if lines[:5] != expected or len(lines) != 6 or not lines[5].startswith("path_tag="):
        raise NotAttested("the statement speaks of something else")


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the statement about a deposit address.")
    parser.add_argument("--public-key", action="append", required=True, help="base64, 32 bytes")
    parser.add_argument("--brand", required=True)
    parser.add_argument("--player", required=True)
    parser.add_argument("--network", required=True, help="CAIP-2 id of the chain")
    parser.add_argument("--address", required=True, help="the address that you are about to show")
    parser.add_argument("answer", type=Path, help="JSON answer of the API")
    chosen = parser.parse_args()
    try:
        verify(
            json.loads(chosen.answer.read_text("utf-8"))["attestation"],
            public_keys=[base64.b64decode(text, validate=True) for text in chosen.public_key],
            brand=chosen.brand,
            player=chosen.player,
            network=chosen.network,
            address=chosen.address,
        )
    except NotAttested as error:
        sys.stderr.write(f"do not show this address: {error}\n")
        return 1
    sys.stdout.write("attested\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
