"""The port of identities and randomness.

Ids are UUIDv7 (RFC 9562 5.7) behind a typed prefix on the wire (`dep_`, `wd_`, ...); 74 random
bits make them unguessable, and knowing one grants nothing (CONTRACT 3).
"""

import secrets
from datetime import datetime
from typing import Protocol
from uuid import UUID

from config.clock import Clock


class Ids(Protocol):
    """Source of new ids and random bytes."""

    def new_id(self) -> UUID:
        """A fresh UUIDv7."""
        ...

    def token_bytes(self, count: int) -> bytes:
        """`count` unpredictable bytes."""
        ...


def uuid7(*, at: datetime, entropy: bytes) -> UUID:
    """UUIDv7 of a moment (millisecond) and 10 bytes of entropy (RFC 9562 5.7)."""
    if len(entropy) != 10:
        raise ValueError("entropy: exactly 10 bytes are required")
    millis = int(at.timestamp() * 1000)
    rand_a = int.from_bytes(entropy[:2], "big") & 0x0FFF
    rand_b = int.from_bytes(entropy[2:], "big") & ((1 << 62) - 1)
    return UUID(int=(millis << 80) | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | rand_b)


class SystemIds:
    """Ids from the operating system's entropy."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def new_id(self) -> UUID:
        return uuid7(at=self._clock.now(), entropy=secrets.token_bytes(10))

    def token_bytes(self, count: int) -> bytes:
        return secrets.token_bytes(count)


PREFIXES = {
    "deposit": "dep_",
    "withdrawal": "wd_",
    "address": "addr_",
    "event": "evt_",
    "inflow": "inf_",
    "posting": "post_",
    "webhook_endpoint": "we_",
    "delivery": "del_",
    "attempt": "att_",
    "approval": "apr_",
    "reconciliation": "rec_",
    "reconciliation_break": "brk_",
    "switch": "sw_",
    "rescan": "rsc_",
    "recovery": "rcv_",
    "contract_setup": "cst_",
    "rebalance": "reb_",
    "sweep": "swp_",
    "consolidation": "con_",
    "alarm": "alm_",
    "search": "sea_",
    "doctor_case": "doc_",
    "audit": "aud_",
    "proof": "prf_",
    "balance_report": "brp_",
    "node_pardon": "npd_",
}


def public_id(kind: str, value: UUID, *, livemode: bool) -> str:
    """The wire form: prefix, `test_` outside live mode, 32 hex digits (CONTRACT 1: `_test_`)."""
    return f"{PREFIXES[kind]}{'' if livemode else 'test_'}{value.hex}"


def parse_public_id(kind: str, text: str, *, livemode: bool) -> UUID | None:
    """The UUID behind a wire id, or None when it is not one of this kind and mode."""
    prefix = PREFIXES[kind] + ("" if livemode else "test_")
    digits = text.removeprefix(prefix)
    return None if digits == text else _uuid(digits)


def uuid_of(text: str) -> UUID | None:
    """The UUID behind a wire id of any kind, for records; who acts asks `parse_public_id`."""
    return _uuid(text.rpartition("_")[2])


def _uuid(digits: str) -> UUID | None:
    if len(digits) != 32 or any(c not in "0123456789abcdef" for c in digits):
        return None
    return UUID(hex=digits)
