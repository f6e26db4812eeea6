"""The keys: one encrypted file, opened once, derived in memory.

The file is a versioned JSON envelope: argon2id stretches the passphrase, AES-256-GCM seals the
BIP-39 entropy, and the header is authenticated. In version 2 a hardware token seals the result
again: it opens with both or not at all (docs/adr/0031). It must never print, log or return a
secret. Coins move only by digests that a scheme has computed from bytes it decoded itself;
statements about addresses and reserves are signed with a key of their own, which owns nothing.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import stat
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from argon2.low_level import Type, hash_secret_raw
from coincurve import PrivateKey, PublicKey
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from embit import bip32, bip39, hashes
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from signer.errors import KeyringError
from signer.files import read_private, write_private
from signer.paths import OwnPath, account_path
from signer.ports import Randomness
from signer.protocol import ProtocolError, strict_loads
from signer.schemes.address import p2wpkh_address
from signer.settings import Family, NetworkSettings

ENVELOPE_VERSION = 1
SEALED_VERSION = 2  # the same with an outer layer by a token
OUTER_CIPHER = "pkcs11-aes-256-cbc-pad"  # the inner layer's tag covers the header and the rest
KEY_ID_BYTES = 16
IV_BYTES = 16
MEMORY_KIB = 262_144  # 256 MiB: about 0.5 s and more on server hardware (S12)
TIME_COST = 3
TEST_MEMORY_KIB = 8_192  # test networks only: the suite opens hundreds of key files
PARALLELISM = 1  # more lanes would let more cores shorten the 0.5 s
MEMORY_KIB_LIMIT = 4_194_304  # an altered header must not exhaust the machine
ENTROPY_BYTES = 32  # 24 words
ATTESTATION_INFO = b"cage-attestation/1"  # RFC 5869 info: a key of its own below the seed
PATH_TAG_INFO = b"cage-path-tag/1"
XPUB_VERSION = bytes.fromhex("0488b21e")
PUBLIC_KEYS_KEPT = 10_000  # 3 MB; the hot paths of a busy operator
TPUB_VERSION = bytes.fromhex("043587cf")


class OuterKey(Protocol):
    """A key inside a token (`signer.token.SealingKey`)."""

    @property
    def key_id(self) -> bytes:
        """16 bytes."""

    def encrypt(self, iv: bytes, data: bytes) -> bytes:
        """Raises TokenError."""

    def decrypt(self, iv: bytes, data: bytes) -> bytes:
        """Raises TokenError."""


class KeyHolder(Protocol):
    """A token (`signer.token.Token`)."""

    def key(self, key_id: bytes) -> OuterKey:
        """Raises TokenError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OuterLayer:
    """What the token sealed, and with which of its keys."""

    key_id: bytes
    iv: bytes
    sealed: bytes


