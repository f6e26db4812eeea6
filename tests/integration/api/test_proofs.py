"""A proof of reserves from three chains, two casinos and the signer's own keys, end to end."""

import asyncio
import base64
import copy
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import proofs_store
from gateway.cli import reserves_proof
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.proving import ANSWER_MINUTES_MAX, MISMATCH, REFUSED, SIGN_HOURS_MAX
from ledger import journal
from ledger.accounts import capital, clearing, custody
from ledger.journal import Posting, credit, debit
from tests.support.api import problem
from tests.support.databases import TestDatabase
from tests.support.proofs import (
    TREASURER,
    Bench,
    assets_of,
    encoded,
    failed,
    open_bench,
    pay,
    statuses,
)
from tests.support.ward import COIN, Ward

pytestmark = pytest.mark.postgres


@pytest.fixture
async def bench(ward: Ward, test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Bench]:
    """The ward with a payout process that makes proofs."""
    async with open_bench(ward, test_database.role_url("gateway_payouts"), tmp_path) as opened:
        yield opened


async def test_l18_a_stranger_verifies_that_what_is_owed_is_held(bench: Bench) -> None:
    await pay(bench.ward, "anna", 3)
    await pay(bench.ward, "zoe", 2, brand="zest")
    bundle = await bench.bundle(await bench.done())
    content = encoded(bundle)
    pinned = base64.b64decode(bundle["public_key"])
    verdict = reserves_proof.verify(content, pinned=[pinned])
    assert (verdict.is_verified, verdict.is_covered) == (True, True), verdict
    assert statuses(content, pinned=(pinned,)) == {
        "format": "proven",
        "signature": "proven",
        "liabilities": "proven",
        "holdings": "proven",
        "coins": "proven",
        "sums": "proven",
        "ownership": "proven",
        "blocks": "told",
        "books": "told",
        "coverage": "proven",
    }
    bitcoin = assets_of(bundle)["btc:BTC"]
    assert (bitcoin["on_chain"], bitcoin["owed"]["sum"]) == (str(5 * COIN), str(5 * COIN))
    assert (bitcoin["owed"]["leaves"], bitcoin["surplus"]) == (2, "0")
    text = json.dumps(bundle)
    assert all(name not in text for name in ("anna", "zoe", "acme", "zest"))


async def test_each_player_and_the_casino_find_themselves(bench: Bench) -> None:
    """Two players of one casino report 1.2 and 0.5 of 3; the casino's own is what is left."""
    await pay(bench.ward, "anna", 3)
    reply = await bench.report(("anna", "btc:BTC", "1.2"), ("bert", "btc:BTC", "0.5"))
    assert (reply.status, reply.json()["applied"]) == (200, 2)
    bundle = await bench.bundle(await bench.done())
    amounts = {}
    for player in ("anna", "bert", None):
        reply = await bench.inclusion(player)
        assert reply.status == 200, reply.body
        verdict = reserves_proof.verify(reply.body)
        assert verdict.is_verified, verdict
        assert reply.json()["statement"] == bundle["statement"]
        [leaf] = reply.json()["leaves"]
        amounts[player] = leaf["amount_minor"]
    assert amounts == {"anna": "120000000", "bert": "50000000", None: "130000000"}
    assert assets_of(bundle)["btc:BTC"]["owed"]["sum"] == str(3 * COIN)
    said = json.loads(bundle["statement"].partition("\n")[2])
    assert said["reports"] == {
        "brands": 1,
        "players": 2,
        "oldest": "2026-01-01T00:00:00.000000Z",
        "newest": "2026-01-01T00:00:00.000000Z",
    }


async def test_l18_a_promise_beyond_the_funds_is_told_as_a_shortfall(bench: Bench) -> None:
    await pay(bench.ward, "anna", 1)
    await bench.report(("anna", "btc:BTC", "1.75"))
    content = encoded(bundle := await bench.bundle(await bench.done()))
    verdict = reserves_proof.verify(content)
    assert (verdict.is_verified, verdict.is_covered) == (True, False)
    assert reserves_proof.shortfalls(content) == {"btc:BTC": 75_000_000}
    bitcoin = assets_of(bundle)["btc:BTC"]
    assert (bitcoin["surplus"], bitcoin["owed"]["unfunded"]) == ("-75000000", "75000000")


