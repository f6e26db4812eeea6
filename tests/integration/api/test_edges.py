"""The edges of HTTP: sizes, speed, paths, methods, failures (A24, A25, A28, A44)."""

import asyncio
import gzip
import io
import json
import logging
import re
from dataclasses import replace

import structlog

from config.logs import configure_logs
from tests.support.api import ApiHouse, problem

HEAD = b"POST /v1/withdrawals HTTP/1.1\r\nHost: cage.test\r\n"


async def raw(house: ApiHouse, data: bytes) -> bytes:
    """The status line of an answer to bytes on a bare socket, or nothing when it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    writer.write(data)
    async with asyncio.timeout(20):
        line = await reader.readline()
    writer.close()
    return line


async def test_a24_a_body_over_64_kib_is_too_large(house: ApiHouse) -> None:
    big = json.dumps({"metadata": {"x": "y" * 70_000}}).encode()
    reply = await house.call("POST", "/v1/withdrawals", body=big, idempotency_key="k1")
    assert (reply.status, problem(reply)["code"]) == (413, "body_too_large")


async def test_a24_a_compressed_body_is_never_inflated(house: ApiHouse) -> None:
    bomb = gzip.compress(b"0" * 20_000_000)
    async with house.client() as client:
        signed = client.signer.sign("POST", "/v1/withdrawals", body=bomb, idempotency_key="k1")
        headers = {**signed.headers, "Content-Encoding": "gzip"}
        reply = await client.send(replace(signed, headers=headers))
    assert (reply.status, problem(reply)["code"]) == (400, "content_encoding")


async def test_a25_half_a_head_is_closed_after_10_seconds_and_others_are_served(
    house: ApiHouse,
) -> None:
    """The clock is the test's: eleven seconds pass in eleven ticks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    writer.write(HEAD)
    await writer.drain()
    closed = asyncio.create_task(reader.read())
    while not closed.done():
        house.tick(1)
        assert (await house.call("GET", "/v1/assets")).status == 200
        assert house.clock.monotonic_seconds() < 15
    assert await closed == b""
    assert house.clock.monotonic_seconds() > 10
    writer.close()


