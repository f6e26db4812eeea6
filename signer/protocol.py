"""The wire contract between payouts and the signer. Standard library only.

One frame = 4-byte big-endian length + UTF-8 JSON object, over a Unix socket, one request and one
answer at a time per connection. Bytes travel as base64, amounts as decimal integers in minor units
written as strings. This module owns the message shapes and their (de)serialisation, and
`signer.protocol_fields` the reading of a field; `attest` is in `signer.protocol_attest`, `log` in
`signer.protocol_log`, `prove` in `signer.protocol_reserves`, signed requests and `void` in
`signer.protocol_orders`, purposes in `signer.protocol_purposes`, how a signature is written in
`signer.protocol_signatures`. None of them
contains policy. Unknown fields, duplicate keys and JSON numbers for amounts are refused.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from signer import protocol_reserves as protocol_reserves
from signer.protocol_attest import MAX_ATTEST_ITEMS as MAX_ATTEST_ITEMS
from signer.protocol_attest import Attestations as Attestations
from signer.protocol_attest import Attested as Attested
from signer.protocol_attest import AttestItem as AttestItem
from signer.protocol_attest import AttestRequest as AttestRequest
from signer.protocol_attest import Statement as Statement
from signer.protocol_attest import decode_attest_answer as decode_attest_answer
from signer.protocol_attest import decode_attest_request as decode_attest_request
from signer.protocol_attest import encode_attest_answer as encode_attest_answer
from signer.protocol_attest import encode_attest_request as encode_attest_request
from signer.protocol_attest import parse_statement as parse_statement
from signer.protocol_fields import ProtocolError as ProtocolError
from signer.protocol_fields import Refusal as Refusal
from signer.protocol_fields import b64, exact, integer, text, unb64
from signer.protocol_fields import decode_refusal as decode_refusal
from signer.protocol_fields import encode_refusal as encode_refusal
from signer.protocol_fields import strict_loads as strict_loads
from signer.protocol_log import MAX_LOG_ENTRIES as MAX_LOG_ENTRIES
from signer.protocol_log import LogEntry as LogEntry
from signer.protocol_log import LogPage as LogPage
from signer.protocol_log import LogRequest as LogRequest
from signer.protocol_log import decode_log_answer as decode_log_answer
from signer.protocol_log import decode_log_request as decode_log_request
from signer.protocol_log import encode_log_answer as encode_log_answer
from signer.protocol_log import encode_log_request as encode_log_request
from signer.protocol_orders import Authorisation as Authorisation
from signer.protocol_orders import RequestReader as RequestReader
from signer.protocol_orders import RequestWriter as RequestWriter
from signer.protocol_orders import Voided as Voided
from signer.protocol_orders import VoidRequest as VoidRequest
from signer.protocol_orders import decode_authorisation as decode_authorisation
from signer.protocol_orders import decode_void_answer as decode_void_answer
from signer.protocol_orders import decode_void_request as decode_void_request
from signer.protocol_orders import encode_authorisation as encode_authorisation
from signer.protocol_orders import encode_void_answer as encode_void_answer
from signer.protocol_orders import encode_void_request as encode_void_request
from signer.protocol_orders import identity as identity
from signer.protocol_purposes import OWN_MOVES as OWN_MOVES
from signer.protocol_purposes import Purpose as Purpose
from signer.protocol_signatures import CanonicalSignature as CanonicalSignature
from signer.protocol_signatures import canonical_signature as canonical_signature
from signer.protocol_signatures import content_digest as content_digest

MAX_FRAME_BYTES = 8 * 1024 * 1024  # a 100 kvB PSBT with its previous transactions fits
MAX_QUESTIONS = 100  # of one `sign_many`
MAX_POOL_ROWS = 1_000  # a pool batch (CONTRACT 8)
MAX_APPROVALS = 2_000  # two people for each of the most payments of a tx
PROTOCOL_VERSION = 1


class Operation(StrEnum):
    """The requests that payouts (and the pool verifier) may make."""

    HEAD = "head"
    """Version, fingerprint, log head: (sequence, hash). Also a liveness check."""
    VERIFY_ADDRESSES = "verify_addresses"
    """Re-derive pool rows with hdwallet; answers which rows agree."""
    SIGN = "sign"
    """Decode, check and sign one unsigned tx."""
    SIGN_MANY = "sign_many"
    """SIGN of several in order, up to the first refusal, as one durable change."""
    LOOKUP = "lookup"
    """The stored answer of an earlier SIGN by attempt id, or none."""
    VOID = "void"
    """Never sign an order for the first time any more (S25)."""
    ATTEST = "attest"
    """Bind deposit paths to their players for ever and sign a statement of each (FEATURES N20)."""
    PROVE = "prove"
    """Sign a statement about reserves, by the attestation key and by those of own addresses."""
    LOG = "log"
    """What was signed on a network after an entry of the log, page by page (P09)."""
    RECALL = "recall"
    """The stored question of a signed attempt, so that lost books are written again (P09)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One payment of the tx and the client request that asked for it.

    For `/v1/withdrawals` the request body is the item; for a batch body `request_id` selects it.
    `output_index` is the UTXO output, or 0 for an account chain.
    """

    brand: str
    request_id: str
    output_index: int
    authorisation: Authorisation


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    """Asks for the signatures of one attempt.

    `unsigned` is a PSBT v0 with non-witness UTXOs for UTXO chains, and the unsigned EIP-2718
    payload (`0x02 || rlp([...])` without signature, of COLLECT also `0x04`) for EVM. `input_paths`
    has one BIP-32 path per input (UTXO) or exactly one, the sender (EVM). `change_paths` maps
    output index to own path; of COLLECT leg index to deposit path, and behind the legs each
    EIP-7702 authorisation to its own.
    `own_path`: where a top-up, a sweep, a Safe's refill or CPFP goes. `replaces` names the attempt
    whose family this one continues, or is None for the first of a family. `approvals` are staff's
    signed requests, exactly as received, for what the client's bytes do not authorise (above the
    dual limit, REISSUE, ABORT). They are no part of what makes two questions the same.
    """

    attempt_id: str
    purpose: Purpose
    network: str
    worker_epoch: int
    unsigned: bytes
    input_paths: tuple[str, ...]
    change_paths: Mapping[int, str]
    payments: tuple[Payment, ...]
    own_path: str | None = None
    replaces: str | None = None
    approvals: tuple[Authorisation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTx:
    """The answer to SIGN: network-serialised bytes, ready to broadcast, and their txid."""

    attempt_id: str
    raw: bytes
    txid: str
    log_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """One address pool row to re-derive. `address` is the canonical text of the network."""

    path: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where the signer's log stands."""

    version: int
    fingerprint: str
    sequence: int
    entry_hash: str