async def test_l18_coins_that_left_behind_the_books_are_a_shortfall(bench: Bench) -> None:
    """The books say 1 more than the chain holds: only the chain counts."""
    await pay(bench.ward, "anna", 1)
    house = bench.ward.house
    posting = Posting(
        reference="test:more",
        kind="test",
        entries=(
            debit(custody("btc", "hot", "btc:BTC"), COIN),
            credit(clearing("acme", "btc:BTC"), COIN),
        ),
    )
    async with house.owner.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=house.ids.new_id(), at=house.clock.now())
    bundle = await bench.bundle(await bench.done())
    bitcoin = assets_of(bundle)["btc:BTC"]
    assert (bitcoin["surplus"], bitcoin["unexplained"]) == (str(-COIN), str(-COIN))
    assert reserves_proof.verify(encoded(bundle)).is_covered is False


async def test_the_operators_own_capital_is_no_liability(bench: Bench) -> None:
    await pay(bench.ward, "anna", 2)
    house = bench.ward.house
    posting = Posting(
        reference="test:capital",
        kind="test",
        entries=(
            debit(clearing("acme", "btc:BTC"), COIN),
            credit(capital("btc:BTC"), COIN),
        ),
    )
    async with house.owner.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=house.ids.new_id(), at=house.clock.now())
    bitcoin = assets_of(await bench.bundle(await bench.done()))["btc:BTC"]
    assert (bitcoin["owed"]["sum"], bitcoin["surplus"]) == (str(COIN), str(COIN))


