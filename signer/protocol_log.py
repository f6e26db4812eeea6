"""The `log` message: what was signed on a network, page by page, so that books can be compared.

A part of the wire contract: `signer.protocol` gives its names to its readers. Standard library
only.
"""

from dataclasses import dataclass
from typing import Any

from signer.protocol_fields import (
    ProtocolError,
    Refusal,
    decode_refusal,
    encode_refusal,
    exact,
    integer,
    text,
)

LOG = "log"  # the message's name: `signer.protocol.Operation`
MAX_LOG_ENTRIES = 500  # signatures in one page
MAX_LOG_REQUESTS = 1_000  # requests that one tx pays


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRequest:
    """Asks for the signatures of a network in the entries after `after` (0: from the first)."""

    network: str
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """One signature. `family` is the first attempt of its exclusion family; `fee_minor` the fee of
    a UTXO tx, the most that an account tx can cost; `requests` the (brand, request_id) it pays.
    """

    sequence: int
    attempt_id: str
    family: str
    purpose: str
    txid: str
    fee_minor: int
    requests: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Every signature of the network in the entries after `after`, up to and with `through`.

    `after_hash` is the hash of entry `after` (64 zeros for 0), None where the log does not reach
    so far: it is another log, or an older one. `through_hash` is that of entry `through`; `head` is
    the newest entry's sequence, `epoch` the newest worker epoch seen on the network, -1 for none.
    """

    after_hash: str | None
    through: int
    through_hash: str
    head: int
    epoch: int
    entries: tuple[LogEntry, ...]


def encode_log_request(value: LogRequest) -> dict[str, Any]:
    """To the `log` message."""
    return {"op": LOG, "network": value.network, "after": value.after}


def decode_log_request(raw: dict[str, Any]) -> LogRequest:
    """From the `log` message; raises ProtocolError."""
    raw = exact(raw, {"op", "network", "after"}, "log")
    after = integer(raw["after"], "after")
    if not 0 <= after < 2**62:
        raise ProtocolError("after: a sequence is required")
    return LogRequest(network=text(raw["network"], "network"), after=after)


def encode_log_answer(value: LogPage | Refusal) -> dict[str, Any]:
    """To the answer of `log`."""
    if isinstance(value, Refusal):
        return encode_refusal(value)
    return {
        "ok": True,
        "after_hash": value.after_hash,
        "through": value.through,
        "through_hash": value.through_hash,
        "head": value.head,
        "epoch": value.epoch,
        "entries": [
            {
                "sequence": entry.sequence,
                "attempt_id": entry.attempt_id,
                "family": entry.family,
                "purpose": entry.purpose,
                "txid": entry.txid,
                "fee": str(entry.fee_minor),
                "requests": [list(pair) for pair in entry.requests],
            }
            for entry in value.entries
        ],
    }


def decode_log_answer(raw: dict[str, Any]) -> LogPage | Refusal:
    """From the answer of `log`; raises ProtocolError."""
    if raw.get("ok") is False:
        return decode_refusal(raw)
    keys = {"ok", "after_hash", "through", "through_hash", "head", "epoch", "entries"}
    raw = exact(raw, keys, "log")
    if not isinstance(raw["entries"], list) or len(raw["entries"]) > MAX_LOG_ENTRIES:
        raise ProtocolError(f"entries: a list of at most {MAX_LOG_ENTRIES} is required")
    after_hash = raw["after_hash"]
    return LogPage(
        after_hash=None if after_hash is None else text(after_hash, "after_hash"),
        through=integer(raw["through"], "through"),
        through_hash=text(raw["through_hash"], "through_hash"),
        head=integer(raw["head"], "head"),
        epoch=integer(raw["epoch"], "epoch"),
        entries=tuple(_entry(item) for item in raw["entries"]),
    )


def _entry(value: object) -> LogEntry:
    keys = {"sequence", "attempt_id", "family", "purpose", "txid", "fee", "requests"}
    raw = exact(value, keys, "entries[]")
    pairs, fee = raw["requests"], text(raw["fee"], "fee")
    if not (fee.isascii() and fee.isdigit()):
        raise ProtocolError("fee: minor units as a string are required")
    if not isinstance(pairs, list) or len(pairs) > MAX_LOG_REQUESTS:
        raise ProtocolError("requests: a list is required")
    return LogEntry(
        sequence=integer(raw["sequence"], "sequence"),
        attempt_id=text(raw["attempt_id"], "attempt_id"),
        family=text(raw["family"], "family"),
        purpose=text(raw["purpose"], "purpose"),
        txid=text(raw["txid"], "txid"),
        fee_minor=int(fee),
        requests=tuple(_pair(item) for item in pairs),
    )


def _pair(value: object) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise ProtocolError("requests[]: brand and request_id")
    return text(value[0], "brand"), text(value[1], "request_id")