def _index(key: str) -> int:
    """A canonical output index: int() alone would take "+1", "0_1" and other digits too."""
    if not (key.isascii() and key.isdigit() and str(int(key)) == key):
        raise ProtocolError("change_paths: keys are output indexes")
    return int(key)


def encode_sign_request(value: SignRequest, writer: RequestWriter | None = None) -> dict[str, Any]:
    """To the `sign` message. `writer` is that of a longer message, which this is a part of."""
    writer = writer or RequestWriter()
    return {
        "op": Operation.SIGN.value,
        "attempt_id": value.attempt_id,
        "purpose": value.purpose.value,
        "network": value.network,
        "worker_epoch": value.worker_epoch,
        "unsigned": b64(value.unsigned),
        "input_paths": list(value.input_paths),
        "change_paths": {str(k): v for k, v in value.change_paths.items()},
        "payments": [
            {
                "brand": payment.brand,
                "request_id": payment.request_id,
                "output_index": payment.output_index,
                "authorisation": writer.write(payment.authorisation),
            }
            for payment in value.payments
        ],
        "own_path": value.own_path,
        "replaces": value.replaces,
        "approvals": [encode_authorisation(claim) for claim in value.approvals],
    }


def decode_sign_request(raw: dict[str, Any], reader: RequestReader | None = None) -> SignRequest:
    """From the `sign` message; raises ProtocolError naming the field. `reader` as the `writer`."""
    reader = reader or RequestReader()
    keys = {
        "op", "attempt_id", "purpose", "network", "worker_epoch", "unsigned", "input_paths",
        "change_paths", "payments", "own_path", "replaces", "approvals",
    }  # fmt: skip
    raw = exact(raw, keys, "sign")
    if not isinstance(raw["approvals"], list) or len(raw["approvals"]) > MAX_APPROVALS:
        raise ProtocolError(f"approvals: a list of at most {MAX_APPROVALS} is required")
    if not isinstance(raw["input_paths"], list) or not isinstance(raw["payments"], list):
        raise ProtocolError("input_paths, payments: lists are required")
    if not isinstance(raw["change_paths"], dict):
        raise ProtocolError("change_paths: an object is required")
    try:
        purpose = Purpose(text(raw["purpose"], "purpose"))
        change = {_index(k): text(v, "change_paths") for k, v in raw["change_paths"].items()}
    except ValueError as error:
        raise ProtocolError(f"purpose or change_paths: {error}") from error
    return SignRequest(
        attempt_id=text(raw["attempt_id"], "attempt_id"),
        purpose=purpose,
        network=text(raw["network"], "network"),
        worker_epoch=integer(raw["worker_epoch"], "worker_epoch"),
        unsigned=unb64(raw["unsigned"], "unsigned"),
        input_paths=tuple(text(p, "input_paths") for p in raw["input_paths"]),
        change_paths=change,
        payments=tuple(_decode_payment(item, reader) for item in raw["payments"]),
        own_path=None if raw["own_path"] is None else text(raw["own_path"], "own_path"),
        replaces=None if raw["replaces"] is None else text(raw["replaces"], "replaces"),
        approvals=tuple(decode_authorisation(claim) for claim in raw["approvals"]),
    )


