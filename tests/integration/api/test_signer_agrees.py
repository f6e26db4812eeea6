"""What the API accepts and stores is what the signer accepts (CONTRACT 3, end to end)."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from signer.authorisation import authorise
from signer.protocol import Authorisation, Payment
from tests.support.api import BTC_ADDRESS, ETH_ADDRESS, ApiHouse, problem, vector_key
from tests.support.vault import public_text, trust_client, trusted_kit

ORDERS: tuple[dict[str, Any], ...] = (
    {"asset": "btc:BTC", "address": BTC_ADDRESS, "amount": "0.10"},
    {"asset": "eth:USDT", "address": ETH_ADDRESS.lower(), "amount": "1.000001"},
    {"amount": "0.1", "fee_class": "urgent", "fee_mode": "brand", "metadata": {"a": "b"}},
    {"amount": "0.1", "fee_mode": "player", "max_fee": "0.01"},
    {"amount": "0.1", "fee_mode": "player", "max_fee": "0.0"},
    {"amount": "0.1", "valid_until": "2026-01-03T00:00:00.5Z", "pam_balance": "0.0"},
)


async def test_the_stored_request_of_every_accepted_order_authorises_its_payment(
    house: ApiHouse, tmp_path: Path
) -> None:
    """The signer has its own parser and its own register; both sides read the same bytes."""
    kit = trusted_kit(tmp_path)
    trust_client(kit, "acme-key", public_key=public_text(vector_key("acme-key")))
    now_seconds = int(house.clock.now().timestamp())
    for number, fields in enumerate(ORDERS):
        reply = await house.withdraw(request_id=f"order/{number}", **fields)
        assert reply.status == 202, reply.body
        [row] = await house.rows(
            "SELECT r.* FROM gateway.withdrawal_requests r JOIN gateway.withdrawals w"
            " ON w.id = r.withdrawal_id WHERE w.request_id = :request_id",
            request_id=f"order/{number}",
        )
        headers = row["headers"]
        claim = Authorisation(
            method=row["method"],
            authority=row["authority"],
            path=row["path"],
            query=row["query"],
            headers=json.loads(headers) if isinstance(headers, str) else headers,
            body=bytes(row["body"]),
            signature_input=row["signature_input"],
            signature=row["signature"],
        )
        found = authorise(
            Payment(
                brand="acme",
                request_id=f"order/{number}",
                output_index=0,
                authorisation=claim,
            ),
            store=kit.store,
            settings=kit.settings,
            now_seconds=now_seconds,
        )
        made = reply.json()
        assert found.order.amount_minor == int(made["amount_minor"])
        assert found.order.asset == made["asset"]
        most = int(made["max_fee_minor"] or 0)
        assert found.order.least_minor == int(made["amount_minor"]) - most
        until = datetime.fromisoformat(made["valid_until"]).timestamp()
        assert found.order.valid_until_seconds == int(until)


async def test_an_order_with_a_query_is_refused_because_the_signer_never_pays_it(
    house: ApiHouse,
) -> None:
    """The signer takes the bare route only; accepted here, the order could never be paid."""
    order = {
        "request_id": "r-query", "player_id": "p1", "asset": "btc:BTC",
        "address": BTC_ADDRESS, "amount": "0.1", "pam_balance": "0",
    }  # fmt: skip
    for query in ("?brand=acme", "?x=1", "?="):
        reply = await house.call(
            "POST", f"/v1/withdrawals{query}", body=order, idempotency_key="k-query"
        )
        found = problem(reply)
        assert (reply.status, found["code"]) == (422, "query_not_allowed"), query
        assert "path alone" in found["detail"]
    assert await house.rows("SELECT withdrawal_id FROM gateway.withdrawal_requests") == []
    bare = await house.call("POST", "/v1/withdrawals", body=order, idempotency_key="k-query")
    assert bare.status == 202


async def test_an_order_with_a_header_that_the_signer_does_not_read_is_refused(
    house: ApiHouse,
) -> None:
    """The label is not covered: a long one leaves the signature valid, and the signer blind."""
    body = json.dumps(
        {
            "request_id": "r-long", "player_id": "p1", "asset": "btc:BTC",
            "address": BTC_ADDRESS, "amount": "0.1", "pam_balance": "0",
        }
    ).encode()  # fmt: skip
    async with house.client() as client:
        signed = client.signer.sign("POST", "/v1/withdrawals", body=body, idempotency_key="k-1")
        renamed = {
            name: signed.headers[name].replace("sig1", "s" * 4_100)
            for name in ("Signature-Input", "Signature")
        }
        reply = await client.send(replace(signed, headers={**signed.headers, **renamed}))
    assert (reply.status, problem(reply)["code"]) == (422, "header_too_long"), reply.body
    assert await house.rows("SELECT withdrawal_id FROM gateway.withdrawal_requests") == []
