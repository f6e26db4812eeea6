"""A whole signer on temporary files, and builders of what clients and payouts would send it.

The mnemonic is the public BIP-39 test vector of 32 zero bytes ("abandon ... art"), and every other
secret here is a public constant: nothing of it may ever hold money.
"""

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rlp  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from embit.psbt import PSBT
from embit.script import Script
from embit.transaction import Transaction, TransactionInput, TransactionOutput
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ED25519

from gateway.client import Signer as ApiSigner
from signer.admin import make_statement, sign_statement
from signer.authorisation import COMPONENTS
from signer.keyring import Keyring, keyring_from_entropy
from signer.logs import Log
from signer.paths import parse_path
from signer.protocol import (
    Authorisation,
    Payment,
    Purpose,
    Refusal,
    SignedTx,
    SignRequest,
    VoidRequest,
)
from signer.settings import Settings, load_settings
from signer.store import Store, create_store
from signer.trust import Trust
from signer.vault import Vault
from tests.support.clock import ManualClock, SequentialIds

TEST_ENTROPY = bytes(32)  # public BIP-39 vector
START = 1_700_000_000
AUTHORITY = "cage.test:8080"
TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
FOREIGN_BTC = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # BIP-173's program
FOREIGN_EVM = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"  # EIP-55's first vector
CLIENT_SEED = hashlib.sha256(b"public test client").digest()
STAFF_SEEDS = {name: hashlib.sha256(name.encode()).digest() for name in ("alice", "bob")}

SIGNER_TOML = f"""
[signer]
anchor = "../anchor/anchor.json"
authorities = ["{AUTHORITY}"]

[brands]
acme = 1
bravo = 2

[networks.btc]
family = "bitcoin"
caip2 = "bip122:0f9188f13cb7b2c71f2a335e3a4fc328"
test = true
coin_type = 1
hrp = "bcrt"
p2pkh_versions = [111]
p2sh_versions = [196]
fee_max_minor = 100000
fee_day_max_minor = 10000000
fee_rate_max = 200

[networks.btc.assets.BTC]
decimals = 8
cap_tx_minor = 500000000
cap_hour_minor = 800000000
cap_day_minor = 1000000000

[networks.ltc]
family = "bitcoin"
caip2 = "bip122:530827f38f93b43ed12af0b3ad25a288"
test = true
coin_type = 1
hrp = "rltc"
p2pkh_versions = [111]
p2sh_versions = [196, 58]
fee_max_minor = 100000
fee_day_max_minor = 10000000
fee_rate_max = 200

[networks.ltc.assets.LTC]
decimals = 8
cap_tx_minor = 500000000
cap_hour_minor = 800000000
cap_day_minor = 1000000000

[networks.eth]
family = "evm"
test = true
coin_type = 60
chain_id = 31337
gas_limit_max = 200000
fee_max_minor = "20000000000000000"
fee_day_max_minor = "2000000000000000000"
fee_rate_max = "300000000000"
gas_top_up_tx_max_minor = "50000000000000000"
gas_top_up_address_day_max_minor = "100000000000000000"

[networks.eth.assets.ETH]
decimals = 18
cap_tx_minor = "5000000000000000000"
cap_hour_minor = "8000000000000000000"
cap_day_minor = "10000000000000000000"

[networks.eth.assets.USDT]
decimals = 6
contract = "{TOKEN}"
cap_tx_minor = 500000000
cap_hour_minor = 800000000
cap_day_minor = 1000000000
"""


class CountingRandomness:
    """Deterministic bytes for tests: a counter, hashed."""

    def __init__(self) -> None:
        self._count = 0

    def token(self, size: int) -> bytes:
        """`size` bytes that anybody can predict."""
        self._count += 1
        return hashlib.sha512(self._count.to_bytes(8, "big")).digest()[:size]


