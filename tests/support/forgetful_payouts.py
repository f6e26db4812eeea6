"""A payouts role with one planted bug: it asks the signer and does not keep that it asked.

So a cancel is taken although the signer may already have signed (CONTRACT 5). Started as the role
is, `python -m tests.support.forgetful_payouts --config FILE`; it pays on btc only.
"""

import argparse
import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from config.clock import SystemClock, Waker
from config.database import Database, Uow, async_url
from config.ids import SystemIds
from config.logs import configure_logs
from config.registry import load_registry
from config.settings import Settings, load_settings
from gateway.payouts.context import Lane
from gateway.payouts.lane import PayoutLane
from gateway.payouts.role import build_lane
from gateway.payouts.signer_client import SignerClient
from gateway.payouts.signing import SigningStep, _Gated
from gateway.payouts.voids import VoidDelivery
from watchers.registry import build_agreed_chain

NETWORK = "btc"
POLL_SECONDS = 0.1


class ForgetsTheQuestion(SigningStep):
    """The gate opens and leaves no trace."""

    async def _gate(self, uow: Uow, *, attempt_ids: Sequence[UUID]) -> _Gated:
        gated = await super()._gate(uow, attempt_ids=attempt_ids)
        await uow.execute(
            "UPDATE gateway.withdrawals SET sign_requested_at = NULL "
            "WHERE attempt_id = ANY(CAST(:attempts AS uuid[])) AND state = 'planned'",
            {"attempts": list(attempt_ids)},
        )
        return gated


class ForgetfulLane(PayoutLane):
    """A lane with that step."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self._signing = ForgetsTheQuestion(lane)


async def run(settings: Settings) -> None:
    """Pay until killed."""
    registry = load_registry(settings)
    clock = SystemClock()
    ids = SystemIds(clock)
    database = Database(async_url(settings.role_url("gateway_payouts")), pool_size=4)
    network = settings.networks[NETWORK]
    chain = build_agreed_chain(
        registry.chains[NETWORK],
        [node.url_with_credentials() for node in network.nodes],
        registry.assets.values(),
        quorum=network.quorum,
        clock=clock,
        timeout_seconds=network.request_timeout_seconds,
        calls_per_second=network.calls_per_second,
    )
    signer = SignerClient(
        settings.path(settings.signer.socket), timeout_seconds=settings.signer.timeout_seconds
    )
    lane = build_lane(
        NETWORK, registry, database=database, chain=chain, signer=signer, clock=clock, ids=ids
    )
    voids = VoidDelivery(database=database, signer=signer, clock=clock, ids=ids)
    async with asyncio.TaskGroup() as group:
        group.create_task(ForgetfulLane(lane).run(Waker(poll_seconds=POLL_SECONDS)))
        group.create_task(voids.run(Waker(poll_seconds=POLL_SECONDS)))


def main() -> None:
    """The configuration of the role."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    settings = load_settings(parser.parse_args().config)
    configure_logs(level=settings.logs.level)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(settings))


if __name__ == "__main__":
    main()
