"""The demo's story: strangers pay players, players withdraw, and the world misbehaves.

Acts from outside only: nodes, the HTTP API, signals and (once, to forge a row) the database. Every
wait polls a fact with a deadline; nothing is assumed after a delay.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp

from config.clock import Clock
from gateway.client import ApiClient, ClientProblem
from gateway.sandbox.narration import Narration
from gateway.sandbox.world import World

T = TypeVar("T")

STEP_TIMEOUT_SECONDS = 60.0
POLL_SECONDS = 0.1
MINE_EVERY_SECONDS = 0.4
BLOCKS_AT_ONCE = {"btc": 1, "ltc": 3, "eth": 6}  # by the depth of their tiers
REPEATS = 50
CONFLICT_BLOCKS = 8  # deeper than every tier of the demo


class StoryFailed(RuntimeError):
    """A fact did not come true in time; the message names it."""


@dataclass(slots=True, kw_only=True)
class Story:
    """What the acts share: the world, the deployment's clients, and what they found."""

    world: World
    clock: Clock
    narration: Narration
    brands: Mapping[str, ApiClient]
    staff: Mapping[str, ApiClient]
    role_pids: Callable[[], dict[str, int]]
    deposit_ids: dict[str, str] = field(default_factory=dict)
    withdrawal_ids: dict[str, str] = field(default_factory=dict)
    txid_brands: dict[str, str] = field(default_factory=dict)
    step_seconds: float = STEP_TIMEOUT_SECONDS
    """What does not come true within it never will."""

    async def until(
        self, what: str, probe: Callable[[], Awaitable[T | None]], *, mine: str | None = None
    ) -> T:
        """Poll until `probe` answers; mines one block of `mine` now and then meanwhile."""
        deadline = self.clock.monotonic_seconds() + self.step_seconds
        next_block = self.clock.monotonic_seconds() + MINE_EVERY_SECONDS
        while self.clock.monotonic_seconds() < deadline:
            try:
                found = await probe()
            except (aiohttp.ClientError, TimeoutError):  # the API role may be restarting
                found = None
            except ClientProblem as problem:
                if problem.status < 500:  # 5xx means unknown: ask again (CONTRACT 3)
                    raise
                found = None
            if found is not None:
                return found
            if mine is not None and self.clock.monotonic_seconds() >= next_block:
                await self.world.mine(mine, BLOCKS_AT_ONCE[mine])
                next_block = self.clock.monotonic_seconds() + MINE_EVERY_SECONDS
            await self.clock.sleep(POLL_SECONDS)
        raise StoryFailed(f"not within {self.step_seconds:.0f} s: {what}")

    async def address(self, brand: str, player: str, network: str) -> str:
        """The player's deposit address; asked twice it must be the same."""
        path = f"/v1/players/{player}/addresses"

        async def ask() -> str | None:  # 503 while the pool is still being verified
            return str((await self.brands[brand].post(path, {"network": network}))["address"])

        return await self.until(f"an address of {player} on {network}", ask)

    async def deposit(self, brand: str, *, txid: str, player: str) -> dict[str, Any] | None:
        """The deposit of a tx to a player, once the API shows it."""
        found = await self.brands[brand].get("/v1/deposits", {"txid": txid, "player_id": player})
        items: list[dict[str, Any]] = found["items"]
        return items[0] if items else None

    async def deposit_state(
        self, brand: str, txid: str, player: str, state: str, *, mine: str | None = None
    ) -> dict[str, Any]:
        """Wait until the deposit is in `state`."""

        async def probe() -> dict[str, Any] | None:
            found = await self.deposit(brand, txid=txid, player=player)
            return found if found and found["state"] == state else None

        return await self.until(f"deposit {txid[:12]} of {player} {state}", probe, mine=mine)

    async def withdraw(
        self, brand: str, request_id: str, *, key: str | None = None, **fields: str
    ) -> dict[str, Any]:
        """Order a withdrawal. What is unknown is asked again under the same key (CONTRACT 3)."""
        body = {"request_id": request_id, "fee_mode": "brand", "fee_class": "urgent"} | fields

        async def ask() -> dict[str, Any] | None:
            try:
                answer: dict[str, Any] = await self.brands[brand].post(
                    "/v1/withdrawals", body, idempotency_key=key or request_id
                )
            except ClientProblem as problem:
                if problem.code != "idempotency_in_progress":
                    raise
                return None
            return answer

        return await self.until(f"an answer to {request_id}", ask)

    async def withdrawal_state(
        self, brand: str, withdrawal_id: str, *states: str, mine: str | None = None
    ) -> dict[str, Any]:
        """Wait until the withdrawal is in one of `states`."""

        async def probe() -> dict[str, Any] | None:
            found = await self.brands[brand].get(f"/v1/withdrawals/{withdrawal_id}")
            return found if found["state"] in states else None

        what = f"withdrawal {withdrawal_id} {' or '.join(states)}"
        return await self.until(what, probe, mine=mine)


