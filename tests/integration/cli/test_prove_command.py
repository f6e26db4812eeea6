"""`cage treasury prove`: a bundle is made by the API, and verified with nothing else at hand."""

import asyncio
import base64
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from config.clock import SystemClock
from config.database import Database, async_url
from config.ids import SystemIds
from config.registry import load_registry
from config.settings import load_settings
from gateway.payouts.proving import Proving
from signer.protocol import Refusal
from signer.protocol_reserves import Proven, ProveRequest
from tests.support.databases import TestDatabase
from tests.support.desk import FAILED, REFUSED, USAGE, Desk
from tests.support.hosting import LoopThread
from tests.support.vault import VaultKit, trusted_kit

pytestmark = pytest.mark.postgres

PATH = "m/84h/1h/0h/0/0"
ROUND_SECONDS = 0.05


class AtOnce:
    """The signer's own vault, asked in this process."""

    def __init__(self, kit: VaultKit) -> None:
        self._kit = kit

    async def prove(self, request: ProveRequest) -> Proven | Refusal:
        return self._kit.vault.prove(request)


async def answer(database: Database, kit: VaultKit, *, owed: str) -> None:
    """What the watcher of btc writes: one coin of 5 BTC, and what the books owe."""
    script = kit.script(PATH)
    raw = (  # one input of nobody, one output of 5 BTC to our script
        bytes.fromhex("0200000001" + "11" * 32 + "0000000000ffffffff01")
        + (500_000_000).to_bytes(8, "little")
        + bytes([len(script)])
        + script
        + bytes(4)
    )
    txid = sha256(sha256(raw).digest()).digest()[::-1].hex()
    found = {
        "network": "btc",
        "height": 7,
        "block_hash": "ab" * 32,
        "chain": {},
        "books": {},
        "unposted": {},
        "unsettled": {},
        "breaks": {},
        "held": [
            {
                "asset": "btc:BTC",
                "address": kit.address("btc", PATH),
                "path": PATH,
                "outpoint": f"{txid}:0",
                "amount_minor": "500000000",
            }
        ],
        "transactions": {txid: raw.hex()},
        "owed": [
            {
                "kind": "clearing",
                "asset": "btc:BTC",
                "brand": "acme",
                "player_id": "",
                "amount_minor": owed,
            }
        ],
    }
    async with database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE chain.probes SET state = 'answered', answer = CAST(:answer AS jsonb),"
            " answered_at = now() WHERE state = 'asked'",
            {"answer": json.dumps(found)},
        )


@pytest.fixture
def owed() -> str:
    """Minor units; a test overrides it."""
    return "400000000"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[VaultKit]:
    made = trusted_kit(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def proving_desk(
    desk: Desk,
    tmp_path: Path,
    test_database: TestDatabase,
    loop_thread: LoopThread,
    kit: VaultKit,
    owed: str,
) -> Iterator[Desk]:
    """The desk, with payouts and a watcher at work beside it."""
    settings = load_settings(tmp_path / "cage.toml", environ={})
    clock = SystemClock()

    async def work(owner: Database, payouts: Database) -> None:
        proving = Proving(
            load_registry(settings),
            database=payouts,
            signer=AtOnce(kit),
            clock=clock,
            ids=SystemIds(clock),
        )
        while True:
            await answer(owner, kit, owed=owed)
            await proving.step()
            await clock.sleep(ROUND_SECONDS)

    async def start() -> tuple[asyncio.Task[None], Database, Database]:
        owner = Database(async_url(test_database.owner_url))
        payouts = Database(async_url(test_database.role_url("gateway_payouts")))
        return asyncio.create_task(work(owner, payouts)), owner, payouts

    async def stop(task: asyncio.Task[None], *databases: Database) -> None:
        task.cancel()
        await asyncio.wait({task})
        for database in databases:
            await database.close()

    running = loop_thread.run(start())
    yield desk
    loop_thread.run(stop(*running))


def test_l18_a_proof_is_made_and_verified_offline(
    proving_desk: Desk, tmp_path: Path, kit: VaultKit
) -> None:
    out = tmp_path / "proof.json"
    code, told, error = proving_desk.runs(
        "treasury", "prove", "--out", str(out), *proving_desk.treasurer
    )
    assert (code, told.splitlines()[-1]) == (
        0,
        "verified: what is owed is covered; `told` is the operator's word",
    ), error
    key = base64.b64encode(kit.keyring.attestation_public_key).decode()
    verify = ("treasury", "prove", "--verify", str(out), "--public-key", key)
    code, told, _ = proving_desk.runs(*verify, "--json")
    verdict = json.loads(told)
    assert (code, verdict["verified"], verdict["covered"]) == (0, True, True)
    assert {row["name"]: row["status"] for row in verdict["checks"]}["signature"] == "proven"
    code, _, error = proving_desk.runs(
        "treasury", "prove", "--out", str(out), *proving_desk.treasurer
    )
    assert (code, "exists" in error) == (USAGE, True)

    altered = tmp_path / "altered.json"
    altered.write_text(out.read_text().replace("500000000", "900000000"))
    code, told, _ = proving_desk.runs("treasury", "prove", "--verify", str(altered))
    assert (code, told.splitlines()[-1][:13]) == (FAILED, "NOT verified:")


@pytest.mark.parametrize("owed", ["600000000"])
def test_l18_a_shortfall_is_said_and_the_command_fails(proving_desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "proof.json"
    code, told, _ = proving_desk.runs(
        "treasury", "prove", "--out", str(out), *proving_desk.treasurer
    )
    assert code == FAILED
    assert told.splitlines()[-1].endswith("MISSING (minor units): btc:BTC 100000000")
    assert out.exists()


def test_who_may_not_and_what_cannot_be_read(desk: Desk, tmp_path: Path) -> None:
    out = tmp_path / "proof.json"
    code, _, error = desk.runs("treasury", "prove", "--out", str(out), *desk.supporter)
    assert (code, out.exists()) == (REFUSED, False), error
    code, _, _ = desk.runs("treasury", "prove")
    assert code == USAGE
    code, _, error = desk.runs("treasury", "prove", "--verify", str(out))
    assert (code, "cannot be read" in error) == (FAILED, True)
    out.write_text('{"format": "cage-reserves-bundle/1"}')
    code, told, _ = desk.runs("treasury", "prove", "--verify", str(out))
    assert (code, told.splitlines()[-1]) == (FAILED, "NOT verified: format")
