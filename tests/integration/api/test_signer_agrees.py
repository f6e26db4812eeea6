"""What the API accepts and stores is what the signer accepts (CONTRACT 3, end to end)."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from signer.authorisation import authorise
from signer.protocol import Authorisation, Payment
from tests.support.api import BTC_ADDRESS, ETH_ADDRESS, ApiHouse, vector_key
from tests.support.vault import public_text, trust_client, trusted_kit

ORDERS: tuple[dict[str, Any], ...] = (
    {"asset": "btc:BTC", "address": BTC_ADDRESS, "amount": "0.10"},
    {"asset": "eth:USDT", "address": ETH_ADDRESS.lower(), "amount": "1.000001"},
    {"amount": "0.1", "fee_class": "urgent", "fee_mode": "brand", "metadata": {"a": "b"}},
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
        until = datetime.fromisoformat(made["valid_until"]).timestamp()
        assert found.order.valid_until_seconds == int(until)
