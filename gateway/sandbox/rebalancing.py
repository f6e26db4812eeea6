"""The story's last chapter: value goes to cold and comes back, and what is held is proven.

The cold wallet is a node's without peers; its owner signs a file and gives it back. As in the rest
of the story everything goes through the API, under the keys of two people.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from gateway.sandbox import stranger
from gateway.sandbox.cold_desk import ColdDesk
from gateway.sandbox.story import Story, StoryFailed

ASSET = "btc:BTC"
NETWORK = "btc"
OVERFLOW = "0.8"
REFILL = "0.3"
REFILL_MINOR = 30_000_000

_ENDED = ("done", "failed", "declined", "cancelled")  # CONTRACT 3


async def round_trip(story: Story) -> list[dict[str, Any]]:
    """Both moves of the round, as the API tells of them; none without a cold wallet."""
    desk = story.world.cold.get(NETWORK)
    if desk is None:
        return []
    moves = [await _overflow_to_cold(story), await _refill_from_cold(story, desk)]
    told = ("id", "direction", "asset", "amount", "txid", "state")
    return [{name: move[name] for name in told} for move in moves]


async def _overflow_to_cold(story: Story) -> dict[str, Any]:
    """What the hot wallet does not need goes to the pinned cold address (T6)."""
    story.narration.say(f"{OVERFLOW} BTC go to the cold wallet, signed for by two people")
    before = await _held(story, "cold")
    move = await _proposed(story, "hot_to_cold", OVERFLOW)
    await _agreed(story, move)
    done = await _until(story, move["id"], "done")
    held = await _held(story, "cold")
    story.narration.check(
        f"{OVERFLOW} BTC are in the cold wallet, exact", held - before == int(move["amount_minor"])
    )
    story.narration.check("the cold wallet was paid by one transaction", done["txid"] is not None)
    return done


async def _refill_from_cold(story: Story, desk: ColdDesk) -> dict[str, Any]:
    """The hot wallet is filled up by a file that only the cold wallet's owner can sign (T7)."""
    story.narration.say(f"{REFILL} BTC come back: a PSBT goes out, signed offline, and in again")
    before = await _held(story, "hot")
    move = await _proposed(story, "cold_to_hot", REFILL)
    await _agreed(story, move)
    await _until(story, move["id"], "unsigned_ready")
    path = f"/v1/rebalances/{move['id']}"
    unsigned = await story.staff["alice"].get(f"{path}/unsigned")
    signed = await desk.sign(unsigned["psbt"])
    answer = await story.staff["bob"].post(
        f"{path}/signed", {"psbt": signed}, idempotency_key=f"signed-{move['id']}"
    )
    story.narration.check(
        "the file came back with every signature", bool(answer["signatures"]["is_complete"])
    )
    done = await _until(story, move["id"], "done")
    story.narration.check(
        "it was sent under the txid that the file was to have", done["txid"] == unsigned["txid"]
    )
    held = await _held(story, "hot")
    story.narration.check(f"{REFILL} BTC are hot again, exact", held - before == REFILL_MINOR)
    return done


async def reserves_proven(story: Story, folder: Path) -> dict[str, bool]:
    """What is owed and what is held, in one file that a stranger checks; a changed digit is found
    (N8)."""
    story.narration.say("a stranger checks the proof of reserves offline")
    alice = story.staff["alice"]
    made = await alice.post("/v1/proofs", {}, idempotency_key="demo-proof")

    async def probe() -> dict[str, Any] | None:
        found: dict[str, Any] = await alice.get(f"/v1/proofs/{made['id']}")
        return found if found["state"] in ("done", "failed") else None

    proof = await story.until("the proof of reserves", probe)
    if proof["state"] != "done":
        story.narration.check(f"the proof was made: {proof['reason']}", is_true=False)
        return {"verified": False, "covered": False}
    bundle = await alice.get(f"/v1/proofs/{made['id']}/bundle")
    verdict = await _judged(bundle, folder)
    is_verified, is_covered = bool(verdict["verified"]), bool(verdict["covered"])
    story.narration.check(
        "the proof of reserves is verified, and what is owed is covered",
        is_verified and is_covered and not verdict["shortfalls"],
    )
    asset, leaves = next(iter(bundle["liabilities"].items()))
    forged = json.loads(json.dumps(bundle))
    forged["liabilities"][asset] = leaves[1:]
    verdict = await _judged(forged, folder)
    story.narration.check(
        "a bundle that leaves one creditor out is refused", not verdict["verified"]
    )
    return {"verified": is_verified, "covered": is_covered}


async def _judged(bundle: dict[str, Any], folder: Path) -> dict[str, Any]:
    file = await asyncio.to_thread(_written, bundle, folder)
    _, verdict = await stranger.asks(folder, "treasury", "prove", "--verify", file.name)
    return verdict


def _written(bundle: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "reserves.json"
    file.write_text(json.dumps(bundle), encoding="utf-8")
    return file


async def _proposed(story: Story, direction: str, amount: str) -> dict[str, Any]:
    """Alice asks for the move."""
    alice = story.staff["alice"]
    plan = await alice.post(
        "/v1/rebalances/plan",
        {
            "propose": True,
            "asset": ASSET,
            "direction": direction,
            "amount": amount,
            "reason": "the demo's rebalancing",
        },
        idempotency_key=f"plan-{direction}",
    )
    [item] = plan["items"]
    found: dict[str, Any] = await alice.get(f"/v1/rebalances/{item['id']}")
    return found


async def _agreed(story: Story, move: dict[str, Any]) -> None:
    """Two people sign the same words; nothing goes before the second one."""
    words = {
        "rebalance_id": move["id"],
        **{name: move[name] for name in ("direction", "network", "asset", "address", "amount")},
        "valid_until": move["valid_until"],
    }
    states = []
    for name in ("alice", "bob"):
        answer = await story.staff[name].post(
            f"/v1/rebalances/{move['id']}/approve",
            words,
            idempotency_key=f"approve-{move['id']}-{name}",
        )
        states.append(answer["state"])
    story.narration.check(
        "nothing moves before a second person signs", states == ["proposed", "approved"]
    )


async def _until(story: Story, rebalance_id: str, state: str) -> dict[str, Any]:
    async def probe() -> dict[str, Any] | None:
        found: dict[str, Any] = await story.staff["alice"].get(f"/v1/rebalances/{rebalance_id}")
        return found if found["state"] in (state, *_ENDED) else None

    found: dict[str, Any] = await story.until(
        f"rebalance {rebalance_id} {state}", probe, mine=NETWORK
    )
    if found["state"] != state:
        raise StoryFailed(f"rebalance {rebalance_id} {found['state']}: {found['code']}")
    return found


async def _held(story: Story, role: str) -> int:
    """Minor units in a wallet by the books."""
    page = await story.staff["alice"].get("/v1/wallets")
    wallet = f"{NETWORK}/{role}"
    return sum(
        int(item["ledger_minor"])
        for item in page["items"]
        if (item["wallet"], item["asset"]) == (wallet, ASSET)
    )
