"""Statements about reserves: signed by the attestation key, and by the keys of own addresses.

The signer knows no balance and vouches for none: its signature says that this house made the
statement, and its log keeps which. A signature of an address' own key says who can spend from it.
What those keys sign here can be no transaction: the message has 87 characters of one fixed form
behind the prefix of BIP-137 or EIP-191, shorter than any digest's preimage of a tx (BIP-143: 156
bytes and more), and 0x19 begins no transaction (EIP-191).
"""

import base64
import hashlib
from collections.abc import Callable

from eth_utils.crypto import keccak

from signer.errors import RefusalCode, Refused, StoreError
from signer.keyring import Keyring
from signer.logs import Log
from signer.paths import OwnPath, parse_path
from signer.protocol import Refusal
from signer.protocol_reserves import Proven, ProvenAddress, ProveRequest, address_message
from signer.settings import Family, NetworkSettings, Settings
from signer.store import Store

P2WPKH_HEADER = 39  # BIP-137: 39 to 42 for a native segwit address, plus the recovery id
EVM_V = 27  # how wallets write the recovery id of a message
_BITCOIN_MAGIC = b"Bitcoin Signed Message:\n"
_LITECOIN_MAGIC = b"Litecoin Signed Message:\n"
LITECOIN_HRPS = frozenset({"ltc", "tltc", "rltc"})


class Prover:
    """Signs on one store. Calls must not overlap with others of the vault."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        keyring: Keyring,
        log: Log,
        check_release: Callable[[], None],
    ) -> None:
        """`check_release` raises Refused or StoreError while the vault may release nothing."""
        self._store = store
        self._settings = settings
        self._keyring = keyring
        self._log = log
        self._check_release = check_release

    def prove(self, request: ProveRequest) -> Proven | Refusal:
        """One answer per path, in order; which statement it was is durable before it leaves."""
        try:
            return self._prove(request)
        except Refused as error:
            self._log.alarm("signer.prove_refused", code=error.code.value, reason=error.reason)
            return Refusal(code=error.code.value, reason=error.reason)
        except StoreError as failure:
            self._log.alarm("signer.store_unwritable", reason=str(failure))
            return Refusal(code=RefusalCode.STORE_UNWRITABLE.value, reason="nothing is kept now")

    def _prove(self, request: ProveRequest) -> Proven:
        self._store.ensure_anchored()
        self._check_release()
        items: list[ProvenAddress | Refusal] = []
        if request.paths:
            network = self._settings.networks.get(request.network)
            if network is None:
                raise Refused(RefusalCode.UNKNOWN_NETWORK, "the network is not in the settings")
            message = address_message(request.statement)
            items = [self._address(path, network, message) for path in request.paths]
        statement = request.statement.encode("utf-8")
        signature = self._keyring.sign_attestation(statement)
        with self._store.unit_of_work():
            self._store.append_log(
                "reserves_signed",
                digest=hashlib.sha256(statement).hexdigest(),
                network=request.network,
                addresses=sum(isinstance(item, ProvenAddress) for item in items),
            )
        return Proven(
            key_id=self._keyring.attestation_key_id,
            public_key=self._keyring.attestation_public_key,
            signature=signature,
            items=tuple(items),
        )

    def _address(
        self, text: str, network: NetworkSettings, message: str
    ) -> ProvenAddress | Refusal:
        try:
            path = parse_path(text, network)
        except Refused as error:
            return Refusal(code=error.code.value, reason=error.reason)
        return ProvenAddress(
            address=self._keyring.address(path, network),
            signature=self._sign(path, network, message),
        )

    def _sign(self, path: OwnPath, network: NetworkSettings, message: str) -> str:
        """RFC 6979: the same message, the same signature."""
        if network.family is Family.BITCOIN:
            parity, r, s = self._keyring.sign_recoverable(path, bitcoin_digest(message, network))
            raw = bytes([P2WPKH_HEADER + parity]) + r.to_bytes(32, "big") + s.to_bytes(32, "big")
            return base64.b64encode(raw).decode("ascii")
        parity, r, s = self._keyring.sign_recoverable(path, evm_digest(message))
        return (
            "0x" + (r.to_bytes(32, "big") + s.to_bytes(32, "big")).hex() + f"{EVM_V + parity:02x}"
        )


def bitcoin_digest(message: str, network: NetworkSettings) -> bytes:
    """Double SHA-256 of the prefixed message, as Core's `signmessage` and BIP-137 have it."""
    magic = _LITECOIN_MAGIC if network.hrp in LITECOIN_HRPS else _BITCOIN_MAGIC
    text = message.encode("ascii")
    content = bytes([len(magic)]) + magic + bytes([len(text)]) + text
    return hashlib.sha256(hashlib.sha256(content).digest()).digest()


def evm_digest(message: str) -> bytes:
    """Keccak-256 of the prefixed message (EIP-191, version 0x45, `personal_sign`)."""
    text = message.encode("ascii")
    return bytes(keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text))
