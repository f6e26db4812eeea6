"""A proof of reserves of a real node's coins, verified by its reader with a node of his own."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.clock import SystemClock
from config.ids import public_id
from gateway import proofs_store
from gateway.cli import reserves_nodes, reserves_proof
from gateway.cli.deposit_proof import Status
from gateway.payouts.proving import Proving
from tests.support.api import api_house
from tests.support.comparing import network_of
from tests.support.databases import TestDatabase
from tests.support.payout_fixtures import NODES, OnNode
from tests.support.payouts import Payouts
from tests.support.signing import socket_signer
from tests.support.worlds import AnvilWorld, UtxoNodeWorld
from watchers import probes
from watchers.probes import ProbeKind

pytestmark = [pytest.mark.postgres, pytest.mark.node]


@dataclass(slots=True, kw_only=True)
class Maker:
    """Makes proofs of one house on a real node."""

    house: Payouts
    test_database: TestDatabase
    folder: Path

    async def bundle(self) -> bytes:
        """As the API serves it, once watcher, payouts and signer have done their parts."""
        house, proof_id, probe_id = self.house, self.house.ids.new_id(), self.house.ids.new_id()
        at = house.clock.now()
        async with house.database.unit_of_work() as uow:
            await probes.ask(
                uow, probe_id=probe_id, network=house.network, kind=ProbeKind.RESERVES, at=at
            )
            await proofs_store.insert(
                uow,
                proof_id=proof_id,
                probes={house.network: probe_id},
                requested_by="test",
                at=at,
            )
        network = network_of(house)
        await probes.answer_all(house.database, house.chain, network, clock=SystemClock())
        async with socket_signer(house) as (_, signer):
            proving = Proving(
                house.registry,
                database=house.role,
                signer=signer,
                clock=house.clock,
                ids=house.ids,
            )
            while await proving.step():
                pass
        async with api_house(
            self.test_database,
            self.folder,
            clock=house.clock,
            ids=house.ids,
            is_furnished=True,
        ) as api:
            name = f"operator-{proof_id.hex[:8]}"
            await api.add_key(name, kind="operator", brand=None, scopes=("treasury:read",))
            wire = public_id("proof", proof_id, livemode=False)
            reply = await api.call("GET", f"/v1/proofs/{wire}/bundle", key=name)
            assert reply.status == 200, reply.body
            return reply.body


@pytest.mark.parametrize("network", list(NODES))
async def test_l18_a_readers_own_node_confirms_what_a_proof_says_is_held(
    network: str,
    on_node: OnNode,
    test_database: TestDatabase,
    session_folder: Path,
    tmp_path: Path,
) -> None:
    async with on_node(network, session_folder / f"proof-{network}") as house:
        await house.fund(house.native, "1")
        await house.fund(house.native, "2", into="acme")
        maker = Maker(house=house, test_database=test_database, folder=tmp_path)
        content = await maker.bundle()
        verdict = reserves_proof.verify(content)
        assert (verdict.is_verified, verdict.is_covered) == (True, True), verdict
        told = {check.name: check.status for check in verdict.checks}
        assert told["ownership"] is Status.PROVEN

        assert isinstance(house.world, UtxoNodeWorld | AnvilWorld)
        url = house.world._node.url
        document = reserves_proof.read(content)
        line = next(a for a in document["said"]["assets"] if a["asset"] == house.native)
        unit = house.minor(house.native, "1")
        assert (int(line["on_chain"]), int(line["surplus"])) == (3 * unit, unit)
        found = await reserves_nodes.ask(document, network, url, clock=SystemClock())
        assert found.status is Status.PROVEN, found

        def lying(change: Any) -> dict[str, Any]:
            other = json.loads(json.dumps(document))
            change(other)
            return dict(other)

        def more(other: dict[str, Any]) -> None:
            other["holdings"][network][0]["amount_minor"] += "0"

        def elsewhere(other: dict[str, Any]) -> None:
            other["said"]["networks"][0]["block_hash"] = document["said"]["networks"][0][
                "holdings"
            ]["sha256"]

        for change in (more, elsewhere):
            found = await reserves_nodes.ask(lying(change), network, url, clock=SystemClock())
            assert found.status is Status.FAILED, found
