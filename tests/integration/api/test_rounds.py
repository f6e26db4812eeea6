"""Rounds of a hundred requests at once: each leaves one effect, nothing is ever over-reserved.

`./cage test --rounds 200 tests/integration/api/test_rounds.py` plays more of them. The kinds take
turns, and the seed says who asks what in which order; which request is first is the machine's.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from random import Random
from typing import Any
from uuid import UUID

import pytest

from gateway.client import Reply
from gateway.payouts import limits
from ledger import balances
from ledger.accounts import AccountKind
from ledger.reconcile import check_books
from tests.support.api import ApiHouse, add_addresses, problem
from tests.support.auditor import audit
from tests.support.staff import (
    COIN,
    PEOPLE,
    approve,
    decline,
    hire,
    set_limits,
    set_rate,
    standing,
)

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

REQUESTS = 100
ASSET = "btc:BTC"
REFILL_SECONDS = 5  # between rounds, so that the API's rate limit is not what answers
ASK_ABOVE = "20000"  # in the reference currency; a bitcoin is 50,000 of it
MARK = """
SELECT nextval(pg_get_serial_sequence('ledger.events', 'position')) AS position
"""
RECEIVED = """
SELECT w.id, w.state, w.code, e.position
FROM gateway.withdrawals w JOIN ledger.events e ON e.object_id = w.id
WHERE w.player_id = :player AND e.type = 'withdrawal.received'
"""
OPEN = """
SELECT (SELECT count(*) FROM ledger.holds WHERE state = 'open') AS holds,
    (SELECT coalesce(sum(amount), 0) FROM gateway.withdrawals WHERE is_reserved) AS reserved
