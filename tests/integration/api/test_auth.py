"""Who may call: signatures, keys, scopes (A09, A10, A28, A39)."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import event

from gateway.api.role import endpoints
from gateway.auth import PrincipalKind
from gateway.client import Reply, SignedRequest
from tests.support.api import ApiHouse, problem, vector_key
from tests.support.clock import ManualClock


def bare(reply: Reply) -> dict[str, object]:
    """A problem without what differs in every answer."""
    found = problem(reply)
    found.pop("correlation_id")
    return found


async def test_a09_a_replayed_request_is_refused(house: ApiHouse) -> None:
    async with house.client() as client:
        signed = client.signer.sign("POST", "/v1/players/p1/addresses", body=b'{"network":"btc"}')
        first = await client.send(signed)
        again = await client.send(signed)
    assert (first.status, again.status) == (200, 401)
    assert problem(again)["code"] == "nonce_used"
    assert "ask by request_id" in problem(again)["detail"]


async def test_a09_created_is_at_most_300_s_old_and_60_s_ahead(house: ApiHouse) -> None:
    for shift, status in ((-301, 401), (-300, 200), (0, 200), (60, 200), (61, 401)):
        other = ManualClock(house.clock.now() + timedelta(seconds=shift))
        async with house.client(clock=other) as client:
            assert (await client.request("GET", "/v1/assets")).status == status, shift


def _other_path(request: SignedRequest) -> SignedRequest:
    return replace(request, target=request.target.replace("/p1/", "/p2/"))


def _other_query(request: SignedRequest) -> SignedRequest:
    return replace(request, target=request.target.replace("brand=acme", "brand=acme&"))


def _other_host(request: SignedRequest) -> SignedRequest:
    return replace(request, headers={**request.headers, "Host": "other.test"})


def _other_byte(request: SignedRequest) -> SignedRequest:
    return replace(request, body=request.body.replace(b"btc", b"ltc"))


def _without_digest(request: SignedRequest) -> SignedRequest:
    headers = {k: v for k, v in request.headers.items() if k.lower() != "content-digest"}
    return replace(request, headers=headers)


def _other_key(request: SignedRequest) -> SignedRequest:
    return replace(request, headers={**request.headers, "Idempotency-Key": "other"})


def _without_signature(request: SignedRequest) -> SignedRequest:
    headers = {k: v for k, v in request.headers.items() if k.lower() != "signature"}
    return replace(request, headers=headers)


CHANGES = [
    _other_path,
    _other_query,
    _other_host,
    _other_byte,
    _without_digest,
    _other_key,
    _without_signature,
]


async def test_a10_any_change_of_a_signed_request_is_refused(house: ApiHouse) -> None:
    for change in CHANGES:
        async with house.client() as client:
            signed = client.signer.sign(
                "POST",
                "/v1/players/p1/addresses?brand=acme",
                body=b'{"network":"btc"}',
                idempotency_key="k1",
            )
            reply = await client.send(change(signed))
        found = (reply.status, problem(reply)["code"])
        assert found == (401, "unauthenticated"), change.__name__


async def test_a10_query_order_is_signed(house: ApiHouse) -> None:
    async with house.client() as client:
        signed = client.signer.sign("GET", "/v1/withdrawals?limit=1&player_id=p1")
        turned = replace(signed, target="/v1/withdrawals?player_id=p1&limit=1")
        assert (await client.send(turned)).status == 401
        assert (await client.send(signed)).status == 200


async def test_a10_a_request_for_another_deployment_is_refused(house: ApiHouse) -> None:
    """The signature holds for its own authority, which is not on this API's list."""
    async with house.client() as client:
        client.signer._authority = "elsewhere.test"
        reply = await client.request("GET", "/v1/assets")
    assert reply.status == 401


async def test_a28_keys_that_are_missing_revoked_or_expired_are_refused(
    house: ApiHouse,
) -> None:
    await house.add_key("short", expires_at=house.clock.now() + timedelta(seconds=100))
    assert (await house.call("GET", "/v1/assets", key="short")).status == 200
    assert (await house.call("GET", "/v1/assets", key="nobody")).status == 401
    house.tick(101)
    assert (await house.call("GET", "/v1/assets", key="short")).status == 401


async def test_a28_a_revocation_works_within_5_seconds(house: ApiHouse) -> None:
    assert (await house.call("GET", "/v1/assets")).status == 200
    await house.rows("UPDATE gateway.clients SET revoked_at = :at", at=house.clock.now())
    house.tick(5)
    assert (await house.call("GET", "/v1/assets")).status == 401


async def test_a28_a_key_without_the_scope_is_forbidden(house: ApiHouse) -> None:
    await house.add_key("deposits-only", scopes=("deposits:read",))
    reply = await house.withdraw(key="deposits-only")
    assert (reply.status, problem(reply)["code"]) == (403, "missing_scope")
    assert await house.rows("SELECT id FROM gateway.withdrawals") == []


async def test_a28_the_feed_is_for_client_keys_that_may_read_all_of_it(house: ApiHouse) -> None:
    """It is gap-free: a key that may not see withdrawals cannot be given a feed without them."""
    reads = ("deposits:read", "withdrawals:read")
    for number, scopes in enumerate((reads[:1], reads[1:], ("webhooks:write",))):
        await house.add_key(f"narrow-{number}", scopes=scopes)
    await house.add_key("both", scopes=reads)
    for number in range(3):
        reply = await house.call("GET", "/v1/events", key=f"narrow-{number}")
        assert (reply.status, problem(reply)["code"]) == (403, "missing_scope"), number
    assert (await house.call("GET", "/v1/events", key="both")).status == 200
    assert (await house.call("GET", "/v1/events?brand=acme", key="ada-key")).status == 200


