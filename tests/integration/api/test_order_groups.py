"""Orders that wait together share a unit of work, and each has its own verdict (ADR 0029)."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from config.settings import DatabaseRole
from gateway.client import ApiClient, Reply
from gateway.payouts import limits
from ledger import balances, store
from ledger.reconcile import check_books
from tests.support.api import BTC_ADDRESS, ETH_ADDRESS, ApiHouse, api_house, problem
from tests.support.auditor import audit
from tests.support.clock import ManualClock, SequentialIds
from tests.support.databases import TestDatabase
from tests.support.pgproxy import commit_cutter
from tests.support.staff import COIN, PEOPLE, hire, set_limits, set_rate
from tests.support.waiting import until_it_waits

pytestmark = pytest.mark.postgres

PATH = "/v1/withdrawals"
LANE = "acme-key"
DEADLINE_SECONDS = 30.0


def body(number: int, **fields: Any) -> dict[str, Any]:
    """A good order of its own player."""
    return {
        "request_id": f"g-{number}",
        "player_id": f"p-{number}",
        "asset": "btc:BTC",
        "address": BTC_ADDRESS,
        "amount": "0.01",
        "pam_balance": "0",
        **fields,
    }


class Queue:
    """Orders that came, in this order, while two groups waited for clearing: they are the next."""

    def __init__(self, house: ApiHouse, client: ApiClient) -> None:
        self.house = house
        self.client = client
        self.calls: list[asyncio.Task[Reply]] = []

    async def add(self, call: Coroutine[Any, Any, Reply]) -> None:
        """One more, at the end of the queue."""
        self.calls.append(asyncio.create_task(call))
        await until_waiting(self.house, len(self.calls))

    async def order(self, number: int, *, key: str | None = None, **fields: Any) -> None:
        """An order under a key of its own name where none is given."""
        order = body(number, **fields)
        await self.add(
            self.client.request("POST", PATH, body=order, idempotency_key=key or f"k-{number}")
        )


async def until_waiting(house: ApiHouse, count: int) -> None:
    """Until so many orders wait for their group."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while house.server._services.orders.waiting(LANE) != count:
            await house.rows("SELECT 1")  # lets the server work


@asynccontextmanager
async def one_group(house: ApiHouse) -> AsyncIterator[tuple[Queue, list[Reply]]]:
    """What is added to the queue is one group once the block ends; the list has its answers.

    The brand is funded. The two orders that they wait for take 0.0001 each: one that has gone on
    waits for clearing, and the one beside it for the sums of the first.
    """
    replies: list[Reply] = []
    async with house.client() as client:
        queue = Queue(house, client)
        async with house.owner.unit_of_work() as uow:
            await store.lock_clearing(uow, brand="acme", asset="btc:BTC")
            before = []
            for player in ("zero", "nil"):
                call = house.withdraw(player_id=player, amount="0.0001")
                before.append(asyncio.create_task(call))
                await until_it_waits(house.owner, count=len(before))
            yield queue, replies
        assert [(await each).status for each in before] == [202, 202]
        async with asyncio.timeout(DEADLINE_SECONDS):
            replies += await asyncio.gather(*queue.calls)


async def states(house: ApiHouse) -> dict[str, tuple[str, str | None]]:
    """State and code by request_id."""
    rows = await house.rows("SELECT request_id, state, code FROM gateway.withdrawals")
    return {row["request_id"]: (row["state"], row["code"]) for row in rows}


async def assert_sound(house: ApiHouse) -> None:
    """Books, limits and histories agree."""
    async with house.owner.unit_of_work() as uow:
        assert await check_books(uow) == []
        assert await limits.check(uow) == []
    assert await audit(house.owner.engine, at_rest=False) == []


