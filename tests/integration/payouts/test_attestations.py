"""From a handed-out address to the signer's statement that a casino verifies (FEATURES N20)."""

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from config.migrate import MIGRATIONS_FOLDER
from gateway import attestation_store
from gateway.api.wire import WireContext, render_object
from gateway.payouts.attestations import (
    MISMATCH,
    PAGE,
    REFUSED,
    WITHDRAWN,
    AttestationFetch,
)
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.patience import RETRY_SECONDS
from signer.protocol import Attestations, AttestItem, AttestRequest, Refusal
from tests.support.payout_fixtures import BuildHouse
from tests.support.payouts import Payouts
from tests.support.signing import socket_signer
from watchers import addresses
from watchers.addresses import AddressRow

pytestmark = pytest.mark.postgres

SAMPLE = Path(__file__).resolve().parents[3] / "docs" / "integration" / "verify_address.py"
DEADLINE_SECONDS = 30.0
FREE = 3  # deposit addresses of brand acme in this house


class LostAnswer:
    """The real signer; its first answer is lost on the way back."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls = 0

    async def attest(self, request: AttestRequest) -> Attestations | Refusal:
        self.calls += 1
        answer: Attestations | Refusal = await self._inner.attest(request)
        if self.calls == 1:
            raise SignerUnavailable("the answer was lost")
        return answer


class Says:
    """A signer that refuses every question, whole or each item of it, with one code."""

    def __init__(self, code: str, *, is_whole: bool) -> None:
        self._refusal = Refusal(code=code, reason="for this test")
        self._is_whole = is_whole

    async def attest(self, request: AttestRequest) -> Attestations | Refusal:
        if self._is_whole:
            return self._refusal
        return Attestations(key_id="att_0", items=(self._refusal,) * len(request.items))


def fetch(house: Payouts, signer: Any = None, *, caip2: str | None = None) -> AttestationFetch:
    """A fresh process under the payouts' own database role."""
    return AttestationFetch(
        house.network,
        caip2=caip2 or house.registry.chains[house.network].caip2,
        database=house.role,
        signer=signer or house.signer,
        clock=house.clock,
        ids=house.ids,
    )


async def hand_out(house: Payouts, player_id: str) -> AddressRow:
    """What the API does in its unit of work."""
    async with house.database.unit_of_work() as uow:
        row = await addresses.hand_out(
            uow, brand="acme", player_id=player_id, network=house.network, at=house.clock.now()
        )
        await attestation_store.request(
            uow, address_id=row.id, network=house.network, brand="acme", at=house.clock.now()
        )
    return row


async def rows(house: Payouts, sql: str, **values: object) -> list[dict[str, Any]]:
    async with house.database.unit_of_work() as uow:
        result = await uow.execute(sql, values)
        return [dict(row) for row in result.mappings()] if result.returns_rows else []


async def states(house: Payouts) -> list[tuple[str, str | None, int]]:
    """(state, code, refusals) of every handed-out address in derivation order."""
    found = await rows(
        house,
        "SELECT a.state, a.code, a.attempts FROM gateway.attestations a"
        " JOIN chain.addresses c ON c.id = a.address_id ORDER BY c.address_index",
    )
    return [(row["state"], row["code"], row["attempts"]) for row in found]


async def events(house: Payouts) -> list[tuple[str, dict[str, Any]]]:
    found = await rows(
        house,
        "SELECT type, brand, object_version, snapshot::text AS body FROM ledger.events"
        " WHERE object_kind = 'address' ORDER BY position",
    )
    for row in found:
        body = json.loads(row["body"])
        assert (row["brand"], row["object_version"]) == ("acme", body["version"])
    return [(row["type"], json.loads(row["body"])) for row in found]


async def alarms(house: Payouts) -> list[str]:
    found = await rows(
        house, "SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL ORDER BY kind"
    )
    return [row["kind"] for row in found]