async def test_a28_an_operator_key_orders_no_payout(house: ApiHouse) -> None:
    reply = await house.withdraw(key="operator-key")
    assert (reply.status, problem(reply)["code"]) == (403, "wrong_principal")


async def test_a_key_with_an_address_list_works_from_there_only(house: ApiHouse) -> None:
    await house.add_key("here", ip_allow=("127.0.0.0/8",))
    await house.add_key("there", ip_allow=("192.0.2.0/24",))
    assert (await house.call("GET", "/v1/assets", key="here")).status == 200
    assert (await house.call("GET", "/v1/assets", key="there")).status == 403


async def test_a39_an_unknown_key_and_a_wrong_signature_look_the_same(house: ApiHouse) -> None:
    wrong = vector_key("another")
    async with house.client("nobody") as unknown, house.client("acme-key", key=wrong) as bad:
        one = await unknown.request("GET", "/v1/assets")
        two = await bad.request("GET", "/v1/assets")
    assert (one.status, two.status) == (401, 401)
    assert bare(one) == bare(two)


async def test_a39_unknown_keys_open_no_unit_of_work(house: ApiHouse) -> None:
    """What anybody may send without a key costs a signature check and nothing of the database."""
    assert (await house.call("GET", "/v1/assets")).status == 200
    opened: list[str] = []

    def count(_connection: object, *_rest: object) -> None:
        opened.append("begin")

    engine = house.server._services.database.engine.sync_engine
    event.listen(engine, "begin", count)
    try:
        for number in range(20):
            reply = await house.call("GET", "/v1/assets", key=f"nobody-{number}")
            assert reply.status == 401
        assert opened == []
        house.tick(3)
        async with house.client("nobody") as client:
            replies = await asyncio.gather(*(client.request("GET", "/v1/x") for _ in range(5)))
            replies += await asyncio.gather(
                *(client.request("GET", "/v1/assets") for _ in range(20))
            )
    finally:
        event.remove(engine, "begin", count)
    assert {reply.status for reply in replies} == {401, 404}
    assert len(opened) == 1, "one reads for all"


async def test_a39_a_revoked_key_looks_like_an_unknown_one(house: ApiHouse) -> None:
    await house.add_key("gone")
    await house.rows("UPDATE gateway.clients SET revoked_at = :at", at=house.clock.now())
    one = await house.call("GET", "/v1/assets", key="gone")
    two = await house.call("GET", "/v1/assets", key="nobody")
    assert bare(one) == bare(two)


async def test_a10_a_duplicated_header_is_refused(house: ApiHouse) -> None:
    """Written on a bare socket: HTTP clients merge duplicates."""
    async with house.client() as client:
        signed = client.signer.sign("GET", "/v1/assets", idempotency_key="k1")
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    lines = [f"{name}: {value}" for name, value in signed.headers.items()]
    text = "\r\n".join(["GET /v1/assets HTTP/1.1", *lines, "Idempotency-Key: k1", "", ""])
    writer.write(text.encode("ascii"))
    async with asyncio.timeout(10):
        status = await reader.readline()
    writer.close()
    assert b" 401 " in status


async def test_every_parameter_of_the_signature_is_required(house: ApiHouse) -> None:
    for name in ("keyid", "created", "nonce", "alg"):
        async with house.client() as client:
            signed = client.signer.sign("GET", "/v1/assets")
            covered, *parameters = signed.headers["Signature-Input"].split(";")
            kept = [item for item in parameters if not item.startswith(name)]
            headers = {**signed.headers, "Signature-Input": ";".join([covered, *kept])}
            reply = await client.send(replace(signed, headers=headers))
        assert reply.status == 401, name


async def test_rate_limits_answer_429_with_the_wait(house: ApiHouse) -> None:
    limiter = house.server._services.limiter
    limiter._tolerance_seconds = 0.0
    limiter._interval_seconds = 2.0
    first = await house.call("GET", "/v1/assets")
    second = await house.call("GET", "/v1/assets")
    other = await house.call("GET", "/v1/assets", key="bravo-key")
    assert (first.status, second.status, other.status) == (200, 429, 200)
    assert second.headers["Retry-After"] == "2"
    assert json.loads(second.body)["retryable"] is True


async def test_a28_every_call_needs_a_signature_and_its_scope(house: ApiHouse) -> None:
    """All endpoints of the table; the scope is checked before path, query and body are read."""
    await house.add_key("bare", kind="operator", brand=None, scopes=())
    await house.add_key("bare-client", scopes=())
    for item in endpoints():
        path = item.path.replace("{", "").replace("}", "")
        key = "bare" if PrincipalKind.OPERATOR in item.kinds else "bare-client"
        unsigned = SignedRequest(
            method=item.method, target=path, headers={"Host": "cage.test"}, body=b""
        )
        async with house.client(key) as client:
            assert (await client.send(unsigned)).status == 401, path
            reply = await client.request(item.method, path)
        if item.scopes:
            assert reply.status == 403, path