async def test_a25_a_connection_in_use_is_never_closed(house: ApiHouse) -> None:
    """Twenty seconds of calls on one connection, each second seen idle between two of them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    async with asyncio.timeout(20):
        for _ in range(20):
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head
            [length] = re.findall(rb"Content-Length: (\d+)", head)
            await reader.readexactly(int(length))
            house.tick(1)
    assert house.clock.monotonic_seconds() >= 20
    writer.close()


async def test_a28_paths_that_parsers_read_differently_reach_nothing(house: ApiHouse) -> None:
    for path in (
        "//v1/withdrawals",
        "/v1//withdrawals",
        "/v1/withdrawals/",
        "/v1/%77ithdrawals",
        "/v1/./withdrawals",
        "/v1/x/../withdrawals",
        "/v1/%2e%2e/v1/withdrawals",
        "/v1/x/%2e%2e/withdrawals",
        "/v1/withdrawals%00",
        "/v1/withdrawals;a=b",
        "/V1/withdrawals",
        "/v1/nothing",
        "/v1",
    ):
        async with house.client() as client:
            reply = await client.request("GET", path)
        assert (reply.status, problem(reply)["code"]) == (404, "not_found"), path


async def test_a28_methods_cannot_be_overridden(house: ApiHouse) -> None:
    async with house.client() as client:
        signed = client.signer.sign("GET", "/v1/webhook_endpoints")
        headers = {**signed.headers, "X-HTTP-Method-Override": "POST"}
        reply = await client.send(replace(signed, headers=headers))
        wrong = await client.request("DELETE", "/v1/withdrawals")
    assert reply.json() == {"items": [], "next_cursor": None}
    assert (wrong.status, problem(wrong)["code"]) == (405, "method_not_allowed")
    assert set(wrong.headers["Allow"].split(", ")) >= {"GET", "POST"}


async def test_a26_requests_with_two_lengths_are_refused(house: ApiHouse) -> None:
    both = b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert b" 400 " in await raw(house, HEAD + both)
    twice = b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
    assert b" 400 " in await raw(house, HEAD + twice)


async def test_a27_a_forwarding_header_is_not_believed(house: ApiHouse) -> None:
    await house.add_key("there", ip_allow=("192.0.2.0/24",))
    async with house.client("there") as client:
        signed = client.signer.sign("GET", "/v1/assets")
        headers = {**signed.headers, "X-Forwarded-For": "192.0.2.7"}
        assert (await client.send(replace(signed, headers=headers))).status == 403


async def test_a44_an_internal_error_tells_an_id_and_nothing_else(house: ApiHouse) -> None:
    """The table is gone: the statement fails in the driver."""
    await house.rows("ALTER TABLE gateway.webhook_endpoints RENAME TO elsewhere")
    reply = await house.call("GET", "/v1/webhook_endpoints")
    found = problem(reply)
    assert reply.status == 500
    assert found["correlation_id"] == reply.headers["X-Request-Id"]
    for word in (b"SELECT", b"webhook_endpoints", b"sqlalchemy", b"Traceback", b".py", b"/"):
        assert word not in reply.body.replace(b"urn:cage:problem:", b""), word


async def test_a44_a_bug_in_a_handler_tells_an_id_and_nothing_else(house: ApiHouse) -> None:
    await house.rows("UPDATE gateway.brands SET balance_mode = 'shared'")
    await house.rows("ALTER TABLE gateway.brands DROP CONSTRAINT brands_balance_mode_check")
    await house.rows("UPDATE gateway.brands SET balance_mode = 'broken'")
    reply = await house.withdraw()
    assert (reply.status, problem(reply)["code"]) == (500, "internal")
    assert b"broken" not in reply.body
    assert b"BalanceMode" not in reply.body
    assert await house.rows("SELECT id FROM gateway.withdrawals") == []


async def test_unsigned_calls_are_the_four_of_the_contract(house: ApiHouse) -> None:
    assert b" 200 " in await raw(house, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 503 " in await raw(house, b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in await raw(house, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 200 " in await raw(house, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 401 " in await raw(house, b"GET /v1/assets HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_a38_secrets_and_signatures_stand_in_no_log(house: ApiHouse) -> None:
    """Everything that an API process logs, a failure with its trace included."""
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs(level="debug", stream=stream)
    try:
        async with house.client() as client:
            signed = client.signer.sign(
                "POST", "/v1/webhook_endpoints", body=b'{"url":"https://acme.example/hook"}'
            )
            made = await client.send(signed)
            await house.rows("ALTER TABLE gateway.webhook_endpoints RENAME TO elsewhere")
            failed = await client.request(
                "POST", "/v1/webhook_endpoints", body={"url": "https://acme.example/two"}
            )
    finally:
        structlog.reset_defaults()
        root.handlers[:], root.level = handlers, level
    text = stream.getvalue()
    assert (made.status, failed.status) == (201, 500)
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"http.request", "api.failed"} <= {line["event"] for line in lines}
    for canary in (made.json()["secret"], signed.headers["Signature"].split(":")[1]):
        assert canary not in text


async def test_a37_control_characters_in_a_request_forge_no_log_line(house: ApiHouse) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    configure_logs(level="debug", stream=stream)
    try:
        await raw(house, b'GET /v1/"}\x1b[31m{"event":"forged" HTTP/1.1\r\nHost: x\r\n\r\n')
        await raw(house, b'GET /v1/%0a%0d{"event":"forged"} HTTP/1.1\r\nHost: x\r\n\r\n')
    finally:
        structlog.reset_defaults()
        root.handlers[:], root.level = handlers, level
    events = [json.loads(line)["event"] for line in stream.getvalue().splitlines()]
    assert "forged" not in events
