"""Bookings by hand: two people, a category, a posting; capital is never made (FEATURES L7)."""

import asyncio
from typing import Any

import pytest

from gateway.client import Reply
from ledger import journal, reconcile
from ledger.accounts import capital, clearing, custody, receivable
from ledger.journal import Posting, credit, debit
from tests.support.api import ApiHouse, problem

pytestmark = pytest.mark.postgres

BTC = "btc:BTC"
COIN = 100_000_000
HOT = custody("btc", "hot", BTC)
PATH = "/v1/ledger/adjustments"
ALLOCATE = {
    "category": "allocate",
    "asset": BTC,
    "amount": "0.4",
    "brand": "acme",
    "reason": "prize money",
}
GONE = {
    "category": "write_off_coins",
    "asset": BTC,
    "amount": "0.1",
    "wallet": "btc/hot",
    "reason": "a key was stolen",
}
OWED = {
    "category": "write_off_receivable",
    "asset": BTC,
    "amount": "0.25",
    "brand": "acme",
    "reason": "agreed with acme",
}
_numbers = iter(range(1, 10_000))


async def _ask(house: ApiHouse, body: dict[str, str], *, key: str = "ada-key") -> Reply:
    return await house.call("POST", PATH, body=body, key=key, idempotency_key=f"a{next(_numbers)}")


async def _both(house: ApiHouse, body: dict[str, str]) -> dict[str, Any]:
    """What the second person is answered."""
    first = await _ask(house, body)
    assert (first.status, first.json()["posting"]) == (202, None), first.body
    second = await _ask(house, body, key="grace-key")
    assert second.status == 200, second.body
    answer: dict[str, Any] = second.json()
    return answer


async def _fund_capital(house: ApiHouse, amount: int = COIN) -> None:
    posting = Posting(
        reference=f"capital:{next(_numbers)}",
        kind="inflow_assigned",
        entries=(debit(HOT, amount), credit(capital(BTC), amount)),
    )
    async with house.owner.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=house.ids.new_id(), at=house.clock.now())


async def _balances(house: ApiHouse) -> dict[str, int]:
    rows = await house.rows(
        "SELECT a.code, sum(CASE WHEN e.side = a.normal_side THEN e.amount ELSE -e.amount END) AS n"
        " FROM ledger.entries e JOIN ledger.accounts a ON a.id = e.account_id GROUP BY a.code"
    )
    return {row["code"]: int(row["n"]) for row in rows if row["n"]}


async def _holds(house: ApiHouse) -> None:
    async with house.owner.unit_of_work() as uow:
        assert await reconcile.check_books(uow) == []


async def test_capital_becomes_clearing_once_two_people_agreed(house: ApiHouse) -> None:
    await _fund_capital(house)
    answer = await _both(house, ALLOCATE)
    assert await _balances(house) == {
        "custody:btc/hot:btc:BTC": COIN,
        "equity:capital:btc:BTC": 60_000_000,
        "brand:acme:clearing:btc:BTC": 40_000_000,
    }
    await _holds(house)
    posting = await house.call("GET", f"/v1/ledger/postings/{answer['posting']}", key="ada-key")
    assert (posting.json()["kind"], posting.json()["reason"]) == (
        "adjustment_allocate",
        "prize money",
    )
    audit = await house.call("GET", "/v1/audit?action=POST%20/v1/ledger/adj", key="ada-key")
    assert [row["actor"] for row in audit.json()["items"]] == ["grace", "ada"]


async def test_what_the_brand_owes_is_repaid_first(house: ApiHouse) -> None:
    await _fund_capital(house)
    await _owe(house, 30_000_000)
    await _both(house, ALLOCATE)
    found = await _balances(house)
    assert found["brand:acme:clearing:btc:BTC"] == 10_000_000
    assert "receivable:acme:btc:BTC" not in found
    await _holds(house)


