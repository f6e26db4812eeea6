"""Who of a refused batch rides alone next: whoever differs from what was signed, or is named."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from gateway.payouts.suspects import suspects
from gateway.withdrawals_store import WithdrawalRow
from signer.protocol import Authorisation, Refusal
from tests.support.simchain import sim_utxo
from tests.support.vault import FOREIGN_BTC

CODEC = sim_utxo()[1].codec
AT = datetime(2026, 1, 1, tzinfo=UTC)


def row(number: int) -> WithdrawalRow:
    return WithdrawalRow(
        id=UUID(int=number), brand="acme", request_id=f"r-{number}", kind="withdrawal",
        player_id="p", network="btc", asset="btc:BTC", address=FOREIGN_BTC,
        address_key=CODEC.parse(FOREIGN_BTC).key, amount_minor=50_000, pam_balance_minor=0,
        fee_class="normal", fee_mode="brand", metadata={}, state="planned", code=None,
        is_reserved=True, version=1, attempt_id=None, txid=None, valid_until=AT, promise_at=AT,
        sign_requested_at=AT, accepted_at=AT, state_at=AT,
    )  # fmt: skip


def signed(item: WithdrawalRow, **changes: Any) -> Authorisation:
    body = {
        "request_id": item.request_id, "asset": item.asset, "address": FOREIGN_BTC,
        "amount": "0.0005",
    }  # fmt: skip
    return Authorisation(
        method="POST", authority="a", path="/v1/withdrawals", query="?", headers={},
        body=json.dumps({**body, **changes}).encode(), signature_input="", signature="",
    )  # fmt: skip


def found(
    rows: list[WithdrawalRow], texts: dict[UUID, Authorisation], reason: str = "cap"
) -> set[UUID]:
    refusal = Refusal(code="x", reason=reason)
    return suspects(rows, texts, refusal, codec=CODEC, decimals=8)


def test_row_that_differs_from_its_signed_request_is_the_suspect() -> None:
    rows = [row(1), row(2), replace(row(3), amount_minor=50_001)]

    assert found(rows, {item.id: signed(item) for item in rows}) == {rows[2].id}


def test_item_of_a_batch_is_compared_with_its_own_row() -> None:
    rows = [row(1), row(2), replace(row(3), amount_minor=50_001)]
    items = [json.loads(signed(item).body) for item in rows]
    batch = replace(signed(row(1)), body=json.dumps({"items": items}).encode())

    assert found(rows, dict.fromkeys((item.id for item in rows), batch)) == {rows[2].id}
    twice = replace(batch, body=json.dumps({"items": [*items, items[0]]}).encode())
    assert found(rows[:2], {rows[0].id: twice, rows[1].id: batch}) == {rows[0].id}


def test_row_that_charges_the_player_more_than_was_signed_is_the_suspect() -> None:
    charged = replace(row(1), fee_mode="player", max_fee_minor=2_000, fee_charged_minor=2_000)
    rows = [charged, replace(charged, id=UUID(int=2), request_id="r-2", fee_charged_minor=2_001)]
    player = {"fee_mode": "player", "max_fee": "0.00002"}

    assert found(rows, {item.id: signed(item, **player) for item in rows}) == {rows[1].id}
    texts = {rows[0].id: signed(rows[0], **player), rows[1].id: signed(rows[1])}
    assert found(rows, texts) == {rows[1].id}
    honest = row(3)
    texts = {honest.id: signed(honest), charged.id: signed(charged)}
    assert found([honest, charged], texts) == {charged.id}


def test_row_without_a_readable_request_is_the_suspect() -> None:
    rows = [row(1), row(2)]
    texts = {rows[0].id: signed(rows[0]), rows[1].id: signed(rows[1], amount=5)}

    assert found(rows, texts) == {rows[1].id}
    assert found(rows, {rows[0].id: signed(rows[0])}) == {rows[1].id}


def test_a24_a_forged_row_that_nests_deeply_is_the_suspect_and_ends_no_process() -> None:
    rows = [row(1), row(2)]
    hidden = ('{"a":"\u0122","b":' + "[" * 100_000).encode("utf-16-le")
    for body in (b"[" * 100_000, hidden):
        deep = replace(signed(rows[1]), body=body)
        assert found(rows, {rows[0].id: signed(rows[0]), rows[1].id: deep}) == {rows[1].id}

    assert found(rows, {rows[0].id: signed(rows[0]), rows[1].id: deep}) == {rows[1].id}


def test_request_that_the_refusal_names_is_the_suspect() -> None:
    rows = [row(1), row(2)]
    texts = {item.id: signed(item) for item in rows}

    assert found(rows, texts, reason="r-2: past valid_until") == {rows[1].id}


def test_a_request_is_not_named_by_a_longer_name_that_holds_it() -> None:
    """`r-1` is in `r-12`, and `cap` in a sentence about caps, without being meant."""
    rows = [row(1), row(12), replace(row(3), request_id="not")]
    texts = {item.id: signed(item) for item in rows}

    for reason in ("r-12: past valid_until", "output 0 is not what the client signed for r-12"):
        assert found(rows, texts, reason=reason) == {rows[1].id}, reason


def test_when_nobody_stands_out_everybody_rides_alone() -> None:
    rows = [row(1), row(2)]

    assert found(rows, {item.id: signed(item) for item in rows}) == {item.id for item in rows}
