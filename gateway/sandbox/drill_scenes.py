"""What the drill plays at each point: some withdrawals from their order to their rest, and what
must be true of each of them then.

Paid exactly once: `completed`, the hold settled, and the canonical chain has one output (one
Transfer log) of that address and amount. Released exactly once: an end state without a payment, the
hold given back, nothing on chain or in a mempool, and no signature at the signer. Everything else
is a violation.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from config.ids import SystemIds
from gateway.client import ApiClient, ClientProblem
from gateway.sandbox import drill_store
from gateway.sandbox.boundary import Point
from gateway.sandbox.drill_house import API, PAYOUTS, SIGNER, House
from gateway.sandbox.drill_miner import Miner
from gateway.sandbox.drill_store import Fate
from gateway.sandbox.story import MINE_EVERY_SECONDS

COMPLETED = "completed"
RELEASED = {"cancelled", "declined", "expired", "rejected", "failed"}
SIGNED_BEFORE = "signer_knows_more"
"""Code of a void that came too late: the signer had signed the order."""
TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"  # ERC-20
ADDRESS_BYTES = 20
LOOK_SECONDS = 0.05
LATE_SECONDS = 10.0  # a late message is answered by then, or its sender gave up
SATS = 10**8


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One kind of payout. `amounts` in asset units, one withdrawal each."""

    name: str
    asset: str
    amounts: tuple[str, ...]
    fee_class: str = "urgent"
    is_cancelled: bool = False
    """The client cancels at the moment of the death: every second time before another copy goes on,
    else while it does."""
    is_bumped: bool = False
    """Blocks pass it over until it has a replacement; then that or the original is mined."""

    @property
    def network(self) -> str:
        """The network of the asset."""
        return self.asset.partition(":")[0]