async def test_a01_a02_a09_one_group_has_a_verdict_of_its_own_for_each(house: ApiHouse) -> None:
    """Every kind of answer at once; each is what it would be alone."""
    await hire(house, *PEOPLE)
    await set_rate(house, "50000")
    await set_limits(house, {"scope": "transaction", "approval_above": "1000", "max": "100000"})
    await house.fund("acme", "btc:BTC", COIN)
    await house.deposit(
        brand="acme", player_id="p-3", asset="btc:BTC", amount_minor=COIN, state="provisional"
    )
    await house.withdraw(**body(90), idempotency_key="k-90")
    await house.withdraw(player_id="p-99", amount="0.00001")
    own = await house.own_text("btc", "hot")
    held = asyncio.Event()
    async with one_group(house) as (queue, replies):
        holder = asyncio.create_task(hold_player(house, "p-99", held=held, until="g-12"))
        await held.wait()
        await queue.order(1, key="k-1")
        await queue.order(2, amount="0.00001")
        await queue.order(3)  # not final
        await queue.order(4, amount="0.5")  # above the limit of one person
        await queue.order(5, amount="3")  # above the limit at all
        await queue.order(6, amount="0.9")  # more than is left, and above the limit
        await queue.order(7, amount="0.123456789")
        await queue.order(8, address=own)
        await queue.order(10, asset="eth:ETH", address=ETH_ADDRESS, amount="1")
        await queue.order(11, fee_mode="player", max_fee="0.001")
        await queue.order(1, key="k-1")  # the same again
        await queue.order(2, key="k-1")  # the same key for another
        await queue.order(1, key="k-other")  # the same request under another key
        await queue.order(1, key="k-third", amount="0.02")  # its request_id for another
        await queue.order(90, key="k-90")  # stands since before
        signed = queue.client.signer.sign(
            "POST", PATH, body=json.dumps(body(12)).encode(), idempotency_key="k-12"
        )
        await queue.add(queue.client.send(signed))
        await queue.add(queue.client.send(signed))  # the same nonce
        await queue.order(99)  # somebody holds the player
    await holder
    assert [verdict(reply) for reply in replies] == [
        (202, "queued", None),
        (202, "rejected", "below_minimum"),
        (202, "rejected", "not_final"),
        (202, "pending_approval", "limit_transaction"),
        (202, "rejected", "limit_transaction"),
        (202, "waiting_liquidity", "clearing"),
        (422, "invalid_amount", None),
        (422, "own_address", None),
        (202, "waiting_liquidity", "clearing"),
        (202, "rejected", "fees_unknown"),
        (202, "queued", None),
        (422, "idempotency_mismatch", None),
        (202, "queued", None),
        (422, "idempotency_mismatch", None),
        (202, "queued", None),
        (202, "queued", None),
        (401, "nonce_used", None),
        (202, "queued", None),
    ]
    replayed = [n for n, reply in enumerate(replies) if "Idempotent-Replayed" in reply.headers]
    assert replayed == [10, 12, 14]
    assert replies[10].body == replies[0].body
    assert replies[12].json() == replies[0].json()
    async with house.owner.unit_of_work() as uow:
        assert await check_books(uow) == []
        assert await limits.check(uow) == []


async def test_a_player_whom_somebody_is_adding_stops_nobody_else(house: ApiHouse) -> None:
    """The row cannot be seen and cannot be added: the group is given up, each goes by itself."""
    await house.fund("acme", "btc:BTC", COIN)
    held = asyncio.Event()
    async with one_group(house) as (queue, replies):
        holder = asyncio.create_task(hold_player(house, "p-99", held=held, until="g-3"))
        await held.wait()
        await queue.order(99)
        for number in range(4):
            await queue.order(number)
    await holder
    assert [verdict(reply) for reply in replies] == [(202, "queued", None)] * 5
    await assert_sound(house)


async def hold_player(house: ApiHouse, player: str, *, held: asyncio.Event, until: str) -> None:
    """Hold a player until an order of others is stored: that did not wait for the player."""
    async with house.owner.unit_of_work() as uow, asyncio.timeout(DEADLINE_SECONDS):
        await balances.lock_player(uow, brand="acme", player_id=player)
        held.set()
        while until not in (stored := await states(house)):
            pass
        assert player.replace("p", "g") not in stored


def verdict(reply: Reply) -> tuple[int, str, str | None]:
    """Status, and state and code of an object or the code of a problem."""
    if reply.status != 202:
        return reply.status, problem(reply)["code"], None
    return reply.status, reply.json()["state"], reply.json()["code"]


async def test_a07_what_fits_goes_first_in_order_of_arrival(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN + 20_000)
    async with one_group(house) as (queue, replies):
        for number, amount in enumerate(("0.6", "0.6", "0.3", "0.2", "0.1", "0.0001")):
            await queue.order(number, amount=amount)
    assert [reply.json()["state"] for reply in replies] == [
        "queued", "waiting_liquidity", "queued", "waiting_liquidity", "queued", "waiting_liquidity",
    ]  # fmt: skip
    await assert_sound(house)


async def test_a07_a_group_of_100_for_all_of_clearing_reserves_one(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN + 20_000)
    async with one_group(house) as (queue, replies):
        for number in range(100):
            await queue.order(number, amount="1", player_id=f"p-{number % 7}")
    found = [reply.json()["state"] for reply in replies]
    assert found == ["queued", *["waiting_liquidity"] * 99]
    await assert_sound(house)


async def test_limits_are_exact_within_a_group(house: ApiHouse) -> None:
    """A bitcoin is 50,000: a player's three, the brand's five and the day's people."""
    await hire(house, *PEOPLE)
    await set_rate(house, "50000")
    await set_limits(
        house,
        {"scope": "player", "window": "24h", "max": "150000"},
        {"scope": "brand", "window": "24h", "approval_above": "200000", "max": "255000"},
    )
    await house.fund("acme", "btc:BTC", 100 * COIN)
    async with one_group(house) as (queue, replies):
        for number, player in enumerate("aaaabbb"):
            await queue.order(number, player_id=player, amount="1")
    assert [verdict(reply)[1:] for reply in replies] == [
        ("queued", None),
        ("queued", None),
        ("queued", None),
        ("rejected", "limit_player_24h"),
        ("pending_approval", "limit_brand_24h"),
        ("pending_approval", "limit_brand_24h"),
        ("rejected", "limit_brand_24h"),
    ]
    await assert_sound(house)