"""

Round = Callable[["Table"], Awaitable[None]]


class Table:
    """One round: its number makes players and requests new, its dice say the order."""

    def __init__(self, house: ApiHouse, *, number: int, dice: Random) -> None:
        self.house = house
        self.number = number
        self.dice = dice
        self.tally: Counter[str] = Counter()

        self.lost: list[UUID] = []
        """Deposits that only this test wrote: the auditor misses their history."""

    def name(self, kind: str) -> str:
        """A name of this round alone."""
        return f"{kind}-{self.number}"

    async def at_once(self, *calls: Coroutine[Any, Any, Reply]) -> list[Reply]:
        """All calls, begun in an order of the dice."""
        shuffled = list(calls)
        self.dice.shuffle(shuffled)
        return list(await asyncio.gather(*shuffled))

    async def asked(self, call: Callable[[], Coroutine[Any, Any, Reply]]) -> Reply:
        """The answer of a call; a 5xx means unknown, and so does none: it is asked again."""
        while True:
            try:
                reply = await call()
            except TimeoutError:
                self.tally["unanswered"] += 1
                continue
            if reply.status < 500:
                return reply
            self.tally["unknown"] += 1

    async def order(self, request: str, *, key: str | None = None, **fields: str) -> Reply:
        """An order of this round, under a key of its own name where none is given."""
        name = self.name(request)
        return await self.asked(
            lambda: self.house.withdraw(request_id=name, idempotency_key=key or name, **fields)
        )

    async def cancel(self, withdrawal: Mapping[str, Any]) -> Reply:
        """The client gives it up."""
        path = f"/v1/withdrawals/{withdrawal['id']}/cancel"
        return await self.asked(lambda: self.house.call("POST", path))

    async def open(self) -> tuple[int, int]:
        """(holds in the ledger, amount of the rows that say that they have one)."""
        [row] = await self.house.rows(OPEN)
        return int(row["holds"]), int(row["reserved"])

    async def clearing_minor(self) -> int:
        """What the brand has free."""
        async with self.house.owner.unit_of_work() as uow:
            rows = await balances.balances(uow)
        kinds = {AccountKind.CLEARING}
        found = [row for row in rows if row.kind in kinds and row.asset == ASSET]
        return sum(row.balance_minor for row in found if row.brand == "acme")


async def one_key_one_order(table: Table) -> None:
    """A hundred times one key, a tenth of them with another body (A01, A02)."""
    player, house = table.name("p"), table.house
    amounts = ["0.2"] * (REQUESTS - REQUESTS // 10) + ["0.3"] * (REQUESTS // 10)

    replies = await table.at_once(
        *(table.order("same", player_id=player, amount=a) for a in amounts)
    )

    made = {reply.json()["id"] for reply in replies if reply.status == 202}
    assert len(made) == 1
    for reply in replies:
        if reply.status != 202:
            code = problem(reply)["code"]
            table.tally[code] += 1
            assert code in {"idempotency_in_progress", "idempotency_mismatch"}
    found = await standing(house, {"id": made.pop()})
    assert await table.open() == (1, int(found["amount_minor"]))
    await table.cancel(found)


async def one_request_many_keys(table: Table) -> None:
    """A hundred keys for one request_id, half of them with another amount: the first one stands."""
    player, amounts = table.name("p"), ["0.2", "0.3"] * (REQUESTS // 2)

    replies = await table.at_once(
        *(
            table.order("once", key=table.name(f"k{number}"), player_id=player, amount=amount)
            for number, amount in enumerate(amounts)
        )
    )

    statuses = Counter(reply.status for reply in replies)
    assert statuses == {202: REQUESTS // 2, 422: REQUESTS // 2}
    made = {reply.json()["id"]: reply.json() for reply in replies if reply.status == 202}
    assert len(made) == 1
    assert (await table.open())[0] == 1
    await table.cancel(made.popitem()[1])


async def all_of_clearing(table: Table) -> None:
    """A hundred orders, each for all that is free: one is reserved (A07)."""
    house, before = table.house, await table.clearing_minor()
    amount = f"{before // COIN}.{before % COIN:08d}"
    names = [f"p{number}" for number in range(REQUESTS)]
    await set_limits(house)

    replies = await table.at_once(
        *(table.order(name, player_id=table.name(name), amount=amount) for name in names)
    )

    states = Counter(reply.json()["state"] for reply in replies)
    assert states == {"queued": 1, "waiting_liquidity": REQUESTS - 1}
    assert (await table.clearing_minor(), await table.open()) == (0, (1, before))
    cancelled = await table.at_once(*(table.cancel(reply.json()) for reply in replies))
    assert {reply.json()["state"] for reply in cancelled} == {"cancelled"}
    assert await table.clearing_minor() == before
    await _ask_above(house)


async def a_deposit_is_lost(table: Table) -> None:
    """Orders of one player while a deposit of his becomes orphaned: whoever comes after it is
    refused, whoever came before it was not (CONTRACT 1, lock rule)."""
    house, player = table.house, table.name("loser")
    marks: list[int] = []

    async def lose() -> None:
        async with house.owner.unit_of_work() as uow:
            await balances.lock_player(uow, brand="acme", player_id=player)
            deposit_id = await house.add_deposit(
                uow,
                brand="acme",
                player_id=player,
                asset=ASSET,
                amount_minor=COIN,
                state="orphaned",
            )
            table.lost.append(deposit_id)
            marks.append(int((await uow.execute(MARK)).scalar_one()))

    orders = [
        table.order(f"lost{number}", player_id=player, amount="0.001")
        for number in range(REQUESTS - 1)
    ]
    half = table.dice.randrange(1, len(orders))
    early = asyncio.gather(*orders[:half])
    lost = asyncio.create_task(lose())
    late = asyncio.gather(*orders[half:])
    replies = [*await early, *await late]
    await lost

    assert {reply.status for reply in replies} == {202}
    for row in await house.rows(RECEIVED, player=player):
        came_after = row["position"] > marks[0]
        table.tally["refused" if came_after else "taken"] += 1
        assert (row["state"], row["code"]) == (
            ("rejected", "not_final") if came_after else ("queued", None)
        )
    last = await table.order("last", player_id=player, amount="0.001")
    assert (last.json()["state"], last.json()["code"]) == ("rejected", "not_final")
    queued = [reply.json() for reply in replies if reply.json()["state"] == "queued"]
    await table.at_once(*(table.cancel(found) for found in queued))


async def people_disagree(table: Table) -> None:
    """The client cancels, people approve and decline, all at once: one of them has the last word,
    and the hold goes with it."""
    house = table.house
    found = (await table.order("big", player_id=table.name("p"), amount="0.9")).json()
    assert found["state"] == "pending_approval"
    acts: list[Callable[[], Coroutine[Any, Any, Reply]]] = [
        lambda: table.cancel(found),
        lambda: table.asked(lambda: approve(house, found, key="remy-key")),
        lambda: table.asked(lambda: approve(house, found, key="ruth-key")),
        lambda: table.asked(lambda: decline(house, found, key="rosa-key")),
    ]

    replies = await table.at_once(*(acts[number % len(acts)]() for number in range(REQUESTS)))

    table.tally.update(f"answered {reply.status}" for reply in replies)
    end = await standing(house, found)
    table.tally[end["state"]] += 1
    timeline = await house.call("GET", f"/v1/withdrawals/{found['id']}/timeline")
    road = [item["state"] for item in timeline.json()["items"]]
    assert road in (
        ["received", "reserved", "pending_approval", "cancelled"],
        ["received", "reserved", "pending_approval", "declined"],
        ["received", "reserved", "pending_approval", "queued", "cancelled"],
        ["received", "reserved", "pending_approval", "queued", "declined"],
    )
    assert await table.open() == (0, 0)


ROUNDS: tuple[Round, ...] = (
    one_key_one_order,
    all_of_clearing,
    people_disagree,
    a_deposit_is_lost,
    one_request_many_keys,
)


async def test_a01_a02_a07_a08_a31_a_hundred_requests_at_once_have_one_effect(
    house: ApiHouse, rounds: int, seed: int
) -> None:
    await hire(house, *PEOPLE)
    await set_rate(house, "50000")
    await house.fund("acme", ASSET, 5 * COIN + 12_345)
    await add_addresses(house, "btc", "acme", count=rounds)  # each lost deposit takes one
    await _ask_above(house)
    tally: Counter[str] = Counter()
    lost: set[str] = set()
    for number in range(rounds):
        house.tick(REFILL_SECONDS)
        await set_rate(house, "50000")
        table = Table(house, number=number, dice=Random(seed + number))
        before = await table.clearing_minor()
        await ROUNDS[number % len(ROUNDS)](table)
        assert await table.open() == (0, 0), number
        assert await table.clearing_minor() == before, number
        tally += table.tally
        lost |= {str(deposit_id) for deposit_id in table.lost}
        async with house.owner.unit_of_work() as uow:
            assert await check_books(uow) == []
            assert await limits.check(uow) == []
    found = await audit(house.owner.engine, at_rest=False)
    assert [item for item in found if not any(name in item for name in lost)] == []
    assert tally["cancelled"] + tally["declined"] == (rounds + 2) // len(ROUNDS)


async def _ask_above(house: ApiHouse) -> None:
    await set_limits(house, {"scope": "transaction", "approval_above": ASK_ABOVE})