class Keyring:
    """The derived keys of one key set. `repr` shows the fingerprint only."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._root = bip32.HDKey.from_seed(seed)
        self._branches: dict[str, Any] = {}
        self._public: OrderedDict[str, bytes] = OrderedDict()
        self.fingerprint: str = self._root.my_fingerprint.hex()
        self._attestation = Ed25519PrivateKey.from_private_bytes(_subkey(seed, ATTESTATION_INFO))
        self._tagging = _subkey(seed, PATH_TAG_INFO)
        self.attestation_public_key: bytes = self._attestation.public_key().public_bytes_raw()
        self.attestation_key_id: str = attestation_key_id(self.attestation_public_key)

    def __repr__(self) -> str:
        return f"Keyring(fingerprint={self.fingerprint})"

    def __reduce__(self) -> str:
        raise TypeError("a keyring is never pickled or copied")

    def seed_for_second_derivation(self) -> bytes:
        """The seed, for `signer.pool` alone: the independent derivation starts from it."""
        return self._seed

    def account_xpub(self, network: NetworkSettings, account: int) -> str:
        """The account's BIP-32 public key; `tpub` on UTXO test networks, else `xpub`."""
        node = self._root.derive(account_path(network, account))
        is_tpub = network.family is Family.BITCOIN and network.is_test
        return str(node.to_public().to_base58(TPUB_VERSION if is_tpub else XPUB_VERSION))

    def public_key(self, path: OwnPath) -> bytes:
        """33 bytes, compressed. The last PUBLIC_KEYS_KEPT are kept; private ones are not."""
        known = self._public.get(path.text)
        if known is None:
            known = self._public[path.text] = bytes(self._node(path).sec())
            if len(self._public) > PUBLIC_KEYS_KEPT:
                self._public.popitem(last=False)
        return known

    def public_key_hash(self, path: OwnPath) -> bytes:
        """HASH160 of the compressed public key."""
        return hash160(self.public_key(path))

    def script(self, path: OwnPath) -> bytes:
        """The P2WPKH scriptPubKey of an own UTXO path."""
        return b"\x00\x14" + self.public_key_hash(path)

    def evm_address(self, path: OwnPath) -> bytes:
        """The 20 bytes of an own EVM account."""
        point = PublicKey(self.public_key(path)).format(compressed=False)
        return keccak(point[1:])[-20:]

    def address(self, path: OwnPath, network: NetworkSettings) -> str:
        """The canonical text of an own address."""
        if network.family is Family.BITCOIN:
            return p2wpkh_address(self.public_key_hash(path), network)
        return to_checksum_address(self.evm_address(path))

    def sign_ecdsa(self, digests: Sequence[tuple[OwnPath, bytes]]) -> list[bytes]:
        """DER signatures, RFC 6979 and low-s, each verified before any is returned."""
        keys: dict[OwnPath, tuple[PrivateKey, PublicKey]] = {}  # for this call only
        signatures = []
        for path, digest in digests:
            if path not in keys:
                secret = PrivateKey(self._node(path).secret)
                keys[path] = (secret, PublicKey(self.public_key(path)))
            private, public = keys[path]
            signature = private.sign(digest, hasher=None)
            if not public.verify(signature, digest, hasher=None):
                raise KeyringError("own signature does not verify; the machine is not sound")
            signatures.append(signature)
        return signatures

    def sign_recoverable(self, path: OwnPath, digest: bytes) -> tuple[int, int, int]:
        """(parity, r, s), RFC 6979 and low-s, recovered to the own key before it is returned."""
        key = PrivateKey(self._node(path).secret)
        signature = key.sign_recoverable(digest, hasher=None)
        recovered = PublicKey.from_signature_and_message(signature, digest, hasher=None)
        if recovered.format() != self.public_key(path):
            raise KeyringError("own signature does not verify; the machine is not sound")
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
        return signature[64], r, s

    def sign_attestation(self, statement: bytes) -> bytes:
        """Ed25519 (RFC 8032) over a statement about an address, or about reserves."""
        return self._attestation.sign(statement)

    def path_tag(self, network: str, path: OwnPath) -> str:
        """16 hex digits that tell paths of a network (CAIP-2) apart and do not tell the index."""
        text = f"{network}\n{path.text}".encode()
        return hmac.new(self._tagging, text, hashlib.sha256).hexdigest()[:16]

    def _node(self, path: OwnPath) -> Any:
        branch = path.text.rpartition("/")[0]
        if branch not in self._branches:
            self._branches[branch] = self._root.derive(branch)
        return self._branches[branch].child(path.index)


def attestation_key_id(public_key: bytes) -> str:
    """How an attestation names its key: the start of the SHA-256 of its 32 bytes."""
    return "att_" + hashlib.sha256(public_key).hexdigest()[:16]