async def fund_hot_wallets(story: Story, amounts: Mapping[str, str]) -> None:
    """Strangers pay the hot wallets; two people book the inflows as capital."""
    story.narration.say("funding the hot wallets from outside")
    wallets = await story.until("hot wallet addresses", lambda: hot_addresses(story, amounts))
    txids = {
        asset: await story.world.pay(asset, wallets[asset], amount)
        for asset, amount in amounts.items()
    }
    for asset, txid in txids.items():
        await to_capital(story, asset, txid, amounts[asset])


async def to_capital(story: Story, asset: str, txid: str, amount: str) -> None:
    """Two people book what reached a wallet of the house as capital."""
    inflow = await _booked_inflow(story, asset, txid)
    path = f"/v1/inflows/{inflow['id']}/assign"
    first = await story.staff["alice"].post(
        path, {"as": "capital"}, idempotency_key=f"top-up-alice-{inflow['id']}"
    )
    second = await story.staff["bob"].post(
        path, {"as": "capital"}, idempotency_key=f"top-up-bob-{inflow['id']}"
    )
    story.narration.check(
        f"{amount} {asset} became capital only with a second person",
        (first["state"], second["state"]) == ("pending_approval", "done"),
    )


async def hot_addresses(story: Story, assets: Collection[str]) -> dict[str, str] | None:
    """Where each of these assets' hot wallet receives; None until all of them are there."""
    page = await story.staff["alice"].get("/v1/wallets")
    found = {
        item["asset"]: item["address"]
        for item in page["items"]
        if item["wallet"].endswith("/hot") and item.get("address")
    }
    return found if set(assets) <= set(found) else None