SCENES = (
    Scene(
        name="utxo-batch", asset="btc:BTC", amounts=("0.001", "0.002", "0.003"), fee_class="normal"
    ),
    Scene(name="erc20", asset="eth:USDT", amounts=("3",)),
    Scene(name="cancel", asset="btc:BTC", amounts=("0.01",), is_cancelled=True),
    Scene(name="bump-utxo", asset="btc:BTC", amounts=("0.02",), is_bumped=True),
    Scene(name="bump-evm", asset="eth:USDT", amounts=("4",), is_bumped=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One withdrawal, as the client knows it."""

    id: UUID
    public_id: str
    request_id: str
    address: str
    amount_minor: int


@dataclass(slots=True, kw_only=True)
class Played:
    """What one point left behind."""

    messages: dict[str, int]
    has_died: bool
    paid: int = 0
    released: int = 0
    replaced: int = 0
    """Withdrawals for which more than one signed transaction was sent."""
    violations: list[str] = field(default_factory=list)


class Verdict(StrEnum):
    """What a withdrawal at rest came to."""

    PAID = "paid"
    """Exactly once."""
    RELEASED = "released"
    """Exactly once, and nothing of it was signed."""
    WRONG = "wrong"
    """Everything else."""


def verdict(
    fate: Fate, *, amount_minor: int, seen: Sequence[int], was_cancelled: bool | None
) -> Verdict:
    """By the books and by `seen`, every payment to its address that the node knows of, in minor
    units. `was_cancelled` is what the client was told of its cancel; None where it sent none."""
    if fate.state == COMPLETED:
        is_right = list(seen) == [amount_minor] and fate.hold_state == "settled"
        return Verdict.PAID if is_right and was_cancelled is not True else Verdict.WRONG
    if fate.state in RELEASED:
        is_right = not seen and fate.hold_state in (None, "released")
        is_right = is_right and fate.void_state == "delivered" and fate.void_code != SIGNED_BEFORE
        return Verdict.RELEASED if is_right and was_cancelled is not False else Verdict.WRONG
    return Verdict.WRONG


class Player:
    """Plays scenes in one house. `patience_seconds`: by then everything rests, or never will."""

    def __init__(self, house: House, *, patience_seconds: float) -> None:
        self._house = house
        self._patience_seconds = patience_seconds
        self._number = 0
        self._ids = SystemIds(house.clock)

    async def play(self, scene: Scene, point: Point | None) -> Played:
        """One set of withdrawals, with a death on the way; the next one starts from rest."""
        house, boundary = self._house, self._house.boundary
        self._number = next(house.rounds)
        deaths = len(boundary.killed)
        boundary.counted = frozenset({*PAYOUTS, *API, SIGNER})
        boundary.arm(point)
        tasks = [
            asyncio.create_task(self._order(scene, place)) for place in range(len(scene.amounts))
        ]
        orders = list(await asyncio.gather(*tasks))
        answers: dict[UUID, bool] = {}
        cancelling = None
        if scene.is_cancelled and point is not None:
            house.is_taken_over = self._number % 2 == 0
            cancelling = asyncio.create_task(self._cancel(orders, answers))
        fates = await self._until_rest(scene, orders)
        if cancelling is not None:
            boundary.reached.set()  # a point past the last message
            await cancelling
            fates = await self._until_rest(scene, orders)
        messages = dict(boundary.by_kind)
        boundary.counted = frozenset()
        await self._let_the_sleeper_finish()
        played = Played(messages=messages, has_died=len(boundary.killed) > deaths)
        for order, fate in zip(orders, fates, strict=True):
            await self._judge(scene, order, fate, played, answers.get(order.id))
        played.violations += house.fell
        house.fell.clear()
        if played.violations:
            played.violations += await drill_store.open_alarms(house.books)
        return played

    async def _order(self, scene: Scene, place: int) -> Order:
        """Order as a client does: an unclear answer is asked again under the same key."""
        house = self._house
        network = scene.network
        address = "0x" + self._ids.token_bytes(ADDRESS_BYTES).hex()
        if network != "eth":
            address = await house.world.utxo[network].new_address()
        request_id = f"drill-{scene.name}-{self._number}-{place}"

        body = {
            "request_id": request_id,
            "player_id": f"p{self._number}-{place}",
            "asset": scene.asset,
            "address": address,
            "amount": scene.amounts[place],
            "pam_balance": "0",
            "fee_mode": "brand",
            "fee_class": scene.fee_class,
        }

        async def send(client: ApiClient) -> dict[str, Any] | None:
            try:
                path = "/v1/withdrawals"
                answer: dict[str, Any] = await client.post(path, body, idempotency_key=request_id)
            except ClientProblem as problem:
                if problem.code != "idempotency_in_progress":
                    raise
                return None
            return answer

        found = await house.story.until(f"an answer to {request_id}", lambda: house.ask(send))
        return Order(
            id=UUID(hex=found["id"].rpartition("_")[2]),
            public_id=found["id"],
            request_id=request_id,
            address=address,
            amount_minor=int(found["amount_minor"]),
        )

    async def _cancel(self, orders: Sequence[Order], answers: dict[UUID, bool]) -> None:
        """The client cancels when the chosen message is about to pass; `answers` says whether it
        was told yes."""
        house = self._house
        await house.boundary.reached.wait()
        try:
            for order in orders:
                answers[order.id] = await self._cancel_one(order)
        finally:
            house.is_taken_over = True

    async def _cancel_one(self, order: Order) -> bool:
        house = self._house

        async def send(client: ApiClient) -> bool:
            try:
                await client.post(f"/v1/withdrawals/{order.public_id}/cancel", {})
            except ClientProblem as problem:
                if problem.code != "too_late":
                    raise
                return False
            return True

        async def ask() -> bool:
            return await house.ask(send)

        return await house.story.until(f"a cancel of {order.request_id}", ask)

    async def _until_rest(self, scene: Scene, orders: Sequence[Order]) -> list[Fate]:
        """Let the chain go on until every withdrawal rests; their fates then, or at the end of all
        patience."""
        house, clock = self._house, self._house.clock
        ids = [order.id for order in orders]
        deadline_seconds = clock.monotonic_seconds() + self._patience_seconds
        next_block_seconds = clock.monotonic_seconds()
        miner = Miner(house.world, scene, is_original_mined=self._number % 2 == 0)
        while True:
            house.check()
            fates = await drill_store.fates(house.books, ids)
            now_seconds = clock.monotonic_seconds()
            if all(_rests(fate) for fate in fates) or now_seconds > deadline_seconds:
                return fates
            if now_seconds >= next_block_seconds:
                await miner.mine(fates)
                next_block_seconds = clock.monotonic_seconds() + MINE_EVERY_SECONDS
            await clock.sleep(LOOK_SECONDS)

    async def _let_the_sleeper_finish(self) -> None:
        """Who was stopped past its lease wakes up with its message in hand."""
        house = self._house
        if house.boundary.asleep is None:
            return
        house.wake()
        try:
            async with asyncio.timeout(LATE_SECONDS):
                await house.boundary.passed.wait()
        except TimeoutError:
            pass  # its own time-out came first

    async def _judge(
        self, scene: Scene, order: Order, fate: Fate, played: Played, was_cancelled: bool | None
    ) -> None:
        """One withdrawal: paid once, released once, or a violation."""
        seen = await self._on_chain(scene, order)
        played.replaced += len(fate.attempts) > 1
        match verdict(
            fate, amount_minor=order.amount_minor, seen=seen, was_cancelled=was_cancelled
        ):
            case Verdict.PAID:
                played.paid += 1
            case Verdict.RELEASED:
                played.released += 1
            case Verdict.WRONG:
                told = f"{order.request_id} is {fate.state} ({fate.code}), hold {fate.hold_state}"
                told += f", on chain {seen}, void {fate.void_state} ({fate.void_code})"
                played.violations.append(f"{told}, cancelled {was_cancelled}")

    async def _on_chain(self, scene: Scene, order: Order) -> list[int]:
        """Every payment to the address that the node knows of, in minor units."""
        world = self._house.world
        if scene.network == "eth":
            topics = [TRANSFER, None, "0x" + order.address[2:].rjust(64, "0")]
            asked = {"fromBlock": "0x0", "toBlock": "latest", "address": world.usdt}
            logs = await world.evm().rpc("eth_getLogs", asked | {"topics": topics})
            return [int(entry["data"], 16) for entry in logs]
        node = world.utxo[scene.network]
        found = await node.rpc("listreceivedbyaddress", 0, False, False, order.address)
        paid: list[int] = []
        for txid in {txid for item in found for txid in item["txids"]}:
            tx = await node.rpc("getrawtransaction", txid, True)
            paid += [
                int(Decimal(output["value"]) * SATS)
                for output in tx["vout"]
                if output["scriptPubKey"].get("address") == order.address
            ]
        return paid


def _rests(fate: Fate) -> bool:
    """An end state, with the signer told of an order that it must not sign any more."""
    return fate.state == COMPLETED or (fate.state in RELEASED and fate.void_state != "pending")
