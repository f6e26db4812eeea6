"""Signs and sends one request to the Cage API, with public libraries only.

    pip install http-message-signatures cryptography
    python sign_request.py --url http://127.0.0.1:8420 --key-id KEY_ID --key-file key.pem \
        POST /v1/players/player-1/addresses --body '{"network": "btc"}'

The signature is RFC 9421 with Ed25519 over the method, the authority, the path, the query, and the
digest of the body and the idempotency key where they are sent. Nothing of this file is needed in
your own program but `sign`.
"""

import argparse
import datetime
import http.client
import json
import secrets
import sys
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ED25519

TIMEOUT_SECONDS = 30


class Request:
    """What the library reads and writes: method, whole URL, headers."""

    def __init__(self, method: str, url: str) -> None:
        self.method = method
        self.url = url
        self.headers: dict[str, str] = {}


class OneKey(HTTPSignatureKeyResolver):
    """Finds the one key that this program has."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        return self._key


def sign(
    *,
    method: str,
    url: str,
    body: bytes,
    key_id: str,
    key: Ed25519PrivateKey,
    idempotency_key: str | None = None,
) -> dict[str, str]:
    """The headers to send with exactly this method, URL and body. A retry is signed anew."""
    request = Request(method, url)
    request.headers["Host"] = urlsplit(url).netloc
    covered = ["@method", "@authority", "@path", "@query"]
    if idempotency_key is not None:
        request.headers["Idempotency-Key"] = idempotency_key
        covered.append("idempotency-key")
    if body:
        request.headers["Content-Type"] = "application/json"
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=OneKey(key)).sign(
        request,
        key_id=key_id,
        created=datetime.datetime.now(datetime.UTC),
        nonce=secrets.token_hex(16),
        covered_component_ids=covered,
        body=body or None,  # adds Content-Digest and covers it
    )
    return request.headers


def send(url: str, method: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """Status and body of the answer."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=TIMEOUT_SECONDS)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, target, body=body or None, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description="Sign and send one request to the Cage API.")
    parser.add_argument("--url", required=True, help="base URL of the API")
    parser.add_argument("--key-id", required=True)
    parser.add_argument("--key-file", required=True, type=Path, help="Ed25519 key, PEM (PKCS 8)")
    parser.add_argument("--body", default="", help="JSON")
    parser.add_argument("--idempotency-key", default=None, help="else a new one for POST")
    parser.add_argument("method")
    parser.add_argument("target", help="path and query, such as /v1/assets")
    chosen = parser.parse_args()
    key = load_pem_private_key(chosen.key_file.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        sys.stderr.write("the key file holds no Ed25519 key\n")
        return 2
    method = chosen.method.upper()
    idempotency_key = chosen.idempotency_key
    if idempotency_key is None and method == "POST":
        idempotency_key = str(uuid.uuid4())
    url = chosen.url.rstrip("/") + chosen.target
    body = chosen.body.encode("utf-8")
    headers = sign(
        method=method,
        url=url,
        body=body,
        key_id=chosen.key_id,
        key=key,
        idempotency_key=idempotency_key,
    )
    status, answer = send(url, method, body, headers)
    sys.stdout.write(json.dumps(json.loads(answer), indent=2) + "\n")
    return 0 if status < 400 else 1


if __name__ == "__main__":
    sys.exit(main())