async def _owe(house: ApiHouse, amount: int) -> None:
    """A reversal of a final deposit that was spent: custody went, the brand owes."""
    posting = Posting(
        reference=f"owe:{next(_numbers)}",
        kind="test",
        entries=(debit(receivable("acme", BTC), amount), credit(HOT, amount)),
    )
    async with house.owner.unit_of_work() as uow:
        await journal.post(uow, posting, posting_id=house.ids.new_id(), at=house.clock.now())


async def test_a_receivable_and_lost_coins_are_written_off_against_capital(
    house: ApiHouse,
) -> None:
    await _fund_capital(house)
    await _owe(house, 25_000_000)
    await _both(house, OWED)
    await _both(house, GONE)
    assert await _balances(house) == {
        "custody:btc/hot:btc:BTC": 65_000_000,
        "equity:capital:btc:BTC": COIN,
        "expense:loss:write_off:btc:BTC": 35_000_000,
    }
    await _holds(house)


@pytest.mark.parametrize("body", [ALLOCATE, GONE, OWED], ids=lambda body: body["category"])
async def test_nothing_is_booked_that_the_operators_own_money_does_not_cover(
    house: ApiHouse, body: dict[str, str]
) -> None:
    await house.fund("acme", BTC, COIN)
    await _owe(house, 25_000_000)
    await _fund_capital(house, 5_000_000)
    before = await _balances(house)
    assert (await _ask(house, body)).status == 202
    reply = await _ask(house, body, key="grace-key")
    assert (reply.status, problem(reply)["code"]) == (409, "capital_short")
    assert await _balances(house) == before
    await _fund_capital(house)
    assert (await _ask(house, body, key="grace-key")).status == 200  # the decision still stands
    await _holds(house)


async def test_no_category_makes_capital(house: ApiHouse) -> None:
    await house.fund("acme", BTC, COIN)
    reply = await _ask(house, {**ALLOCATE, "category": "capital"})
    assert (reply.status, problem(reply)["errors"][0]["field"]) == (422, "category")
    await _fund_capital(house)
    for body in (ALLOCATE, GONE):
        await _both(house, body)
    assert (await _balances(house))["equity:capital:btc:BTC"] == COIN - 40_000_000


async def test_of_two_decisions_for_all_capital_at_once_one_is_booked(house: ApiHouse) -> None:
    """As two people who decide many at once; the lock of the asset's capital lets one by."""
    await _fund_capital(house, 40_000_000)
    wanted = [{**ALLOCATE, "brand": brand} for brand in ("acme", "bravo")]
    for body in wanted:
        assert (await _ask(house, body)).status == 202
    replies = await asyncio.gather(*(_ask(house, body, key="grace-key") for body in wanted))
    assert sorted(reply.status for reply in replies) == [200, 409]
    assert "equity:capital:btc:BTC" not in await _balances(house)
    await _holds(house)


async def test_l15_an_adjustment_is_corrected_by_a_linked_reversal_once(house: ApiHouse) -> None:
    await _fund_capital(house)
    booked = (await _both(house, ALLOCATE))["posting"]
    undo = {"category": "reversal", "posting": booked, "reason": "the wrong brand"}
    reversal = (await _both(house, undo))["posting"]
    assert await _balances(house) == {
        "custody:btc/hot:btc:BTC": COIN,
        "equity:capital:btc:BTC": COIN,
    }
    await _holds(house)
    original = await house.call("GET", f"/v1/ledger/postings/{booked}", key="ada-key")
    assert original.json()["reversed_by"] == reversal
    mirror = await house.call("GET", f"/v1/ledger/postings/{reversal}", key="ada-key")
    assert mirror.json()["reverses"] == booked
    for posting, code in ((booked, "reversed"), (reversal, "not_an_adjustment")):
        reply = await _ask(house, {**undo, "posting": posting})
        assert (reply.status, problem(reply)["code"]) == (409, code)


async def test_l15_other_postings_are_not_reversed_by_hand(house: ApiHouse) -> None:
    await house.fund("acme", BTC, COIN)
    [row] = await house.rows("SELECT id FROM ledger.postings")
    undo = {"category": "reversal", "posting": f"post_test_{row['id'].hex}", "reason": "mine now"}
    reply = await _ask(house, undo)
    assert (reply.status, problem(reply)["code"]) == (409, "not_an_adjustment")
    gone = await _ask(house, {**undo, "posting": f"post_test_{'0' * 32}"})
    assert (gone.status, problem(gone)["code"]) == (409, "unknown_posting")


