"""A Safe (1.3.0 and later): what its owners sign, the call that executes it, what that moved.

Pure. The typed data is EIP-712 of the Safe's own `SafeTx`; its refund fields are always zero and
its operation is always CALL, so that a signature moves the one payment and nothing else. What a
call moved is told by the token's own log. The native coin has none: a direct call of the Safe that
says `ExecutionSuccess` did exactly what its calldata says, since the Safe itself checked it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from coincurve import PublicKey
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from watchers.batches import BatchEvidence, BatchLeg, Movement
from watchers.chains.errors import BadPlan
from watchers.chains.evm.params import EvmParams
from watchers.cold_spends import ColdProgress, ColdSignature
from watchers.errors import NodeUnavailable, SignedFileRefused
from watchers.safes import SafePlan, SafeState

if TYPE_CHECKING:
    from watchers.chains.evm.decode import TokenMove

VERSIONS: Final = ("1.3.0", "1.4.0", "1.4.1", "1.5.0")  # whose domain and event are those below
SAFE_TX: Final = (
    ("to", "address"), ("value", "uint256"), ("data", "bytes"), ("operation", "uint8"),
    ("safeTxGas", "uint256"), ("baseGas", "uint256"), ("gasPrice", "uint256"),
    ("gasToken", "address"), ("refundReceiver", "address"), ("nonce", "uint256"),
)  # fmt: skip
DOMAIN: Final = (("chainId", "uint256"), ("verifyingContract", "address"))
ZERO: Final = "0x" + "00" * 20
EXEC_TYPES: Final = (
    "address", "uint256", "bytes", "uint8", "uint256", "uint256", "uint256", "address", "address",
    "bytes",
)  # fmt: skip
EXEC_SELECTOR: Final = keccak(text=f"execTransaction({','.join(EXEC_TYPES)})")[:4]
SUCCESS_TOPIC: Final = "0x" + keccak(text="ExecutionSuccess(bytes32,uint256)").hex()
TRANSFER_SELECTOR: Final = bytes.fromhex("a9059cbb")  # transfer(address,uint256)
TRANSFER_BYTES: Final = 68
SIGNATURE_BYTES: Final = 65
OWNERS_MAX: Final = 50
HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0  # EIP-2

# Gas limit of a call beside what the payment itself may use; measured on anvil with 2 of 3 owners
# (tests/integration/payouts/test_safe_refills.py). What is not used is not paid.
CALL_GAS: Final = 70_000
SIGNATURE_GAS: Final = 10_000

VIEWS: Final = ("VERSION()", "getOwners()", "getThreshold()", "nonce()", "domainSeparator()")


def view_data() -> list[str]:
    """Calldata of each of VIEWS, 0x hex."""
    return ["0x" + keccak(text=name)[:4].hex() for name in VIEWS]


def state_of(answers: Sequence[object], *, safe: str, params: EvmParams) -> SafeState | None:
    """The Safe by answers to VIEWS; None for anything but a Safe whose rules are known here.

    Owners with code are for the caller to add.
    """
    raw = [_bytes(answer) for answer in answers]
    try:
        [version] = decode(["string"], raw[0])
        [owners] = decode(["address[]"], raw[1])
        [threshold], [nonce] = decode(["uint256"], raw[2]), decode(["uint256"], raw[3])
    except (DecodingError, OverflowError, UnicodeDecodeError):
        return None
    number = str(version).partition("+")[0]  # SafeL2 says the same number with a suffix
    is_known = number in VERSIONS and raw[4] == _domain_hash(params.chain_id, safe)
    keys = tuple(str(owner).lower() for owner in owners)
    if not is_known or not 0 < threshold <= len(set(keys)) == len(keys) <= OWNERS_MAX:
        return None
    return SafeState(
        version=str(version),
        owners=keys,
        threshold=threshold,
        nonce=nonce,
        owner_contracts=frozenset(),
    )


def typed_data(plan: SafePlan, *, to_key: str, params: EvmParams) -> bytes:
    """What the owners sign, as JSON that wallets take (`eth_signTypedData_v4`). BadPlan for an
    amount or asset that it cannot hold."""
    try:
        contract = params.contract_of(plan.payment.asset)
    except KeyError as error:
        raise BadPlan(f"{plan.payment.asset} is not listed on {params.network}") from error
    amount = plan.payment.amount_minor
    if not 0 < amount < 2**256 or plan.nonce < 0:
        raise BadPlan("amount or number out of range")
    data = b""
    if contract is not None:
        words = bytes.fromhex(to_key[2:]).rjust(32, b"\x00") + amount.to_bytes(32, "big")
        data = TRANSFER_SELECTOR + words
    message = {
        "to": to_checksum_address(to_key if contract is None else contract),
        "value": str(amount if contract is None else 0),
        "data": "0x" + data.hex(),
        "operation": 0,
        "safeTxGas": "0",
        "baseGas": "0",
        "gasPrice": "0",
        "gasToken": ZERO,
        "refundReceiver": ZERO,
        "nonce": str(plan.nonce),
    }
    domain = {"chainId": params.chain_id, "verifyingContract": to_checksum_address(plan.safe_key)}
    types = {
        "EIP712Domain": [{"name": name, "type": kind} for name, kind in DOMAIN],
        "SafeTx": [{"name": name, "type": kind} for name, kind in SAFE_TX],
    }
    whole = {"types": types, "primaryType": "SafeTx", "domain": domain, "message": message}
    return json.dumps(whole, separators=(",", ":")).encode("ascii")


def digest(typed: bytes) -> bytes:
    """The hash that is signed (EIP-712); the Safe's own name of the transaction."""
    raw: dict[str, Any] = json.loads(typed)
    domain, message = raw["domain"], raw["message"]
    kinds = ["bytes32", *("bytes32" if kind == "bytes" else kind for _, kind in SAFE_TX)]
    values = [_value(message, name, kind) for name, kind in SAFE_TX]
    struct = keccak(encode(kinds, [keccak(text=_type("SafeTx", SAFE_TX)), *values]))
    separator = _domain_hash(domain["chainId"], domain["verifyingContract"])
    return bytes(keccak(b"\x19\x01" + separator + struct))