async def test_one_that_poisons_its_group_fails_alone(house: ApiHouse) -> None:
    """The database refuses the row of one order, whoever brings it."""
    await house.fund("acme", "btc:BTC", COIN)
    await house.rows(
        "CREATE FUNCTION public.choke() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'choked' USING ERRCODE = '55P03'; END $$"
    )
    await house.rows(
        "CREATE TRIGGER choke BEFORE INSERT ON gateway.withdrawals FOR EACH ROW "
        "WHEN (NEW.player_id = 'p-3') EXECUTE FUNCTION public.choke()"
    )
    async with one_group(house) as (queue, replies):
        for number in range(6):
            await queue.order(number)
    assert [reply.status for reply in replies] == [202, 202, 202, 409, 202, 202]
    assert sorted(await states(house)) == [*(f"g-{n}" for n in (0, 1, 2, 4, 5)), "r1", "r2"]
    assert len(await house.rows("SELECT key FROM gateway.idempotency")) == 7
    await assert_sound(house)


class Statements:
    """Counts what the API's connections are asked."""

    def __init__(self, house: ApiHouse) -> None:
        self.count = 0
        engine = house.server._services.database.engine.sync_engine
        event.listen(engine, "connect", self._connect)
        event.listen(engine, "checkout", self._connect)

    def _connect(self, connection: Any, *_: object) -> None:
        connection.driver_connection.add_query_logger(self._count)  # again is once

    def _count(self, query: Any) -> None:
        self.count += query.query != ";"  # the pool asks so whether a connection lives

    def take(self) -> int:
        """What came since the last look."""
        self.count, taken = 0, self.count
        return taken


async def test_a_group_costs_the_same_statements_however_many_are_in_it(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    statements = Statements(house)
    counts = []
    for first, count in ((0, 2), (10, 2), (20, 60)):  # the first also opens connections
        async with one_group(house) as (queue, replies):
            for number in range(first, first + count):
                amount = "0.01" if number % 2 else "0.00001"  # queued and rejected
                await queue.order(number, amount=amount)
            statements.take()
        assert {reply.status for reply in replies} == {202}
        counts.append(statements.take())
    assert counts[1] == counts[2]


async def test_a_batch_costs_the_same_statements_however_many_are_in_it(house: ApiHouse) -> None:
    await house.fund("acme", "btc:BTC", COIN)
    statements = Statements(house)
    counts = []
    for first, count in ((0, 2), (10, 2), (20, 60)):  # the first also opens connections
        items = [body(number) for number in range(first, first + count)]
        reply = await house.call(
            "POST", "/v1/withdrawal_batches", body={"items": items}, idempotency_key=f"b-{first}"
        )
        assert [item["state"] for item in reply.json()["items"]] == ["queued"] * count
        counts.append(statements.take())
    assert counts[1] == counts[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut(TestDatabase):
    """A database whose role connects by another road."""

    url: str

    def role_url(self, role: DatabaseRole) -> str:
        """Through the cutter."""
        return self.url


@pytest.mark.parametrize("reaches_server", [True, False], ids=["committed", "lost"])
async def test_a06_a_group_whose_commit_is_lost_is_unknown_and_its_retries_are_answered(
    reaches_server: bool,
    test_database: TestDatabase,
    session_folder: Path,
    tmp_path: Path,
    clock: ManualClock,
    ids: SequentialIds,
) -> None:
    folder = session_folder / f"group-{reaches_server}"
    folder.mkdir()
    async with (
        commit_cutter(test_database.role_url("gateway_api"), folder) as (cutter, url),
        api_house(
            Cut(server=test_database.server, name=test_database.name, url=url),
            tmp_path,
            clock=clock,
            ids=ids,
        ) as house,
    ):
        await house.fund("acme", "btc:BTC", 5 * COIN)
        async with one_group(house) as (queue, replies):
            for number in range(5):
                await queue.order(number, key=f"k-{number}", amount="1")
            cutter.cut_next(3, reaches_server=reaches_server)  # two are of whom they wait for
        assert [reply.status for reply in replies] == [503] * 5
        assert cutter.cuts == 1
        stored = [name for name in await states(house) if name.startswith("g-")]
        assert len(stored) == (5 if reaches_server else 0)

        async with house.client() as client:
            again = [
                await client.request(
                    "POST", PATH, body=body(number, amount="1"), idempotency_key=f"k-{number}"
                )
                for number in range(5)
            ]
        assert [reply.json()["state"] for reply in again] == [
            *["queued"] * 4,
            "waiting_liquidity",
        ]
        replayed = ["Idempotent-Replayed" in reply.headers for reply in again]
        assert replayed == [reaches_server] * 5
        await assert_sound(house)
