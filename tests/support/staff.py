"""People of the risk desk, limits, rates, and what they say about withdrawals over the API."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.client import Reply
from tests.support.api import ApiHouse

COIN = 10**8
PEOPLE = ("rosa", "remy", "ruth")
SCOPES = ("policies:write", "withdrawals:approve", "withdrawals:read")


async def hire(house: ApiHouse, *people: str, brand: str | None = None) -> None:
    """Register people of the risk desk, each with one key `NAME-key`."""
    for person in people:
        await house.add_key(
            f"{person}-key",
            kind="staff",
            brand=brand,
            person=person,
            scopes=SCOPES,
            roles=("risk",),
        )


async def set_rate(house: ApiHouse, rate: str, *, asset: str = "btc:BTC") -> None:
    """A fresh rate, by two people."""
    for person in ("rosa", "remy"):
        body = {"asset": asset, "rate": rate}
        reply = await house.call("PUT", "/v1/rates", body=body, key=f"{person}-key")
        assert reply.status in (200, 202), reply.body
    assert reply.json()["rate"]["rate"] == rate


async def set_limits(house: ApiHouse, *limits: Mapping[str, str]) -> int:
    """A new version of the limits, by two people; its number."""
    version = int(
        (await house.call("GET", "/v1/policies/limits", key="rosa-key")).json()["version"]
    )
    body = {"base_version": version, "limits": [dict(limit) for limit in limits], "reason": "test"}
    for person in ("rosa", "remy"):
        reply = await house.call("PUT", "/v1/policies/limits", body=body, key=f"{person}-key")
        assert reply.status in (200, 202), reply.body
    found = reply.json()["policy"]
    assert found["version"] == version + 1
    return int(found["version"])


def consent(withdrawal: Mapping[str, Any]) -> dict[str, str]:
    """The body of an approval of this withdrawal."""
    names = ("brand", "request_id", "asset", "address", "amount")
    return {"action": "approve", **{name: str(withdrawal[name]) for name in names}}


async def approve(house: ApiHouse, withdrawal: Mapping[str, Any], *, key: str) -> Reply:
    """POST /v1/withdrawals/{id}/approve with a body that names it."""
    return await house.call(
        "POST", f"/v1/withdrawals/{withdrawal['id']}/approve", body=consent(withdrawal), key=key
    )


async def decline(house: ApiHouse, withdrawal: Mapping[str, Any], *, key: str) -> Reply:
    """POST /v1/withdrawals/{id}/decline with a reason."""
    return await house.call(
        "POST", f"/v1/withdrawals/{withdrawal['id']}/decline", body={"reason": "odd"}, key=key
    )


async def standing(house: ApiHouse, withdrawal: Mapping[str, Any]) -> dict[str, Any]:
    """The withdrawal as it is now."""
    reply = await house.call("GET", f"/v1/withdrawals/{withdrawal['id']}")
    found: dict[str, Any] = reply.json()
    return found


async def states(house: ApiHouse, replies: Sequence[Reply]) -> list[str]:
    """State and code of answers, sorted."""
    return sorted(f"{r.json()['state']} {r.json()['code']}" for r in replies)