class HandClock:
    """A clock that a test sets."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def now_seconds(self) -> int:
        """The time the test set."""
        return self.now


@dataclass(kw_only=True)
class VaultKit:
    """One signer with its parts in reach."""

    folder: Path
    settings: Settings
    keyring: Keyring
    store: Store
    vault: Vault
    trust: Trust
    clock: HandClock
    log: io.StringIO
    attempts: int = field(default=0)

    def reopen(self) -> "VaultKit":
        """The same signer after a restart."""
        self.store.close()
        return open_kit(self.folder, self.clock)

    def address(self, network: str, path: str) -> str:
        """The text of an own address."""
        settings = self.settings.networks[network]
        return self.keyring.address(parse_path(path, settings), settings)

    def script(self, path: str, network: str = "btc") -> bytes:
        """The script of an own UTXO path."""
        return self.keyring.script(parse_path(path, self.settings.networks[network]))

    def statement(
        self, action: str, fields: Mapping[str, object], people: Sequence[str] = ("alice", "bob")
    ) -> int:
        """Apply a staff statement signed by these people."""
        text = make_statement(
            action,
            signer=self.keyring.fingerprint,
            issued_at=self.clock.now,
            fields=fields,
        )
        signatures = {name: sign_statement(staff_key(name), text) for name in people}
        return self.trust.apply(text, signatures, now_seconds=self.clock.now)

    def sign(self, request: SignRequest) -> SignedTx | Refusal:
        """Ask the vault."""
        return self.vault.sign(request)

    def signed(self, request: SignRequest) -> SignedTx:
        """Ask the vault and expect a signature."""
        answer = self.vault.sign(request)
        assert isinstance(answer, SignedTx), answer
        return answer

    def refused(self, request: SignRequest) -> str:
        """Ask the vault, expect a refusal, return its code."""
        answer = self.vault.sign(request)
        assert isinstance(answer, Refusal), answer
        return answer.code


def new_folder(parent: Path) -> Path:
    """A signer's folder with settings, store and anchor, no key file."""
    folder = parent / "signer"
    folder.mkdir()
    (folder / "signer.toml").write_text(SIGNER_TOML, "utf-8")
    settings = load_settings(folder, own_uid=0)
    create_store(
        settings.store,
        settings.anchor,
        fingerprint=keyring_from_entropy(TEST_ENTROPY).fingerprint,
        randomness=CountingRandomness(),
    )
    return folder


def open_kit(folder: Path, clock: HandClock) -> VaultKit:
    """Open the signer of a folder."""
    settings = load_settings(folder, own_uid=0)
    keyring = keyring_from_entropy(TEST_ENTROPY)
    store = Store(settings.store, settings.anchor, fingerprint=keyring.fingerprint, clock=clock)
    stream = io.StringIO()
    vault = Vault(
        settings=settings, keyring=keyring, store=store, clock=clock, log=Log(stream, clock)
    )
    trust = Trust(store=store, settings=settings, fingerprint=keyring.fingerprint)
    return VaultKit(
        folder=folder,
        settings=settings,
        keyring=keyring,
        store=store,
        vault=vault,
        trust=trust,
        clock=clock,
        log=stream,
    )


def trusted_kit(parent: Path) -> VaultKit:
    """A signer with two people on its staff and one trusted client key of brand `acme`."""
    kit = open_kit(new_folder(parent), HandClock())
    staff = {name: public_text(staff_key(name)) for name in STAFF_SEEDS}
    kit.statement("staff_add", {"staff": staff}, people=())
    trust_client(kit)
    return kit


def trust_client(kit: VaultKit, keyid: str = "client-1", **changes: Any) -> int:
    """Trust the test client's key with wide caps."""
    wide = {"tx": str(10**24), "day": str(10**24)}
    fields: dict[str, Any] = {
        "keyid": keyid,
        "public_key": public_text(client_key()),
        "brand": "acme",
        "caps": {asset: wide for asset in ("btc:BTC", "ltc:LTC", "eth:ETH", "eth:USDT")},
        "expires_at": kit.clock.now + 86_400 * 365,
    }
    return kit.statement("trust", {**fields, **changes})