async def run_sample(house: Payouts, folder: Path, shown: dict[str, Any], player: str) -> int:
    """The casino's own program with the key it pinned; its exit code."""
    answer = folder / "answer.json"
    answer.write_text(json.dumps(shown), "utf-8")
    public = base64.b64encode(house.signer.kit.keyring.attestation_public_key).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SAMPLE),
        *("--public-key", public, "--brand", "acme", "--player", player),
        *("--network", house.registry.chains[house.network].caip2),
        *("--address", shown["address"], str(answer)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await process.wait()


@pytest.mark.parametrize("network", ["btc", "eth"])
async def test_handed_out_address_is_attested_told_and_verified_by_the_casinos_sample(
    house: BuildHouse, tmp_path: Path, network: str
) -> None:
    """Over the signer's own socket; a swapped address or player does not pass the sample."""
    made = await house(network)
    row = await hand_out(made, "player-1")
    async with socket_signer(made) as (_, client):
        assert await fetch(made, client).fetch_page() == 1
        assert await fetch(made, client).fetch_page() == 0
    assert await states(made) == [("attested", None, 0)]
    [(kind, body)] = await events(made)
    assert kind == "address.attested"
    assert (body["address"], body["version"]) == (row.address, row.version + 1)
    assert body["attestation"]["key_id"] == made.signer.kit.keyring.attestation_key_id
    context = WireContext(assets=made.registry.assets, livemode=False)
    wire = render_object("address", body, context=context)
    assert wire["id"] == f"addr_test_{row.id.hex}"
    assert (wire["player_id"], wire["retired_at"]) == ("player-1", None)
    shown = {"address": wire["address"], "attestation": wire["attestation"]}
    assert await run_sample(made, tmp_path, shown, "player-1") == 0
    assert await run_sample(made, tmp_path, shown, "player-2") == 1
    other = await hand_out(made, "player-2")
    swapped = {**shown, "address": other.address}
    assert await run_sample(made, tmp_path, swapped, "player-1") == 1
    assert await run_sample(made, tmp_path, {**shown, "attestation": None}, "player-1") == 1
    forged = {**body["attestation"]}
    forged["statement"] = forged["statement"].replace(row.address, other.address)
    assert await run_sample(made, tmp_path, {**swapped, "attestation": forged}, "player-1") == 1


async def test_signer_that_is_down_delays_the_statement_and_nothing_else(btc: Payouts) -> None:
    btc.signer.is_down = True
    given = [await hand_out(btc, f"player-{number}") for number in range(FREE)]
    assert len({row.address for row in given}) == FREE
    with pytest.raises(SignerUnavailable):
        await fetch(btc).fetch_page()
    assert await states(btc) == [("pending", None, 0)] * FREE
    btc.signer.is_down = False
    assert await fetch(btc).fetch_page() == FREE
    assert await states(btc) == [("attested", None, 0)] * FREE


async def test_answer_that_was_lost_is_asked_again_and_told_once(btc: Payouts) -> None:
    await hand_out(btc, "player-1")
    lost = LostAnswer(btc.signer)
    with pytest.raises(SignerUnavailable):
        await fetch(btc, lost).fetch_page()
    assert await fetch(btc, lost).fetch_page() == 1
    assert [kind for kind, _ in await events(btc)] == ["address.attested"]


async def test_two_processes_at_once_tell_each_address_once(btc: Payouts) -> None:
    for number in range(FREE):
        await hand_out(btc, f"player-{number}")
    await asyncio.gather(*(fetch(btc).fetch_page() for _ in range(4)))
    assert await states(btc) == [("attested", None, 0)] * FREE
    told = [body["id"] for _, body in await events(btc)]
    assert len(told) == len(set(told)) == FREE


async def test_address_that_the_signer_derives_otherwise_is_taken_out_of_hand_out(
    btc: Payouts,
) -> None:
    """A thief with the database put another text into the row after it was verified."""
    row = await hand_out(btc, "player-1")
    thief = btc.signer.kit.address(btc.network, row.path.rpartition("/")[0] + "/999")
    await rows(btc, "UPDATE chain.addresses SET address = :a WHERE id = :id", a=thief, id=row.id)
    await fetch(btc).fetch_page()
    assert await states(btc) == [("refused", MISMATCH, 0)]
    assert await alarms(btc) == [WITHDRAWN]
    [(kind, body)] = await events(btc)
    assert (kind, body["attestation"]) == ("address.withdrawn", None)
    assert body["retired_at"] is not None
    again = await hand_out(btc, "player-1")
    assert again.id != row.id
    await fetch(btc).fetch_page()
    assert await states(btc) == [("refused", MISMATCH, 0), ("attested", None, 0)]


async def test_address_of_another_player_is_taken_out_of_hand_out(btc: Payouts) -> None:
    """A database that was restored to yesterday gives the same path to a second player."""
    row = await hand_out(btc, "player-1")
    mine = AttestItem(brand="acme", player="player-0", path=row.path)
    await btc.signer.attest(AttestRequest(network=btc.network, items=(mine,)))
    await fetch(btc).fetch_page()
    assert await states(btc) == [("refused", "bound", 0)]
    assert await alarms(btc) == [WITHDRAWN]
    assert (await hand_out(btc, "player-1")).id != row.id


async def test_rotated_address_is_attested_too(btc: Payouts) -> None:
    row = await hand_out(btc, "player-1")
    async with btc.database.unit_of_work() as uow:
        await addresses.rotate(uow, address_id=row.id, brand="acme", at=btc.clock.now())
    await fetch(btc).fetch_page()
    [(kind, body)] = await events(btc)
    assert (kind, body["version"]) == ("address.attested", row.version + 2)
    assert body["retired_at"] is not None


@pytest.mark.parametrize(
    ("code", "is_whole"),
    [("unknown_network", True), ("unknown_brand", False), ("cap_window", False),
     ("foreign_path", False)],
)  # fmt: skip
async def test_refusal_that_may_pass_waits_longer_each_time_and_withdraws_nothing(
    btc: Payouts, code: str, is_whole: bool
) -> None:
    """A wrong line in the signer's settings must not take every player's address away."""
    row = await hand_out(btc, "player-1")
    refusing = fetch(btc, Says(code, is_whole=is_whole))
    assert await refusing.fetch_page() == 1
    assert await refusing.fetch_page() == 0
    btc.clock.advance(RETRY_SECONDS)
    assert await refusing.fetch_page() == 1
    btc.clock.advance(RETRY_SECONDS)
    assert await refusing.fetch_page() == 0
    assert await states(btc) == [("pending", code, 2)]
    assert await alarms(btc) == [REFUSED]
    assert (await hand_out(btc, "player-1")).id == row.id
    btc.clock.advance(RETRY_SECONDS)
    assert await fetch(btc).fetch_page() == 1
    assert await states(btc) == [("attested", None, 2)]
    assert await alarms(btc) == []


async def test_signer_that_cannot_write_now_counts_as_down(btc: Payouts) -> None:
    await hand_out(btc, "player-1")
    with pytest.raises(SignerUnavailable):
        await fetch(btc, Says("store_unwritable", is_whole=True)).fetch_page()
    assert await states(btc) == [("pending", None, 0)]


async def test_two_configurations_that_name_other_chains_withdraw_nothing(btc: Payouts) -> None:
    await hand_out(btc, "player-1")
    await fetch(btc, caip2="eip155:1").fetch_page()
    assert await states(btc) == [("pending", "wrong_network", 1)]
    assert await alarms(btc) == [REFUSED]


async def test_page_is_bounded(btc: Payouts) -> None:
    """More than a page of handed-out addresses is asked about in several questions."""
    pool = [btc._pool_row("deposit", 1, 0, index) for index in range(FREE, PAGE + 5)]
    async with btc.database.unit_of_work() as uow:
        await addresses.add(uow, pool, at=btc.clock.now())
        await addresses.mark_verified(uow, [row["id"] for row in pool], at=btc.clock.now())
    for number in range(PAGE + 5):
        await hand_out(btc, f"player-{number}")
    process = fetch(btc)
    assert [await process.fetch_page() for _ in range(3)] == [PAGE, 5, 0]
    assert await states(btc) == [("attested", None, 0)] * (PAGE + 5)


async def test_upgrade_asks_about_what_was_handed_out_before_it(btc: Payouts) -> None:
    """The last statement of the migration, on a database as an older release left it."""
    migration = (MIGRATIONS_FOLDER / "sql" / "0013_attestations.sql").read_text("utf-8")
    table = "INSERT INTO gateway.attestations"
    await hand_out(btc, "player-1")
    await rows(btc, "DELETE FROM gateway.attestations")
    await rows(btc, table + migration.rpartition(table)[2])
    await rows(btc, "UPDATE gateway.attestations SET next_attempt_at = :at", at=btc.clock.now())
    assert await fetch(btc).fetch_page() == 1
    assert await states(btc) == [("attested", None, 0)]