async def _booked_inflow(story: Story, asset: str, txid: str) -> dict[str, Any]:
    async def probe() -> dict[str, Any] | None:
        page = await story.staff["alice"].get("/v1/inflows", {"state": "booked", "limit": "500"})
        return next((item for item in page["items"] if item["txid"] == txid), None)

    return await story.until(f"inflow of {asset}", probe, mine=asset.partition(":")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One stranger's payment to one player."""

    brand: str
    player: str
    asset: str
    amount: str

    @property
    def network(self) -> str:
        """The network of the asset."""
        return self.asset.partition(":")[0]


async def plain_deposits(story: Story, payments: list[Payment]) -> None:
    """Deposits that nothing happens to: each ends final."""
    story.narration.say(f"{len(payments)} deposits on {len({p.asset for p in payments})} assets")
    sent = []
    for payment in payments:
        address = await story.address(payment.brand, payment.player, payment.network)
        again = await story.address(payment.brand, payment.player, payment.network)
        story.narration.check(f"{payment.player} has one address for ever", address == again)
        txid = await story.world.pay(payment.asset, address, payment.amount)
        story.txid_brands[txid] = payment.brand
        sent.append((payment, txid))
    for payment, txid in sent:
        if payment.network != "eth":
            await story.deposit_state(payment.brand, txid, payment.player, "detected")
    networks = sorted({payment.network for payment, _ in sent})
    for network in networks:
        await story.world.mine(network)
    for payment, txid in sent:
        await story.deposit_state(
            payment.brand, txid, payment.player, "final", mine=payment.network
        )
        found = await story.deposit(payment.brand, txid=txid, player=payment.player)
        if found is not None:
            story.deposit_ids[found["id"]] = payment.brand
            exact = found["amount"] == payment.amount
            story.narration.check(f"{payment.amount} {payment.asset} final, exact", exact)


async def two_players_one_tx(story: Story) -> None:
    """One tx pays two players of two brands: two deposits, each once (D16)."""
    if "btc" not in story.world.utxo:
        return
    story.narration.say("one transaction pays two players of two brands")
    first = await story.address("acme", "gil", "btc")
    second = await story.address("bravo", "hana", "btc")
    txid = await story.world.utxo["btc"].send_many({first: "0.011", second: "0.022"})
    await story.world.mine("btc")
    for brand, player, amount in (("acme", "gil", "0.011"), ("bravo", "hana", "0.022")):
        found = await story.deposit_state(brand, txid, player, "final", mine="btc")
        story.deposit_ids[found["id"]] = brand
        story.narration.check(f"{player} of {brand} got {amount}", found["amount"] == amount)


async def reorged_out_and_back(story: Story) -> None:
    """A credited deposit leaves the chain and comes back: orphaned, restored, final once (D04)."""
    if "btc" not in story.world.utxo:
        return
    story.narration.say("a reorganisation takes a credited deposit out and back")
    node = story.world.utxo["btc"]
    address = await story.address("acme", "ida", "btc")
    txid = await node.send(address, "0.04")
    await node.mine()
    await story.deposit_state("acme", txid, "ida", "provisional")
    await node.reorg(1)
    story.narration.counted_reorg("btc")
    await story.deposit_state("acme", txid, "ida", "orphaned")
    await node.mine()
    found = await story.deposit_state("acme", txid, "ida", "final", mine="btc")
    story.deposit_ids[found["id"]] = "acme"
    events = await _event_types(story, "acme", found["id"], last="deposit.final")
    story.narration.check(
        "it was orphaned, restored and final once",
        {"deposit.orphaned", "deposit.restored", "deposit.final"} <= set(events)
        and events.count("deposit.final") == 1,
    )


async def double_spent_away(story: Story) -> None:
    """A credited deposit's coins are spent elsewhere on the winning branch: reversed (D03, D04)."""
    if "btc" not in story.world.utxo:
        return
    story.narration.say("a double spend takes a credited deposit away")
    node = story.world.utxo["btc"]
    address = await story.address("acme", "jon", "btc")
    txid = await node.send(address, "0.03")
    await node.mine()
    await story.deposit_state("acme", txid, "jon", "provisional")
    await node.double_spend(txid, depth=1)
    story.narration.counted_reorg("btc")
    await node.mine(CONFLICT_BLOCKS)
    found = await story.deposit_state("acme", txid, "jon", "reversed", mine="btc")
    story.deposit_ids[found["id"]] = "acme"
    events = await _event_types(story, "acme", found["id"], last="deposit.reversed")
    story.narration.check(
        "it was orphaned, then reversed",
        {"deposit.orphaned", "deposit.reversed"} <= set(events),
    )
    funds = await story.brands["acme"].get("/v1/players/jon/funds")
    btc = next((row for row in funds["assets"] if row["asset"] == "btc:BTC"), None)
    story.narration.check(
        "nothing of it is left with the player",
        btc is None or (btc["provisional_minor"], btc["final_total_minor"]) == ("0", "0"),
    )


async def _event_types(story: Story, brand: str, object_id: str, *, last: str) -> list[str]:
    """What the feed tells of it, once `last` is there: a state is read before it has a number."""

    async def probe() -> list[str] | None:
        types = await _types_now(story, brand, object_id)
        return types if last in types else None

    return await story.until(f"{last} of {object_id} in the feed", probe)


async def _types_now(story: Story, brand: str, object_id: str) -> list[str]:
    after = 0
    types: list[str] = []
    while True:
        page = await story.brands[brand].get("/v1/events", {"after": str(after), "limit": "500"})
        if not page["items"]:
            return types
        types += [e["type"] for e in page["items"] if e["object"].get("id") == object_id]
        after = page["items"][-1]["seq"]


async def batched_withdrawals(story: Story) -> None:
    """Five players withdraw together: one tx, five outputs (W5)."""
    if "btc" not in story.world.utxo:
        return
    story.narration.say("five BTC withdrawals leave in one transaction")
    node = story.world.utxo["btc"]
    orders = [(f"batch-{n}", await node.new_address(), f"0.0{n + 1}") for n in range(5)]
    rows = await asyncio.gather(
        *(
            story.withdraw(
                "acme",
                request_id,
                player_id="ann",
                asset="btc:BTC",
                address=address,
                amount=amount,
                pam_balance="0",
                fee_class="normal",
            )
            for request_id, address, amount in orders
        )
    )
    txids = set()
    for row in rows:
        done = await story.withdrawal_state("acme", row["id"], "sent", "confirming", "completed")
        txids.add(done["txid"])
        story.withdrawal_ids[row["id"]] = "acme"
    story.narration.check("one txid for all five", len(txids) == 1 and None not in txids)
    for row in rows:
        await story.withdrawal_state("acme", row["id"], "completed", mine="btc")
    for _, address, amount in orders:
        paid = await story.world.received("btc:BTC", address)
        story.narration.check(f"{amount} BTC arrived, exact", paid == int(amount[2:]) * 10**6)


async def repeated_request(story: Story) -> None:
    """The same request 50 times at once, same key: paid once (A01)."""
    asset = "eth:USDT" if story.world.anvil else "btc:BTC"
    brand, player = ("bravo", "eve") if story.world.anvil else ("acme", "ann")
    story.narration.say(f"one {asset} withdrawal asked {REPEATS} times at once")
    network = asset.partition(":")[0]
    address = await _stranger(story, network)
    before = await story.world.received(asset, address)
    answers = await asyncio.gather(
        *(
            story.withdraw(
                brand,
                "repeat-1",
                player_id=player,
                asset=asset,
                address=address,
                amount="0.01" if asset == "btc:BTC" else "25",
                pam_balance="0",
            )
            for _ in range(REPEATS)
        )
    )
    ids = {answer["id"] for answer in answers}
    story.narration.check(f"{REPEATS} answers, one withdrawal", len(ids) == 1)
    only = ids.pop()
    story.withdrawal_ids[only] = brand
    await story.withdrawal_state(brand, only, "completed", mine=network)
    paid = await story.world.received(asset, address) - before
    expected = 10**6 if asset == "btc:BTC" else 25 * 10**6
    story.narration.check("paid once on chain", paid == expected)


async def native_withdrawal(story: Story) -> None:
    """ETH out, exact to the wei."""
    if story.world.anvil is None:
        return
    story.narration.say("an ETH withdrawal")
    address = "0x" + "be" * 20
    row = await story.withdraw(
        "acme",
        "eth-1",
        player_id="dan",
        asset="eth:ETH",
        address=address,
        amount="0.5",
        pam_balance="1.5",
    )
    story.withdrawal_ids[row["id"]] = "acme"
    await story.withdrawal_state("acme", row["id"], "completed", mine="eth")
    paid = await story.world.received("eth:ETH", address)
    story.narration.check("0.5 ETH arrived, exact", paid == 5 * 10**17)


async def refused_requests(story: Story) -> None:
    """A bad address is refused before anything is stored."""
    story.narration.say("a withdrawal to a bad address is refused")
    network = "btc" if "btc" in story.world.utxo else "eth"
    asset = "btc:BTC" if network == "btc" else "eth:ETH"
    try:
        await story.withdraw(
            "acme",
            "bad-1",
            player_id="ann",
            asset=asset,
            address="ltc1qw508d6qejxtdg4y5r3zarvary0c5xw7kgmn4n9",
            amount="0.01",
            pam_balance="0",
        )
        status = 202
    except ClientProblem as answer:
        status = answer.status
    story.narration.check("422 for an address of another network", status == 422)
    try:
        await story.brands["acme"].get("/v1/withdrawals", {"request_id": "bad-1"})
        is_free = False
    except ClientProblem as answer:
        is_free = answer.status == 404
    story.narration.check("nothing was stored: the request_id is free", is_free)


async def killed_payouts(story: Story, arm_crash: Callable[[], None]) -> None:
    """The payout role dies between signing and broadcast; the payment is made once (P02, P03)."""
    asset = "ltc:LTC" if "ltc" in story.world.utxo else "eth:ETH"
    brand, player = ("bravo", "cleo") if asset == "ltc:LTC" else ("acme", "dan")
    network = asset.partition(":")[0]
    story.narration.say("the payout role is killed between signing and broadcast")
    address = await _stranger(story, network)
    before = await story.world.received(asset, address)
    pid = story.role_pids().get("payouts")
    arm_crash()
    row = await story.withdraw(
        brand,
        "killed-1",
        player_id=player,
        asset=asset,
        address=address,
        amount="1.5" if asset == "ltc:LTC" else "0.1",
        pam_balance="10",
    )
    story.withdrawal_ids[row["id"]] = brand

    async def other_pid() -> int | None:
        now = story.role_pids().get("payouts")
        return now if now != pid else None

    await story.until("the supervisor's new payout process", other_pid)
    await story.withdrawal_state(brand, row["id"], "completed", mine=network)
    paid = await story.world.received(asset, address) - before
    expected = 15 * 10**7 if asset == "ltc:LTC" else 10**17
    story.narration.check("killed, restarted by the supervisor, paid once", paid == expected)


async def forged_row(story: Story, forge: Callable[[str, str], Awaitable[None]]) -> None:
    """A row altered in the database to another address: the signer refuses it (S01, S02)."""
    if "ltc" not in story.world.utxo:
        return
    story.narration.say("a withdrawal row is forged in the database")
    node = story.world.utxo["ltc"]
    honest, thief = await node.new_address(), await node.new_address()
    # Acme has no LTC yet, so that the row waits where a thief can reach it.
    row = await story.withdraw(
        "acme",
        "forged-1",
        player_id="kim",
        asset="ltc:LTC",
        address=honest,
        amount="2",
        pam_balance="0",
    )
    story.narration.check("it waits for liquidity", row["state"] == "waiting_liquidity")
    await forge(row["id"], thief)
    address = await story.address("acme", "lou", "ltc")
    txid = await story.world.pay("ltc:LTC", address, "3")
    await node.mine()
    found = await story.deposit_state("acme", txid, "lou", "final", mine="ltc")
    story.deposit_ids[found["id"]] = "acme"
    held = await story.withdrawal_state("acme", row["id"], "on_hold", mine="ltc")
    story.withdrawal_ids[row["id"]] = "acme"
    paid = await story.world.received("ltc:LTC", thief)
    story.narration.check(
        "the signer refused, nothing was paid", held["code"] == "signer_refused" and paid == 0
    )


async def _stranger(story: Story, network: str) -> str:
    """An address of the outside world; all lower case carries no checksum (EIP-55)."""
    if network != "eth":
        return await story.world.utxo[network].new_address()
    return (await story.world.evm().accounts())[5].lower()
