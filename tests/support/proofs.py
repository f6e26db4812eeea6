"""A proof of reserves over the ward: three simulated chains, two casinos, the signer's own keys."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.database import Database, async_url
from gateway.cli import reserves_proof
from gateway.client import Reply
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.proving import Proving
from signer.keyring import Keyring
from signer.protocol import Refusal
from signer.protocol_reserves import Proven, ProveRequest
from signer.reserves import Prover
from tests.support.vault import VaultKit, trusted_kit
from tests.support.ward import COIN, Ward
from tests.support.worlds import SEED
from watchers import probes

TREASURER = "treasurer-key"
ANSWER_SECONDS = 20.0  # of real time, for a stuck test
AS_OF = "2026-01-01T00:00:00Z"


class KeysOfTheWard:
    """The signer's own prover over the keys from which the ward's addresses were derived."""

    def __init__(self, kit: VaultKit) -> None:
        self._prover = Prover(
            store=kit.store,
            settings=kit.settings,
            keyring=Keyring(SEED),
            log=kit.vault._log,
            check_release=lambda: None,
        )
        self.asked: list[ProveRequest] = []
        self.is_away = False
        self.refuses: str | None = None

    async def prove(self, request: ProveRequest) -> Proven | Refusal:
        if self.is_away:
            raise SignerUnavailable("it does not answer")
        if self.refuses is not None:
            return Refusal(code=self.refuses, reason="for this test")
        self.asked.append(request)
        return self._prover.prove(request)


@dataclass(slots=True, kw_only=True)
class Bench:
    """The ward, a payout process that makes proofs, and its signer."""

    ward: Ward
    signer: KeysOfTheWard
    database: Database
    proving: Proving

    async def ask(self) -> str:
        """A proof that every network has answered."""
        reply = await self.ward.house.call("POST", "/v1/proofs", body={}, key=TREASURER)
        assert reply.status == 202, reply.body
        await self.answer()
        proof_id: str = reply.json()["id"]
        return proof_id

    async def answer(self) -> None:
        """Every watcher that is not silent; time goes on while one looks again."""
        for name, watch in self.ward.watches.items():
            if name in self.ward.silent:
                continue
            answering = asyncio.create_task(
                probes.answer_all(
                    watch.as_watcher, watch.chain, watch.network, clock=self.ward.clock
                )
            )
            async with asyncio.timeout(ANSWER_SECONDS):
                while not answering.done():
                    await asyncio.wait({answering}, timeout=0.02)
                    self.ward.clock.advance(0.1)
            await answering

    async def done(self) -> str:
        """A proof that is signed."""
        proof_id = await self.ask()
        while await self.proving.step():
            pass
        assert (await self.get(proof_id))["state"] == "done"
        return proof_id

    async def get(self, proof_id: str, *, key: str = TREASURER) -> dict[str, Any]:
        reply = await self.ward.house.call("GET", f"/v1/proofs/{proof_id}", key=key)
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json()
        return found

    async def bundle(self, proof_id: str) -> dict[str, Any]:
        reply = await self.ward.house.call("GET", f"/v1/proofs/{proof_id}/bundle", key=TREASURER)
        assert reply.status == 200, reply.body
        found: dict[str, Any] = reply.json()
        return found

    async def inclusion(self, player: str | None, *, key: str = "acme-key") -> Reply:
        target = "/v1/proof_of_brand" if player is None else f"/v1/players/{player}/proof"
        return await self.ward.house.call("GET", target, key=key)

    async def report(
        self, *items: tuple[str, str, str], as_of: str = AS_OF, key: str = "acme-reports"
    ) -> Reply:
        """Balances by the casino's word: (player, asset, balance)."""
        body = {
            "as_of": as_of,
            "items": [
                {"player_id": player, "asset": asset, "balance": balance}
                for player, asset, balance in items
            ],
        }
        return await self.ward.house.call("PUT", "/v1/player_balances", body=body, key=key)


@asynccontextmanager
async def open_bench(ward: Ward, database_url: str, folder: Path) -> AsyncIterator[Bench]:
    """The ward with a payout process that makes proofs."""
    kit = trusted_kit(folder)
    database = Database(async_url(database_url))
    signer = KeysOfTheWard(kit)
    await ward.house.add_key(
        TREASURER, kind="operator", brand=None, scopes=("treasury:write", "treasury:read")
    )
    for brand in ("acme", "zest"):
        await ward.house.add_key(
            f"{brand}-reports", brand=brand, scopes=("players:write", "deposits:read")
        )
    yield Bench(
        ward=ward,
        signer=signer,
        database=database,
        proving=Proving(
            ward.house.registry,
            database=database,
            signer=signer,
            clock=ward.clock,
            ids=ward.house.ids,
        ),
    )
    await database.close()
    kit.store.close()


async def pay(ward: Ward, player: str, coins: int, *, brand: str = "acme") -> None:
    """A deposit that is final."""
    key = f"{brand}-key"
    reply = await ward.house.call(
        "POST", f"/v1/players/{player}/addresses", body={"network": "btc"}, key=key
    )
    ward.btc.pay([(reply.json()["address"], coins * COIN)])
    ward.btc.mine(6)
    await ward.follow()


def encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


def statuses(content: bytes, *, pinned: tuple[bytes, ...] = ()) -> dict[str, str]:
    verdict = reserves_proof.verify(content, pinned=pinned)
    return {check.name: check.status.value for check in verdict.checks}


def failed(content: bytes) -> set[str]:
    return {name for name, status in statuses(content).items() if status == "failed"}


def assets_of(bundle: Mapping[str, Any]) -> dict[str, Any]:
    said = json.loads(bundle["statement"].partition("\n")[2])
    return {line["asset"]: line for line in said["assets"]}
