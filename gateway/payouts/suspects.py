"""Which members of a refused batch the signer probably meant.

Pure, and only a guess: a suspect rides alone next time, where the signer decides again. The others
stay together, so that one bad row neither blocks nor scatters a batch (P27).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from config.json_depth import shallow_text
from gateway.withdrawals_store import WithdrawalRow
from ledger.errors import AmountError
from ledger.money import parse_amount, parse_balance
from signer.protocol import Authorisation, Refusal
from watchers.chain import AddressCodec
from watchers.errors import InvalidAddress

LEVELS_MAX = 32  # as the API reads bodies


def suspects(
    rows: Sequence[WithdrawalRow],
    signed: Mapping[UUID, Authorisation],
    refusal: Refusal,
    *,
    codec: AddressCodec,
    decimals: int,
) -> set[UUID]:
    """Members named in the refusal, and those whose row is not what the client signed; all of
    them when that shows nobody."""
    guilty = named(refusal.reason)
    found = {
        row.id
        for row in rows
        if row.request_id in guilty
        or row.id not in signed
        or not _says_the_same(row, signed[row.id].body, codec=codec, decimals=decimals)
    }
    return found or {row.id for row in rows}


def named(reason: str) -> frozenset[str]:
    """What may be a request_id in the signer's two forms: `ID: why`, and `why for ID`.

    Exact: `r-1` is no part of `r-12`. A request_id has no spaces.
    """
    head, colon, _ = reason.partition(": ")
    _, mark, tail = reason.rpartition(" for ")
    return frozenset(([head] if colon else []) + ([tail] if mark else []))


def _says_the_same(row: WithdrawalRow, body: bytes, *, codec: AddressCodec, decimals: int) -> bool:
    try:
        order = _order(json.loads(shallow_text(body, LEVELS_MAX)), row)  # the row may be forged
        return (
            order["request_id"] == row.request_id
            and order["asset"] == row.asset
            and codec.parse(order["address"]).key == row.address_key
            and parse_amount(order["amount"], decimals=decimals) == row.amount_minor
            and order.get("fee_mode", "brand") == row.fee_mode
            and _fee_max(order, row, decimals=decimals) >= row.amount_minor - row.output_minor
        )
    except (ValueError, KeyError, TypeError, InvalidAddress, AmountError):
        return False


def _order(body: Any, row: WithdrawalRow) -> Any:
    """The body itself, or the one item of a batch that has the row's request_id."""
    if "items" not in body:
        return body
    [order] = [item for item in body["items"] if item["request_id"] == row.request_id]
    return order


def _fee_max(order: Mapping[str, Any], row: WithdrawalRow, *, decimals: int) -> int:
    """The most that the client signed away; nothing where the brand pays."""
    return parse_balance(order["max_fee"], decimals=decimals) if row.fee_mode == "player" else 0
