"""A proof of reserves from three chains, two casinos and the signer's own keys, end to end."""

import asyncio
import base64
import copy
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from config.database import Database, async_url
from gateway import proofs_store
from gateway.cli import reserves_proof
from gateway.client import Reply
from gateway.payouts.errors import SignerUnavailable
from gateway.payouts.proving import ANSWER_MINUTES_MAX, MISMATCH, Proving
from ledger import journal
from ledger.accounts import capital, clearing, custody
from ledger.journal import Posting, credit, debit
from signer.keyring import Keyring
from signer.protocol import Refusal
from signer.protocol_reserves import Proven, ProveRequest
from signer.reserves import Prover
from tests.support.api import problem
from tests.support.databases import TestDatabase
from tests.support.vault import VaultKit, trusted_kit
from tests.support.ward import COIN, Ward
from tests.support.worlds import SEED
from watchers import probes

pytestmark = pytest.mark.postgres

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

    async def prove(self, request: ProveRequest) -> Proven | Refusal:
        if self.is_away:
            raise SignerUnavailable("it does not answer")
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


@pytest.fixture
async def bench(ward: Ward, test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Bench]:
    kit = trusted_kit(tmp_path)
    database = Database(async_url(test_database.role_url("gateway_payouts")))
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
        "sums": "proven",
        "ownership": "proven",
        "blocks": "told",
        "books": "told",
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
    assert altered(lambda b: held(b)[0].update(amount_minor="1")) == {"holdings"}
    assert altered(lambda b: held(b).append(held(b)[0])) == {"holdings"}
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


async def test_a_report_is_kept_as_it_was_signed_and_a_later_one_stands(bench: Bench) -> None:
    house = bench.ward.house
    older, newer = "2025-12-31T00:00:00+00:00", "2026-01-01T00:00:00+00:00"
    assert (await bench.report(("anna", "btc:BTC", "2"), as_of=newer)).json()["applied"] == 1
    assert (await bench.report(("anna", "btc:BTC", "9"), as_of=older)).json()["applied"] == 0
    assert (await bench.report(("anna", "btc:BTC", "0"), as_of=newer)).json()["applied"] == 1
    [row] = await house.rows("SELECT amount, as_of FROM gateway.player_balances")
    assert (row["amount"], row["as_of"].isoformat()) == (0, newer)
    kept = await house.rows(
        "SELECT body, key_id, signature_input FROM gateway.balance_reports ORDER BY id"
    )
    assert [json.loads(bytes(row["body"]))["items"][0]["balance"] for row in kept] == [
        "2",
        "9",
        "0",
    ]
    assert {row["key_id"] for row in kept} == {"acme-reports"}


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([("anna", "btc:BTC", "1"), ("anna", "btc:BTC", "2")], "items"),
        ([("anna", "btc:BTC", "-1")], "items[0].balance"),
        ([("anna", "btc:BTC", "1e5")], "items[0].balance"),
        ([("anna", "btc:BTC", "0.000000001")], "items[0].balance"),
        ([("anna", "btc:DOGE", "1")], "items[0].asset"),
    ],
)
async def test_a_report_that_cannot_be_is_refused_whole(
    bench: Bench, items: list[tuple[str, str, str]], field: str
) -> None:
    reply = await bench.report(*items)
    assert problem(reply)["status"] == 422
    assert reply.json()["errors"][0]["field"] == field
    assert await bench.ward.house.rows("SELECT 1 FROM gateway.player_balances") == []


async def test_a_report_from_the_future_or_of_a_stranger_is_refused(bench: Bench) -> None:
    ahead = (bench.ward.clock.now() + timedelta(minutes=5)).isoformat()
    assert problem(await bench.report(("anna", "btc:BTC", "1"), as_of=ahead))["status"] == 422
    without = await bench.report(("anna", "btc:BTC", "1"), key="acme-key")
    assert problem(without)["status"] == 403
    assert (
        problem(await bench.report(("anna", "btc:BTC", "1"), key="operator-key"))["status"] == 403
    )


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
