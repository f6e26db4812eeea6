"""What clients ordered and people said, read again from the bytes that they signed.

For what the signer knows and lost books do not. The API and the signer have read these bytes
strictly before; here they are read once more with the same grammar of amounts. It writes nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.payouts.context import Signer
from signer.protocol import Authorisation, LogEntry, Payment, ProtocolError, strict_loads

VALID_DEFAULT = timedelta(days=7)  # CONTRACT 3
_CREATED = re.compile(r";created=([0-9]{1,12})")
_KEYID = re.compile(r';keyid="([^"]{1,255})"')


class UnreadableOrder(ValueError):
    """The signed bytes are no order of this request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedOrder:
    """One order as it was signed: texts, not yet amounts or addresses."""

    request_id: str
    player_id: str
    asset: str
    address: str
    amount: str
    pam_balance: str
    fee_class: str
    fee_mode: str
    max_fee: str | None
    metadata: Mapping[str, Any]
    key_id: str
    valid_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedExit:
    """What one person signed about transactions of a payment: texts."""

    action: str
    brand: str
    request_id: str
    txids: tuple[str, ...]
    key_id: str


def read(payment: Payment) -> SignedOrder:
    """The order behind a payment of the signer's; raises UnreadableOrder."""
    claim = payment.authorisation
    try:
        raw = strict_loads(claim.body)
        items = raw["items"] if "items" in raw else [raw]
        [item] = [one for one in items if one["request_id"] == payment.request_id]
        return SignedOrder(
            request_id=str(item["request_id"]),
            player_id=str(item["player_id"]),
            asset=str(item["asset"]),
            address=str(item["address"]),
            amount=str(item["amount"]),
            pam_balance=str(item["pam_balance"]),
            fee_class=str(item.get("fee_class") or "normal"),
            fee_mode=str(item.get("fee_mode") or "brand"),
            max_fee=None if item.get("max_fee") is None else str(item["max_fee"]),
            metadata=dict(item.get("metadata") or {}),
            key_id=key_id(claim),
            valid_until=_valid_until(item.get("valid_until"), claim),
        )
    except (ProtocolError, KeyError, TypeError, ValueError) as error:
        raise UnreadableOrder(f"{payment.request_id}: {type(error).__name__}") from error


def read_exit(claim: Authorisation) -> SignedExit:
    """A person's word for an abort (`txid`) or a reissue (`dead_txids`); raises UnreadableOrder."""
    try:
        raw = strict_loads(claim.body)
        txids = [raw["txid"]] if "txid" in raw else list(raw["dead_txids"])
        return SignedExit(
            action=str(raw["action"]),
            brand=str(raw["brand"]),
            request_id=str(raw["request_id"]),
            txids=tuple(str(txid) for txid in txids),
            key_id=key_id(claim),
        )
    except (ProtocolError, KeyError, TypeError, ValueError) as error:
        raise UnreadableOrder(f"{claim.path}: {type(error).__name__}") from error


def key_id(claim: Authorisation) -> str:
    """The key that signed a request; raises ValueError."""
    return _found(_KEYID, claim)


async def assets_of(signer: Signer, entry: LogEntry) -> frozenset[str]:
    """The assets that a signature pays; none where its orders cannot be read.

    Raises SignerUnavailable.
    """
    question = await signer.recall(entry.attempt_id)
    found: set[str] = set()
    for payment in () if question is None else question.payments:
        try:
            found.add(read(payment).asset)
        except UnreadableOrder:
            return frozenset()
    return frozenset(found)


def _found(pattern: re.Pattern[str], claim: Authorisation) -> str:
    match = pattern.search(claim.signature_input)
    if match is None:
        raise ValueError(f"no {pattern.pattern}")
    return match.group(1)


def _valid_until(value: object, claim: Authorisation) -> datetime:
    if value is None:
        created = int(_found(_CREATED, claim))
        return datetime.fromtimestamp(created, UTC) + VALID_DEFAULT
    return datetime.fromisoformat(str(value)).astimezone(UTC)
