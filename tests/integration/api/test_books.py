"""The books over the API: accounts, postings, the journal, statements, and the replay."""

from datetime import timedelta
from typing import Any

import pytest

from config.database import Uow
from ledger import journal
from ledger.accounts import Stage, clearing, custody, player
from ledger.journal import ChainEffect, Posting, credit, debit
from tests.support.api import ApiHouse, problem

BTC = "btc:BTC"
HOT = custody("btc", "hot", BTC)
COIN = 100_000_000


async def pages(house: ApiHouse, target: str, *, key: str = "acme-key") -> list[dict[str, Any]]:
    """Every item of a list, two by two."""
    items: list[dict[str, Any]] = []
    mark = "&" if "?" in target else "?"
    cursor = ""
    while True:
        reply = await house.call("GET", f"{target}{mark}limit=2{cursor}", key=key)
        assert reply.status == 200, reply.body
        page = reply.json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        cursor = f"&cursor={page['next_cursor']}"


async def credited(house: ApiHouse, *, brand: str = "acme", amount: int = COIN) -> str:
    """A provisional deposit with the posting that the watcher makes; its id on the wire."""
    deposit_id = await house.deposit(
        brand=brand, player_id="p1", asset=BTC, amount_minor=amount, state="provisional"
    )
    txid = deposit_id.hex * 2
    await house.rows(
        "UPDATE chain.deposits SET credited_stage = 'provisional', custody_block_hash = 'ab',"
        " custody_height = 7, block_hash = 'ab', height = 7 WHERE id = :id",
        id=deposit_id,
    )
    posting = Posting(
        reference=f"deposit:btc:{txid}:out:0:1:provisional",
        kind="deposit_provisional",
        entries=(
            debit(HOT, amount),
            credit(player(brand, "p1", Stage.PROVISIONAL, BTC), amount),
        ),
        effect=ChainEffect(network="btc", block_hash="ab", height=7),
    )

    async def work(uow: Uow) -> None:
        await journal.post(uow, posting, posting_id=house.ids.new_id(), at=house.clock.now())

    await house.owner.run(work)
    house.tick(1)  # a period without an end ends now, and now is not in it
    return f"dep_test_{deposit_id.hex}"


async def test_accounts_are_listed_with_balances_now_and_as_of_a_moment(house: ApiHouse) -> None:
    await house.fund("acme", BTC, COIN)
    then = house.clock.now().isoformat().replace("+00:00", "Z")
    house.tick(60)
    await house.fund("acme", BTC, COIN)
    await house.fund("bravo", "ltc:LTC", 5)
    every = await pages(house, "/v1/ledger/accounts", key="ada-key")
    assert [row["account"] for row in every] == sorted(row["account"] for row in every)
    assert len(every) == 4
    mine = await pages(house, "/v1/ledger/accounts")
    assert [(row["account"], row["balance"]) for row in mine] == [
        ("brand:acme:clearing:btc:BTC", "2")
    ]
    before = await pages(house, f"/v1/ledger/accounts?at={then}")
    assert [row["balance_minor"] for row in before] == [str(COIN)]
    narrowed = "/v1/ledger/accounts?kind=custody&asset=ltc:LTC&brand=bravo"
    assert await pages(house, narrowed, key="ada-key") == []
    custodies = await pages(house, "/v1/ledger/accounts?kind=custody", key="ada-key")
    assert [row["side"] for row in custodies] == ["debit", "debit"]


@pytest.mark.parametrize(
    "query",
    ["kind=gold", "at=yesterday", "cursor=%25%25", "limit=0", "kind=custody&kind=clearing"],
)
async def test_a_list_of_accounts_refuses_what_it_does_not_know(
    house: ApiHouse, query: str
) -> None:
    assert problem(await house.call("GET", f"/v1/ledger/accounts?{query}"))["status"] == 422


async def test_a_posting_is_shown_with_its_block_and_only_to_those_it_concerns(
    house: ApiHouse,
) -> None:
    await credited(house)
    [line] = (await house.call("GET", "/v1/players/p1/statement")).json()["items"]
    target = f"/v1/ledger/postings/{line['posting_id']}"
    whole = (await house.call("GET", target, key="ada-key")).json()
    mine = (await house.call("GET", target)).json()
    assert (whole["block_hash"], whole["block_height"], whole["network"]) == ("ab", 7, "btc")
    assert [item["account"] for item in whole["lines"]] == [
        HOT.code,
        "player:acme:p1:provisional:btc:BTC",
    ]
    assert [item["account"] for item in mine["lines"]] == ["player:acme:p1:provisional:btc:BTC"]
    assert (mine["lines_total"], mine["reverses"], mine["reversed_by"]) == (2, None, None)
    theirs = await house.call("GET", target, key="bravo-key")
    nobodys = await house.call("GET", target[:-4] + "0000", key="ada-key")
    assert (theirs.status, nobodys.status) == (404, 404)