def client_key() -> Ed25519PrivateKey:
    """The test client's public-knowledge key."""
    return Ed25519PrivateKey.from_private_bytes(CLIENT_SEED)


def staff_key(name: str) -> Ed25519PrivateKey:
    """A staff member's public-knowledge key."""
    return Ed25519PrivateKey.from_private_bytes(STAFF_SEEDS[name])


def public_text(key: Ed25519PrivateKey) -> str:
    """A public key as the register takes it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


class _Resolver(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        return client_key()


class _Outgoing:
    """A client's request in the shape that the signing library takes."""

    def __init__(self, method: str, url: str, headers: dict[str, str]) -> None:
        self.method = method
        self.url = url
        self.headers = headers


def order_body(**changes: Any) -> dict[str, Any]:
    """A withdrawal's body; None drops a field."""
    body: dict[str, Any] = {
        "request_id": "r-1",
        "player_id": "p-1",
        "asset": "btc:BTC",
        "address": FOREIGN_BTC,
        "amount": "0.5",
        "pam_balance": "0",
        "fee_class": "normal",
        "fee_mode": "brand",
    }
    body.update(changes)
    return {key: value for key, value in body.items() if value is not None}


def authorise(
    body: Mapping[str, Any] | bytes,
    *,
    created: int = START,
    method: str = "POST",
    authority: str = AUTHORITY,
    path: str = "/v1/withdrawals",
    query: str = "?",
    keyid: str = "client-1",
    components: Sequence[str] = COMPONENTS,
    nonce: str | None = "nonce-1",
) -> Authorisation:
    """A client's signature by the public library."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    digest = base64.b64encode(hashlib.sha256(raw).digest()).decode()
    headers = {"content-digest": f"sha-256=:{digest}:", "idempotency-key": "key-1"}
    url = f"https://{authority}{path}{'' if query == '?' else query}"
    message = _Outgoing(method, url, dict(headers))
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=_Resolver()).sign(
        message,
        key_id=keyid,
        created=datetime.fromtimestamp(created, UTC),
        nonce=nonce,
        label="sig1",
        covered_component_ids=tuple(components),
        use_existing_digest=True,
    )
    return Authorisation(
        method=method,
        authority=authority,
        path=path,
        query=query,
        headers=headers,
        body=raw,
        signature_input=message.headers["Signature-Input"],
        signature=message.headers["Signature"],
    )


def cancel(
    withdrawal: str = "wd_test_1",
    *,
    body: bytes = b"",
    created: int = START,
    key: Ed25519PrivateKey | None = None,
    keyid: str = "client-1",
    idempotency_key: str | None = None,
    target: str = "/v1/withdrawals/{}/cancel",
    authority: str = AUTHORITY,
) -> Authorisation:
    """A client's signed cancel of a withdrawal id, as the house's own signing client makes it."""
    made = ApiSigner(
        key_id=keyid,
        key=key or client_key(),
        authority=authority,
        clock=ManualClock(datetime.fromtimestamp(created, UTC)),
        ids=SequentialIds(),
    ).sign("POST", target.format(withdrawal), body=body, idempotency_key=idempotency_key)
    headers = {name.lower(): value for name, value in made.headers.items()}
    path, mark, query = made.target.partition("?")
    return Authorisation(
        method="POST",
        authority=authority,
        path=path,
        query="?" + query if mark else "?",
        headers={
            name: headers[name] for name in ("content-digest", "idempotency-key") if name in headers
        },
        body=body,
        signature_input=headers["signature-input"],
        signature=headers["signature"],
    )


def void_of(claim: Authorisation | None = None, **changes: Any) -> VoidRequest:
    """A void of the test order, with this cancel."""
    body = order_body(**changes)
    return VoidRequest(
        brand="acme", request_id=body["request_id"], order=authorise(body), cancel=claim
    )


def payment(index: int = 0, claim: Authorisation | None = None, **changes: Any) -> Payment:
    """One payment with its authorisation."""
    body = order_body(**changes)
    return Payment(
        brand="acme",
        request_id=body["request_id"],
        output_index=index,
        authorisation=claim or authorise(body),
    )


def previous_tx(script: bytes, amount: int, salt: int = 0) -> Transaction:
    """A tx that pays `amount` satoshi to a script at output 1."""
    source = TransactionInput(hashlib.sha256(b"coin%d" % salt).digest(), 0)
    outputs = [TransactionOutput(1_000, Script(script)), TransactionOutput(amount, Script(script))]
    return Transaction(version=2, vin=[source], vout=outputs, locktime=0)


def psbt_of(coins: Sequence[Transaction], outputs: Sequence[tuple[bytes, int]]) -> PSBT:
    """A PSBT v0 that spends output 1 of each coin."""
    tx = Transaction(
        version=2,
        vin=[TransactionInput(coin.txid(), 1, sequence=0xFFFFFFFD) for coin in coins],
        vout=[TransactionOutput(amount, Script(script)) for script, amount in outputs],
        locktime=0,
    )
    psbt = PSBT(tx)
    for scope, coin in zip(psbt.inputs, coins, strict=True):
        scope.non_witness_utxo = coin
        scope.witness_utxo = coin.vout[1]
    return psbt


HOT = "m/84h/1h/0h/0/0"
CHANGE = "m/84h/1h/0h/1/0"
FOREIGN_SCRIPT = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
LANE = "m/44h/60h/0h/0/0"
GAS = "m/44h/60h/0h/1/0"


def utxo_request(
    kit: VaultKit,
    *,
    attempt_id: str = "a-1",
    salts: Sequence[int] = (1,),
    fee: int = 1_000,
    **changes: Any,
) -> SignRequest:
    """Pays 0.5 BTC to the foreign address from hot coins of 1 BTC, the rest to change."""
    script = kit.script(HOT)
    coins = [previous_tx(script, 100_000_000, salt) for salt in salts]
    change = len(coins) * 100_000_000 - 50_000_000 - fee
    psbt = psbt_of(coins, [(FOREIGN_SCRIPT, 50_000_000), (kit.script(CHANGE), change)])
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "purpose": Purpose.WITHDRAWAL,
        "network": "btc",
        "worker_epoch": 1,
        "unsigned": psbt.serialize(),
        "input_paths": (HOT,) * len(coins),
        "change_paths": {1: CHANGE},
        "payments": (payment(),),
    }
    return SignRequest(**{**fields, **changes})


def evm_payload(**changes: Any) -> bytes:
    """An unsigned EIP-1559 payload: 0.5 ETH to the foreign address."""
    fields: dict[str, Any] = {
        "chain_id": 31337,
        "nonce": 0,
        "priority": 10**9,
        "max_fee": 30 * 10**9,
        "gas": 21_000,
        "to": bytes.fromhex(FOREIGN_EVM[2:]),
        "value": 5 * 10**17,
        "data": b"",
        "access": [],
    }
    fields.update(changes)
    return b"\x02" + bytes(rlp.encode(list(fields.values())))


def transfer_data(address: str, amount: int, selector: str = "a9059cbb") -> bytes:
    """An ERC-20 call of one address and one amount."""
    return (
        bytes.fromhex(selector)
        + bytes(12)
        + bytes.fromhex(address[2:])
        + amount.to_bytes(32, "big")
    )


def evm_request(
    *, attempt_id: str = "e-1", payload: bytes | None = None, **changes: Any
) -> SignRequest:
    """Pays 0.5 ETH to the foreign address from the first hot lane."""
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "purpose": Purpose.WITHDRAWAL,
        "network": "eth",
        "worker_epoch": 1,
        "unsigned": payload or evm_payload(),
        "input_paths": (LANE,),
        "change_paths": {},
        "payments": (payment(asset="eth:ETH", address=FOREIGN_EVM),),
    }
    return SignRequest(**{**fields, **changes})
