"""Two acts of the demo about evidence: a node that lies is caught, a proof convinces a stranger.

Acts from outside only, as `story` does.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from gateway.sandbox import stranger
from gateway.sandbox.story import Story
from gateway.sandbox.world import DOUBTED

CAUGHT = frozenset({"lying", "quarantined"})
PAID, PAID_MINOR = "0.7", 70_000_000
CLAIMED_MINOR = 100 * PAID_MINOR


async def lying_node_caught(story: Story) -> str | None:
    """One of three nodes makes a deposit a hundred times larger; returns the deposit's id."""
    liar = story.world.liars.get(DOUBTED)
    if liar is None:
        return None
    story.narration.say("one of three Litecoin nodes makes a deposit 100 times larger")
    node = story.world.utxo[DOUBTED]
    address = await story.address("bravo", "lea", DOUBTED)
    script: str = (await node.rpc("validateaddress", address))["scriptPubKey"]
    liar.lies[_output(PAID_MINOR, script)] = _output(CLAIMED_MINOR, script)
    txid = await node.send(address, PAID)
    await node.mine()

    async def caught() -> str | None:
        network = await _network(story)
        states = {item["node"]: str(item["state"]) for item in network["nodes"]}
        state = states.get(liar.label)
        return state if state in CAUGHT else None

    state = await story.until("the lying node is named", caught, mine=DOUBTED)
    story.narration.check(f"the node that lied is named and left out: {state}", liar.told > 0)
    found = await story.deposit_state("bravo", txid, "lea", "final", mine=DOUBTED)
    story.deposit_ids[found["id"]] = "bravo"
    story.narration.check(
        "the deposit is what the others have", found["amount_minor"] == str(PAID_MINOR)
    )
    liar.lies.clear()
    deposit_id: str = found["id"]
    return deposit_id


async def proof_convinces(story: Story, deposit_id: str | None, folder: Path) -> None:
    """The proof of a deposit is checked without a node, and one altered digit is found."""
    if deposit_id is None:
        return
    story.narration.say("a stranger checks the proof of that deposit offline")
    proof = await story.brands["bravo"].get(f"/v1/deposits/{deposit_id}/proof")
    story.narration.check("the proof is verified offline", await _verifies(proof, folder))
    text = json.dumps(proof)
    forged = json.loads(text.replace(f'"{PAID_MINOR}"', f'"{CLAIMED_MINOR}"'))
    story.narration.check(
        "a forged amount is found", forged != proof and not await _verifies(forged, folder)
    )


async def _network(story: Story) -> dict[str, Any]:
    networks = await story.staff["alice"].get("/v1/networks")  # brands see no addresses of nodes
    found: dict[str, Any] = next(item for item in networks["items"] if item["network"] == DOUBTED)
    return found


async def _verifies(proof: dict[str, Any], folder: Path) -> bool:
    """`cage deposits verify`, as a stranger runs it."""
    file = await asyncio.to_thread(_written, proof, folder)
    code, answer = await stranger.asks(folder, "deposits", "verify", file.name)
    return code == 0 and bool(answer["verified"])


def _written(proof: dict[str, Any], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "proof.json"
    file.write_text(json.dumps(proof), encoding="utf-8")
    return file


def _output(amount_minor: int, script: str) -> bytes:
    """A tx output as the hex of its bytes: the value, the script's length, the script."""
    return f"{amount_minor.to_bytes(8, 'little').hex()}{len(script) // 2:02x}{script}".encode()