def _decode_payment(value: object, reader: RequestReader) -> Payment:
    raw = exact(value, {"brand", "request_id", "output_index", "authorisation"}, "payment")
    return Payment(
        brand=text(raw["brand"], "payment.brand"),
        request_id=text(raw["request_id"], "payment.request_id"),
        output_index=integer(raw["output_index"], "payment.output_index"),
        authorisation=reader.read(raw["authorisation"]),
    )


def encode_sign_answer(value: SignedTx | Refusal) -> dict[str, Any]:
    """To the answer of `sign` and `lookup`."""
    if isinstance(value, Refusal):
        return encode_refusal(value)
    return {
        "ok": True,
        "attempt_id": value.attempt_id,
        "raw": b64(value.raw),
        "txid": value.txid,
        "log_sequence": value.log_sequence,
    }


def decode_sign_answer(raw: dict[str, Any]) -> SignedTx | Refusal:
    """From the answer of `sign`; raises ProtocolError."""
    if raw.get("ok") is False:
        return decode_refusal(raw)
    raw = exact(raw, {"ok", "attempt_id", "raw", "txid", "log_sequence"}, "answer")
    return SignedTx(
        attempt_id=text(raw["attempt_id"], "attempt_id"),
        raw=unb64(raw["raw"], "raw"),
        txid=text(raw["txid"], "txid"),
        log_sequence=integer(raw["log_sequence"], "log_sequence"),
    )


def encode_sign_many_request(values: Sequence[SignRequest]) -> dict[str, Any]:
    """To the `sign_many` message, in which no request stands twice."""
    writer = RequestWriter()
    return {
        "op": Operation.SIGN_MANY.value,
        "questions": [encode_sign_request(value, writer) for value in values],
    }


