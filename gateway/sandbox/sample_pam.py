"""A sample PAM: how a casino receives webhooks rightly. Its own process; it knows no Cage code.

Owns what an integrator needs to copy: verify with the public Standard Webhooks library before
anything is read, answer 2xx only when the event is taken, drop repeats by `webhook-id`, and order
events of one object by `object_version`. Balances are in memory: a real PAM writes the webhook-id
and the balance in one database transaction.

`python -m gateway.sandbox.sample_pam --port 9300 --secret-file FILE` (one secret per line: each
endpoint of this PAM has its own).
"""

import argparse
import asyncio
import json
import signal
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

BODY_BYTES_MAX = 64 * 1024
STOP_SECONDS = 5.0

# What a deposit's value means for play (CONTRACT 1): provisional and final may be played with,
# final may be withdrawn, everything else is not there (any more).
PLAYABLE = frozenset({"provisional"})
WITHDRAWABLE = frozenset({"final"})


@dataclass(slots=True)
class SamplePam:
    """The receiving half of a casino."""

    secret_file: Path
    delivered: int = 0
    repeated: int = 0
    bad_signatures: int = 0
    stale: int = 0
    """Events that came after a later version of the same object: their state is not taken."""
    _seen: set[str] = field(default_factory=set)
    _objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    _last_seq: dict[str, int] = field(default_factory=dict)
    _types: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def verified(self, body: str, headers: dict[str, str]) -> bool:
        """Whether any of our secrets signed exactly this body, lately."""
        for secret in self.secret_file.read_text(encoding="ascii").split():
            try:
                Webhook(secret).verify(body, headers, json_parse=False)
            except (WebhookVerificationError, ValueError):
                continue
            return True
        return False

    def take(self, webhook_id: str, event: dict[str, Any]) -> None:
        """Take one verified event, once."""
        if webhook_id in self._seen:
            self.repeated += 1
            return
        self._seen.add(webhook_id)
        self.delivered += 1
        self._types[event["type"]] += 1
        brand = event["brand"]
        self._last_seq[brand] = max(self._last_seq.get(brand, 0), event["seq"])
        known = self._objects.get(event["object"]["id"])
        if known is not None and known["object_version"] > event["object_version"]:
            self.stale += 1
            return
        self._objects[event["object"]["id"]] = event

    def balances(self) -> dict[str, dict[str, int]]:
        """`brand/player/asset` -> playable and withdrawable deposits, in minor units."""
        found: dict[str, dict[str, int]] = {}
        for event in self._objects.values():
            thing = event["object"]
            if not event["type"].startswith("deposit."):
                continue
            key = f"{event['brand']}/{thing['player_id']}/{thing['asset']}"
            sums = found.setdefault(key, {"playable_minor": 0, "withdrawable_minor": 0})
            amount = int(thing["amount_minor"])
            if thing["state"] in PLAYABLE | WITHDRAWABLE:
                sums["playable_minor"] += amount
            if thing["state"] in WITHDRAWABLE:
                sums["withdrawable_minor"] += amount
        return found

    def stats(self) -> dict[str, Any]:
        """Everything, for the demo's table."""
        return {
            "delivered": self.delivered,
            "repeated": self.repeated,
            "bad_signatures": self.bad_signatures,
            "stale": self.stale,
            "last_seq": dict(self._last_seq),
            "types": dict(self._types),
            "balances": self.balances(),
        }

    async def on_webhook(self, request: web.Request) -> web.Response:
        """401 for what is not ours, 204 for what is taken; nothing is read before that."""
        body = await request.text()
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not self.verified(body, headers):
            self.bad_signatures += 1
            return web.Response(status=401)
        self.take(headers["webhook-id"], json.loads(body))
        return web.Response(status=204)

    async def on_stats(self, _request: web.Request) -> web.Response:
        """GET /stats."""
        return web.json_response(self.stats())

    def app(self) -> web.Application:
        """The application: POST /webhooks, GET /stats."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/webhooks", self.on_webhook)
        app.router.add_get("/stats", self.on_stats)
        return app


async def run_pam(pam: SamplePam, *, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(pam.app(), access_log=None, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        await stop.wait()
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description="A sample PAM that receives webhooks.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--secret-file", type=Path, required=True, help="whsec_..., one per line")
    chosen = parser.parse_args(arguments)
    if not chosen.secret_file.exists():
        sys.stderr.write(f"sample_pam: {chosen.secret_file} does not exist\n")
        return 2
    pam = SamplePam(secret_file=chosen.secret_file)
    asyncio.run(run_pam(pam, host=chosen.host, port=chosen.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