async def test_an_allocation_that_the_brand_has_spent_is_not_taken_back(house: ApiHouse) -> None:
    await _fund_capital(house)
    booked = (await _both(house, ALLOCATE))["posting"]
    async with house.owner.unit_of_work() as uow:
        spent = Posting(
            reference="spent",
            kind="test",
            entries=(debit(clearing("acme", BTC), 1), credit(HOT, 1)),
        )
        await journal.post(uow, spent, posting_id=house.ids.new_id(), at=house.clock.now())
    undo = {"category": "reversal", "posting": booked, "reason": "the wrong brand"}
    assert (await _ask(house, undo)).status == 202
    reply = await _ask(house, undo, key="grace-key")
    assert (reply.status, problem(reply)["code"]) == (409, "account_short")


async def test_a31_one_person_alone_books_nothing(house: ApiHouse) -> None:
    await _fund_capital(house)
    await house.add_key(
        "ada-other", kind="staff", brand=None, person="ada", roles=("finance",),
        scopes=("treasury:write", "ledger:read"),
    )  # fmt: skip
    assert (await _ask(house, ALLOCATE)).status == 202
    assert (await _ask(house, ALLOCATE)).status == 202
    reply = await _ask(house, ALLOCATE, key="ada-other")
    assert (reply.status, problem(reply)["code"]) == (403, "same_person")
    other = await _ask(house, {**ALLOCATE, "amount": "0.5"}, key="grace-key")
    assert (other.status, problem(other)["code"]) == (409, "other_content")
    assert "brand:acme:clearing:btc:BTC" not in await _balances(house)


async def test_the_second_person_may_also_answer_the_approval(house: ApiHouse) -> None:
    await _fund_capital(house)
    first = (await _ask(house, ALLOCATE)).json()["approval"]["id"]
    reply = await house.call(
        "POST", f"/v1/approvals/{first}", body={"decision": "approve"}, key="grace-key",
        idempotency_key="yes",
    )  # fmt: skip
    assert reply.status == 200, reply.body
    assert (await _balances(house))["brand:acme:clearing:btc:BTC"] == 40_000_000


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": "0.000000001"}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"brand": "nobody"}, "brand"),
        ({"asset": "doge:DOGE"}, "asset"),
        ({"wallet": "btc/hot"}, "wallet"),
        ({"posting": "post_test_1"}, "posting"),
        ({"brand": None}, "brand"),
        ({"category": "reversal"}, "asset"),
    ],
    ids=str,
)
async def test_a_field_that_does_not_fit_its_category_is_named(
    house: ApiHouse, change: dict[str, str | None], field: str
) -> None:
    merged = {name: value for name, value in {**ALLOCATE, **change}.items() if value is not None}
    reply = await _ask(house, merged)
    assert (reply.status, problem(reply)["errors"][0]["field"]) == (422, field)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"wallet": "btc/warm"}, "unknown_wallet"), ({"amount": "2"}, "wallet_short")],
    ids=str,
)
async def test_coins_that_the_books_do_not_have_are_not_written_off(
    house: ApiHouse, change: dict[str, str], code: str
) -> None:
    await _fund_capital(house)
    if code == "wallet_short":  # covered by capital that stands elsewhere
        cold = Posting(
            reference="cold",
            kind="test",
            entries=(debit(custody("btc", "cold", BTC), 9 * COIN), credit(capital(BTC), 9 * COIN)),
        )
        async with house.owner.unit_of_work() as uow:
            await journal.post(uow, cold, posting_id=house.ids.new_id(), at=house.clock.now())
    body = {**GONE, **change}
    assert (await _ask(house, body)).status == 202
    reply = await _ask(house, body, key="grace-key")
    assert (reply.status, problem(reply)["code"]) == (409, code)