async def test_any_altered_part_is_seen(bench: Bench) -> None:
    """Each alteration of a bundle fails at the check that it concerns."""
    await pay(bench.ward, "anna", 3)
    await bench.report(("anna", "btc:BTC", "1.2"), ("bert", "btc:BTC", "0.5"))
    good = await bench.bundle(await bench.done())
    assert failed(encoded(good)) == set()

    def altered(change: Any) -> set[str]:
        bad = copy.deepcopy(good)
        change(bad)
        return failed(encoded(bad))

    [txid] = good["transactions"]["btc"]
    other_output = f"{txid}:1"

    def leaves(bundle: dict[str, Any]) -> list[dict[str, str]]:
        found: list[dict[str, str]] = bundle["liabilities"]["btc:BTC"]
        return found

    def held(bundle: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = bundle["holdings"]["btc"]
        return found

    assert altered(lambda b: leaves(b).pop()) == {"liabilities"}
    assert altered(lambda b: leaves(b).append(leaves(b)[0])) == {"liabilities"}
    assert altered(lambda b: leaves(b).reverse()) == {"liabilities"}
    assert altered(lambda b: leaves(b)[0].update(sum="-5")) == {"liabilities"}
    assert altered(lambda b: leaves(b)[0].update(sum="0")) == {"liabilities"}
    assert altered(lambda b: b["liabilities"].pop("eth:ETH")) == {"liabilities"}
    assert altered(lambda b: held(b)[0].update(amount_minor="1")) == {"holdings", "coins"}
    assert altered(lambda b: held(b).append(held(b)[0])) == {"holdings"}
    assert altered(lambda b: b["transactions"]["btc"].clear()) == {"coins"}
    assert altered(lambda b: held(b)[0].update(outpoint=other_output)) == {"holdings", "coins"}
    assert altered(lambda b: held(b).clear()) == {"holdings", "ownership"}
    assert altered(lambda b: b["ownership"][0].update(signature="AAAA")) == {"ownership"}
    assert altered(lambda b: b["ownership"][0].update(address="bcrt1q")) == {"ownership"}
    assert altered(lambda b: b.update(signature=base64.b64encode(bytes(64)).decode())) == {
        "signature"
    }
    assert altered(lambda b: b.update(key_id="att_0")) == {"signature"}
    for old, new in (('"surplus":"0"', '"surplus":"7"'), (str(3 * COIN), str(4 * COIN))):
        assert "signature" in altered(
            lambda b, old=old, new=new: b.update(statement=b["statement"].replace(old, new))
        )
    assert altered(lambda b: b.update(more=1)) == {"format"}
    assert altered(lambda b: b.update(statement="cage-reserves/1\n{}")) == {"format"}
    other = hashlib.sha256(b"another key").digest()
    assert statuses(encoded(good), pinned=(other,))["signature"] == "failed"


async def test_an_altered_inclusion_is_seen(bench: Bench) -> None:
    await pay(bench.ward, "anna", 3)
    await bench.report(("anna", "btc:BTC", "1.2"), ("bert", "btc:BTC", "0.5"))
    await bench.done()
    good = (await bench.inclusion("anna")).json()
    changes: list[dict[str, Any]] = [
        {"amount_minor": "120000001"},
        {"player_id": "bert"},
        {"brand": "zest"},
        {"salt": "00" * 32},
        {"place": 7},
        {"path": []},
        {"amount_minor": "-120000000"},
    ]
    for change in changes:
        bad = copy.deepcopy(good)
        bad["leaves"][0].update(change)
        assert failed(encoded(bad)) == {"inclusion"}, change
    twice = copy.deepcopy(good)
    twice["leaves"] *= 2
    assert failed(encoded(twice)) == {"inclusion"}


async def test_a29_a_casino_sees_its_own_leaves_and_no_address_of_ours(bench: Bench) -> None:
    await pay(bench.ward, "anna", 1)
    await pay(bench.ward, "zoe", 2, brand="zest")
    await bench.report(("anna", "btc:BTC", "1"))
    proof_id = await bench.done()
    assert problem(await bench.inclusion("anna", key="zest-key"))["status"] == 404
    assert (await bench.inclusion(None, key="zest-key")).json()["leaves"][0]["amount_minor"] == (
        str(2 * COIN)
    )
    reply = await bench.ward.house.call("GET", f"/v1/proofs/{proof_id}/bundle", key="zest-key")
    assert problem(reply)["status"] == 403
    reply = await bench.ward.house.call("POST", "/v1/proofs", body={}, key="acme-key")
    assert problem(reply)["status"] == 403
    shown = await bench.get(proof_id, key="acme-key")
    assert shown["statement"] is not None
    async with bench.database.unit_of_work(brand="zest") as uow:
        for table, count in (
            ("player_balances", 0),
            ("balance_reports", 0),
            ("proof_addresses", 0),
            ("proof_leaves", 1),
        ):
            rows = await uow.execute(f"SELECT count(*) FROM gateway.{table}")
            assert rows.scalar_one() == count, table


async def test_of_proofs_that_are_asked_for_at_once_one_is_made(bench: Bench) -> None:
    house = bench.ward.house
    replies = await asyncio.gather(
        *(house.call("POST", "/v1/proofs", body={}, key=TREASURER) for _ in range(6))
    )
    assert sorted(reply.status for reply in replies) == [202, *[409] * 5]
    rows = await house.rows("SELECT id FROM gateway.proofs")
    assert len(rows) == 1


async def test_one_proof_at_a_time_and_a_silent_network_fails_it(bench: Bench) -> None:
    bench.ward.silent.add("ltc")
    proof_id = await bench.ask()
    reply = await bench.ward.house.call("POST", "/v1/proofs", body={}, key=TREASURER)
    assert problem(reply)["code"] == "proof_running"
    assert await bench.proving.step()
    assert (await bench.get(proof_id))["state"] == "asked"
    bench.ward.clock.advance(60 * ANSWER_MINUTES_MAX + 1)
    assert await bench.proving.step()
    shown = await bench.get(proof_id)
    assert shown["state"] == "failed"
    assert shown["reason"].startswith("ltc: no answer")
    assert (await bench.get(proof_id, key="acme-key"))["reason"] is None
    assert not await bench.proving.step()


async def test_a_signer_that_is_away_only_delays(bench: Bench) -> None:
    """It dies between pages: the next process goes on where the last one stood."""
    await pay(bench.ward, "anna", 1)
    proof_id = await bench.ask()
    assert await bench.proving.step()
    bench.signer.is_away = True
    with pytest.raises(SignerUnavailable):
        await bench.proving.step()
    assert (await bench.get(proof_id))["statement"] is None
    bench.signer.is_away = False
    while await bench.proving.step():
        pass
    assert (await bench.get(proof_id))["state"] == "done"
    assert [len(request.paths) for request in bench.signer.asked] == [1, 0]


async def test_a_signer_that_says_no_is_asked_again_and_in_the_end_given_up(bench: Bench) -> None:
    """A refusal costs no key its word; after a day the next proof may be asked for."""
    await pay(bench.ward, "anna", 1)
    proof_id = await bench.ask()
    assert await bench.proving.step()
    bench.signer.refuses = "bad_request"
    assert await bench.proving.step()
    assert not await bench.proving.step()
    unsigned = "SELECT signature, code FROM gateway.proof_addresses"
    assert await bench.ward.house.rows(unsigned) == [{"signature": None, "code": None}]
    alarms = "SELECT kind FROM gateway.alarms WHERE cleared_at IS NULL"
    assert await bench.ward.house.rows(alarms) == [{"kind": REFUSED}]
    bench.ward.house.tick(3600 * SIGN_HOURS_MAX + 1)
    assert await bench.proving.step()
    shown = await bench.get(proof_id)
    assert (shown["state"], shown["reason"]) == ("failed", "no signature in 24 hours")
    bench.signer.refuses = None
    await bench.done()
    assert await bench.ward.house.rows(alarms) == []


async def test_two_processes_make_one_proof(bench: Bench) -> None:
    await pay(bench.ward, "anna", 1)
    proof_id = await bench.ask()
    async with bench.database.unit_of_work() as uow:
        row = await proofs_store.due(uow, at=bench.ward.clock.now())
    assert row is not None
    await bench.proving._gather(row)
    first = await bench.ward.house.rows("SELECT statement FROM gateway.proofs")
    await bench.proving._gather(row)  # the other one had read the same row
    assert await bench.ward.house.rows("SELECT statement FROM gateway.proofs") == first
    while await bench.proving.step():
        pass
    assert reserves_proof.verify(encoded(await bench.bundle(proof_id))).is_verified


async def test_an_address_that_the_signer_derives_otherwise_is_an_alarm(bench: Bench) -> None:
    """The proof goes on without that key's word, and says so."""
    await pay(bench.ward, "anna", 1)
    await bench.ward.house.rows(
        "UPDATE chain.addresses SET path = 'm/84h/1h/1h/0/99' WHERE player_id = 'anna'"
    )
    bundle = await bench.bundle(await bench.done())
    assert [(item["signature"], item["code"]) for item in bundle["ownership"]] == [
        (None, "mismatch")
    ]
    assert statuses(encoded(bundle))["ownership"] == "told"
    alarms = await bench.ward.house.rows("SELECT kind FROM gateway.alarms")
    assert [row["kind"] for row in alarms] == [MISMATCH]


async def test_statements_are_chained(bench: Bench) -> None:
    """A second one names the first: two histories cannot both be shown."""
    first = await bench.bundle(await bench.done())
    second = await bench.bundle(await bench.done())
    said = json.loads(second["statement"].partition("\n")[2])
    assert said["previous"] == hashlib.sha256(first["statement"].encode()).hexdigest()
    assert json.loads(first["statement"].partition("\n")[2])["previous"] is None


async def test_nothing_is_there_before_the_first_proof(bench: Bench) -> None:
    assert problem(await bench.inclusion("anna"))["status"] == 404
    reply = await bench.ward.house.call("GET", "/v1/proofs", key="acme-key")
    assert reply.json() == {"items": [], "next_cursor": None}
    proof_id = await bench.ask()
    reply = await bench.ward.house.call("GET", f"/v1/proofs/{proof_id}/bundle", key=TREASURER)
    assert problem(reply)["code"] == "proof_not_done"
