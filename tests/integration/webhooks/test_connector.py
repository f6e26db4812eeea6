"""The webhook client against real sockets: what it refuses at connect time, follows and reads."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from gateway.sandbox.nodes import free_port
from gateway.webhooks.connector import WebhookClient
from gateway.webhooks.errors import DeliveryFailed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FixedResolver(AbstractResolver):
    """Answers every name with one address: the rebinding attacker's DNS."""

    def __init__(self, address: str, port: int) -> None:
        self._address = address
        self._port = port
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host,
                host=self._address,
                port=self._port,
                family=socket.AF_INET6 if ":" in self._address else socket.AF_INET,
                proto=0,
                flags=0,
            )
        ]

    async def close(self) -> None:
        return


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[TestServer]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    server = TestServer(app, host="127.0.0.1")
    await server.start_server()
    try:
        yield server
    finally:
        await server.close()


async def post(client: WebhookClient, url: str) -> int:
    return await client.post(url, body=b"{}", headers={"webhook-id": "evt_test_1"})


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"]
)
async def test_a34_name_that_resolves_to_a_private_address_is_refused(address: str) -> None:
    calls = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response()

    async with serving(handler) as server:
        resolver = FixedResolver(address, server.port or 0)
        async with WebhookClient(allow_hosts=(), timeout_seconds=5.0, resolver=resolver) as client:
            with pytest.raises(DeliveryFailed, match="not public"):
                await post(client, "https://pam.example.com/hook")
    assert resolver.asked == ["pam.example.com"]
    assert calls == []


async def test_a34_private_literal_is_refused_before_any_connection() -> None:
    async with WebhookClient(allow_hosts=(), timeout_seconds=5.0) as client:
        with pytest.raises(DeliveryFailed, match="target refused"):
            await post(client, "https://127.0.0.1/hook")


async def test_allowed_host_is_called_and_its_2xx_is_done() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["content-type"] == "application/json"
        return web.Response(status=202, text="thanks")

    async with serving(handler) as server:
        async with WebhookClient(allow_hosts=["127.0.0.1"], timeout_seconds=5.0) as client:
            assert await post(client, str(server.make_url("/hook"))) == 202


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a34_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    paths = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=status, headers={"location": "/elsewhere"})

    async with serving(handler) as server:
        async with WebhookClient(allow_hosts=["127.0.0.1"], timeout_seconds=5.0) as client:
            with pytest.raises(DeliveryFailed) as caught:
                await post(client, str(server.make_url("/hook")))
    assert caught.value.status == status
    assert paths == ["/hook"]


@pytest.mark.parametrize("status", [400, 404, 410, 429, 500, 503])
async def test_answer_other_than_2xx_fails_without_showing_its_body(status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status, text="internal secret of the receiver")

    async with serving(handler) as server:
        async with WebhookClient(allow_hosts=["127.0.0.1"], timeout_seconds=5.0) as client:
            with pytest.raises(DeliveryFailed) as caught:
                await post(client, str(server.make_url("/hook")))
    assert (caught.value.status, str(caught.value)) == (status, f"answered {status}")


async def test_p34_receiver_that_answers_byte_by_byte_is_cut_at_the_time_out() -> None:
    release = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        await response.write(b"x")
        await release.wait()
        return response

    async with serving(handler) as server:
        async with WebhookClient(allow_hosts=["127.0.0.1"], timeout_seconds=0.2) as client:
            with pytest.raises(DeliveryFailed, match=r"within 0\.2 s"):
                await post(client, str(server.make_url("/hook")))
        release.set()


async def test_endless_answer_is_not_read_to_its_end() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 5_000_000)

    async with serving(handler) as server:
        async with WebhookClient(allow_hosts=["127.0.0.1"], timeout_seconds=5.0) as client:
            assert await post(client, str(server.make_url("/hook"))) == 200


async def test_receiver_that_is_not_there_fails_with_no_status() -> None:
    async with WebhookClient(allow_hosts=["127.0.0.1"], timeout_seconds=5.0) as client:
        with pytest.raises(DeliveryFailed) as caught:
            await post(client, f"http://127.0.0.1:{free_port()}/hook")
    assert caught.value.status is None