async def test_a_statement_tells_where_each_line_comes_from_and_adds_up(house: ApiHouse) -> None:
    deposit_id = await credited(house)
    house.tick(60)
    since = house.clock.now().isoformat().replace("+00:00", "Z")
    await house.fund("acme", BTC, COIN)
    withdrawal = (await house.withdraw(player_id="p1", amount="0.25", pam_balance="9")).json()
    assert withdrawal["state"] == "queued"
    house.tick(1)
    items = await pages(house, "/v1/players/p1/statement")
    assert [(row["stage"], row["change"]) for row in items] == [
        ("provisional", "1"),
        ("reserved", "0.25"),
    ]
    assert (items[0]["deposit_id"], items[0]["withdrawal_id"]) == (deposit_id, None)
    assert (items[1]["deposit_id"], items[1]["withdrawal_id"]) == (None, withdrawal["id"])
    later = (await house.call("GET", f"/v1/players/p1/statement?from={since}")).json()
    assert [(row["stage"], row["opening"], row["closing"]) for row in later["stages"]] == [
        ("provisional", "1", "1"),
        ("reserved", "0", "0.25"),
    ]


async def test_a_statement_of_a_period_is_the_same_on_every_page(house: ApiHouse) -> None:
    """What is booked after the first page is not in a statement that had no end given."""
    for _ in range(3):
        await credited(house, amount=5)
    first = (await house.call("GET", "/v1/players/p1/statement?limit=2")).json()
    await credited(house, amount=7)
    target = f"/v1/players/p1/statement?limit=2&cursor={first['next_cursor']}"
    second = (await house.call("GET", target)).json()
    assert (first["until"], first["stages"]) == (second["until"], second["stages"])
    changes = [int(row["change_minor"]) for page in (first, second) for row in page["items"]]
    assert sum(changes) == int(first["stages"][0]["closing_minor"]) == 15
    assert second["next_cursor"] is None


async def test_a29_another_brand_reads_no_statement_and_an_operator_names_one(
    house: ApiHouse,
) -> None:
    await credited(house)
    theirs = (await house.call("GET", "/v1/players/p1/statement", key="bravo-key")).json()
    assert (theirs["stages"], theirs["items"]) == ([], [])
    unnamed = await house.call("GET", "/v1/players/p1/statement", key="ada-key")
    assert problem(unnamed)["errors"][0]["code"] == "brand_required"
    named = await house.call("GET", "/v1/players/p1/statement?brand=acme", key="ada-key")
    assert len(named.json()["items"]) == 1
    backwards = "from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z"
    wrong = await house.call("GET", f"/v1/players/p1/statement?{backwards}")
    assert problem(wrong)["errors"][0]["field"] == "to"


async def test_the_journal_is_read_in_pages_and_a_brand_reads_its_own_lines(
    house: ApiHouse,
) -> None:
    for brand in ("acme", "bravo", "acme"):
        await house.fund(brand, BTC, 5)
        house.tick(1)
    every = await pages(house, "/v1/ledger/entries", key="ada-key")
    assert len(every) == 6
    assert [row["booked_at"] for row in every] == sorted(row["booked_at"] for row in every)
    mine = await pages(house, "/v1/ledger/entries")
    assert {row["entry"]["account"] for row in mine} == {clearing("acme", BTC).code}
    assert len(mine) == 2
    moment = (house.clock.now() - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    last = await pages(house, f"/v1/ledger/entries?from={moment}", key="ada-key")
    assert len(last) == 2


async def verification(house: ApiHouse) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Every page of the replay: what was looked at by part, and the findings."""
    checked: dict[str, int] = {}
    found: list[dict[str, Any]] = []
    target = "/v1/ledger/verification"
    while True:
        reply = await house.call("GET", target, key="ada-key")
        assert reply.status == 200, reply.body
        page = reply.json()
        checked[page["part"]] = checked.get(page["part"], 0) + page["checked"]
        found += page["items"]
        if page["next_cursor"] is None:
            return checked, found
        target = f"/v1/ledger/verification?cursor={page['next_cursor']}"


async def test_l14_the_replay_holds_deposits_and_withdrawals_against_their_postings(
    house: ApiHouse,
) -> None:
    await credited(house)
    await house.fund("acme", BTC, COIN)
    assert (await house.withdraw(pam_balance="9")).json()["state"] == "queued"
    checked, found = await verification(house)
    assert found == []
    assert (checked["deposits"], checked["withdrawals"], checked["postings"]) == (1, 1, 3)
    await house.rows("UPDATE chain.deposits SET amount = amount + 1")
    await house.rows("UPDATE gateway.withdrawals SET state = 'completed', version = version + 1")
    kinds = {row["kind"]: row["difference_minor"] for row in (await verification(house))[1]}
    assert kinds["deposit_amount"] == "-1"
    assert kinds["withdrawal_amount"] == "-10000000"
    assert "withdrawal_hold" in kinds
    await house.rows("UPDATE chain.deposits SET state = 'final', version = version + 1")
    assert "deposit_stage" in {row["kind"] for row in (await verification(house))[1]}


async def test_the_replay_is_the_operators_and_its_cursors_are_its_own(house: ApiHouse) -> None:
    assert (await house.call("GET", "/v1/ledger/verification")).status == 403
    branded = await house.call("GET", "/v1/ledger/verification?brand=acme", key="ada-key")
    assert branded.status == 404
    for cursor in ("bm93aGVyZQ", "cG9zdGluZ3N8eHx5", "YWNjb3VudHN8eA", "ZGVwb3NpdHN8eA"):
        target = f"/v1/ledger/verification?cursor={cursor}"
        assert problem(await house.call("GET", target, key="ada-key"))["status"] == 422, cursor
