"""What clients and payouts would send a signer: orders, cancels, voids and unsigned txs."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import rlp  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from embit.psbt import PSBT
from embit.script import Script
from embit.transaction import Transaction, TransactionInput, TransactionOutput
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ED25519

from gateway.client import Signer as ApiSigner
from signer.authorisation import COMPONENTS
from signer.protocol import (
    Authorisation,
    Payment,
    Purpose,
    SignRequest,
    VoidRequest,
)
from tests.support.clock import ManualClock, SequentialIds
from tests.support.vault import (
    AUTHORITY,
    FOREIGN_BTC,
    FOREIGN_EVM,
    START,
    VaultKit,
    client_key,
    staff_key,
)


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


def approval(
    person: str,
    body: Mapping[str, Any] | bytes,
    *,
    action: str = "",
    key: Ed25519PrivateKey | None = None,
    withdrawal: str = "wd_test_1",
    **changes: Any,
) -> Authorisation:
    """A person's signed request to approve, reissue or abort, as the staff command makes it."""
    action = action or (body["action"] if isinstance(body, Mapping) else "approve")
    return cancel(
        withdrawal,
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        key=key or staff_key(person),
        **{
            "keyid": f"{person}-1a2b3c4d",
            "idempotency_key": f"{person}-1",
            "target": f"/v1/withdrawals/{{}}/{action}",
            **changes,
        },
    )


def approve_body(**changes: Any) -> dict[str, Any]:
    """What people sign to let the test order go above the dual limit."""
    order = order_body()
    body = {"action": "approve", "brand": "acme"}
    body |= {name: order[name] for name in ("request_id", "asset", "address", "amount")}
    return {**body, **changes}


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