def decode_sign_many_request(raw: dict[str, Any]) -> list[SignRequest]:
    """From the `sign_many` message; raises ProtocolError naming the field."""
    questions = exact(raw, {"op", "questions"}, "sign_many")["questions"]
    if not isinstance(questions, list) or not 1 <= len(questions) <= MAX_QUESTIONS:
        raise ProtocolError(f"questions: a list of 1 to {MAX_QUESTIONS} is required")
    if any(not isinstance(item, dict) for item in questions):
        raise ProtocolError("questions: objects are required")
    reader = RequestReader()
    return [decode_sign_request(item, reader) for item in questions]


def encode_sign_many_answer(values: Sequence[SignedTx | Refusal]) -> dict[str, Any]:
    """To the answer of `sign_many`."""
    return {"ok": True, "answers": [encode_sign_answer(value) for value in values]}


def decode_sign_many_answer(raw: dict[str, Any]) -> list[SignedTx | Refusal] | Refusal:
    """From the answer of `sign_many`, or the refusal of the whole; raises ProtocolError."""
    if raw.get("ok") is False:
        return decode_refusal(raw)
    answers = exact(raw, {"ok", "answers"}, "answer")["answers"]
    if not isinstance(answers, list) or any(not isinstance(item, dict) for item in answers):
        raise ProtocolError("answers: a list of objects is required")
    return [decode_sign_answer(item) for item in answers]