def read_signature(
    typed: bytes, upload: bytes, *, owners: Sequence[str]
) -> tuple[ColdSignature, ...]:
    """One owner's signature, recovered over the stored typed data. Raises SignedFileRefused."""
    if len(upload) >= SIGNATURE_BYTES and upload[64] in (0, 1) and not any(upload[:12]):
        raise SignedFileRefused(
            "contract_owner",
            "it is the signature of a contract, or an approval on chain (EIP-1271)",
            remedy="let owners sign that are plain accounts",
        )
    if len(upload) != SIGNATURE_BYTES:
        raise SignedFileRefused(
            "not_a_signature",
            "a signature of typed data is 65 bytes",
            remedy="bring what the wallet answered to eth_signTypedData_v4, one owner at a time",
        )
    parity = {0: 0, 1: 1, 27: 0, 28: 1}.get(upload[64])
    if parity is None:
        raise SignedFileRefused(
            "bad_signature",
            "it is not a signature of typed data (EIP-712)",
            remedy="sign the exported typed data, not a message",
        )
    s = int.from_bytes(upload[32:64], "big")
    if not 0 < s <= HALF_ORDER:
        raise SignedFileRefused(
            "bad_signature", "its s is none, or high (EIP-2)", remedy="sign it again"
        )
    try:
        public = PublicKey.from_signature_and_message(
            upload[:64] + bytes([parity]), digest(typed), hasher=None
        )
    except ValueError as error:
        raise SignedFileRefused(
            "bad_signature", "its signature is none", remedy="sign it again"
        ) from error
    key = "0x" + keccak(public.format(compressed=False)[1:])[12:].hex()
    if key not in owners:
        raise SignedFileRefused(
            "foreign_key",
            "it is not signed by an owner of the Safe, or not over this transaction",
            remedy="sign the exported typed data with the key of an owner",
        )
    signature = upload[:64] + bytes([27 + parity])
    return (ColdSignature(input_index=0, public_key=bytes.fromhex(key[2:]), signature=signature),)


def progress(
    signatures: Sequence[ColdSignature], *, owners: Sequence[str], threshold: int
) -> ColdProgress:
    """How far it is signed: `raw` is what the Safe takes, the signatures sorted by owner."""
    known = {"0x" + item.public_key.hex(): item.signature for item in signatures}
    signed_by = sorted(key for key in known if key in owners)
    chosen = signed_by[:threshold]
    raw = b"".join(known[key] for key in chosen) if len(chosen) == threshold else None
    return ColdProgress(
        raw=raw,
        txid=None,
        needed=threshold,
        signed_by=tuple(signed_by),
        waits_for=tuple(sorted(key for key in owners if key not in known)) if raw is None else (),
    )


def exec_data(typed: bytes, signatures: Sequence[bytes]) -> bytes:
    """Calldata of `execTransaction`."""
    message = json.loads(typed)["message"]
    values = [_plain(message, name, kind) for name, kind in SAFE_TX[:-1]]
    return EXEC_SELECTOR + bytes(encode(EXEC_TYPES, [*values, b"".join(signatures)]))


