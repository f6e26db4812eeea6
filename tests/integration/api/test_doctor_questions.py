"""What the doctor may be asked, what it does while no watcher answers, and what it keeps."""

import asyncio
import json

import pytest

from tests.support.api import problem
from tests.support.simchain import (
    SimAccountReader,
    SimUtxoReader,
    account_chain,
    utxo_chain,
)
from tests.support.ward import NOBODYS, Ward, codes
from watchers.chain import TxStatus
from watchers.errors import NodeUnavailable

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "one_subject"),
        (f"txid={NOBODYS}&player_id=anna", "one_subject"),
        ("txid=", "invalid"),
        ("txid=abc", "invalid"),
        (f"txid=0x{NOBODYS}00", "invalid"),
        (f"txid=%20{NOBODYS}", "invalid"),
        ("txid=" + "%EF%BC%91" * 64, "invalid"),
        ("address=bcrt1qqqq", "invalid"),
        ("address=0x00", "invalid"),
        ("player_id=", "invalid"),
        ("player_id=..%2Fetc", "invalid"),
        ("player_id=" + "a" * 129, "invalid"),
        ("who=anna", "invalid_query"),
    ],
)
async def test_a11_n10_what_is_no_subject_is_refused_with_a_remedy(
    ward: Ward, query: str, code: str
) -> None:
    found = problem(await ward.look(query))
    assert (found["status"], found["code"]) == (422, code)
    assert found["errors"]
    assert all(item["detail"] for item in found["errors"])


async def test_n10_the_scope_is_required(ward: Ward) -> None:
    await ward.house.add_key("blind-key", scopes=("ledger:read",))
    assert problem(await ward.look("player_id=anna", key="blind-key"))["status"] == 403


class DeadReader(SimUtxoReader):
    """A node that does not say where a tx is."""

    async def tx_status(self, txid: str) -> TxStatus:
        raise NodeUnavailable("node-7: connection refused")


class HangingReader(SimAccountReader):
    """A node that takes the question and never answers."""

    async def tx_status(self, txid: str) -> TxStatus:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")


async def test_n10_a_down_node_is_said_to_be_down(ward: Ward) -> None:
    ward.watches["btc"].chain = utxo_chain(ward.btc, reader=DeadReader(ward.btc))
    started = ward.clock.monotonic_seconds()
    found = await ward.report(f"txid={NOBODYS}")
    assert ward.clock.monotonic_seconds() - started < 5
    assert codes(found["findings"]) == ["node_unanswered"]
    assert found["verdict"] == "not_credited"
    assert "node-7" not in json.dumps(found)
    assert "node-7" in json.dumps(await ward.report(f"txid={NOBODYS}", key="operator-key"))


async def test_n10_a_hanging_node_counts_as_down_after_its_time_limit(ward: Ward) -> None:
    ward.watches["eth"].chain = account_chain(ward.eth, reader=HangingReader(ward.eth))
    reply = await ward.look(f"txid=0x{NOBODYS}")
    assert reply.status in (200, 202)
    found = (await ward.fetch(reply.json()["link"])).json()
    assert codes(found["findings"]) == ["node_unanswered"]


async def test_n10_a_silent_watcher_gives_202_with_a_link_within_five_seconds(ward: Ward) -> None:
    ward.silent = {"btc", "ltc"}
    started = ward.clock.monotonic_seconds()
    reply = await ward.look(f"txid={NOBODYS}")
    assert ward.clock.monotonic_seconds() - started < 5
    assert reply.status == 202
    found = reply.json()
    assert reply.headers["Location"] == found["link"]
    assert (found["verdict"], codes(found["findings"])) == ("looking", ["still_asking"] * 2)

    ward.silent = {"ltc"}
    assert (await ward.fetch(found["link"])).status == 202
    ward.clock.advance(61)
    reply = await ward.fetch(found["link"])
    assert (reply.status, codes(reply.json()["findings"])) == (200, ["node_unanswered"])
    ward.silent = set()
    await ward.answer()
    reply = await ward.fetch(found["link"])
    assert codes(reply.json()["findings"]) == ["not_found_anywhere"]


async def test_n10_one_question_stands_however_often_it_is_asked(ward: Ward) -> None:
    ward.silent = {"eth"}
    replies = [await ward.look(f"txid=0x{NOBODYS}") for _ in range(3)]
    assert {reply.status for reply in replies} == {202}
    rows = await ward.house.rows("SELECT brand, state FROM chain.probes WHERE kind = 'tx'")
    assert rows == [{"brand": "acme", "state": "asked"}]
    await ward.look(f"txid=0x{NOBODYS}", key="zest-key")
    rows = await ward.house.rows("SELECT brand FROM chain.probes ORDER BY brand")
    assert rows == [{"brand": "acme"}, {"brand": "zest"}]


async def test_a29_n10_the_database_shows_a_brand_no_question_of_another(ward: Ward) -> None:
    await ward.report(f"txid={NOBODYS}")
    as_api = ward.watches["btc"].as_api
    for brand, count in (("acme", 3), ("zest", 0)):
        async with as_api.unit_of_work(brand=brand) as uow:
            found = await uow.execute(
                "SELECT (SELECT count(*) FROM chain.probes)"
                " + (SELECT count(*) FROM gateway.doctor_cases)"
            )
            assert found.scalar_one() == count


async def test_n10_old_questions_and_lookups_are_forgotten(ward: Ward) -> None:
    await ward.report(f"txid={NOBODYS}")
    ward.clock.advance(25 * 3600)
    await ward.report(f"txid={NOBODYS[::-1]}")
    rows = await ward.house.rows("SELECT DISTINCT subject FROM chain.probes")
    assert rows == [{"subject": NOBODYS[::-1]}]
    rows = await ward.house.rows("SELECT txid FROM gateway.doctor_cases")
    assert rows == [{"txid": NOBODYS[::-1]}]
