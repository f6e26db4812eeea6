"""The floor of the API benchmarks: an aiohttp handler with one asyncpg insert, as a process.

`python -m gateway.sandbox.bench_floor URL PORT`. It reads the body, parses its JSON, commits one
row and answers 202; nothing else that a real API must do.
"""

import json
import sys
from collections.abc import Sequence

from aiohttp import web

from gateway.sandbox.bench_api_store import BareTable

POOL_SIZE = 8  # as many connections as the API has by default

TABLE: web.AppKey[BareTable] = web.AppKey("table", BareTable)


async def handle(request: web.Request) -> web.Response:
    """One parse, one insert."""
    body = await request.read()
    json.loads(body)
    number = await request.app[TABLE].insert(body)
    return web.json_response({"id": number}, status=202)


async def live(_: web.Request) -> web.Response:
    """Ready for the bench."""
    return web.json_response({})


def build(url: str) -> web.Application:
    """The application; every POST is the same to it."""

    async def table(app: web.Application) -> None:
        app[TABLE] = await BareTable.open(url, size=POOL_SIZE)

    async def close(app: web.Application) -> None:
        await app[TABLE].close()

    app = web.Application()
    app.on_startup.append(table)
    app.on_cleanup.append(close)
    app.router.add_get("/health/live", live)
    app.router.add_post("/{tail:.*}", handle)
    return app


def main(arguments: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    import uvloop

    url, port = arguments
    loop = uvloop.new_event_loop()
    web.run_app(
        build(url), host="127.0.0.1", port=int(port), access_log=None, print=None, loop=loop
    )


if __name__ == "__main__":
    main(sys.argv[1:])
