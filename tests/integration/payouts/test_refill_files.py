"""Files of a refill over the API and the commands: fetched, brought back, refused by name."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from embit import finalizer, psbt

from gateway.payouts.rebalances import State
from tests.support.bumps import no_breaks, work
from tests.support.cold import ALONE, TWO_OF_THREE
from tests.support.databases import TestDatabase
from tests.support.payouts import Payouts
from tests.support.refill_desk import TreasuryDesk, open_desk
from tests.support.refills import ColdHouse

pytestmark = pytest.mark.postgres

REASON = ("--reason", "payouts wait")


@pytest.fixture
async def desk(
    btc: Payouts, test_database: TestDatabase, tmp_path: Path
) -> AsyncIterator[TreasuryDesk]:
    """A 2 of 3 wallet with two coins, and the API over it."""
    cold = await ColdHouse.of(btc, TWO_OF_THREE)
    async with open_desk(cold, test_database, tmp_path) as opened:
        yield opened


async def ready(desk: TreasuryDesk, amount: str = "0.7") -> str:
    """The id of a refill whose file waits."""
    row = await desk.cold.asked(amount)
    await work(desk.cold.house)
    assert (await desk.cold.now(row)).state == State.UNSIGNED_READY
    return f"reb_test_{row.id.hex}"


async def unsigned(desk: TreasuryDesk, refill: str) -> dict[str, Any]:
    reply = await desk.call("alice", "GET", f"/v1/rebalances/{refill}/unsigned")
    assert reply.status == 200
    found: dict[str, Any] = reply.json()
    return found


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def bring(desk: TreasuryDesk, refill: str, body: dict[str, Any]) -> tuple[int, Any]:
    reply = await desk.call("bob", "POST", f"/v1/rebalances/{refill}/signed", body)
    return reply.status, reply.json()


async def test_the_file_says_what_to_compare_and_who_signs(desk: TreasuryDesk) -> None:
    refill = await ready(desk)
    found = await unsigned(desk, refill)
    container = psbt.PSBT.parse(base64.b64decode(found["psbt"]))
    assert bytes(container.tx.txid()).hex() == found["txid"]
    assert container.tx.vout[0].value == 70_000_000
    assert (found["amount"], found["coins"], found["format"]) == ("0.7", 1, "psbt")
    assert found["signatures"] == {
        "needed": 2,
        "signed_by": [],
        "waits_for": sorted(TWO_OF_THREE.fingerprint(person) for person in range(3)),
        "is_complete": False,
    }
    assert found["qr_svg"].startswith("<svg")
    assert await unsigned(desk, refill) == found


async def test_signatures_come_one_by_one_and_the_same_file_changes_nothing(
    desk: TreasuryDesk,
) -> None:
    refill = await ready(desk)
    data = base64.b64decode((await unsigned(desk, refill))["psbt"])
    first = {"psbt": text(TWO_OF_THREE.sign(data, 2))}
    status, answer = await bring(desk, refill, first)
    assert (status, answer["new_signatures"], answer["rebalance"]["state"]) == (
        202, 1, "unsigned_ready",
    )  # fmt: skip
    assert answer["signatures"]["signed_by"] == [TWO_OF_THREE.fingerprint(2)]
    status, answer = await bring(desk, refill, first)
    assert (status, answer["new_signatures"]) == (202, 0)
    second = {"psbt": text(TWO_OF_THREE.sign(data, 0))}
    status, answer = await bring(desk, refill, second)
    assert (status, answer["rebalance"]["state"], answer["signatures"]["is_complete"]) == (
        200, "signed", True,
    )  # fmt: skip
    again = await bring(desk, refill, second)
    assert (again[0], again[1]["rebalance"]["version"]) == (200, answer["rebalance"]["version"])
    await work(desk.cold.house, times=2)
    late = await bring(desk, refill, first)
    assert (late[0], late[1]["rebalance"]["state"]) == (200, "sent")
    assert (await unsigned(desk, refill))["psbt"] == text(data)


def _other_amount(data: bytes) -> bytes:
    container = psbt.PSBT.parse(data)
    container.outputs[0].value -= 1
    return bytes(container.serialize())


async def test_what_is_not_the_plan_signed_is_refused_by_name_and_stores_nothing(
    desk: TreasuryDesk,
) -> None:
    refill, other = await ready(desk), await ready(desk, "0.6")
    data = base64.b64decode((await unsigned(desk, refill))["psbt"])
    theirs = base64.b64decode((await unsigned(desk, other))["psbt"])
    signed = TWO_OF_THREE.sign(data, 0)
    for upload, code in (
        (data, "no_signature"),
        (TWO_OF_THREE.sign(theirs, 0), "other_transaction"),
        (TWO_OF_THREE.sign(_other_amount(data), 0), "not_the_plan"),
        (signed[:-9], "truncated"),
        (signed + b"\x00", "damaged"),
        (b"\x02\xf8\x6b\x01", "not_a_signed_file"),
    ):
        status, problem = await bring(desk, refill, {"psbt": text(upload)})
        assert (status, problem["code"]) == (422, code)
        [error] = problem["errors"]
        assert error["field"] == "psbt"
        assert len(error["detail"]) > 20
    for body, code in (
        ({}, "one_file"),
        ({"psbt": text(signed), "tx": "00"}, "one_file"),
        ({"psbt": text(signed) + "!"}, "invalid"),
        ({"tx": "zz"}, "invalid"),
    ):
        status, problem = await bring(desk, refill, body)
        assert (status, problem["code"]) == (422, code)
    assert (await unsigned(desk, refill))["signatures"]["signed_by"] == []


async def test_a_large_file_is_refused_before_it_is_read(desk: TreasuryDesk) -> None:
    refill = await ready(desk)
    status, _ = await bring(desk, refill, {"tx": "00" * 300_000})
    assert status == 413


async def test_before_there_is_a_file_and_after_it_was_cancelled_nothing_is_taken(
    desk: TreasuryDesk,
) -> None:
    row = await desk.cold.asked("0.7", people=())
    waiting = f"reb_test_{row.id.hex}"
    reply = await desk.call("alice", "GET", f"/v1/rebalances/{waiting}/unsigned")
    assert (reply.status, reply.json()["code"]) == (409, "not_ready")
    refill = await ready(desk)
    data = base64.b64decode((await unsigned(desk, refill))["psbt"])
    path = f"/v1/rebalances/{refill}/cancel"
    reply = await desk.call("alice", "POST", path, {"reason": "not needed"})
    assert (reply.status, reply.json()["state"]) == (200, "cancelled")
    again = await desk.call("bob", "POST", path, {"reason": "not needed"})
    assert (again.status, again.json()["version"]) == (200, reply.json()["version"])
    status, problem = await bring(desk, refill, {"psbt": text(TWO_OF_THREE.sign(data, 0))})
    assert (status, problem["code"]) == (409, "not_ready")
    late = await desk.call("alice", "POST", f"/v1/rebalances/{waiting}/cancel", {"reason": "x"})
    assert (late.status, late.json()["code"]) == (409, "too_late")


async def test_the_other_direction_has_no_file(desk: TreasuryDesk) -> None:
    asked = {
        "propose": True, "asset": "btc:BTC", "direction": "hot_to_cold", "amount": "0.1",
        "reason": "too much",
    }  # fmt: skip
    [item] = (await desk.call("alice", "POST", "/v1/rebalances/plan", asked)).json()["items"]
    reply = await desk.call("alice", "GET", f"/v1/rebalances/{item['id']}/unsigned")
    assert (reply.status, reply.json()["code"]) == (409, "not_signed_outside")


async def test_a_role_that_is_not_the_treasurys_brings_and_cancels_nothing(
    btc: Payouts, test_database: TestDatabase, tmp_path: Path
) -> None:
    cold = await ColdHouse.of(btc, ALONE)
    async with open_desk(cold, test_database, tmp_path, role="support") as desk:
        refill = await ready(desk)
        data = base64.b64decode((await unsigned(desk, refill))["psbt"])
        status, problem = await bring(desk, refill, {"psbt": text(ALONE.sign(data, 0))})
        assert (status, problem["code"]) == (403, "missing_role")
        path = f"/v1/rebalances/{refill}/cancel"
        reply = await desk.call("bob", "POST", path, {"reason": "no"})
        assert (reply.status, reply.json()["code"]) == (403, "missing_role")


async def test_the_commands_carry_a_refill_from_the_request_to_the_hot_wallet(
    desk: TreasuryDesk, tmp_path: Path
) -> None:
    cold, house = desk.cold, desk.cold.house
    ask = ("treasury", "refill", "request", "btc:BTC", "0.8", *REASON)
    code, out, _ = await desk.runs("alice", *ask, "--dry-run")
    assert (code, out) == (0, "would ask for 0.8 btc:BTC from cold to hot; nothing was stored\n")
    code, _, error = await desk.runs("alice", *ask, "--confirm-amount", "8")
    assert (code, "the amounts differ" in error) == (2, True)
    code, out, _ = await desk.runs("alice", *ask, "--confirm-amount", "0.8", "--json")
    assert code == 0
    refill = json.loads(out)["items"][0]["id"]
    code, _, error = await desk.runs("alice", "treasury", "refill", "export", refill)
    assert (code, "not_ready" in error) == (3, True)

    assert await desk.approved(refill) == "approved"
    lane = await work(house)
    file = tmp_path / "refill.psbt"
    code, out, _ = await desk.runs(
        "alice", "treasury", "refill", "export", refill, "--psbt", str(file)
    )
    assert (code, "compare amount and address" in out) == (0, True)
    code, out, _ = await desk.runs("alice", "treasury", "refill", "export", refill, "--base64")
    assert (code, base64.b64decode(out)) == (0, file.read_bytes())
    svg = tmp_path / "refill.svg"
    code, _, _ = await desk.runs("alice", "treasury", "refill", "export", refill, "--qr", str(svg))
    assert (code, svg.read_text().startswith("<svg")) == (0, True)

    signed = tmp_path / "signed.psbt"
    bring_in = ("treasury", "refill", "import", refill, str(signed), "--confirm-amount", "0.8")
    signed.write_bytes(TWO_OF_THREE.sign(file.read_bytes(), 1))
    for _ in range(2):  # it keeps nothing: the second one says the same
        code, out, _ = await desk.runs("bob", *bring_in[:5], "--dry-run")
        assert (code, "1 new signatures; nothing was stored" in out) == (0, True)
    code, out, _ = await desk.runs("bob", *bring_in)
    assert (code, "2 keys must" in out) == (0, True)
    signed.write_text(text(TWO_OF_THREE.sign(file.read_bytes(), 2)) + "\n")
    code, out, _ = await desk.runs("bob", *bring_in, "--dry-run", "--json")
    told = json.loads(out)
    assert (told["dry_run"], told["signatures"]["is_complete"]) == (True, True)
    assert told["rebalance"]["state"] == "unsigned_ready"
    take_back = ("treasury", "refill", "cancel", refill, "--reason", "why not", "--dry-run")
    code, out, _ = await desk.runs("bob", *take_back)
    assert (code, "would be cancelled; nothing was changed" in out) == (0, True)
    code, out, _ = await desk.runs("bob", *bring_in)
    assert (code, "payouts send it" in out) == (0, True)
    code, out, _ = await desk.runs("bob", *bring_in)
    assert (code, "nothing new" in out) == (0, True)

    await work(house, lane, times=2)
    for _ in range(2):
        await house.mine()
        await work(house, lane)
    code, out, _ = await desk.runs("bob", "treasury", "refill", "status", "--json")
    [row] = json.loads(out)["items"]
    assert (row["id"], row["state"], row["amount"]) == (refill, "done", "0.8")
    assert (await cold.custody())["hot"] == 280_000_000
    await no_breaks(house)
    code, _, error = await desk.runs(
        "bob", "treasury", "refill", "cancel", refill, "--reason", "too late"
    )
    assert (code, "too_late" in error) == (3, True)
    code, _, error = await desk.runs("bob", *take_back)
    assert (code, "too_late" in error) == (3, True)


async def test_a_file_that_is_none_is_refused_before_anything_is_asked(
    desk: TreasuryDesk, tmp_path: Path
) -> None:
    strange = tmp_path / "strange.txt"
    strange.write_text("hello")
    code, _, error = await desk.runs(
        "bob", "treasury", "refill", "import", "reb_test_1", str(strange)
    )
    assert (code, "neither a PSBT nor a finished transaction" in error) == (2, True)
    code, _, error = await desk.runs(
        "bob", "treasury", "refill", "import", "reb_test_1", str(tmp_path / "none")
    )
    assert code == 2


async def test_one_key_is_one_signature(
    btc: Payouts, test_database: TestDatabase, tmp_path: Path
) -> None:
    """A finished tx in hex, as many wallet programs give it."""
    cold = await ColdHouse.of(btc, ALONE)
    async with open_desk(cold, test_database, tmp_path) as desk:
        refill = await ready(desk)
        data = base64.b64decode((await unsigned(desk, refill))["psbt"])
        tx = finalizer.finalize_psbt(psbt.PSBT.parse(ALONE.sign(data, 0)))
        status, answer = await bring(desk, refill, {"tx": tx.serialize().hex()})
    assert (status, answer["rebalance"]["state"]) == (200, "signed")
