"""The strict reading of a client's signed withdrawal body.

It owns the exact fields, the amount grammar and the validity window. Nothing is rounded, guessed
or ignored: unknown fields, numbers for strings and other digits than ASCII are refused. It must
not know who signed.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from signer.errors import RefusalCode, Refused
from signer.protocol import ProtocolError, strict_loads
from signer.settings import Settings

WITHDRAWAL_PATH = "/v1/withdrawals"
BATCH_PATH = "/v1/withdrawal_batches"
BATCH_ITEMS_MAX = 500
BODY_BYTES_MAX = 512 * 1024  # CONTRACT 3: batches
DAY_SECONDS = 86_400
VALID_DEFAULT_SECONDS = 7 * DAY_SECONDS
VALID_MAX_SECONDS = 30 * DAY_SECONDS

_REQUIRED = {"request_id", "player_id", "asset", "address", "amount", "pam_balance"}
_OPTIONAL = {"fee_class", "fee_mode", "max_fee", "valid_until", "metadata"}
_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,59})(?:\.([0-9]{1,30}))?", re.ASCII)
_IDENTIFIER = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|\+00:00)", re.ASCII
)
_FEE_CLASSES = ("urgent", "normal", "economy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client asked for: `least_minor` to `amount_minor` of `asset` to `address`.

    The two are one with `fee_mode` brand; with `player` they are `max_fee` apart (CONTRACT 1).
    """

    request_id: str
    asset: str
    network: str
    address: str
    least_minor: int
    amount_minor: int
    valid_until_seconds: int


class SignedBody:
    """A signed body, read once for all of its orders; raises Refused where it is none.

    A batch that holds one request_id twice is refused whole. What is wrong inside another item is
    that item's case: the items are independent (CONTRACT 3), and only one that is asked for pays.
    """

    def __init__(self, body: bytes, *, path: str) -> None:
        if len(body) > BODY_BYTES_MAX:
            raise _bad("the body is too large")
        try:
            raw = strict_loads(body)
        except ProtocolError as error:
            raise _bad(f"the body: {error}") from error
        self._single = raw if path == WITHDRAWAL_PATH else None
        self._items = {} if path == WITHDRAWAL_PATH else _batch_items(raw)

    def order(self, request_id: str, *, created_seconds: int, settings: Settings) -> Order:
        """The order of a request_id; raises Refused."""
        item = self._single if self._single is not None else self._items.get(request_id)
        if item is None:
            raise Refused(RefusalCode.PAYMENT_MISMATCH, "the signed body has no such request_id")
        order = _order(item, created_seconds=created_seconds, settings=settings)
        if order.request_id != request_id:
            raise Refused(RefusalCode.PAYMENT_MISMATCH, "the signed body has no such request_id")
        return order


def amount_minor(text: object, *, decimals: int, field: str) -> int:
    """A decimal string in asset units to minor units; more digits than the asset has is refused."""
    match = _AMOUNT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise _bad(f"{field}: not a decimal string")
    whole, fraction = match.group(1), match.group(2) or ""
    if len(fraction) > decimals:
        raise _bad(f"{field}: more digits than the asset has")
    return int(whole + fraction.ljust(decimals, "0"))


def moment_seconds(value: object) -> int:
    """RFC 3339 in UTC to whole seconds since 1970, rounded down; raises Refused."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise _bad("valid_until: not RFC 3339 in UTC")
    try:
        moment = datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _bad("valid_until: not a moment") from error
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * DAY_SECONDS + since.seconds


def _batch_items(raw: dict[str, Any]) -> dict[str, dict[str, Any]]:
    items = raw.get("items")
    if set(raw) != {"items"} or not isinstance(items, list):
        raise _bad("a batch is exactly one list of items")
    if not 1 <= len(items) <= BATCH_ITEMS_MAX:
        raise _bad(f"a batch has 1 to {BATCH_ITEMS_MAX} items")
    by_id: dict[str, dict[str, Any]] = {}
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("request_id"), str):
            raise _bad("an item is not an object with a request_id")
        by_id[item["request_id"]] = item
    if len(by_id) != len(items):
        raise _bad("one request_id twice in a batch")
    return by_id


def _order(raw: dict[str, Any], *, created_seconds: int, settings: Settings) -> Order:
    unknown, missing = set(raw) - _REQUIRED - _OPTIONAL, _REQUIRED - set(raw)
    if unknown or missing:
        raise _bad(f"unknown or missing field {sorted(unknown | missing)[0]!r}")
    asset = _text(raw, "asset")
    network = asset.partition(":")[0]
    known = settings.networks.get(network)
    if known is None or asset not in known.assets:
        raise _bad("asset: not on the signer's list")
    decimals = known.assets[asset].decimals
    amount = amount_minor(raw["amount"], decimals=decimals, field="amount")
    if amount == 0:
        raise _bad("amount: zero")
    amount_minor(raw["pam_balance"], decimals=decimals, field="pam_balance")
    _text(raw, "player_id")
    if not isinstance(raw.get("metadata") or {}, dict):
        raise _bad("metadata: an object is required")
    return Order(
        request_id=_text(raw, "request_id"),
        asset=asset,
        network=network,
        address=_text(raw, "address"),
        least_minor=amount - _fee_max(raw, amount, decimals),
        amount_minor=amount,
        valid_until_seconds=_valid_until(raw.get("valid_until"), created_seconds),
    )


def _fee_max(raw: dict[str, Any], amount: int, decimals: int) -> int:
    """How much less than the amount the player may receive, in minor units of the asset."""
    if raw.get("fee_class", "normal") not in _FEE_CLASSES:
        raise _bad("fee_class: urgent, normal or economy")
    mode, text = raw.get("fee_mode", "brand"), raw.get("max_fee")
    if mode not in ("brand", "player"):
        raise _bad("fee_mode: brand or player")
    if mode == "player" and text is None:
        raise _bad("max_fee: required with fee_mode player")
    most = 0 if text is None else amount_minor(text, decimals=decimals, field="max_fee")
    if mode == "brand":
        return 0
    if most >= amount:
        raise _bad("max_fee: not below the amount")
    return most


def _valid_until(value: object, created_seconds: int) -> int:
    if value is None:
        return created_seconds + VALID_DEFAULT_SECONDS
    seconds = moment_seconds(value)
    if seconds > created_seconds + VALID_MAX_SECONDS:
        raise _bad("valid_until: more than 30 days after created")
    return seconds


def _text(raw: dict[str, Any], field: str) -> str:
    value = raw[field]
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise _bad(f"{field}: 1 to 255 printable ASCII characters without spaces")
    return value


def _bad(reason: str) -> Refused:
    return Refused(RefusalCode.BAD_ORDER, reason)
