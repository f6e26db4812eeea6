"""A whole signer on temporary files.

The mnemonic is the public BIP-39 test vector of 32 zero bytes ("abandon ... art"), and every other
secret here is a public constant: nothing of it may ever hold money.
"""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from signer.admin import make_statement, sign_statement
from signer.keyring import Keyring, keyring_from_entropy
from signer.logs import Log
from signer.paths import parse_path
from signer.ports import Guard, Unguarded
from signer.protocol import (
    Refusal,
    SignedTx,
    SignRequest,
)
from signer.settings import BATCH_CODE_HASH, Settings, load_settings
from signer.store import Store, create_store
from signer.trust import Trust
from signer.vault import Vault

TEST_ENTROPY = bytes(32)  # public BIP-39 vector
START = 1_700_000_000
AUTHORITY = "cage.test:8080"
TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
BATCH_CONTRACT = "0x" + "b0" * 20
COLLECTOR = "0xbc81be41b01bbb755d27fa5197ed7f0e828c8fe5"
"""The collector of these keys (hot lane 0, gas account 0), as `signer.collector` derives it."""
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
collector = "{COLLECTOR}"

[networks.eth.batch_contract]
address = "{BATCH_CONTRACT}"
code_hash = "{BATCH_CODE_HASH}"

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

FRESH_SIGNER_TOML = "".join(
    line for line in SIGNER_TOML.splitlines(keepends=True) if not line.startswith("collector")
)
"""For keys that are made in the test: the collector above follows from ours alone."""


WITHOUT_VERSION_4 = """
DROP TABLE reissues;
DROP TABLE questions;
DROP TABLE halts;
DROP TABLE cold_pins;
DROP INDEX paid_family;
DROP INDEX spent_attempt;
ALTER TABLE staff_keys DROP COLUMN state;
"""
"""What a store of version 3 lacks."""


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


def open_kit(folder: Path, clock: HandClock, *, guard: Guard | None = None) -> VaultKit:
    """Open the signer of a folder."""
    settings = load_settings(folder, own_uid=0)
    keyring = keyring_from_entropy(TEST_ENTROPY)
    store = Store(settings.store, settings.anchor, fingerprint=keyring.fingerprint, clock=clock)
    stream = io.StringIO()
    vault = Vault(
        settings=settings,
        keyring=keyring,
        guard=guard or Unguarded(),
        store=store,
        clock=clock,
        log=Log(stream, clock),
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