def frame(message: dict[str, Any]) -> bytes:
    """One frame, ready to write; raises ProtocolError past MAX_FRAME_BYTES."""
    body = json.dumps(message, separators=(",", ":"), sort_keys=True).encode("utf-8")
    if len(body) > MAX_FRAME_BYTES:
        raise ProtocolError(f"frame of {len(body)} bytes is over {MAX_FRAME_BYTES}")
    return len(body).to_bytes(4, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message, or None at a clean end of stream.

    The caller puts the time-out around it. Raises ProtocolError for a cut or oversized frame or a
    body that is not one strict JSON object.
    """
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > MAX_FRAME_BYTES:
            raise ProtocolError(f"frame of {size} bytes is over {MAX_FRAME_BYTES}")
        return strict_loads(await reader.readexactly(size))
    except asyncio.IncompleteReadError as error:
        if not error.partial and error.expected == 4:
            return None
        raise ProtocolError("frame cut short") from error


def operation_of(raw: dict[str, Any]) -> Operation:
    """Which request this is; raises ProtocolError."""
    try:
        return Operation(text(raw.get("op"), "op"))
    except ValueError as error:
        raise ProtocolError("op: unknown operation") from error


def encode_head_request() -> dict[str, Any]:
    """To the `head` message."""
    return {"op": Operation.HEAD.value}


def encode_head_answer(value: Head) -> dict[str, Any]:
    """To the answer of `head`."""
    return {
        "ok": True,
        "version": value.version,
        "fingerprint": value.fingerprint,
        "sequence": value.sequence,
        "entry_hash": value.entry_hash,
    }


def decode_head_answer(raw: dict[str, Any]) -> Head | Refusal:
    """From the answer of `head`; raises ProtocolError."""
    if raw.get("ok") is False:
        return decode_refusal(raw)
    raw = exact(raw, {"ok", "version", "fingerprint", "sequence", "entry_hash"}, "head")
    return Head(
        version=integer(raw["version"], "version"),
        fingerprint=text(raw["fingerprint"], "fingerprint"),
        sequence=integer(raw["sequence"], "sequence"),
        entry_hash=text(raw["entry_hash"], "entry_hash"),
    )


def encode_verify_request(*, network: str, rows: Sequence[PoolRow]) -> dict[str, Any]:
    """To the `verify_addresses` message; at most MAX_POOL_ROWS rows."""
    return {
        "op": Operation.VERIFY_ADDRESSES.value,
        "network": network,
        "rows": [{"path": row.path, "address": row.address} for row in rows],
    }


def decode_verify_request(raw: dict[str, Any]) -> tuple[str, tuple[PoolRow, ...]]:
    """From the `verify_addresses` message: (network, rows); raises ProtocolError."""
    raw = exact(raw, {"op", "network", "rows"}, "verify_addresses")
    rows = raw["rows"]
    if not isinstance(rows, list) or len(rows) > MAX_POOL_ROWS:
        raise ProtocolError(f"rows: a list of at most {MAX_POOL_ROWS} is required")
    return text(raw["network"], "network"), tuple(_decode_pool_row(row) for row in rows)


def _decode_pool_row(value: object) -> PoolRow:
    raw = exact(value, {"path", "address"}, "rows[]")
    return PoolRow(path=text(raw["path"], "path"), address=text(raw["address"], "address"))


def encode_verify_answer(agreed: Sequence[bool]) -> dict[str, Any]:
    """To the answer of `verify_addresses`: one truth per row, in order."""
    return {"ok": True, "agreed": list(agreed)}


def decode_verify_answer(raw: dict[str, Any]) -> tuple[bool, ...] | Refusal:
    """From the answer of `verify_addresses`; raises ProtocolError."""
    if raw.get("ok") is False:
        return decode_refusal(raw)
    raw = exact(raw, {"ok", "agreed"}, "verify_addresses")
    agreed = raw["agreed"]
    if not isinstance(agreed, list) or not all(isinstance(item, bool) for item in agreed):
        raise ProtocolError("agreed: a list of booleans is required")
    return tuple(agreed)


def encode_lookup_request(attempt_id: str) -> dict[str, Any]:
    """To the `lookup` message."""
    return {"op": Operation.LOOKUP.value, "attempt_id": attempt_id}


def decode_lookup_request(raw: dict[str, Any]) -> str:
    """From the `lookup` message: the attempt id; raises ProtocolError."""
    raw = exact(raw, {"op", "attempt_id"}, "lookup")
    return text(raw["attempt_id"], "attempt_id")


def encode_lookup_answer(value: SignedTx | Refusal | None) -> dict[str, Any]:
    """To the answer of `lookup`: the stored answer of SIGN, or `found: null`."""
    return {"ok": True, "found": None if value is None else encode_sign_answer(value)}


def decode_lookup_answer(raw: dict[str, Any]) -> SignedTx | Refusal | None:
    """From the answer of `lookup`; None = the signer never answered that attempt.

    A refusal of the look-up itself raises ProtocolError, so that it is never taken for the stored
    refusal of the attempt.
    """
    if raw.get("ok") is False:
        refusal = decode_refusal(raw)
        raise ProtocolError(f"lookup refused: {refusal.code}: {refusal.reason}")
    raw = exact(raw, {"ok", "found"}, "lookup")
    if raw["found"] is None:
        return None
    if not isinstance(raw["found"], dict):
        raise ProtocolError("found: an object or null is required")
    return decode_sign_answer(raw["found"])


def encode_recall_request(attempt_id: str) -> dict[str, Any]:
    """To the `recall` message."""
    return {"op": Operation.RECALL.value, "attempt_id": attempt_id}


def decode_recall_request(raw: dict[str, Any]) -> str:
    """From the `recall` message: the attempt id; raises ProtocolError."""
    raw = exact(raw, {"op", "attempt_id"}, "recall")
    return text(raw["attempt_id"], "attempt_id")


def encode_recall_answer(value: SignRequest | None) -> dict[str, Any]:
    """To the answer of `recall`: the question as it was signed, or `found: null`."""
    return {"ok": True, "found": None if value is None else encode_sign_request(value)}


def decode_recall_answer(raw: dict[str, Any]) -> SignRequest | None:
    """From the answer of `recall`; None = no signature, or of a version that kept no questions."""
    if raw.get("ok") is False:
        refusal = decode_refusal(raw)
        raise ProtocolError(f"recall refused: {refusal.code}: {refusal.reason}")
    raw = exact(raw, {"ok", "found"}, "recall")
    if raw["found"] is None:
        return None
    if not isinstance(raw["found"], dict):
        raise ProtocolError("found: an object or null is required")
    return decode_sign_request(raw["found"])