def safe_of(typed: bytes) -> bytes:
    """The 20 bytes of the Safe that typed data is for."""
    return bytes.fromhex(json.loads(typed)["domain"]["verifyingContract"][2:])


def gas_limit(*, transfer_gas: int, signatures: int) -> int:
    """Of a call that makes one transfer."""
    return CALL_GAS + signatures * SIGNATURE_GAS + transfer_gas


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What a direct call of a Safe would do."""

    to: str
    value: int
    data: bytes


def evidence(
    tx: Mapping[str, object],
    logs: Sequence[object],
    moves: Sequence["TokenMove"],
    *,
    params: EvmParams,
) -> BatchEvidence | None:
    """What the network's Safe did in a successful tx; None when nothing shows that it did.

    One leg where the tx calls it directly for one transfer, paid or not. A delegate call may do
    anything: it shows only what logs show.
    """
    safe = params.safe
    if safe is None:
        return None
    moved = [
        (move.asset, move.to_key, move.amount_minor)
        for move in moves
        if move.from_key == safe and move.is_listed
    ]
    call = _call(tx) if str(tx.get("to")).lower() == safe else None
    has_succeeded = sum(_is_success(log, safe) for log in logs) == 1
    if call is None:
        return BatchEvidence(payer_key=safe, legs=(), moved=tuple(moved)) if moved else None
    native = (params.native_asset, call.to, call.value)
    if has_succeeded and call.value and native not in moved:  # a log of its ERC-20 face (D61)
        moved.append(native)
    wanted = _transfer(call, params)
    legs = () if wanted is None else (_leg(wanted, is_paid=has_succeeded and wanted in moved),)
    return BatchEvidence(payer_key=safe, legs=legs, moved=tuple(moved)) if legs or moved else None


def _leg(wanted: Movement, *, is_paid: bool) -> BatchLeg:
    asset, to_key, amount = wanted
    return BatchLeg(index=0, asset=asset, to_key=to_key, amount_minor=amount, is_paid=is_paid)


def _transfer(call: _Call, params: EvmParams) -> Movement | None:
    """The one payment that a call is; None for anything else."""
    if not call.data:
        return (params.native_asset, call.to, call.value) if call.value else None
    asset = params.tokens.get(call.to)
    is_transfer = len(call.data) == TRANSFER_BYTES and call.data.startswith(TRANSFER_SELECTOR)
    if asset is None or call.value or not is_transfer or any(call.data[4:16]):
        return None
    return asset, "0x" + call.data[16:36].hex(), int.from_bytes(call.data[36:], "big")


def _call(tx: Mapping[str, object]) -> _Call | None:
    data = _bytes(tx.get("input"))
    if not data.startswith(EXEC_SELECTOR):
        return None
    try:
        to, value, inner, operation, *_ = decode(EXEC_TYPES, data[len(EXEC_SELECTOR) :])
    except (DecodingError, OverflowError):
        return None
    return _Call(to=str(to).lower(), value=value, data=bytes(inner)) if operation == 0 else None


def _is_success(log: object, safe: str) -> bool:
    if not isinstance(log, Mapping) or str(log.get("address")).lower() != safe:
        return False
    topics = log.get("topics")
    is_named = isinstance(topics, list) and bool(topics) and str(topics[0]).lower() == SUCCESS_TOPIC
    return is_named and log.get("removed") in (None, False)


def _bytes(value: object) -> bytes:
    """Of 0x hex; empty for an answer that is none (no code there, a view that reverts)."""
    if value is None:
        return b""
    if not isinstance(value, str) or not value.startswith("0x"):
        raise NodeUnavailable("data is required")
    try:
        return bytes.fromhex(value[2:])
    except ValueError as error:
        raise NodeUnavailable("data is required") from error


def _domain_hash(chain_id: int, safe: str) -> bytes:
    kind = keccak(text=_type("EIP712Domain", DOMAIN))
    values = [kind, chain_id, safe]
    return bytes(keccak(encode(["bytes32", *(item for _, item in DOMAIN)], values)))


def _type(name: str, fields: Sequence[tuple[str, str]]) -> str:
    return f"{name}({','.join(f'{kind} {field}' for field, kind in fields)})"


def _plain(message: Mapping[str, Any], name: str, kind: str) -> object:
    value = message[name]
    if kind == "bytes":
        return bytes.fromhex(value[2:])
    return value if kind == "address" else int(value)


def _value(message: Mapping[str, Any], name: str, kind: str) -> object:
    """As EIP-712 encodes a member: dynamic bytes by their hash."""
    plain = _plain(message, name, kind)
    return keccak(plain) if isinstance(plain, bytes) else plain
