"""An act of the demo about fees: a payout that is stuck by a rush is bumped, and paid once.

Acts from outside only, as `story` does: the rush is what the node says of its next blocks.
"""

from typing import Any

from gateway.sandbox.story import Story

RUSH_WEI = 30 * 10**9  # the base fee of the rush; the payout was built for a few
AMOUNT, AMOUNT_WEI = "0.75", 75 * 10**16
RECEIVER = "0x" + "fe" * 20


async def stuck_payout_is_bumped(story: Story) -> None:
    """The base fee rises above what the payout offers; one of the two attempts is mined (P16)."""
    if story.world.anvil is None:
        return
    story.narration.say("a rush: the base fee rises above what a payout offers")
    node = story.world.evm()
    row = await story.withdraw(
        "acme",
        "stuck-1",
        player_id="dan",
        asset="eth:ETH",
        address=RECEIVER,
        amount=AMOUNT,
        pam_balance="0.75",
    )
    story.withdrawal_ids[row["id"]] = "acme"
    first = await story.withdrawal_state("acme", row["id"], "sent")

    async def bumped() -> list[dict[str, Any]] | None:
        await node.rpc("anvil_setNextBlockBaseFeePerGas", hex(RUSH_WEI))
        await node.mine()
        found = await _attempts(story, row["id"])
        is_out = len(found) > 1 and found[-1]["broadcast_at"] is not None
        return found if is_out else None

    attempts = await story.until("a second attempt", bumped)
    story.narration.check(
        "it was replaced by itself: same nonce, higher fee",
        attempts[-1]["kind"] == "replacement"
        and attempts[-1]["nonce"] == attempts[0]["nonce"]
        and int(attempts[-1]["fee_rate"]) > int(attempts[0]["fee_rate"]),
    )
    done = await story.withdrawal_state("acme", row["id"], "completed", mine="eth")
    paid = await story.world.received("eth:ETH", RECEIVER)
    story.narration.check("it is paid once, exact", paid == AMOUNT_WEI)
    known = {item["txid"] for item in await _attempts(story, row["id"])}
    story.narration.check(
        "both txids are told", {first["txid"], done["txid"]} <= known and len(known) > 1
    )


async def _attempts(story: Story, withdrawal_id: str) -> list[dict[str, Any]]:
    found = await story.brands["acme"].get(f"/v1/withdrawals/{withdrawal_id}/attempts")
    items: list[dict[str, Any]] = found["items"]
    return items