def _subkey(seed: bytes, info: bytes) -> bytes:
    """32 bytes of a purpose of its own (HKDF, RFC 5869): no BIP-32 key tells anything of it."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(seed)


def hash160(data: bytes) -> bytes:
    """RIPEMD-160 of SHA-256."""
    return bytes(hashes.hash160(data))


def new_entropy(randomness: Randomness) -> bytes:
    """Fresh BIP-39 entropy for 24 words."""
    return randomness.token(ENTROPY_BYTES)


def keyring_from_entropy(entropy: bytes) -> Keyring:
    """Entropy to words to seed (BIP-39, empty passphrase) to keys."""
    return Keyring(bip39.mnemonic_to_seed(bip39.mnemonic_from_bytes(entropy)))


def seal(
    entropy: bytes,
    passphrase: bytes,
    *,
    randomness: Randomness,
    is_test: bool,
    is_cheap: bool,
    outer: OuterKey | None = None,
) -> bytes:
    """The envelope's bytes. `is_cheap` lowers the cost and is refused off test networks.

    With `outer`, the token seals it as well; raises TokenError.
    """
    if is_cheap and not is_test:
        raise KeyringError("a cheap key derivation is for test networks only")
    header: dict[str, Any] = {
        "version": ENVELOPE_VERSION if outer is None else SEALED_VERSION,
        "is_test": is_test,
        "fingerprint": keyring_from_entropy(entropy).fingerprint,
        "kdf": "argon2id",
        "memory_kib": TEST_MEMORY_KIB if is_cheap else MEMORY_KIB,
        "time_cost": 1 if is_cheap else TIME_COST,
        "parallelism": PARALLELISM,
        "salt": base64.b64encode(randomness.token(16)).decode(),
        "cipher": "aes-256-gcm",
        "nonce": base64.b64encode(randomness.token(12)).decode(),
    }
    if outer is not None:
        iv = randomness.token(IV_BYTES)
        header |= {"outer": OUTER_CIPHER, "key_id": outer.key_id.hex()}
        header["iv"] = base64.b64encode(iv).decode()
    key = _stretch(passphrase, header)
    sealed = AESGCM(key).encrypt(base64.b64decode(header["nonce"]), entropy, _header_bytes(header))
    if outer is not None:
        sealed = outer.encrypt(iv, sealed)
    envelope = {**header, "ciphertext": base64.b64encode(sealed).decode()}
    return json.dumps(envelope, indent=1, sort_keys=True).encode() + b"\n"


def outer_layer(envelope: bytes) -> OuterLayer | None:
    """What of an envelope a token must open; None where none sealed it. Raises KeyringError."""
    header, sealed = _parse_envelope(envelope)
    if header["version"] != SEALED_VERSION:
        return None
    iv = base64.b64decode(header["iv"])
    return OuterLayer(key_id=bytes.fromhex(header["key_id"]), iv=iv, sealed=sealed)


def sealed_layer(envelope: bytes) -> OuterLayer:
    """The same where a token is set: a file that opens without it is a copy that got away."""
    layer = outer_layer(envelope)
    if layer is None:
        raise KeyringError("the key file is not sealed by the token: seal it by `keys rotate`")
    return layer


def unseal(
    envelope: bytes, passphrase: bytes, *, is_test: bool, token: KeyHolder | None = None
) -> bytes:
    """The entropy; raises KeyringError for a wrong passphrase or any altered byte, TokenError."""
    header, sealed = _parse_envelope(envelope)
    if header["is_test"] is not is_test:
        raise KeyringError("the key file and the settings disagree on test and main networks")
    is_full = header["memory_kib"] >= MEMORY_KIB and header["time_cost"] >= TIME_COST
    if not is_test and not is_full:
        raise KeyringError("the key file's key derivation is too cheap for a main network")
    layer = outer_layer(envelope)
    if layer is not None:
        if token is None:
            raise KeyringError("the key file is sealed by a token: signer.token is not set")
        sealed = token.key(layer.key_id).decrypt(layer.iv, layer.sealed)
    key = _stretch(passphrase, header)
    try:
        nonce = base64.b64decode(header["nonce"])
        entropy = AESGCM(key).decrypt(nonce, sealed, _header_bytes(header))
    except (InvalidTag, ValueError):
        raise KeyringError("the key file does not open: wrong passphrase or altered file") from None
    if keyring_from_entropy(entropy).fingerprint != header["fingerprint"]:
        raise KeyringError("the key file names another fingerprint than its keys have")
    return entropy


def open_keyring(
    path: Path, passphrase: bytes, *, is_test: bool, token: KeyHolder | None = None
) -> Keyring:
    """Open the key file (mode 0600 required); raises KeyringError, TokenError."""
    envelope = read_private(path)
    if token is not None:
        sealed_layer(envelope)
    return keyring_from_entropy(unseal(envelope, passphrase, is_test=is_test, token=token))


def write_keyring(path: Path, envelope: bytes) -> None:
    """Write a new key file with mode 0600; raises KeyringError if one is there."""
    write_private(path, envelope)


def read_passphrase(source: Path | int) -> bytes:
    """From a file of mode 0600 or an open file descriptor; one trailing newline is dropped."""
    if isinstance(source, int):
        with os.fdopen(source, "rb") as stream:
            if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode) and stream.isatty():
                raise KeyringError("the passphrase comes from a file or pipe, not a terminal")
            data = stream.read(4096)
    else:
        data = read_private(source)
    passphrase = data.removesuffix(b"\n")
    if len(passphrase) < 8:
        raise KeyringError("the passphrase is shorter than 8 bytes")
    return passphrase


def _stretch(passphrase: bytes, header: dict[str, Any]) -> bytes:
    return hash_secret_raw(
        secret=passphrase,
        salt=base64.b64decode(header["salt"]),
        time_cost=header["time_cost"],
        memory_cost=header["memory_kib"],
        parallelism=header["parallelism"],
        hash_len=32,
        type=Type.ID,
    )


def _header_bytes(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


_FIELDS: dict[str, type] = {
    "version": int, "is_test": bool, "fingerprint": str, "kdf": str, "memory_kib": int,
    "time_cost": int, "parallelism": int, "salt": str, "cipher": str, "nonce": str,
    "ciphertext": str,
}  # fmt: skip
_SEALED_FIELDS: dict[str, type] = {"outer": str, "key_id": str, "iv": str}
_CIPHERS = (
    (ENVELOPE_VERSION, "argon2id", "aes-256-gcm", None),
    (SEALED_VERSION, "argon2id", "aes-256-gcm", OUTER_CIPHER),
)


def _parse_envelope(envelope: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        raw = strict_loads(envelope)
    except ProtocolError as error:
        raise KeyringError(f"the key file is not an envelope: {error}") from error
    fields = _FIELDS | (_SEALED_FIELDS if "outer" in raw else {})
    if set(raw) != set(fields) or any(type(raw[k]) is not t for k, t in fields.items()):
        raise KeyringError("the key file is not an envelope of this version")
    if (raw["version"], raw["kdf"], raw["cipher"], raw.get("outer")) not in _CIPHERS:
        raise KeyringError("the key file is of an unknown version")
    is_sane = (
        8 * raw["parallelism"] <= raw["memory_kib"] <= MEMORY_KIB_LIMIT
        and 1 <= raw["time_cost"] <= 64
        and 1 <= raw["parallelism"] <= 64
    )
    try:
        sealed = base64.b64decode(raw.pop("ciphertext"), validate=True)
        sizes = [len(base64.b64decode(raw[key], validate=True)) for key in ("salt", "nonce")]
        if "outer" in raw:
            sizes += [len(base64.b64decode(raw["iv"], validate=True))]
            sizes += [len(bytes.fromhex(raw["key_id"]))]
    except (binascii.Error, ValueError) as error:
        raise KeyringError("the key file is not an envelope of this version") from error
    if not is_sane or sizes not in ([16, 12], [16, 12, IV_BYTES, KEY_ID_BYTES]):
        raise KeyringError("the key file's parameters are out of range")
    return raw, sealed
